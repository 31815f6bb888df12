"""Training curves as inline SVG: no script; curves differ in colour and in dash pattern.

Positions are in SVG user units, from the left and the top of the figure.
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
    """A tick label of an axis, and its position along the axis."""

    position: float
    text: str


@dataclass(frozen=True)
class Polyline:
    """One level's curve. points: the SVG attribute; dot: where a curve of one epoch is drawn as a
    dot; style: number of its colour and dash pattern, the same for a level in every chart; last:
    its last value as text."""

    name: str
    points: str
    dot: tuple[float, float] | None
    style: int
    last: str


@dataclass(frozen=True)
class Chart:
    """A panel with its curves and ticks in SVG units."""

    panel: Panel
    polylines: tuple[Polyline, ...]
    epochs: tuple[Tick, ...]
    values: tuple[Tick, ...]

    left, right, top, bottom = _LEFT, _RIGHT, _TOP, _BOTTOM
    width, height = WIDTH, HEIGHT

    @classmethod
    def of(cls, panel: Panel, styles: Mapping[str, int]) -> Self:
        """Lay out a panel; values that are not finite, as in a diverged run, are left out."""
        drawn = {
            name: _drawable(points, panel.logarithmic) for name, points in panel.curves.items()
        }
        drawn = {name: points for name, points in drawn.items() if points}
        across = _Axis.of((x for points in drawn.values() for x in points), _LEFT, _RIGHT, False)
        up = _Axis.of(
            (y for points in drawn.values() for y in points.values()),
            _BOTTOM, _TOP, panel.logarithmic,
        )  # fmt: skip
        polylines = []
        for name, points in drawn.items():
            corners = [(across.position(x), up.position(y)) for x, y in sorted(points.items())]
            text = " ".join(f"{x:g},{y:g}" for x, y in corners)
            dot = corners[0] if len(corners) == 1 else None
            polylines.append(Polyline(name, text, dot, styles[name], f"{points[max(points)]:.4g}"))
        whole = tuple(tick for tick in across.ticks() if float(tick.text).is_integer())
        return cls(panel, tuple(polylines), whole, up.ticks())

    def epoch_numbers(self) -> list[int]:
        """Every epoch for which a curve has a value."""
        return sorted({epoch for points in self.panel.curves.values() for epoch in points})


def charts(panels: Iterable[Panel]) -> list[Chart]:
    """A chart for each panel that has curves."""
    panels = list(panels)
    names = dict.fromkeys(name for panel in panels for name in panel.curves)
    styles = {name: style for style, name in enumerate(names)}
    return [Chart.of(panel, styles) for panel in panels if panel.curves]


def _drawable(points: Mapping[int, float], logarithmic: bool) -> dict[int, float]:
    return {x: y for x, y in points.items() if math.isfinite(y) and (y > 0 or not logarithmic)}


@dataclass(frozen=True)
class _Axis:
    """A linear or logarithmic map from `low`..`high` to `begin`..`end`."""

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

    def position(self, number: float) -> float:
        low, high, scaled = (self._scaled(x) for x in (self.low, self.high, number))
        return round(self.begin + (scaled - low) / (high - low) * (self.end - self.begin), 1)

    def ticks(self) -> tuple[Tick, ...]:
        numbers = _decades(self.low, self.high) if self.logarithmic else []
        if len(numbers) < 2:
            numbers = _round_steps(self.low, self.high)
        return tuple(Tick(self.position(x), f"{x:g}") for x in numbers)

    def _scaled(self, number: float) -> float:
        return math.log10(number) if self.logarithmic else number


def _decades(low: float, high: float) -> Sequence[float]:
    """Powers of ten in the range, thinned out where there are many."""
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
