"""`precision = "auto"`: a store keeps the precision that its first run measured for a network.

A choice replaces "auto" in the config before anything is declared, so that fingerprints, workers
and later runs have the precision itself.
"""

from collections.abc import Mapping
from typing import Any

from m2hf.config import parse
from m2hf.errors import ResourceError
from m2hf.extract.inference.precision import AUTO, has_fast_bfloat16
from m2hf.layout import StoreLayout
from m2hf.pipelines.config import ExtractConfig
from m2hf.streams import StreamName, extractor_of


def undecided(config: ExtractConfig, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `names` whose precision is "auto"."""
    return tuple(n for n in names if getattr(config.extractor(n), "precision", "") == AUTO)


def automatic(config: ExtractConfig, name: str) -> StreamName:
    """The name under which a store keeps the choice for an extractor whose precision is "auto":
    another network or other weights are measured anew."""
    return StreamName.of(name, config.extractor(name).fingerprint())


def with_choices(
    section: Mapping[str, Any],
    names: tuple[str, ...],
    layout: StoreLayout,
    weights_may_lack: bool = False,
) -> tuple[dict[str, Any], dict[str, str]]:
    """The section [extract] with the precisions that the store has chosen, and these by extractor.

    weights_may_lack: an extractor whose weights are missing has the store's choice for others of
    its name. Raises ConfigError for the section, ResourceError for missing weights, SchemaError for
    a damaged record of the store.
    """
    config = parse(ExtractConfig, section, "extract")
    chosen: dict[str, str] = {}
    if (auto := undecided(config, names)) and (kept := layout.precisions()):
        choices = {name: _choice(config, name, kept, weights_may_lack) for name in auto}
        chosen = {name: choice for name, choice in choices.items() if choice}
    changed = {name: {**section[name], "precision": choice} for name, choice in chosen.items()}
    return {**section, **changed}, chosen


def _choice(
    config: ExtractConfig, name: str, kept: Mapping[str, str], weights_may_lack: bool
) -> str | None:
    try:
        return kept.get(automatic(config, name))
    except ResourceError:
        if not weights_may_lack:
            raise
        return next((chosen for of, chosen in kept.items() if extractor_of(of) == name), None)


def require_bfloat16(
    config: ExtractConfig, names: tuple[str, ...], chosen: Mapping[str, str], device: str
) -> None:
    """Raise ResourceError where an extractor needs bfloat16 and the device lacks it.

    A processor without it emulates it slowly, which is done where the config itself asks for it.
    """
    for name in names:
        if getattr(config.extractor(name), "precision", "") != "bfloat16":
            continue
        if has_fast_bfloat16(device) or (device == "cpu" and name not in chosen):
            continue
        of_store = ", the choice of this store," if name in chosen else ""
        raise ResourceError(
            f"extract.{name}.precision = 'bfloat16'{of_store} is not supported by the {device} of "
            "this machine; run it on one that does, or set it to 'float32', which extracts anew"
        )
