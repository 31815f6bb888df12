"""The CLIP model (open_clip) that encodes frames, captions and the text in a video."""

import difflib
import logging
import posixpath
import string
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_serializer

from m2hf.config import Section
from m2hf.errors import ConfigError
from m2hf.extract.inference.clock import CLOCK
from m2hf.extract.networks.compat import import_torchvision
from m2hf.extract.networks.untrained import UNTRAINED, origin, seeded
from m2hf.extract.weights.checked import loading
from m2hf.extract.weights.sources import HubSource
from m2hf.extract.weights.weight import ShippedFile, Weight, WeightFile
from m2hf.features import unit_rows

TINY = "m2hf-tiny"  # a model config that ships with m2hf, small enough for demo and tests
TOYBOX = "toybox"  # the tag of its weights, which ship with m2hf (docs/m2hf-tiny.md)
_TOYBOX_FILE = Path(__file__).with_name("m2hf-tiny.safetensors")
_TOYBOX_SHA256 = "1b685b22a9cfccbab35028abbce805f7477b428e7469a5b8f29b3b10da006ca2"
_TINY_PREPROCESSING = {"image_resize_mode": "squash"}  # no crop


class Encoder(Section):
    """Which CLIP model and weights to use."""

    libraries: ClassVar[tuple[str, ...]] = ("open_clip_torch",)

    kind: Literal["open_clip"] = Field(default="open_clip", exclude=True)
    """`open_clip`: a CLIP, which encodes frames and text; or `sentence`: a sentence encoder, which
    encodes text alone, with settings of its own (docs/weights.md)."""
    model: str = "ViT-B-32"
    """A model name of open_clip, or `m2hf-tiny`."""
    pretrained: str = "openai"
    """A tag of open_clip such as `openai` (`toybox` for m2hf-tiny), the path of a checkpoint
    (.safetensors, .pt), or "" for random weights, whose features are flagged "untrained"."""
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    """Of random weights; unused with a checkpoint."""
    quick_gelu: bool = False
    """Use the QuickGELU activation, for a checkpoint *file* of OpenAI's models, which were trained
    with it; a tag sets the activation itself."""

    @property
    def width(self) -> int:
        """D of the joint space; raises ConfigError for a model that open_clip doesn't have."""
        return int(_model_config(self.model)["embed_dim"])

    def needs(self) -> tuple[Weight, ...]:
        """The checkpoint, whether or not it exists; none for random weights."""
        if not self.pretrained:
            return ()
        if self._is_path:
            return (Weight(f"{self.model}/file", size_mb=0, explicit=self.pretrained),)
        if self._is_shipped:
            return (
                Weight(f"{TINY}/{TOYBOX}", 0, _TOYBOX_SHA256, packaged=ShippedFile(_TOYBOX_FILE)),
            )
        return (_tagged_weight(self.model, self.pretrained),)

    def weights(self) -> dict[str, str]:
        """Name -> sha256 of the checkpoint; for random weights, their seed and torch version."""
        if not self.pretrained:
            return {self.model: origin(self.seed)}
        return {weight.name: weight.locate().sha256 for weight in self.needs()}

    def flags(self) -> tuple[str, ...]:
        return () if self.pretrained else (UNTRAINED,)

    def open(self, device: str) -> "OpenClip":
        """Load the model on `device`, cached in the process."""
        return _open(self, next((weight.locate() for weight in self.needs()), None), device)

    @field_serializer("pretrained")
    def _label(self, pretrained: str) -> str:
        """A path is left out of the fingerprint, which has the digest of the file."""
        return "file" if self._is_path else pretrained

    @property
    def _is_path(self) -> bool:
        return "/" in self.pretrained or Path(self.pretrained).suffix in {".pt", ".safetensors"}

    @property
    def _is_shipped(self) -> bool:
        return (self.model, self.pretrained) == (TINY, TOYBOX)

    def tag_options(self) -> dict[str, Any]:
        """The activation and preprocessing that belong to the weights.

        open_clip takes them from a tag but not from a file, and only warns where a file is loaded
        with another activation than it was trained with; the features are then wrong.
        """
        if not self.pretrained or self._is_path or self._is_shipped:
            preprocessing = _TINY_PREPROCESSING if self.model == TINY else {}
            return {"force_quick_gelu": self.quick_gelu, **preprocessing}
        entry = _library().get_pretrained_cfg(self.model, self.pretrained)
        keys = ("mean", "std", "interpolation", "resize_mode")
        return {
            "force_quick_gelu": bool(entry.get("quick_gelu", False)),
            **{f"image_{key}": entry[key] for key in keys if key in entry},
        }


