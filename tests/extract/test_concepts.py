"""Concepts are the mixture of class vectors that ConSE defines, and say what they saw."""

from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from m2hf.errors import ConfigError
from m2hf.extract.concepts import Concepts
from m2hf.extract.networks.encoder import Encoder
from m2hf.extract.networks.image_network import ImageNetwork
from m2hf.features import Features, Status
from m2hf.pipelines.config import ExtractConfig

TINY = {"model": "test_efficientnet", "pretrained": ""}
CLIP = Encoder(model="m2hf-tiny", pretrained="")


def concepts(**settings: Any) -> Concepts:
    return Concepts(backbone=ImageNetwork(**TINY), encoder=CLIP, **settings)


def image(rows: int) -> Features:
    values = np.random.default_rng(0).normal(size=(rows, 256)).astype(np.float32)
    return Features(values, np.arange(rows) * 1.0, np.arange(rows) + 1.0)


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.5, "classes": 3}, {"classes": 5000}])
def test_rows_are_mixtures_of_class_vectors(settings: dict[str, Any]) -> None:
    declared, given = concepts(**settings), image(4)
    found = declared.open("cpu").extract({"image": given})
    network = declared.backbone.open("cpu")
    names = network.class_names
    classes = CLIP.open("cpu").encode_sentences(list(names)).astype(np.float64)
    classes -= classes.mean(axis=0)
    logits = network.logits(given.values).astype(np.float64)
    for row, value in enumerate(found.values):
        order = sorted(range(1000), key=lambda c: -logits[row, c])
        chosen = order[: declared.classes]
        weights = softmax(logits[row, chosen] / declared.temperature)
        expected = sum(w * classes[c] for w, c in zip(weights, chosen, strict=True))
        np.testing.assert_allclose(value, expected / np.linalg.norm(expected), atol=1e-6)
        assert found.texts is not None
        shown = [names[c].split(":")[0].split(",")[0] for c in chosen]
        assert found.texts[row].split(", ") == [*dict.fromkeys(shown)][:3]
        assert found.confidence is not None
        np.testing.assert_allclose(found.confidence[row], softmax(logits[row]).max(), rtol=1e-5)
    np.testing.assert_array_equal(found.start_s, given.start_s)


def test_without_frames_there_are_no_concepts() -> None:
    given = Features.empty("no video stream", 256)
    found = concepts().open("cpu").extract({"image": given})
    assert (found.status, found.reason) == (Status.EMPTY, "no video stream")


def test_they_classify_what_image_made() -> None:
    config = ExtractConfig.model_validate({"image": {"backbone": TINY}})
    assert config.extractor("concepts").model_dump()["backbone"]["model"] == TINY["model"]
    with pytest.raises(ValueError, match=r"concepts\.backbone differs from image\.backbone"):
        ExtractConfig.model_validate({"concepts": {"backbone": TINY}})


def test_a_network_without_classes_is_refused_before_a_run() -> None:
    backbone = ImageNetwork(model="vit_small_patch14_dinov2.lvd142m", pretrained="")
    with pytest.raises(ConfigError, match="it has no classifier; concepts need a classifier"):
        Concepts(backbone=backbone, encoder=CLIP).needs()


def test_weights_and_flags_are_those_of_both_networks() -> None:
    names = {"ImageNet/names", "ImageNet/definitions"}
    assert {*concepts().weights()} == {"test_efficientnet", "m2hf-tiny", *names}
    assert concepts().flags() == ("untrained",)
