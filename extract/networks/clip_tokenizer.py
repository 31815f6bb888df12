"""The tokenizer of a CLIP: CLIP's own, or one of transformers, with where its words begin."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from m2hf.errors import ResourceError
from m2hf.extract.networks.clip_files import library
from m2hf.extract.weights.checked import loading_folder
from m2hf.extract.weights.repository import by_name
from m2hf.extract.weights.weight import WeightFile
from m2hf.plain_data import shown

_CONTEXT = 77  # open_clip's default
_OPTIONS = {"clean", "strip_sep_token"}  # of tokenizers of transformers; no other is passed on


class ClipTokenizer:
    """Sentences to token ids of one length.

    Raises ResourceError for files that are damaged or that transformers can't read without code of
    the repository, which is never run.
    """

    context: int
    """Ids of a sentence."""
    first: int
    """Position of the first word: after the start token, if there is one."""
    max_tokens: int
    """The most tokens of one sentence, without start, end and class tokens."""

    def __init__(self, text_config: Mapping[str, Any], files: tuple[WeightFile, ...]) -> None:
        self.context = int(text_config.get("context_length", _CONTEXT))
        options = dict(text_config.get("tokenizer_kwargs", {}))
        if not files:
            self._tokenize: Any = library().SimpleTokenizer(context_length=self.context, **options)
            self.encode: Callable[[str], list[int]] = self._tokenize.encode
            self.first, added = 1, 2
        else:
            mode = text_config.get("tokenizer_mode")
            self._tokenize = _of_transformers(files, self.context, mode, options)
            self.encode = self._words
            marks = self._tokenize.tokenizer("a", return_special_tokens_mask=True)
            special = marks["special_tokens_mask"]
            self.first, added = special.index(0), sum(special)
            if mode == "clips":  # open_clip adds start, end and class tokens itself
                self.first, added = 1, 3
        self.max_tokens = self.context - added

    def __call__(self, texts: list[str]) -> Any:
        """(N, context) ids; what is longer than `max_tokens` is truncated."""
        return self._tokenize(texts)

    def _words(self, text: str) -> list[int]:
        cleaned = self._tokenize.clean_fn(text)
        ids: list[int] = self._tokenize.tokenizer(cleaned, add_special_tokens=False).input_ids
        return ids


def _of_transformers(
    files: tuple[WeightFile, ...], context: int, mode: str | None, options: Mapping[str, Any]
) -> Any:
    vocabulary = files[0].paths[0]
    if vocabulary.suffix == ".model" and find_spec("sentencepiece") is None:
        raise ResourceError(
            f"weights {vocabulary}: a vocabulary of sentencepiece, which isn't installed; "
            "pip install sentencepiece, or give a folder with tokenizer.json"
        )
    if unknown := sorted({*options} - _OPTIONS):
        raise ResourceError(
            f"weights {vocabulary}: the model's tokenizer_kwargs have {shown(unknown[0])}, "
            f"expected only {', '.join(sorted(_OPTIONS))}"
        )
    with loading_folder(by_name(files), "a tokenizer of transformers") as folder:
        made = library().tokenizer.HFTokenizer(
            str(folder),
            context_length=context,
            tokenizer_mode=mode,
            local_files_only=True,
            trust_remote_code=False,
            **options,
        )
        made(["a"])  # an error of a tokenizer that can't pad is one of its files
    return made
