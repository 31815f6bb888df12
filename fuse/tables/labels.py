"""Labels of the blocks of a table: given ones, or the config keys in which runs differ."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from m2hf.errors import UsageError
from m2hf.plain_data import shown


def block_labels(given: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The label of each block: the given one, and where that is "" one of its config.

    Raises UsageError for a label given to two blocks.
    """
    for place, label in enumerate(given):
        if label and label in given[:place]:
            flat = [dict(_flat(configs[i])) for i in (given.index(label), place)]
            keys = sorted({key for config in flat for key in config})
            differing = [key for key in keys if flat[0].get(key) != flat[1].get(key)]
            where = f" ({', '.join(differing[:3])})" if differing else ""
            raise UsageError(
                f"label {shown(label)} is given to runs that differ in more than the seed{where}; "
                "give each model a label of its own"
            )
    return [label or made for label, made in zip(given, _config_labels(configs), strict=True)]


def without_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run without its seed."""
    train = {key: value for key, value in config.get("train", {}).items() if key != "seed"}
    return {**config, "train": train}


def _config_labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Strategy, late rule and balance of each config, and every key in which they differ."""
    flat = [dict(_flat(config)) for config in configs]
    keys = sorted({key for config in flat for key in config})
    main = ("strategy", "late.rule", "balance.form")
    differing = [k for k in keys if k not in main and len({str(c.get(k)) for c in flat}) > 1]
    labels = []
    for config in flat:
        parts = [str(config[key]) for key in ("strategy",) if key in config]
        parts += [f"late {config['late.rule']}"] if "late.rule" in config else []
        balance = config.get("balance.form", "none")
        parts += [f"balance {balance}"] if balance != "none" else []
        parts += [f"{key} {config.get(key)}" for key in differing]
        labels.append(", ".join(parts))
    return labels


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
