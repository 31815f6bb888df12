"""The text tower of CLAP: captions as unit vectors of the space of its audio tower.

N texts, D width of the space.
"""

import string
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_serializer

from m2hf.config import Section
from m2hf.errors import ConfigError
from m2hf.extract.inference.clock import CLOCK
from m2hf.extract.networks import hub_model
from m2hf.extract.networks.clap_network import CLAP, UNFUSED
from m2hf.extract.networks.hub_model import TRANSFORMER, Files
from m2hf.extract.networks.untrained import UNTRAINED, origin
from m2hf.extract.weights.checked import loading_folder
from m2hf.extract.weights.repository import FOLDER, Repository, by_name, folder_of
from m2hf.extract.weights.weight import Weight
from m2hf.features import unit_rows

_SIZE_MB = 614
_TEXT = replace(
    CLAP,
    network="ClapTextModelWithProjection",
    part="text_config",
    most={**TRANSFORMER, "vocab_size": 1 << 20, "max_position_embeddings": 1 << 14},
)


class ClapEncoder(Section):
    """The text tower of a CLAP, for captions that are compared with sound."""

    libraries: ClassVar[tuple[str, ...]] = ("transformers",)

    kind: Literal["clap"] = "clap"
    """`clap`: the text tower of a CLAP of transformers."""
    model: str = UNFUSED
    """Its name on the Hugging Face hub, or the path of a folder as transformers saves it, which
    starts with / or ./; that of `extract.audio`, so that both share a space."""
    pretrained: Literal["published", ""] = "published"
    """"" for random weights, whose features are flagged "untrained"."""
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    """Of random weights; unused with published ones."""

    @property
    def width(self) -> int:
        """D; raises ResourceError where the configuration is missing or of another model."""
        return int(self._configuration.projection_dim)

    def needs(self) -> tuple[Weight, ...]:
        """Vocabulary, tokenizer's configuration, the model's, and weights unless they are drawn."""
        folder = folder_of(self.model)
        if folder is None and "/" not in self.model:
            raise ConfigError(
                f"encoder.model = {self.model!r}: expected a CLAP of the Hugging Face hub, such as "
                f"{UNFUSED}, or the path of a folder that starts with / or ./"
            )
        get = "set encoder.model to its folder, as a path that starts with / or ./"
        place = Repository(self.model, "encoder.model", folder, get)
        tensors = (hub_model.tensors(place, _SIZE_MB),) if self.pretrained else ()
        return (*place.tokenizer(), *tensors)

    def weights(self) -> dict[str, str]:
        """Name -> sha256 of each file; for random weights, their seed and torch version."""
        _configured(self._located)  # of another kind of model: raises before a caption is read
        drawn = {} if self.pretrained else {self._label(self.model): origin(self.seed)}
        return drawn | {weight.name: weight.locate().sha256 for weight in self.needs()}

    def flags(self) -> tuple[str, ...]:
        return () if self.pretrained else (UNTRAINED,)

    def open(self, device: str) -> "ClapText":
        """Load the model on `device`, cached in the process."""
        return _open(self, self._located, device)

    @property
    def _located(self) -> Files:
        """In the order of `needs`."""
        return tuple(weight.locate() for weight in self.needs())

    @property
    def _configuration(self) -> Any:
        return _configured(self._located)

    @field_serializer("model")
    def _label(self, model: str) -> str:
        """A path is left out of the fingerprint, which has the digests of the files."""
        return FOLDER if folder_of(model) else model


class ClapText:
    """A loaded text tower; see `joint_space.TextModel`. It has no vectors of tokens."""

    def __init__(self, encoder: ClapEncoder, files: Files, device: str) -> None:
        config = _configured(files)
        tower = config.text_config
        self._tokenizer = _tokenizer(files)
        loaded = tuple(reversed(files[2:])) if encoder.pretrained else ()
        self._model = _TEXT.load(tower, loaded, encoder.seed, device)
        self._device = device
        self.width = int(config.projection_dim)
        special = int(self._tokenizer.num_special_tokens_to_add())
        # RoBERTa's positions begin after that of the padding.
        self._context = int(tower.max_position_embeddings) - int(tower.pad_token_id) - 1
        self.max_tokens = self._context - special

    def token_count(self, text: str) -> int:
        """Tokens of `text` without special tokens."""
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def known_words(self, text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """All words of `text`, since its tokenizer writes any by bytes, and none."""
        bare = (word.strip(string.punctuation) for word in text.split())
        return tuple(dict.fromkeys(word for word in bare if word)), ()

    def encode_sentences(self, texts: list[str]) -> NDArray[np.float32]:
        """(N, D) unit vectors; what is longer than `max_tokens` is truncated."""
        import torch

        ids = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._context, return_tensors="pt"
        ).to(self._device)
        with torch.inference_mode(), CLOCK.running(self._device):
            encoded = self._model(ids.input_ids, ids.attention_mask).text_embeds
        return unit_rows(encoded.float().cpu().numpy())

    def encode_tokens(self, text: str) -> NDArray[np.float32]:
        """(1, D): the sentence alone."""
        return self.encode_sentences([text])


@cache
def _open(encoder: ClapEncoder, files: Files, device: str) -> ClapText:
    return ClapText(encoder, files, device)


def _configured(files: Files) -> Any:
    """The ClapConfig; raises ResourceError for files of another kind of model."""
    of_model = (files[0], files[2])  # the configuration is where `hub_model.needs` has it
    return hub_model.choose((_TEXT,), "", of_model, "encoder").configuration("", of_model)


def _tokenizer(files: Files) -> Any:
    from transformers import AutoTokenizer

    with loading_folder(by_name(files[:3]), "a tokenizer of transformers") as folder:
        made = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
        made(["a"], padding=True)  # an error of a tokenizer that can't pad is one of its files
    return made
