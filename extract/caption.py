"""Captions as unit vectors of the CLIP joint space: the sentence, and each of its tokens."""

from typing import ClassVar

import numpy as np

from m2hf.extract.base import CaptionExtractor, CaptionSession
from m2hf.extract.networks.encoder import JointSpaceExtractor
from m2hf.features import Features


class Caption(JointSpaceExtractor, CaptionExtractor):
    """Values (1 + W, D): row 0 is the sentence, with its text; rows 1.. are its W tokens.

    Captions have no times: they are 0. A caption longer than the text tower reads is cut at the
    last token that fits, and the reason says so.
    """

    name: ClassVar[str] = "caption"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "open_clip_torch", "torch")
    texts: ClassVar[bool] = True

    def open(self, device: str) -> "CaptionEncoderSession":
        return CaptionEncoderSession(self, device)


class CaptionEncoderSession(CaptionSession):
    def __init__(self, declared: Caption, device: str) -> None:
        self._model = declared.encoder.open(device)

    def known_words(self, caption: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Words that the encoder may know, and those that it was surely never trained on."""
        return self._model.known_words(caption)

    def extract(self, caption: str) -> Features:
        tokens = self._model.token_count(caption)
        if not tokens:
            return Features.empty("the caption has no words", self._model.width, texts=True)
        values = self._model.encode_tokens(caption)
        zeros = np.zeros(len(values))
        cut = tokens > self._model.max_tokens
        return Features(
            values,
            start_s=zeros,
            end_s=zeros,
            texts=(caption, *[""] * (len(values) - 1)),
            confidence=np.ones(len(values)),
            reason=f"cut to {self._model.max_tokens} of {tokens} tokens" if cut else "",
        )
