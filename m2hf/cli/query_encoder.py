"""The query encoder: the text encoder of the captions that a checkpoint was trained on."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from m2hf.config import parse
from m2hf.errors import MismatchError, UsageError
from m2hf.features import Features
from m2hf.shard_header import ShardHeader

# Keys of a declared encoder that hold this word in place of a path, which is left out.
_PATHS = {"pretrained": "file", "model": "folder"}


def query_encoder(
    captions: ShardHeader, section: Mapping[str, Any], device: str, refuse_unknown: bool = True
) -> Callable[[str], Features]:
    """A function that gives a query the features that it would have as a caption.

    captions: header of a shard of the training captions, whose declared config is that of the
    encoder; section: [extract] of the recipe, for what that config leaves out, such as the path of
    a checkpoint file. Raises MismatchError where the encoder would give other features than the
    stored ones, UsageError for imported captions, ResourceError for missing weights. The function
    raises UsageError for a query with only untrained words, unless `refuse_unknown` is False, since
    something else reads the query, too.
    """
    from m2hf.extract.caption import CaptionEncoder

    if not captions.of_captions or captions.config.get("imported"):
        raise UsageError(
            f"the captions of {captions.dataset} were imported, so their text encoder is unknown; "
            "extract `caption` and train on it"
        )
    declared, where = captions.config["config"], f"extract.{captions.extractor}"
    own = {k: v for k, v in section.get(captions.extractor, {}).items() if k != "extractor"}
    encoder = dict(declared["encoder"])
    kind, shared, given = _kind(encoder), section.get("encoder", {}), own.get("encoder", {})
    if _kind(shared) == kind:  # a shared one of another kind is not for these captions
        encoder |= shared
    encoder = {**encoder, **given} if given.get("kind", kind) == kind else given
    for key, word in _PATHS.items():
        if encoder.get(key) == word:
            raise UsageError(
                f"the captions were encoded by a checkpoint {word} with weights of sha256 "
                f"{max(captions.weights.items(), key=_is_tensors)[1]}; give its path: "
                f"--set {where}.encoder.{key}=PATH"
            )
    caption = parse(
        CaptionEncoder, {**declared, **own, "encoder": encoder}, f"extract.{captions.extractor}"
    )
    os.environ["HF_HUB_OFFLINE"] = "1"  # never download: missing weights are an error
    now = caption.declared({})
    if now != captions.config:
        raise MismatchError(
            f"the query encoder differs from that of the training captions: "
            f"{_difference(dict(captions.config), now)}; use the same weights and settings, or "
            "extract `caption` again and train on it"
        )
    session = caption.open(device)

    def encode(query: str) -> Features:
        known, unknown = session.known_words(query)
        if refuse_unknown and unknown and not known:
            raise UsageError(
                f"the encoder was trained on none of the words {_listed(unknown)}; "
                "use words of the training captions"
            )
        features = session.extract(query)
        if not unknown:
            return features
        never = f"the encoder was never trained on {_listed(unknown)}"
        return replace(features, reason="; ".join(filter(None, [features.reason, never])))

    return encode


def _kind(encoder: Mapping[str, Any]) -> Any:
    return encoder.get("kind", "open_clip")


def _is_tensors(weight: tuple[str, str]) -> bool:
    return weight[0].endswith(".safetensors")


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(repr(word) for word in words)


def _difference(then: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> str:
    """The first key that differs, with both values."""
    for key in sorted({*then, *now}):
        old, new = then.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            if found := _difference(old, new, f"{path}{key}."):
                return found
        elif old != new:
            return f"{path}{key} was {old!r} and is {new!r}"
    return ""
