"""The joint space of captions and clips: which encoder makes it, and the extractors in it."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Annotated, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

from m2hf.config import Section
from m2hf.extract.base import Extractor
from m2hf.extract.networks.clap_text import ClapEncoder
from m2hf.extract.networks.encoder import Encoder
from m2hf.extract.networks.sentence_encoder import SentenceEncoder
from m2hf.extract.weights.weight import Weight

OPEN_CLIP, SENTENCE, CLAP = "open_clip", "sentence", "clap"
_KINDS: Mapping[str, type[Section]] = {
    OPEN_CLIP: Encoder,
    SENTENCE: SentenceEncoder,
    CLAP: ClapEncoder,
}


def kind_of(encoder: Mapping[str, Any]) -> Any:
    """The `kind` of an encoder's table in a recipe."""
    return encoder.get("kind", OPEN_CLIP)


def is_open_clip(encoder: Any) -> bool:
    """Whether an encoder, or its table in a recipe, is of open_clip."""
    if isinstance(encoder, Mapping):
        return bool(kind_of(encoder) == OPEN_CLIP)
    return isinstance(encoder, Encoder)


def _of_kind(data: Any) -> Any:
    if isinstance(data, Section):
        return data
    if not isinstance(data, Mapping):
        raise ValueError(f"expected a table, such as {{kind = '{SENTENCE}'}}")
    kind = kind_of(data)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"kind: expected one of {', '.join(_KINDS)}")
    return _KINDS[kind].model_validate(data)


AnyEncoder = Annotated[Encoder | SentenceEncoder | ClapEncoder, BeforeValidator(_of_kind)]
"""An encoder of the class that `kind` of its table names."""


class TextModel(Protocol):
    """A loaded text encoder. N texts, W tokens of a text, D width of the space."""

    width: int

    @property
    def max_tokens(self) -> int:
        """The most tokens of a text that it reads."""

    def token_count(self, text: str) -> int:
        """Tokens of a text, also beyond `max_tokens`."""

    def known_words(self, text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Words that it can know from training, and the other words."""

    def encode_sentences(self, texts: list[str]) -> NDArray[np.float32]:
        """(N, D) unit vectors of texts that captions are compared with."""

    def encode_tokens(self, text: str) -> NDArray[np.float32]:
        """(1 + W, D) unit vectors of a caption: the sentence, then its tokens."""


class JointSpaceExtractor(Extractor):
    """An extractor whose values are vectors of the joint space of its encoder."""

    network: ClassVar[bool] = True

    encoder: AnyEncoder = Encoder()
    """The model that encodes; by default, that of `extract.encoder`."""

    @property
    def width(self) -> int:
        return self.encoder.width

    def needs(self) -> tuple[Weight, ...]:
        return self.encoder.needs()

    def weights(self) -> Mapping[str, str]:
        return self.encoder.weights()

    def flags(self) -> tuple[str, ...]:
        return self.encoder.flags()

    def environment(self) -> dict[str, str]:
        return super().environment() | {name: version(name) for name in self.encoder.libraries}
