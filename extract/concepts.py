"""What frames show, in words: the classes of an image classifier, as vectors of their names."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from m2hf.extract.base import DerivedExtractor, DerivedSession
from m2hf.extract.networks.image_network import ImageNetwork
from m2hf.extract.networks.joint_space import JointSpaceExtractor
from m2hf.extract.weights.weight import Weight
from m2hf.features import Features, unit_rows
from m2hf.streams import CONCEPTS, IMAGE

_SHOWN = 3  # class names in a row's string


class Concepts(JointSpaceExtractor, DerivedExtractor):
    """Values (F, D): for each frame of `image`, the sentence vectors of the classes that its
    classifier finds most likely, mixed by their probabilities, as unit vectors of the captions'
    space: so frames can be searched by words with nothing trained (ConSE, Norouzi et al. 2014).

    Class vectors are those of name and definition, centred on the mean of all classes. The string
    of a row names the three most likely classes; its confidence is the probability of the first.
    """

    name: ClassVar[str] = CONCEPTS
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "timm", "torch")
    texts: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = (IMAGE,)

    backbone: ImageNetwork = ImageNetwork()
    """The classifier, that of `extract.image.backbone`."""

    temperature: float = Field(default=4.0, gt=0.0, le=1e3)
    """What logits are divided by: at 1 a single class often has all the weight."""

    classes: int = Field(default=20, ge=1, le=1 << 16)
    """Most likely classes of a frame that are mixed."""

    def needs(self) -> tuple[Weight, ...]:
        self.backbone.require_classes()
        backbone, names = self.backbone.needs(), self.backbone.name_files()
        return (*backbone, *names, *self.encoder.needs())

    def weights(self) -> Mapping[str, str]:
        names = {weight.name: weight.locate().sha256 for weight in self.backbone.name_files()}
        return {**self.backbone.weights(), **names, **self.encoder.weights()}

    def flags(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.backbone.flags(), *self.encoder.flags()]))

    def open(self, device: str) -> "ConceptsSession":
        return ConceptsSession(self, device)


class ConceptsSession(DerivedSession):
    def __init__(self, declared: Concepts, device: str) -> None:
        self._declared = declared
        self._network = declared.backbone.open(device)
        names = self._network.class_names
        self._shown = [name.partition(":")[0].partition(",")[0] for name in names]
        vectors_CD = declared.encoder.open(device).encode_sentences(list(names)).astype(np.float64)
        self._vectors_CD = vectors_CD - vectors_CD.mean(axis=0)

    def extract(self, inputs: Mapping[str, Features]) -> Features:
        image = inputs[IMAGE]
        if not len(image.values):
            return Features.empty(image.reason, self._vectors_CD.shape[1], texts=True)
        pooled_FD = image.values.astype(np.float32)
        logits_FC = self._network.logits(pooled_FD).astype(np.float64)
        likely_FK = np.argsort(-logits_FC, axis=1, kind="stable")[:, : self._declared.classes]
        share_FK = np.take_along_axis(
            _softmax(logits_FC / self._declared.temperature), likely_FK, axis=1
        )
        mixed_FD = np.einsum("fk,fkd->fd", share_FK, self._vectors_CD[likely_FK])
        texts = [", ".join(self._shown[c] for c in row[:_SHOWN]) for row in likely_FK.tolist()]
        return Features(
            unit_rows(mixed_FD.astype(np.float32)),
            image.start_s,
            image.end_s,
            texts=tuple(texts),
            confidence=_softmax(logits_FC).max(axis=1).astype(np.float32),
        )


def _softmax(logits_FC: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials_FC = np.exp(logits_FC - logits_FC.max(axis=1, keepdims=True))
    shares_FC: NDArray[np.float64] = exponentials_FC / exponentials_FC.sum(axis=1, keepdims=True)
    return shares_FC
