"""The folders of a store: number of buckets, and streams by name."""

import json
from pathlib import Path

import pytest

from m2hf.errors import MismatchError, UsageError
from m2hf.layout import StoreLayout, default_buckets


def test_the_number_of_buckets_is_fixed_when_a_store_begins(tmp_path: Path) -> None:
    layout = StoreLayout(tmp_path, "a/b")
    assert layout.folder.name == "a%2Fb"
    assert layout.buckets(0, videos=12) == 8
    layout.record(8)
    assert layout.buckets(0, videos=10**6) == 8
    with pytest.raises(MismatchError, match="the store has 8 buckets and the config wants 4"):
        layout.buckets(4, videos=100)
    assert json.loads((layout.folder / "store.json").read_text())["buckets"] == 8


@pytest.mark.parametrize(
    ("videos", "buckets"), [(1, 1), (21, 8), (60, 16), (10**4, 128), (10**6, 4096)]
)
def test_buckets_grow_with_the_set(videos: int, buckets: int) -> None:
    assert default_buckets(videos) == buckets


def test_a_stream_is_found_by_name_if_it_is_the_only_one(tmp_path: Path) -> None:
    layout = StoreLayout(tmp_path, "d")
    with pytest.raises(UsageError, match=r"no features of 'clip'; the store has no streams yet"):
        layout.find_stream("clip")
    layout.stream("clip", "a" * 64).mkdir(parents=True)
    assert layout.find_stream("clip") == "clip@aaaaaaaa"
    layout.stream("clip", "b" * 64).mkdir()
    assert layout.find_stream("clip@bbbbbbbb") == "clip@bbbbbbbb"
    with pytest.raises(UsageError, match=r"more than one config; name one of clip@aaaaaaaa"):
        layout.find_stream("clip")


def test_other_folders_are_no_streams(tmp_path: Path) -> None:
    layout = StoreLayout(tmp_path, "d")
    for name in ("clip@aaaaaaaa", "asr@bbbbbbbb", "clip@aaaaaaaa.bak", "ledger"):
        (layout.folder / name).mkdir(parents=True)
    (layout.folder / "ocr@cccccccc").write_text("a file", encoding="utf-8")
    assert layout.streams() == ["asr@bbbbbbbb", "clip@aaaaaaaa"]
    assert layout.streams("clip") == ["clip@aaaaaaaa"]
    assert layout.streams("ocr") == []