class OpenClip:
    """A loaded CLIP: sentences to unit vectors of the joint space (frames: see `preprocessing`)."""

    def __init__(self, encoder: Encoder, file: WeightFile | None, device: str) -> None:
        import torch

        open_clip = _library()
        config = _model_config(encoder.model)
        checkpoint = loading(file, f"a checkpoint of {encoder.model}") if file else nullcontext()
        with seeded(encoder.seed), checkpoint as path:
            model, _, preprocess = open_clip.create_model_and_transforms(
                encoder.model, pretrained=path and str(path), **encoder.tag_options()
            )
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
        """Tokens of `text` without the start and end tokens."""
        return len(self.tokenizer.encode(text))

    def known_words(self, text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Words of `text` whose tokens all occurred in training, and the other words: an embedding
        of all zeros marks a token that never occurred."""
        seen = self._tower.token_embedding.weight.detach().ne(0).any(dim=1).cpu()
        bare = (word.strip(string.punctuation) for word in text.split())
        words = {w: bool(seen[self.tokenizer.encode(w)].all()) for w in bare if w}
        return tuple(w for w in words if words[w]), tuple(w for w in words if not words[w])

    @property
    def max_tokens(self) -> int:
        """The most tokens of one sentence, without the start and end tokens."""
        return self.context - 2

    def encode_sentences(self, texts: list[str]) -> NDArray[np.float32]:
        """(N, D) unit vectors; what is longer than `max_tokens` is truncated, so split it first."""
        ids = self.tokenizer(texts).to(self._device)
        with self._torch.inference_mode(), CLOCK.running(self._device):
            encoded = self.model.encode_text(ids)
        return unit_rows(encoded.float().cpu().numpy())

    def encode_tokens(self, text: str) -> NDArray[np.float32]:
        """(1 + W, D) unit vectors: the sentence, then each of its W tokens in order.

        A token's vector is the projection of the text tower's last state at the token; the
        sentence's is that at the end token, as in CLIP.
        """
        torch = self._torch
        outputs: list[Any] = []
        hook = self._tower.ln_final.register_forward_hook(lambda *args: outputs.append(args[2]))
        ids = self.tokenizer([text]).to(self._device)
        try:
            with torch.inference_mode(), CLOCK.running(self._device):
                sentence = self.model.encode_text(ids)
                states = outputs[0][0]
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
        return unit_rows(rows)


@cache
def _open(encoder: Encoder, file: WeightFile | None, device: str) -> OpenClip:
    return OpenClip(encoder, file, device)


@cache
def _library() -> Any:
    import_torchvision()
    import open_clip

    # open_clip logs a warning for each random model; m2hf flags the features instead.
    logging.getLogger("root").addFilter(
        lambda record: "Model initialized randomly" not in record.getMessage()
    )
    with as_file(files("m2hf.extract.networks") / f"{TINY}.json") as path:
        open_clip.add_model_config(path)
    return open_clip


def _model_config(name: str) -> Mapping[str, Any]:
    models = _library().list_models()
    if name not in models:
        near = difflib.get_close_matches(name, models, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "see open_clip.list_models()"
        raise ConfigError(f"encoder.model = {name!r}: open_clip has no such model; {hint}")
    config: Mapping[str, Any] = _library().get_model_config(name)
    return config


def _tagged_weight(model: str, tag: str) -> Weight:
    """The checkpoint of an open_clip tag, also in the caches of open_clip and huggingface_hub."""
    tags = _library().list_pretrained_tags_by_model(model)
    if tag not in tags:
        raise ConfigError(
            f"encoder.pretrained = {tag!r}: open_clip has no such weights for {model}; "
            f"known: {', '.join(tags) or 'none'}; or give a path, or '' for random weights"
        )
    entry = _library().get_pretrained_cfg(model, tag)
    source = found = sha256 = None
    if hub := entry.get("hf_hub"):
        repository, inside = posixpath.split(hub)
        names = (
            [inside] if inside else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
        )
        source = HubSource(repository, tuple(names))
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
