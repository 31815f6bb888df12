"""Captions as unit vectors of the joint space: the sentence, and each of its tokens."""

from typing import ClassVar

import numpy as np

from m2hf.extract.base import CaptionExtractor, CaptionSession
from m2hf.extract.networks.joint_space import JointSpaceExtractor
from m2hf.features import Features
from m2hf.streams import CAPTION


class CaptionEncoder(JointSpaceExtractor, CaptionExtractor):
    """Values (1 + W, D): row 0 is the sentence, with its text; rows 1.. are its W tokens.

    A sentence encoder whose sentence isn't the mean of its tokens' last states gives row 0 alone.
    Captions have no times: start_s and end_s are 0. A caption longer than the encoder's input is
    cut at the last token that fits, and the features' reason says so.
    """

    name: ClassVar[str] = CAPTION
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "torch")
    texts: ClassVar[bool] = True

    def open(self, device: str) -> "CaptionEncoderSession":
        return CaptionEncoderSession(self, device)


class CaptionEncoderSession(CaptionSession):
    def __init__(self, declared: CaptionEncoder, device: str) -> None:
        self._model = declared.encoder.open(device)

    def known_words(self, caption: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Words of whose tokens each has a trained embedding, and the other words."""
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
