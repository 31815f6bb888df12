"""The CLIP model that frames, captions and the text in a video share (open_clip)."""

import difflib
import logging
import posixpath
import string
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import field_serializer

from m2hf.config import Section
from m2hf.errors import ConfigError, ResourceError, first_line
from m2hf.extract.base import Extractor
from m2hf.extract.inference.clock import CLOCK
from m2hf.extract.networks.compat import import_torchvision
from m2hf.extract.weights.sources import Hub
from m2hf.extract.weights.weight import Shipped, Weight, WeightFile

UNTRAINED = "untrained"
TINY = "m2hf-tiny"  # our own config of open_clip, small enough for demo and tests
TOYBOX = "toybox"  # the tag of its weights, which come with m2hf (docs/m2hf-tiny.md)
_TOYBOX_FILE = Path(__file__).with_name("m2hf-tiny.safetensors")
_TOYBOX_SHA256 = "cfb39770a3cbec3f1ad530be86261e8e3c8e362c74806ae5b7862340556bd6ef"
_TINY_PICTURE = {"image_resize_mode": "squash"}  # nothing is cut off at the sides


class Encoder(Section):
    """Which CLIP: an open_clip model name, and a tag, a checkpoint file, or "" for random weights.

    model: any name that open_clip knows, or `m2hf-tiny`; pretrained: an open_clip tag such as
    `openai` (`toybox` for m2hf-tiny), a path to a checkpoint (.safetensors, .pt), or "" for weights
    drawn from `seed`, whose every output is flagged "untrained". quick_gelu: for a checkpoint
    *file* of OpenAI's models, which were trained with that activation; a tag brings its own.
    """

    model: str = "ViT-B-32"
    pretrained: str = "openai"
    seed: int = 0
    quick_gelu: bool = False

    @property
    def width(self) -> int:
        """D of the joint space; raises ConfigError for a model that open_clip doesn't know."""
        return int(_model_config(self.model)["embed_dim"])

    def needs(self) -> tuple[Weight, ...]:
        """The checkpoint, whether or not it is there; none for random weights."""
        if not self.pretrained:
            return ()
        if self._is_path:
            return (Weight(f"{self.model}/file", size_mb=0, explicit=self.pretrained),)
        if self._is_shipped:
            return (Weight(f"{TINY}/{TOYBOX}", 0, _TOYBOX_SHA256, packaged=Shipped(_TOYBOX_FILE)),)
        return (_tagged_weight(self.model, self.pretrained),)

    def weights(self) -> dict[str, str]:
        """Name -> sha256 of the checkpoint; for random weights, how they were drawn."""
        if not self.pretrained:
            return {self.model: f"{UNTRAINED}: seed {self.seed}, torch {version('torch')}"}
        return {weight.name: weight.locate().sha256 for weight in self.needs()}

    def flags(self) -> tuple[str, ...]:
        return () if self.pretrained else (UNTRAINED,)

    def open(self, device: str) -> "OpenClip":
        """Load the model on `device`, once per process, declaration and checkpoint."""
        return _open(self, next((weight.locate() for weight in self.needs()), None), device)

    @field_serializer("pretrained")
    def _label(self, pretrained: str) -> str:
        """Where a checkpoint file lies is no part of what it is: its digest is."""
        return "file" if self._is_path else pretrained

    @property
    def _is_path(self) -> bool:
        return "/" in self.pretrained or Path(self.pretrained).suffix in {".pt", ".safetensors"}

    @property
    def _is_shipped(self) -> bool:
        return (self.model, self.pretrained) == (TINY, TOYBOX)

    def tag_options(self) -> dict[str, Any]:
        """What a tag says of its weights beside the file: activation and preprocessing.

        open_clip only warns where a file is loaded with another activation than it was trained
        with, and the features are then wrong.
        """
        if not self.pretrained or self._is_path or self._is_shipped:
            picture = _TINY_PICTURE if self.model == TINY else {}
            return {"force_quick_gelu": self.quick_gelu, **picture}
        entry = _library().get_pretrained_cfg(self.model, self.pretrained)
        keys = ("mean", "std", "interpolation", "resize_mode")
        return {
            "force_quick_gelu": bool(entry.get("quick_gelu", False)),
            **{f"image_{key}": entry[key] for key in keys if key in entry},
        }


class InJointSpace(Extractor):
    """An extractor whose values lie in the joint space of its encoder."""

    network: ClassVar[bool] = True

    encoder: Encoder = Encoder()

    @property
    def width(self) -> int:
        return self.encoder.width

    def needs(self) -> tuple[Weight, ...]:
        return self.encoder.needs()

    def weights(self) -> Mapping[str, str]:
        return self.encoder.weights()

    def flags(self) -> tuple[str, ...]:
        return self.encoder.flags()


