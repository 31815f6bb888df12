"""Training curves: the panels of a run's log, and a figure of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from m2hf.atomic import atomic_write
from m2hf.config import parse_json

_PANELS = {  # title -> key in a line of the log, whether its axis may be logarithmic
    "training loss": ("loss", True),
    "validation R@1 in %": ("val_recall", False),
    "share in the positive's score": ("share", False),
    "gradient norm": ("gradient", True),
}


_REFUSED = "not the log of a training run; restore the file, or remove it"


@dataclass(frozen=True)
class Panel:
    """Curves on one pair of axes: value by epoch, by level (an ensemble's stages overlaid).

    logarithmic: of the vertical axis, which then leaves out values that are not above 0.
    """

    title: str
    curves: Mapping[str, Mapping[int, float]]
    logarithmic: bool


class _Line(BaseModel):
    """What the panels read of a line of the log, where a loss may be NaN; other keys are left
    alone."""

    model_config = ConfigDict(strict=True)

    stage: str
    epoch: int = Field(ge=0, lt=1 << 31)
    loss: dict[str, float]
    val_recall: dict[str, float]
    share: dict[str, float]
    gradient: dict[str, float]


def panels(log: str, where: str = "the log") -> list[Panel]:
    """The panels of the text of metrics.jsonl; raises UsageError that names the line, after
    `where`, for one that isn't of the log of a training run."""
    lines = [
        parse_json(_Line, line, f"{where}, line {number}: {_REFUSED}")
        for number, line in enumerate(log.split("\n"), 1)
        if line.strip()
    ]
    found = []
    for title, (what, may_be) in _PANELS.items():
        curves = _curves(lines, what)
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


def _curves(lines: list[_Line], what: str) -> dict[str, dict[int, float]]:
    """Value by epoch, by name of the curve; a stage alone keeps its level's curve only."""
    curves: dict[str, dict[int, float]] = {}
    for line in lines:
        for name, value in getattr(line, what).items():
            if line.stage in ("", name):
                curves.setdefault(name, {})[line.epoch] = value
    return curves
