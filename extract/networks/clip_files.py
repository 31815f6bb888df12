"""The files of a CLIP of open_clip: of a name that it lists, a repository of the hub, a folder."""

import difflib
import logging
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from m2hf.errors import ConfigError, ResourceError
from m2hf.extract.networks.compat import import_torchvision
from m2hf.extract.weights.checked import read_object, require_sizes
from m2hf.extract.weights.repository import Repository, folder_of
from m2hf.extract.weights.sources import HubSource
from m2hf.extract.weights.weight import ShippedFile, Weight, WeightFile
from m2hf.plain_data import shown

TINY = "m2hf-tiny"  # a model config that ships with m2hf, small enough for demo and tests
TOYBOX = "toybox"  # the tag of its weights, which ship with m2hf (docs/m2hf-tiny.md)
PUBLISHED = "published"  # `pretrained` of a repository or folder, which has its own weights
_HUB, _LOCAL = "hf-hub:", "local-dir:"  # open_clip's own prefixes
_TOYBOX_FILE = Path(__file__).with_name("m2hf-tiny.safetensors")
_TOYBOX_SHA256 = "1b685b22a9cfccbab35028abbce805f7477b428e7469a5b8f29b3b10da006ca2"
_CHECKPOINTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_SIZE_MB = 600
_GET = (
    f"set extract.encoder.pretrained to a checkpoint file; without weights, "
    f"extract.encoder.model={TINY} with extract.encoder.pretrained='' runs untrained"
)
_GET_TEXT = (
    "set extract.encoder.model to a folder with open_clip_config.json, open_clip_model.safetensors "
    "and, if it isn't CLIP's own, a tokenizer"
)
_MOST_WIDTH = {"embed_dim": 1 << 14}
_MOST = {
    "width": 1 << 14,
    "layers": 1 << 8,
    "context_length": 1 << 12,
    "vocab_size": 1 << 20,
}


@dataclass(frozen=True)
class ClipWeights:
    """What a CLIP needs, declared; empty where it needs nothing."""

    config: tuple[Weight, ...] = ()
    """Of a repository or folder."""
    checkpoint: tuple[Weight, ...] = ()
    tokenizer: tuple[Weight, ...] = ()
    """Of transformers; open_clip brings CLIP's own."""
    tower: tuple[Weight, ...] = ()
    """The configuration of a text tower of transformers."""

    def __iter__(self) -> Iterator[Weight]:
        """Each once: a tower and its tokenizer share a file."""
        return iter(dict.fromkeys(w for field in fields(self) for w in getattr(self, field.name)))

    def locate(self) -> "ClipFiles":
        """The files; raises ResourceError where one is missing."""
        return ClipFiles(
            **{f.name: tuple(w.locate() for w in getattr(self, f.name)) for f in fields(self)}
        )


@dataclass(frozen=True)
class ClipFiles:
    """The files of ClipWeights, located and hashed."""

    config: tuple[WeightFile, ...]
    checkpoint: tuple[WeightFile, ...]
    tokenizer: tuple[WeightFile, ...]
    tower: tuple[WeightFile, ...]


def repository(model: str) -> Repository | None:
    """The hub's repository or the folder that `model` names; None for another name."""
    if model.startswith(_HUB):
        return Repository(model.removeprefix(_HUB), "encoder.model", get=_GET_TEXT)
    local = model.startswith(_LOCAL)
    folder = Path(model.removeprefix(_LOCAL)).expanduser() if local else folder_of(model)
    if folder is not None:
        return Repository(str(folder), "encoder.model", folder, _GET_TEXT)
    return None


def is_file(pretrained: str) -> bool:
    """Whether `pretrained` is the path of a checkpoint rather than a tag."""
    return "/" in pretrained or Path(pretrained).suffix in {".pt", ".safetensors"}


def weights(model: str, pretrained: str) -> ClipWeights:
    """What `model` needs with the weights `pretrained`, "" for random ones.

    The tokenizer of a repository is known once its configuration is there. Raises ConfigError for
    a model or tag that open_clip lacks, ResourceError for a damaged configuration.
    """
    place = repository(model)
    found: tuple[Weight, ...] = ()
    checkpoint: tuple[Weight, ...] = ()
    if place is not None:
        found = (place.weight("open_clip_config.json"),)
    if pretrained:
        own = place and place.weight("checkpoint", _CHECKPOINTS, _SIZE_MB)
        checkpoint = (own or _checkpoint(model, pretrained),)
    if found and found[0].find() is None:
        return ClipWeights(found, checkpoint)
    text = model_config(model, tuple(w.locate() for w in found))["text_cfg"]
    tokenizer: tuple[Weight, ...] = ()
    tower: tuple[Weight, ...] = ()
    if name := text.get("hf_tokenizer_name"):
        theirs = place if place and place.folder else _text_repository(model, name)
        tokenizer = theirs.tokenizer()
    if name := text.get("hf_model_name"):
        tower = (_text_repository(model, name).config(),)
    return ClipWeights(found, checkpoint, tokenizer, tower)


