"""Sentence encoders (MiniLM, E5, BGE, GTE, ...) of sentence-transformers.

N texts, W tokens of a text, D width of the vectors.
"""

import string
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import field_serializer

from m2hf.config import Section
from m2hf.errors import ResourceError
from m2hf.extract.inference.clock import CLOCK
from m2hf.extract.networks.compat import import_torchvision
from m2hf.extract.networks.sentence_files import (
    MINILM,
    Prompt,
    SentenceFiles,
    needs,
)
from m2hf.extract.weights.checked import loading_folder, require_tensors
from m2hf.extract.weights.repository import FOLDER, folder_of
from m2hf.extract.weights.weight import Weight
from m2hf.features import unit_rows

_BATCH = 32  # texts of a batch; padded to the longest of them


class SentenceEncoder(Section):
    """A sentence encoder: captions and texts as unit vectors of one space, without frames."""

    libraries: ClassVar[tuple[str, ...]] = ("sentence-transformers", "tokenizers", "transformers")

    kind: Literal["sentence"] = "sentence"
    """`sentence`: a model of sentence-transformers."""
    model: str = MINILM
    """Its name on the Hugging Face hub, or the path of a folder as sentence-transformers saves it,
    which starts with / or ./; pooling, normalisation and length are those of its files."""
    query_prompt: str | None = None
    """What is put before a caption, such as "query: "; unset: what the model's files say."""
    passage_prompt: str | None = None
    """What is put before a text that captions are compared with; unset: what the model's files
    say."""

    @property
    def width(self) -> int:
        """D; raises ResourceError where a file is missing or doesn't declare it."""
        return self.files().width

    def needs(self) -> tuple[Weight, ...]:
        """Weights, tokenizer and configuration, whether or not they exist."""
        return needs(self.model, prompts=None in (self.query_prompt, self.passage_prompt))

    def files(self) -> SentenceFiles:
        """Located and hashed; raises ResourceError where one is missing."""
        return SentenceFiles(tuple(weight.locate() for weight in self.needs()))

    def weights(self) -> dict[str, str]:
        """Name -> sha256 of each file."""
        return {weight.name: weight.locate().sha256 for weight in self.needs()}

    def flags(self) -> tuple[str, ...]:
        return ()

    def open(self, device: str) -> "SentenceModel":
        """Load the model on `device`, cached in the process."""
        return _open(self, self.files(), device)

    @field_serializer("model")
    def _label(self, model: str) -> str:
        """A path is left out of the fingerprint, which has the digests of the files."""
        return FOLDER if folder_of(model) else model


