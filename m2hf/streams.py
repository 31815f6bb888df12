"""Names of streams, `<extractor>@<fingerprint8>`, and the extractors and columns that more than
one package refers to.

A stream is what one extractor with one configuration made of a dataset. Its name is a folder of
the store, a key of the ledger, and stands in checkpoints and similarity files.
"""

import re
from typing import Self

from m2hf.keys import SHORT

CLIP = "clip"  # extractor of frame embeddings
IMAGE = "image"  # extractor of features of an image network
CONCEPTS = "concepts"  # extractor of what an image classifier sees, in words
CAPTION = "caption"  # extractor of caption embeddings: one item a caption, not one a video
OCR = "ocr"  # extractor of text that is read in frames
ASR = "asr"  # extractor of speech that is transcribed
TEXT = "text"  # extractor of embeddings of what OCR and ASR give
THUMBNAIL = "thumbnail"  # extractor whose strings are JPEG images in base64, not words

# The column of ASR that marks hallucinated segments; shards store it under this name.
HALLUCINATED = "hallucinated"

_EXTRACTOR = re.compile(r"[a-z][a-z0-9_]*")
_NAME = re.compile(rf"{_EXTRACTOR.pattern}@[0-9a-f]{{{SHORT}}}")


class StreamName(str):
    """A checked stream name; a string, so that paths, JSON and ledger keys take it as it is.

    Raises ValueError for text of another form.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not _NAME.fullmatch(text):
            raise ValueError(
                f"{text!r} is not a stream name: expected <extractor>@<{SHORT} hex digits>"
            )
        return super().__new__(cls, text)

    @classmethod
    def of(cls, extractor: str, fingerprint: str) -> Self:
        """The stream of an extractor with this fingerprint, which may be longer than 8 digits."""
        return cls(f"{extractor}@{fingerprint[:SHORT]}")

    @property
    def extractor(self) -> str:
        return self.partition("@")[0]

    @property
    def fingerprint8(self) -> str:
        """The first 8 hex digits of the fingerprint."""
        return self.partition("@")[2]


def is_extractor_name(name: str) -> bool:
    """Whether an extractor may be called `name`: lower-case letters, digits and _."""
    return _EXTRACTOR.fullmatch(name) is not None


def extractor_of(name: str) -> str:
    """The extractor of a stream name; `name` itself where it is that of an extractor."""
    return name.partition("@")[0]
