"""Training curves: the panels of a run's log, and a figure of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2hf.atomic import atomic_write

_PANELS = {  # title -> key in a line of the log, whether its axis may be logarithmic
    "training loss": ("loss", True),
    "validation R@1 in %": ("val_recall", False),
    "share in the positive's score": ("share", False),
    "gradient norm": ("gradient", True),
}


@dataclass(frozen=True)
class Panel:
    """Curves on one pair of axes: value by epoch, by level (an ensemble's stages overlaid).

    logarithmic: of the vertical axis, which then leaves out values that are not above 0.
    """

    title: str
    curves: Mapping[str, Mapping[int, float]]
    logarithmic: bool


def panels(log: str) -> list[Panel]:
    """The panels of the text of metrics.jsonl; raises ValueError where it is no such log."""
    lines = [json.loads(line) for line in log.splitlines()]
    found = []
    for title, (what, may_be) in _PANELS.items():
        try:
            curves = _curves(lines, what)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the log of a training run: {error!r}") from error
        some = any(y > 0 for points in curves.values() for y in points.values())
        found.append(Panel(title, curves, may_be and some))
    return found


def draw(log: str, path: Path) -> None:
    """Draw the text of metrics.jsonl as a PNG at `path`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    for axes, panel in zip(figure.subplots(2, 2).flat, panels(log), strict=True):
        for name, points in panel.curves.items():
            axes.plot(list(points), list(points.values()), label=name, marker=".")
        axes.set_title(panel.title)
        axes.set_xlabel("epoch")
        if panel.logarithmic:
            axes.set_yscale("log", nonpositive="mask")
        if panel.curves:
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
