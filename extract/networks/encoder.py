"""The CLIP model (open_clip) that encodes frames, captions and the text in a video."""

import string
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_serializer, model_validator

from m2hf.config import Section
from m2hf.extract.inference.clock import CLOCK
from m2hf.extract.networks import clip_files
from m2hf.extract.networks.clip_files import PUBLISHED, TINY, TOYBOX, ClipFiles, ClipWeights
from m2hf.extract.networks.clip_tokenizer import ClipTokenizer
from m2hf.extract.networks.untrained import UNTRAINED, origin, seeded
from m2hf.extract.weights.checked import loading, loading_folder
from m2hf.extract.weights.repository import FOLDER, by_name
from m2hf.extract.weights.weight import Weight
from m2hf.features import unit_rows

_TINY_PREPROCESSING = {"image_resize_mode": "squash"}  # no crop
_TOWER = "the configuration of a text tower"
_SHAPES = "a checkpoint that fits its configuration"


class Encoder(Section):
    """Which CLIP model and weights to use."""

    libraries: ClassVar[tuple[str, ...]] = ("open_clip_torch",)

    kind: Literal["open_clip"] = Field(default="open_clip", exclude=True)
    """`open_clip`: a CLIP, which encodes frames and text; `sentence`, a sentence encoder, and
    `clap`, the text tower of a CLAP, encode text alone, with settings of their own
    (docs/weights.md)."""
    model: str = "ViT-B-32"
    """A model name of open_clip; `m2hf-tiny`; `hf-hub:ORG/NAME`, a repository of the Hugging Face
    hub; or a folder as /PATH, ./PATH or local-dir:PATH. The last two have open_clip_config.json,
    weights, and a tokenizer where it isn't CLIP's own."""
    pretrained: str = "openai"
    """A tag of open_clip such as `openai` (`toybox` for m2hf-tiny), the path of a checkpoint
    (.safetensors, .pt), or "" for random weights, whose features are flagged "untrained". A
    repository or folder has its own: `published`, or leave it out."""
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    """Of random weights; unused with a checkpoint."""
    quick_gelu: bool = False
    """Use the QuickGELU activation, for a checkpoint *file* of OpenAI's models, which were trained
    with it; a tag sets the activation itself."""

    @model_validator(mode="before")
    @classmethod
    def _own_weights(cls, data: Any) -> Any:
        """Repositories and folders have weights of their own by default."""
        has_own = isinstance(data, Mapping) and clip_files.repository(str(data.get("model", "")))
        return {"pretrained": PUBLISHED, **data} if has_own else data

    @model_validator(mode="after")
    def _known_weights(self) -> "Encoder":
        if self._in_repository and self.pretrained not in ("", PUBLISHED):
            raise ValueError(
                f"pretrained is {self.pretrained!r}, but model {self.model!r} has weights of its "
                f"own; set pretrained to {PUBLISHED!r}, or leave it out"
            )
        return self

    @property
    def width(self) -> int:
        """D of the joint space; raises ConfigError for a model that open_clip doesn't have."""
        config = tuple(weight.locate() for weight in self._files.config)
        return int(clip_files.model_config(self.model, config)["embed_dim"])

    def needs(self) -> tuple[Weight, ...]:
        """The files of the model, whether or not they exist; no checkpoint for random weights."""
        return tuple(self._files)

    def weights(self) -> dict[str, str]:
        """Name -> sha256 of each file; for random weights, their seed and torch version."""
        drawn = {} if self.pretrained else {self._model_label(self.model): origin(self.seed)}
        return drawn | {weight.name: weight.locate().sha256 for weight in self.needs()}

    def flags(self) -> tuple[str, ...]:
        return () if self.pretrained else (UNTRAINED,)

    def open(self, device: str) -> "OpenClip":
        """Load the model on `device`, cached in the process."""
        return _open(self, self._files.locate(), device)

    @field_serializer("model")
    def _model_label(self, model: str) -> str:
        """A folder's path is left out of the fingerprint, which has the digests of its files."""
        place = clip_files.repository(model)
        return FOLDER if place and place.folder else model

    @field_serializer("pretrained")
    def _label(self, pretrained: str) -> str:
        """A path is left out of the fingerprint, which has the digest of the file."""
        return "file" if clip_files.is_file(pretrained) else pretrained

    @property
    def _files(self) -> ClipWeights:
        return clip_files.weights(self.model, self.pretrained)

    @property
    def _in_repository(self) -> bool:
        return clip_files.repository(self.model) is not None

    def tag_options(self) -> dict[str, Any]:
        """The activation and preprocessing that belong to the weights.

        open_clip takes them from a tag but not from a file, and only warns where a file is loaded
        with another activation than it was trained with; the features are then wrong. It takes
        those of a repository or folder from its configuration.
        """
        shipped = (self.model, self.pretrained) == (TINY, TOYBOX)
        is_tag = self.pretrained and not (clip_files.is_file(self.pretrained) or shipped)
        if self._in_repository or not is_tag:
            preprocessing = _TINY_PREPROCESSING if self.model == TINY else {}
            return {"force_quick_gelu": self.quick_gelu, **preprocessing}
        entry = clip_files.library().get_pretrained_cfg(self.model, self.pretrained)
        keys = ("mean", "std", "interpolation", "resize_mode")
        return {
            "force_quick_gelu": bool(entry.get("quick_gelu", False)),
            **{f"image_{key}": entry[key] for key in keys if key in entry},
        }