class SentenceModel:
    """A loaded sentence encoder; `known_words`, `encode_sentences` and `encode_tokens` are those of
    every text encoder (`joint_space.TextModel`)."""

    def __init__(self, encoder: SentenceEncoder, files: SentenceFiles, device: str) -> None:
        self._prompts = _prompts(encoder, files)
        self._model = _load(files, device)
        self._tokenizer = self._model.tokenizer
        self._device = device
        self.width = files.width
        # Where the sentence is the mean of the tokens' states, these lie in its space.
        kinds = {module.kind for module in files.modules}
        self._tokenwise = files.pooling == ("mean",) and "Dense" not in kinds
        added = max(map(self.token_count, self._prompts.values()))
        added += int(self._tokenizer.num_special_tokens_to_add())
        self.max_tokens = int(self._model.max_seq_length) - added
        if self.max_tokens < 1:
            raise ResourceError(
                f"encoder.model = {encoder.model!r}: it reads {self._model.max_seq_length} tokens, "
                f"of which prompt and special tokens take {added}"
            )

    def token_count(self, text: str) -> int:
        """Tokens of `text` without prompt and special tokens."""
        ids = self._tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"]
        return len(ids)

    def known_words(self, text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Words of `text` that the tokenizer can write, and the other words."""
        unknown = self._tokenizer.unk_token_id
        bare = {word.strip(string.punctuation): None for word in text.split()}
        ids = {w: self._tokenizer(w, add_special_tokens=False)["input_ids"] for w in bare if w}
        known = {w: unknown is None or unknown not in found for w, found in ids.items()}
        return tuple(w for w in known if known[w]), tuple(w for w in known if not known[w])

    def encode(self, texts: Sequence[str], prompt: Prompt) -> NDArray[np.float32]:
        """(N, D) unit vectors; what is longer than `max_tokens` is truncated."""
        if not texts:
            return np.zeros((0, self.width), np.float32)
        with CLOCK.running(self._device):
            values = self._model.encode(
                list(texts),
                prompt=self._prompts[prompt],
                batch_size=_BATCH,
                show_progress_bar=False,
            )
        return unit_rows(np.asarray(values, np.float32))

    def encode_sentences(self, texts: list[str]) -> NDArray[np.float32]:
        """(N, D) unit vectors of texts that captions are compared with."""
        return self.encode(texts, "passage")

    def encode_tokens(self, text: str) -> NDArray[np.float32]:
        """(1 + W, D) unit vectors of a caption: the sentence, then each of its W tokens in order;
        (1, D) for a model whose sentence isn't the mean of the tokens' last states."""
        if not self._tokenwise:
            return self.encode([text], "query")
        prompt = self._prompts["query"]
        with CLOCK.running(self._device):
            (found,) = self._model.encode(
                [text], prompt=prompt, output_value=None, show_progress_bar=False
            )
            sentence_1D = found["sentence_embedding"][None].float().cpu().numpy()
            states_WD = found["token_embeddings"].float().cpu().numpy()
        tokens = self._tokenizer(
            prompt + text,
            truncation=True,
            return_special_tokens_mask=True,
            return_offsets_mapping=True,
        )
        ends = (end for _, end in tokens["offset_mapping"])  # some tokens start with the space
        marks = zip(tokens["special_tokens_mask"], ends, strict=True)
        of_text = np.array([not special and end > len(prompt) for special, end in marks])
        return unit_rows(np.concatenate([sentence_1D, states_WD[of_text][: self.max_tokens]]))


def _prompts(encoder: SentenceEncoder, files: SentenceFiles) -> dict[Prompt, str]:
    """Those of the config, and of the model where the config gives none."""
    given: dict[Prompt, str | None] = {
        "query": encoder.query_prompt,
        "passage": encoder.passage_prompt,
    }
    set_ = {of: text for of, text in given.items() if text is not None}
    return set_ if len(set_) == len(given) else {**files.prompts(), **set_}


@cache
def _open(encoder: SentenceEncoder, files: SentenceFiles, device: str) -> SentenceModel:
    return SentenceModel(encoder, files, device)


def _load(files: SentenceFiles, device: str) -> Any:
    """A SentenceTransformer; raises ResourceError where the files are damaged or don't fit."""
    import torch
    from safetensors import safe_open

    import_torchvision()  # transformers imports it where it is installed
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    files.check()
    logging.set_verbosity_error()  # no warning of tensors that an encoder doesn't need
    logging.disable_progress_bar()
    with loading_folder(files.by_path, "a sentence encoder") as folder:
        model = SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        )
        with safe_open(folder / files.tensors, "pt") as saved:
            # transformers draws a missing tensor at random and only logs a warning.
            require_tensors(_missing(model[0].auto_model.state_dict(), saved.keys()))
        width = model.encode(["a"], prompt="", show_progress_bar=False).shape[1]
        if width != files.width:
            raise ValueError(f"its vectors have width {width}, and it declares {files.width}")
    return model.eval()


def _missing(expected: Iterable[str], saved: Iterable[str]) -> list[str]:
    """The tensors of a network that a file lacks, in whichever of the library's forms it names
    them: with or without the prefix of a larger model, and of layer norms in the names of 2018."""
    names = [n.replace(".gamma", ".weight").replace(".beta", ".bias") for n in saved]
    have = {tail for name in names for tail in _tails(name)}
    whole = {*names}
    return [
        name
        for name in expected
        if "pooler." not in name and name not in have and not whole & {*_tails(name)}
    ]


def _tails(name: str) -> list[str]:
    """`name`, and what follows each of its dots but the last."""
    parts = name.split(".")
    return [".".join(parts[n:]) for n in range(max(1, len(parts) - 1))]
