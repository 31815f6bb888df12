"""The list of extensions and the decoder's whitelist of containers cover each other."""

import re

from m2hf.extract.media.source import CONTAINERS as OPENED
from m2hf.media_types import AUDIO_EXTENSIONS, CONTAINERS, MEDIA_EXTENSIONS, VIDEO_EXTENSIONS


def test_the_decoder_opens_every_container_of_the_list_and_each_container_has_extensions() -> None:
    assert set(OPENED.split(",")) == CONTAINERS


def test_extensions_are_lower_case_and_of_one_kind() -> None:
    for extension in MEDIA_EXTENSIONS:
        assert re.fullmatch(r"\.[a-z0-9-]+", extension)
    assert not VIDEO_EXTENSIONS & AUDIO_EXTENSIONS
    assert {".mp4", ".mkv", ".vob", ".mxf", ".f4v", ".dv"} <= VIDEO_EXTENSIONS
    assert {".wav", ".opus", ".aac", ".wma", ".m4b"} <= AUDIO_EXTENSIONS