class OpenClip:
    """A loaded CLIP: sentences to unit vectors of the joint space (frames: see `preprocessing`)."""

    def __init__(self, encoder: Encoder, files: ClipFiles, device: str) -> None:
        import torch

        self._torch = torch
        config = clip_files.model_config(encoder.model, files.config)
        self.tokenizer = ClipTokenizer(config["text_cfg"], files.tokenizer)
        with seeded(encoder.seed):
            self.model, self.preprocess = _created(encoder, config, files, device)
        self._device = device
        self.width = int(config["embed_dim"])
        text: Any = self.model if hasattr(self.model, "ln_final") else self.model.text
        self._has_tokens = hasattr(text, "ln_final")  # a tower of transformers has no such rows
        self._tower: Any = text

    def token_count(self, text: str) -> int:
        """Tokens of `text` without the start and end tokens."""
        return len(self.tokenizer.encode(text))

    def known_words(self, text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Words of `text` whose tokens all occurred in training, and the other words: an embedding
        of all zeros marks a token that never occurred."""
        embedding = (
            self._tower.token_embedding
            if self._has_tokens
            else self._tower.transformer.get_input_embeddings()
        )
        seen = embedding.weight.detach().ne(0).any(dim=1).cpu()
        bare = (word.strip(string.punctuation) for word in text.split())
        words = {w: bool(seen[self.tokenizer.encode(w)].all()) for w in bare if w}
        return tuple(w for w in words if words[w]), tuple(w for w in words if not words[w])

    @property
    def max_tokens(self) -> int:
        """The most tokens of one sentence, without the start and end tokens."""
        return self.tokenizer.max_tokens

    def encode_sentences(self, texts: list[str]) -> NDArray[np.float32]:
        """(N, D) unit vectors; what is longer than `max_tokens` is truncated, so split it first."""
        ids = self.tokenizer(texts).to(self._device)
        with self._torch.inference_mode(), CLOCK.running(self._device):
            encoded = self.model.encode_text(ids)
        return unit_rows(encoded.float().cpu().numpy())

    def encode_tokens(self, text: str) -> NDArray[np.float32]:
        """(1 + W, D) unit vectors: the sentence, then each of its W tokens in order.

        A token's vector is the projection of the text tower's last state at the token; the
        sentence's is what the model pools, for CLIP that at the end token. A text tower of another
        library than open_clip gives the sentence alone: W is 0.
        """
        if not self._has_tokens:
            return self.encode_sentences([text])
        torch, tower = self._torch, self._tower
        states: list[Any] = []
        hook = tower.transformer.register_forward_hook(lambda *args: states.append(args[2]))
        ids = self.tokenizer([text]).to(self._device)
        first = self.tokenizer.first
        end = first + min(self.token_count(text), self.max_tokens)
        try:
            with torch.inference_mode(), CLOCK.running(self._device):
                sentence = self.model.encode_text(ids)
                projected = _projected(tower, tower.ln_final(states[0])[0])
        finally:
            hook.remove()
        rows = torch.cat([sentence, projected[first:end]]).float().cpu().numpy()
        return unit_rows(rows)


def _created(
    encoder: Encoder, config: Mapping[str, Any], files: ClipFiles, device: str
) -> tuple[Any, Any]:
    """The network on `device`, and its preprocessing of frames.

    Raises ResourceError where the files are damaged or of another network.
    """
    open_clip = clip_files.library()
    with ExitStack() as opened:
        name, path = encoder.model, None
        options = encoder.tag_options()
        if files.config:
            folder = loading_folder(by_name((*files.checkpoint, *files.config)), _SHAPES)
            name = f"local-dir:{opened.enter_context(folder)}"
        elif files.checkpoint:
            kind = f"a checkpoint of {encoder.model}"
            path = str(opened.enter_context(loading(files.checkpoint[0], kind)))
        if files.tower:
            tower = opened.enter_context(loading_folder(by_name(files.tower), _TOWER))
            own = {"hf_model_name": str(tower), "hf_model_pretrained": False}
            options["text_cfg"] = {**config["text_cfg"], **own}
        model, _, preprocess = open_clip.create_model_and_transforms(
            name, pretrained=path, device=device, pretrained_hf=False, **options
        )
    return model.eval(), preprocess


def _projected(tower: Any, states: Any) -> Any:
    projection = tower.text_projection
    if projection is None:
        return states
    return projection(states) if callable(projection) else states @ projection


@cache
def _open(encoder: Encoder, files: ClipFiles, device: str) -> OpenClip:
    return OpenClip(encoder, files, device)
