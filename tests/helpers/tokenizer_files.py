"""Small tokenizers in the files that the hub's repositories have."""

import json
from pathlib import Path
from typing import Any

WORDS = ["a", "red", "blue", "square", "circle", "moves", "is", "dog", "two", "words"]


def write_tokenizer(folder: Path, kind: str, config: dict[str, Any] | None = None) -> Path:
    """tokenizer.json, tokenizer_config.json and config.json of a `kind` of WRITERS; `config`: what
    else config.json has. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    model_type, names, write = WRITERS[kind]
    write(folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, **(config or {})}))
    return folder


def _word_pieces(path: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    ids = {word: i for i, word in enumerate(vocabulary)}
    made = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.save(str(path))


def _pieces(path: Path, special: list[str], template: str, eos: str = "</s>") -> None:
    """A Unigram model, as of sentencepiece: each word begins with the mark of a space."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces = [*((s, 0.0) for s in special), ("▁", -2.0)]
    pieces += [(f"▁{word}", -3.0) for word in WORDS if word != "a"] + [(x, -9.0) for x in letters]
    made = Tokenizer(models.Unigram(pieces, unk_id=special.index("<unk>")))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    used = [(s, special.index(s)) for s in special if s in template.split()]
    made.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    made.add_special_tokens([s for s in special if s != eos] + [eos])
    made.save(str(path))


def _t5(path: Path) -> None:
    _pieces(path, ["<pad>", "</s>", "<unk>"], "$A </s>")


def _xlm_roberta(path: Path) -> None:
    _pieces(path, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<s> $A </s>")


def _gemma(path: Path) -> None:
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    _pieces(path, special, "$A <eos>", eos="<eos>")


def _nllb(path: Path) -> None:
    special = ["<s>", "<pad>", "</s>", "<unk>", "eng_Latn"]
    _pieces(path, special, "eng_Latn $A </s>")


def _roberta(path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {piece: i for i, piece in enumerate([*special, *letters])}
    made = Tokenizer(models.BPE(ids, [], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    made.save(str(path))


_T5_NAMES = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
# kind -> model_type of config.json, tokenizer_config.json, tokenizer.json. The first four name no
# class of tokenizer, which is then that of the model's type.
WRITERS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "bert": ("bert", {"do_lower_case": True, "model_max_length": 512}, _word_pieces),
    "roberta": ("roberta", {"model_max_length": 512}, _roberta),
    "xlm-roberta": ("xlm-roberta", {"model_max_length": 512}, _xlm_roberta),
    "mt5": ("mt5", {"extra_ids": 0}, _t5),
    "clips": (
        "bert",
        {"tokenizer_class": "BertTokenizer", "bos_token": "[MASK]", "eos_token": "[SEP]"},
        _word_pieces,
    ),
    "nllb": (
        "m2m_100",
        {"tokenizer_class": "NllbTokenizer", "src_lang": "eng_Latn", "pad_token": "<pad>"},
        _nllb,
    ),
    "siglip": ("siglip", {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, **_T5_NAMES}, _t5),
    "siglip2": (
        "siglip",
        {"tokenizer_class": "GemmaTokenizer", "pad_token": "<pad>", "eos_token": "<eos>"}
        | {"bos_token": "<bos>", "unk_token": "<unk>", "padding_side": "right"},
        _gemma,
    ),
}