def _text_repository(model: str, name: object) -> Repository:
    if not isinstance(name, str):
        raise ResourceError(f"{model}: text_cfg names {shown(name)}, expected a hub repository")
    return Repository(name, f"the text tower or tokenizer of {model}", get=_GET_TEXT)


def model_config(model: str, config: tuple[WeightFile, ...]) -> Mapping[str, Any]:
    """The configuration of `model` as open_clip reads it; config: the file of a repository.

    Raises ConfigError for a name that open_clip lacks, ResourceError for a damaged file.
    """
    if config:
        return _read_config(config[0])
    models = library().list_models()
    if model not in models:
        near = difflib.get_close_matches(model, models, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "see open_clip.list_models()"
        raise ConfigError(f"encoder.model = {model!r}: open_clip has no such model; {hint}")
    known: Mapping[str, Any] = library().get_model_config(model)
    return known


def _read_config(file: WeightFile) -> Mapping[str, Any]:
    config = read_object(file).get("model_cfg")
    towers = ("vision_cfg", "text_cfg")
    if not isinstance(config, dict) or not all(isinstance(config.get(k), dict) for k in towers):
        raise ResourceError(
            f"weights {file.paths[0]}: not the configuration of an open_clip model, expected "
            "model_cfg with vision_cfg and text_cfg"
        )
    require_sizes(file, {"embed_dim": None, **config}, _MOST_WIDTH)
    for tower in towers:
        layers = config[tower].get("layers")
        stages = {"layers": max(layers)} if _are_stages(layers) else {}  # of a ResNet
        require_sizes(file, {**config[tower], **stages}, _MOST)
    return config


def _are_stages(layers: object) -> bool:
    return isinstance(layers, list) and bool(layers) and all(type(n) is int for n in layers)


@cache
def library() -> Any:
    """open_clip, with m2hf's own model config."""
    import_torchvision()
    import open_clip

    # open_clip logs a warning for each random model; m2hf flags the features instead.
    logging.getLogger("root").addFilter(
        lambda record: (
            not (
                "Model initialized randomly" in record.getMessage()
                or "no CLIP weights found in" in record.getMessage()
            )
        )
    )
    with as_file(files("m2hf.extract.networks") / f"{TINY}.json") as path:
        open_clip.add_model_config(path)
    return open_clip


def _checkpoint(model: str, pretrained: str) -> Weight:
    """The checkpoint of a name that open_clip lists: a file, m2hf's own, or a tag's."""
    if is_file(pretrained):
        return Weight(f"{model}/file", size_mb=0, explicit=pretrained)
    if (model, pretrained) == (TINY, TOYBOX):
        return Weight(f"{TINY}/{TOYBOX}", 0, _TOYBOX_SHA256, packaged=ShippedFile(_TOYBOX_FILE))
    return _tagged_weight(model, pretrained)


def _tagged_weight(model: str, tag: str) -> Weight:
    """The checkpoint of an open_clip tag, also in the caches of open_clip and huggingface_hub."""
    tags = library().list_pretrained_tags_by_model(model)
    if tag not in tags:
        raise ConfigError(
            f"encoder.pretrained = {tag!r}: open_clip has no such weights for {model}; "
            f"known: {', '.join(tags) or 'none'}; or give a path, or '' for random weights"
        )
    entry = library().get_pretrained_cfg(model, tag)
    source = found = sha256 = None
    if hub := entry.get("hf_hub"):
        place, inside = posixpath.split(hub)
        source = HubSource(place, (inside,) if inside else _CHECKPOINTS)
        found, sha256 = source.cached()
    if found is None and (url := entry.get("url")):
        found = Path("~/.cache/clip").expanduser() / Path(url).name
    return Weight(
        f"{model}/{tag}",
        size_mb=_SIZE_MB,
        cached=found,
        cached_sha256=sha256,
        source=source,
        get=_GET,
    )
