"""A timeline as one self-contained HTML file: no script, no font, no network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from m2hf.pages import templates
from m2hf.pipelines.timeline.entry import StreamEntry
from m2hf.pipelines.timeline.preview import Preview
from m2hf.pipelines.timeline.text import marked_text, summary_line
from m2hf.pipelines.timeline.timeline import Timeline
from m2hf.printable import printable

_THUMBNAIL_PX = 110
_LEAST_PX, _MOST_PX = 30.0, 140.0  # per second
_WIDEST_PX = 30000.0
_TICKS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_TICK_PX = 60


@dataclass(frozen=True)
class TimelineBlock:
    """A box from `left` to `left + width`, in percent of the axis; tip: its tooltip."""

    left: float
    width: float
    text: str = ""
    tip: str = ""
    uri: str = ""


@dataclass(frozen=True)
class TimeAxis:
    """The time axis of a page: from 0 to end_s seconds, px pixels wide."""

    end_s: float
    px: float

    @classmethod
    def of(cls, end_s: float, times_s: Sequence[float]) -> "TimeAxis":
        """Wide enough for a thumbnail at each of `times_s`."""
        gaps = sorted(b - a for a, b in pairwise(times_s) if b > a)
        scale = _THUMBNAIL_PX / gaps[len(gaps) // 2] if gaps else _LEAST_PX
        return cls(end_s, min(_WIDEST_PX, end_s * min(_MOST_PX, max(_LEAST_PX, scale))))

    def block(self, start_s: float, end_s: float, text: str = "", uri: str = "") -> TimelineBlock:
        start_s, end_s = min(start_s, self.end_s), min(end_s, self.end_s)
        tip = f"{start_s:.2f} to {end_s:.2f} s{': ' if text else ''}{text}"
        return TimelineBlock(self._percent(start_s), self._percent(end_s - start_s), text, tip, uri)

    def ticks(self) -> list[TimelineBlock]:
        """Round seconds, at least _TICK_PX apart."""
        second = self.px / self.end_s
        step = next((s for s in _TICKS if s * second >= _TICK_PX), _TICKS[-1])
        return [self.block(s, s, f"{s} s") for s in range(0, int(self.end_s) + 1, step)]

    def _percent(self, seconds: float) -> float:
        return round(100.0 * seconds / self.end_s, 4)


@dataclass(frozen=True)
class StreamLane:
    """One stream on the axis; rows: blocks with text don't overlap within a row."""

    entry: StreamEntry
    summary: str
    rows: Sequence[Sequence[TimelineBlock]]

    @classmethod
    def of(cls, entry: StreamEntry, axis: TimeAxis | None) -> "StreamLane":
        rows: list[list[TimelineBlock]] = []
        if axis is not None:
            windows = [
                (w["start_s"], w["end_s"], printable(marked_text(w))) for w in entry.windows()
            ]
            has_text = entry.strings is not None
            stacks = _stacked(windows) if has_text else [windows] if windows else []
            rows = [[axis.block(*window) for window in stack] for stack in stacks]
        return cls(entry, summary_line(entry), rows)


def page(timeline: Timeline, preview: Preview | None) -> str:
    """The HTML; every text is escaped. preview: of the media file, None where none was given."""
    thumbnails = () if preview is None else preview.thumbnails
    end_s = max(timeline.end_s, 0.0 if preview is None else preview.duration_s)
    axis = TimeAxis.of(end_s, [image.start_s for image in thumbnails]) if end_s else None
    environment = templates("m2hf.pipelines.timeline")
    environment.filters["printable"] = printable
    return environment.get_template("timeline.html").render(
        timeline=timeline,
        preview=preview,
        axis=axis,
        thumbnails=[] if axis is None else _thumbnails(preview, axis),
        spectrogram=None if axis is None else _spectrogram(preview, axis),
        lanes=[StreamLane.of(entry, axis) for entry in timeline.entries],
        other_source=(
            timeline.streams_of_other_file(preview.sha256) if preview and preview.sha256 else []
        ),
    )


def _thumbnails(preview: Preview | None, axis: TimeAxis) -> list[TimelineBlock]:
    """Each thumbnail extends to the start of the next one."""
    if preview is None or not preview.thumbnails:
        return []
    images = preview.thumbnails
    ends = [*(image.start_s for image in images[1:]), max(images[-1].end_s, images[-1].start_s)]
    return [
        axis.block(image.start_s, end, uri=image.uri)
        for image, end in zip(images, ends, strict=True)
    ]


def _spectrogram(preview: Preview | None, axis: TimeAxis) -> TimelineBlock | None:
    if preview is None or preview.spectrogram is None:
        return None
    image = preview.spectrogram
    return axis.block(image.start_s, image.end_s, uri=image.uri)


def _stacked(windows: Iterable[tuple[float, float, str]]) -> list[list[tuple[float, float, str]]]:
    """Windows in as few rows as possible, without overlap within a row."""
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