class OpenClip:
    """A loaded CLIP: sentences to unit vectors of the joint space (frames: see `pictures`)."""

    def __init__(self, encoder: Encoder, file: WeightFile | None, device: str) -> None:
        import torch

        open_clip = _library()
        config = _model_config(encoder.model)
        checkpoint = str(file.paths[0]) if file else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(encoder.seed)
            try:
                model, _, preprocess = open_clip.create_model_and_transforms(
                    encoder.model, pretrained=checkpoint, **encoder.tag_options()
                )
            except Exception as error:  # torch and safetensors raise what they like
                raise ResourceError(
                    f"weights {checkpoint} are damaged, or don't fit the model {encoder.model}: "
                    f"{first_line(error)}"
                ) from error
        if file:
            file.confirm()
        self._torch = torch
        self.model = model.eval().to(device)
        self.preprocess = preprocess
        self.tokenizer = open_clip.get_tokenizer(encoder.model)
        self._device = device
        self.width = int(config["embed_dim"])
        self.context = int(config["text_cfg"].get("context_length", 77))
        tower: Any = model if hasattr(model, "ln_final") else getattr(model, "text", None)
        if not hasattr(tower, "ln_final") or not hasattr(self.tokenizer, "eot_token_id"):
            raise ConfigError(
                f"encoder.model = {encoder.model!r}: token embeddings need a text tower of "
                "open_clip's own (ViT-*, RN*, convnext*, ...), not one of another library"
            )
        self._tower: Any = tower

    def token_count(self, text: str) -> int:
        """Tokens of `text` without the two that mark its ends."""
        return len(self.tokenizer.encode(text))

    def known_words(self, text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Words of `text` that training may have met, and those with a token that it never met:
        its embedding is all zeros, as none is that was drawn or learned."""
        met = self._tower.token_embedding.weight.detach().ne(0).any(dim=1).cpu()
        bare = (word.strip(string.punctuation) for word in text.split())
        words = {w: bool(met[self.tokenizer.encode(w)].all()) for w in bare if w}
        return tuple(w for w in words if words[w]), tuple(w for w in words if not words[w])

    @property
    def room(self) -> int:
        """The most tokens that one sentence may have."""
        return self.context - 2

    def encode_sentences(self, texts: list[str]) -> NDArray[np.float32]:
        """(N, D) unit vectors; what is beyond `room` tokens is cut, so split before."""
        ids = self.tokenizer(texts).to(self._device)
        with self._torch.inference_mode(), CLOCK.running(self._device):
            encoded = self.model.encode_text(ids)
        return unit(encoded.float().cpu().numpy())

    def encode_tokens(self, text: str) -> NDArray[np.float32]:
        """(1 + W, D) unit vectors: the sentence, then each of its W tokens in order.

        Tokens are the text tower's last states through its projection, as CLIP does for the
        sentence, which is the state at the end mark.
        """
        torch = self._torch
        caught: list[Any] = []
        hook = self._tower.ln_final.register_forward_hook(lambda *args: caught.append(args[2]))
        ids = self.tokenizer([text]).to(self._device)
        try:
            with torch.inference_mode(), CLOCK.running(self._device):
                sentence = self.model.encode_text(ids)
                states = caught[0][0]
                projection = self._tower.text_projection
                if projection is not None:
                    projected = (
                        projection(states)
                        if isinstance(projection, torch.nn.Module)
                        else states @ projection
                    )
                else:
                    projected = states
        finally:
            hook.remove()
        end = int((ids[0] == self.tokenizer.eot_token_id).nonzero()[0])
        rows = torch.cat([sentence, projected[1:end]]).float().cpu().numpy()
        return unit(rows)


@cache
def _open(encoder: Encoder, file: WeightFile | None, device: str) -> OpenClip:
    return OpenClip(encoder, file, device)


@cache
def _library() -> Any:
    import_torchvision()
    import open_clip

    # open_clip logs a warning for each random model; our flag says it where it is read.
    logging.getLogger("root").addFilter(
        lambda record: "Model initialized randomly" not in record.getMessage()
    )
    with as_file(files("m2hf.extract.networks") / f"{TINY}.json") as path:
        open_clip.add_model_config(path)
    return open_clip


def _model_config(name: str) -> Mapping[str, Any]:
    known = _library().list_models()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "see open_clip.list_models()"
        raise ConfigError(f"encoder.model = {name!r}: open_clip has no such model; {hint}")
    config: Mapping[str, Any] = _library().get_model_config(name)
    return config


def _tagged_weight(model: str, tag: str) -> Weight:
    """An open_clip tag, looked for where open_clip and huggingface_hub keep what they loaded."""
    known = _library().list_pretrained_tags_by_model(model)
    if tag not in known:
        raise ConfigError(
            f"encoder.pretrained = {tag!r}: open_clip has no such weights for {model}; "
            f"known: {', '.join(known) or 'none'}; or give a path, or '' for random weights"
        )
    entry = _library().get_pretrained_cfg(model, tag)
    source = found = sha256 = None
    if hub := entry.get("hf_hub"):
        repository, inside = posixpath.split(hub)
        names = (
            [inside] if inside else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
        )
        source = Hub(repository, tuple(names))
        found, sha256 = source.cached()
    if found is None and (url := entry.get("url")):
        found = Path("~/.cache/clip").expanduser() / Path(url).name
    return Weight(
        f"{model}/{tag}",
        size_mb=600,
        cached=found,
        cached_sha256=sha256,
        source=source,
        get=(
            f"set extract.encoder.pretrained to a checkpoint file; without weights, "
            f"extract.encoder.model={TINY} with extract.encoder.pretrained='' runs untrained"
        ),
    )


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, D) rows of length 1; a row of zeros stays one."""
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = rows / np.maximum(norm, 1e-12)
    return scaled
