"""The query encoder: the text encoder of the captions that a checkpoint was trained on; without
training, that of the recipe, whose space the frames are in."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from m2hf.config import parse
from m2hf.errors import MismatchError, UsageError
from m2hf.features import Features
from m2hf.shard_header import ShardHeader

if TYPE_CHECKING:
    from m2hf.extract.caption import CaptionEncoder

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
    return _encoder(caption, device, refuse_unknown)


def untrained_query_encoder(
    frames: ShardHeader, caption: "CaptionEncoder", device: str, refuse_unknown: bool
) -> Callable[[str], Features]:
    """As `query_encoder`, for frames that are compared with queries as they are.

    frames: header of a shard of the frames; caption: of the recipe. Raises MismatchError where the
    two are of different encoders, UsageError for imported frames, ResourceError for missing
    weights.
    """
    if frames.config.get("imported"):
        raise UsageError(
            f"the frames of {frames.dataset} were imported, so the text encoder of their space is "
            "unknown; train on captions of that encoder, and give --run"
        )
    os.environ["HF_HUB_OFFLINE"] = "1"  # never download: missing weights are an error
    of_query = _space(caption.declared({}))
    of_frames = _space(frames.config, of_query["weights"])
    if of_frames != of_query:
        raise MismatchError(
            "the query encoder of the recipe differs from that of the frames: "
            f"{_difference(of_frames, of_query)}; give the recipe that the frames were "
            "extracted with: --config RECIPE"
        )
    return _encoder(caption, device, refuse_unknown)


def _space(declared: Mapping[str, Any], names: Collection[str] = ()) -> dict[str, Any]:
    """What decides the joint space of an extractor's values; names: of the encoder's weights, where
    the extractor has others, too."""
    settings, weights = declared.get("config", {}), declared.get("weights", {})
    kept = {name: weights.get(name) for name in names or weights}
    return {"encoder": settings.get("encoder"), "weights": kept}


def _encoder(
    caption: "CaptionEncoder", device: str, refuse_unknown: bool
) -> Callable[[str], Features]:
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
