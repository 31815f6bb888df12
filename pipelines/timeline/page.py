"""A time line as one HTML file that needs nothing else: no script, no font, no network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from m2hf.pages import templates
from m2hf.pipelines.timeline.preview import Preview
from m2hf.pipelines.timeline.text import marked, said
from m2hf.pipelines.timeline.timeline import Entry, Timeline
from m2hf.printable import printable

_THUMBNAIL_PX = 110
_LEAST_PX, _MOST_PX = 30.0, 140.0  # a second
_WIDEST_PX = 30000.0
_TICKS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_TICK_PX = 60


@dataclass(frozen=True)
class Block:
    """Something from `left` to `left + width`, in percent of the axis; tip: shown under a mouse."""

    left: float
    width: float
    text: str = ""
    tip: str = ""
    uri: str = ""


@dataclass(frozen=True)
class Axis:
    """Seconds of a clip, on a page: end_s at its right end, px pixels wide."""

    end_s: float
    px: float

    @classmethod
    def of(cls, end_s: float, times_s: Sequence[float]) -> "Axis":
        """Wide enough for a thumbnail at each of `times_s`."""
        gaps = sorted(b - a for a, b in pairwise(times_s) if b > a)
        each = _THUMBNAIL_PX / gaps[len(gaps) // 2] if gaps else _LEAST_PX
        return cls(end_s, min(_WIDEST_PX, end_s * min(_MOST_PX, max(_LEAST_PX, each))))

    def block(self, start_s: float, end_s: float, text: str = "", uri: str = "") -> Block:
        start_s, end_s = min(start_s, self.end_s), min(end_s, self.end_s)
        tip = f"{start_s:.2f} to {end_s:.2f} s{': ' if text else ''}{text}"
        return Block(self._percent(start_s), self._percent(end_s - start_s), text, tip, uri)

    def ticks(self) -> list[Block]:
        """Round seconds, not too close together."""
        second = self.px / self.end_s
        step = next((s for s in _TICKS if s * second >= _TICK_PX), _TICKS[-1])
        return [self.block(s, s, f"{s} s") for s in range(0, int(self.end_s) + 1, step)]

    def _percent(self, seconds: float) -> float:
        return round(100.0 * seconds / self.end_s, 4)


@dataclass(frozen=True)
class Lane:
    """One stream on the axis; rows: blocks that don't overlap where they have text."""

    entry: Entry
    said: str
    rows: Sequence[Sequence[Block]]

    @classmethod
    def of(cls, entry: Entry, axis: Axis | None) -> "Lane":
        rows: list[list[Block]] = []
        if axis is not None:
            windows = [(w["start_s"], w["end_s"], printable(marked(w))) for w in entry.windows()]
            words = entry.strings is not None
            stacks = _stacked(windows) if words else [windows] if windows else []
            rows = [[axis.block(*window) for window in stack] for stack in stacks]
        return cls(entry, said(entry), rows)


def page(timeline: Timeline, preview: Preview | None) -> str:
    """The page; every text is escaped. preview: of the media, where that was given."""
    pictures = () if preview is None else preview.thumbnails
    end_s = max(timeline.end_s, 0.0 if preview is None else preview.duration_s)
    axis = Axis.of(end_s, [p.start_s for p in pictures]) if end_s else None
    environment = templates("m2hf.pipelines.timeline")
    environment.filters["printable"] = printable
    return environment.get_template("timeline.html").render(
        timeline=timeline,
        preview=preview,
        axis=axis,
        thumbnails=[] if axis is None else _thumbnails(preview, axis),
        sound=None if axis is None else _sound(preview, axis),
        lanes=[Lane.of(entry, axis) for entry in timeline.entries],
        changed=timeline.changed(preview.sha256) if preview and preview.sha256 else [],
    )


def _thumbnails(preview: Preview | None, axis: Axis) -> list[Block]:
    """Each as wide as there is room until the next one."""
    if preview is None or not preview.thumbnails:
        return []
    pictures = preview.thumbnails
    ends = [*(p.start_s for p in pictures[1:]), max(pictures[-1].end_s, pictures[-1].start_s)]
    return [axis.block(p.start_s, end, uri=p.uri) for p, end in zip(pictures, ends, strict=True)]


def _sound(preview: Preview | None, axis: Axis) -> Block | None:
    if preview is None or preview.spectrogram is None:
        return None
    picture = preview.spectrogram
    return axis.block(picture.start_s, picture.end_s, uri=picture.uri)


def _stacked(windows: Iterable[tuple[float, float, str]]) -> list[list[tuple[float, float, str]]]:
    """Windows in as few rows as let none overlap in its row."""
    rows: list[list[tuple[float, float, str]]] = []
    for window in sorted(windows, key=lambda w: w[:2]):
        free = next(
            (row for row in rows if row[-1][1] <= window[0] and row[-1][0] < window[0]), None
        )
        if free is None:
            rows.append([window])
        else:
            free.append(window)
    return rows
