"""What frames show, in words: the classes of an image classifier, as vectors of their names."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from m2hf.array_types import FloatArray, IntArray
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
        logits_FC = self._network.logits(image.values.astype(np.float32)).astype(np.float64)
        temperature, classes = self._declared.temperature, self._declared.classes
        names = [dict.fromkeys(self._shown[c] for c in row) for row in _likely(logits_FC, classes)]
        return Features(
            mixture(logits_FC, self._vectors_CD, temperature, classes),
            image.start_s,
            image.end_s,
            texts=tuple(", ".join([*row][:_SHOWN]) for row in names),
            confidence=_softmax(logits_FC).max(axis=1).astype(np.float32),
        )


def mixture(
    logits_FC: FloatArray, vectors_CD: FloatArray, temperature: float, classes: int
) -> NDArray[np.float32]:
    """(F, D) unit vectors: those of the most likely classes of each frame, by their probabilities
    after a division of logits by `temperature`."""
    likely_FK = _likely(logits_FC, classes)
    share_FK = np.take_along_axis(_softmax(logits_FC / temperature), likely_FK, axis=1)
    mixed_FD = np.einsum("fk,fkd->fd", share_FK, vectors_CD[likely_FK])
    return unit_rows(mixed_FD.astype(np.float32))


def _likely(logits_FC: FloatArray, classes: int) -> IntArray:
    """(F, K) the classes of each frame, the most likely first."""
    likely_FK: IntArray = np.argsort(-logits_FC, axis=1, kind="stable")[:, :classes]
    return likely_FK


def _softmax(logits_FC: FloatArray) -> NDArray[np.float64]:
    exponentials_FC = np.exp(logits_FC - logits_FC.max(axis=1, keepdims=True))
    shares_FC: NDArray[np.float64] = exponentials_FC / exponentials_FC.sum(axis=1, keepdims=True)
    return shares_FC
