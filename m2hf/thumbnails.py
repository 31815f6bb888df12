"""Thumbnails of a video as a store holds them: strings of a stream, each a JPEG file in base64.

A shard holds values and UTF-8 strings, so a thumbnail is a string there, with a digest and times
like any other. Code that shows strings as text must leave this stream out.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass

from m2hf.errors import ShardError
from m2hf.features import Features
from m2hf.streams import THUMBNAIL

_JPEG = b"\xff\xd8\xff"  # the first bytes of every JPEG file


@dataclass(frozen=True)
class ThumbnailImage:
    """A JPEG image for the time from start_s to end_s, seconds from the start of the clip."""

    start_s: float
    end_s: float
    jpeg: bytes

    @property
    def uri(self) -> str:
        """A data URI, which a page shows without a request."""
        return f"data:image/jpeg;base64,{as_string(self.jpeg)}"


def as_string(jpeg: bytes) -> str:
    """A JPEG file as a string of a shard."""
    return base64.b64encode(jpeg).decode("ascii")


def thumbnails(features: Features) -> Iterator[ThumbnailImage]:
    """The thumbnails of one item of the stream, in time order.

    Raises ShardError for a string that is no JPEG file in base64.
    """
    for text, start_s, end_s in zip(
        features.texts or (), features.start_s, features.end_s, strict=True
    ):
        try:
            jpeg = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):  # the latter for non-ASCII characters
            jpeg = b""
        if not jpeg.startswith(_JPEG):
            raise ShardError(
                f"stream {THUMBNAIL}: the string at {start_s:.1f} s is no JPEG file in base64; "
                f"extract `{THUMBNAIL}` again"
            )
        yield ThumbnailImage(float(start_s), float(end_s), jpeg)
