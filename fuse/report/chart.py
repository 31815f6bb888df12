"""Training curves as inline SVG: no script, and lines that differ by more than their colour.

Positions are in units of the picture, 0 at its left and top.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from m2hf.fuse.curves import Panel

WIDTH, HEIGHT = 360, 224
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 352, 12, 190
_TICKS = 5


@dataclass(frozen=True)
class Tick:
    """A number beside an axis, at a position along it."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """One level's curve: corners as SVG has them; a curve of one epoch is a dot. style: a number
    for colour and dashes, the same for a level in every chart; last: its last value as text."""

    name: str
    points: str
    dot: tuple[float, float] | None
    style: int
    last: str


@dataclass(frozen=True)
class Chart:
    """What a panel looks like."""

    panel: Panel
    lines: tuple[Line, ...]
    epochs: tuple[Tick, ...]
    values: tuple[Tick, ...]

    left, right, top, bottom = _LEFT, _RIGHT, _TOP, _BOTTOM
    width, height = WIDTH, HEIGHT

    @classmethod
    def of(cls, panel: Panel, styles: Mapping[str, int]) -> Self:
        """Values that are no numbers, such as those of a run that diverged, leave a gap."""
        shown = {name: _shown(points, panel.logarithmic) for name, points in panel.curves.items()}
        shown = {name: points for name, points in shown.items() if points}
        across = _Axis.of((x for points in shown.values() for x in points), _LEFT, _RIGHT, False)
        up = _Axis.of(
            (y for points in shown.values() for y in points.values()),
            _BOTTOM, _TOP, panel.logarithmic,
        )  # fmt: skip
        lines = []
        for name, points in shown.items():
            corners = [(across.place(x), up.place(y)) for x, y in sorted(points.items())]
            text = " ".join(f"{x:g},{y:g}" for x, y in corners)
            dot = corners[0] if len(corners) == 1 else None
            lines.append(Line(name, text, dot, styles[name], f"{points[max(points)]:.4g}"))
        whole = tuple(tick for tick in across.ticks() if float(tick.text).is_integer())
        return cls(panel, tuple(lines), whole, up.ticks())

    def epoch_numbers(self) -> list[int]:
        """Every epoch that a curve has a value of."""
        return sorted({epoch for points in self.panel.curves.values() for epoch in points})


def charts(panels: Iterable[Panel]) -> list[Chart]:
    """A chart a panel that has curves."""
    panels = list(panels)
    names = dict.fromkeys(name for panel in panels for name in panel.curves)
    styles = {name: style for style, name in enumerate(names)}
    return [Chart.of(panel, styles) for panel in panels if panel.curves]


def _shown(points: Mapping[int, float], logarithmic: bool) -> dict[int, float]:
    return {x: y for x, y in points.items() if math.isfinite(y) and (y > 0 or not logarithmic)}


@dataclass(frozen=True)
class _Axis:
    """Numbers from `low` to `high` lie from `begin` to `end`."""

    low: float
    high: float
    begin: float
    end: float
    logarithmic: bool

    @classmethod
    def of(cls, numbers: Iterable[float], begin: float, end: float, logarithmic: bool) -> Self:
        found = list(numbers) or [1.0]
        low, high = min(found), max(found)
        if low == high:
            low, high = (low / 2, high * 2) if logarithmic else (low - 1, high + 1)
        return cls(low, high, begin, end, logarithmic)

    def place(self, number: float) -> float:
        low, high, at = (self._scaled(x) for x in (self.low, self.high, number))
        return round(self.begin + (at - low) / (high - low) * (self.end - self.begin), 1)

    def ticks(self) -> tuple[Tick, ...]:
        numbers = _decades(self.low, self.high) if self.logarithmic else []
        if len(numbers) < 2:
            numbers = _round_steps(self.low, self.high)
        return tuple(Tick(self.place(x), f"{x:g}") for x in numbers)

    def _scaled(self, number: float) -> float:
        return math.log10(number) if self.logarithmic else number


def _decades(low: float, high: float) -> Sequence[float]:
    """Powers of ten inside, every second or third where there are many."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    step = max(1, math.ceil((last - first + 1) / _TICKS))
    return [10.0**exponent for exponent in range(first, last + 1, step)]


def _round_steps(low: float, high: float) -> Sequence[float]:
    """Multiples of 1, 2 or 5 times a power of ten, about five of them."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((power * factor for factor in (1, 2, 5) if power * factor >= rough), power * 10)
    multiples = range(math.ceil(low / step), math.floor(high / step) + 1)
    numbers = (float(f"{step * i:.12g}") for i in multiples)  # 0.3, not 0.30000000000000004
    return [number for number in numbers if low <= number <= high]
