"""Training curves as a picture, from the log of a run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m2hf.atomic import atomic_write

FILE_NAME = "curves.png"

_PANELS = {  # title, what of a line of the log, whether it may be logarithmic
    "training loss": ("loss", True),
    "validation R@1 in %": ("val_recall", False),
    "share in the positive's score": ("share", False),
    "gradient norm": ("gradient", True),
}


def draw(log: str, path: Path) -> None:
    """Draw what metrics.jsonl holds, by level, over epochs; an ensemble's stages overlaid."""
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in log.splitlines()]
    figure = Figure(figsize=(11, 7), layout="constrained")
    for axes, (title, (what, logarithmic)) in zip(
        figure.subplots(2, 2).flat, _PANELS.items(), strict=True
    ):
        curves = _curves(lines, what)
        for name, points in curves.items():
            axes.plot(list(points), list(points.values()), label=name, marker=".")
        axes.set_title(title)
        axes.set_xlabel("epoch")
        if logarithmic and any(y > 0 for points in curves.values() for y in points.values()):
            axes.set_yscale("log", nonpositive="mask")
        if curves:
            axes.legend(fontsize="small")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _curves(lines: list[Mapping[str, Any]], what: str) -> dict[str, dict[int, float]]:
    """Value by epoch, by name of the curve; a stage alone keeps its level's curve only."""
    curves: dict[str, dict[int, float]] = {}
    for line in lines:
        for name, value in line[what].items():
            if line["stage"] in ("", name):
                curves.setdefault(name, {})[line["epoch"]] = value
    return curves
