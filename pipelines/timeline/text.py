"""A timeline as text for a terminal, within 96 columns."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from m2hf.features import Features
from m2hf.pipelines.timeline.entry import StreamEntry
from m2hf.pipelines.timeline.timeline import Timeline
from m2hf.printable import printable
from m2hf.streams import HALLUCINATED, THUMBNAIL
from m2hf.thumbnails import thumbnails

COLUMNS = 96
_BAR = COLUMNS - 10
_INDENT = " " * 4


def lines(timeline: Timeline) -> Iterator[str]:
    """A header, captions, then per stream a summary, a bar of its windows, and its strings."""
    row = timeline.row
    where = "" if row is None else f", {row.split}, {row.path}"
    yield from _wrapped(f"{timeline.id}: {timeline.dataset}{where}", "")
    texts = [] if row is None else list(row.captions)
    for text in texts:
        yield from _wrapped(text, "caption: ")
    for entry in timeline.captions:
        yield from _captions(entry, with_text=not texts)
    end_s = timeline.end_s
    if end_s:
        left, right = "0 s", f"{end_s:.1f} s"
        yield f"{_INDENT} {left}{right.rjust(_BAR - len(left))}"
    for entry in timeline.entries:
        yield from _entry(entry, end_s)


def summary_line(entry: StreamEntry) -> str:
    """A summary of an entry's rows; "" where it has none. Rows of named columns have no norms."""
    summary = entry.summary
    if summary is None:
        return ""
    rows = f"{summary.rows} {'windows' if entry.strings is None else 'strings'}"
    if entry.kind == THUMBNAIL and entry.features is not None:
        size = sum(len(thumbnail.jpeg) for thumbnail in thumbnails(entry.features))
        rows = f"{summary.rows} thumbnails, {size / 1000:.1f} kB"
    line = f"{rows}, {summary.start_s:.1f} to {summary.end_s:.1f} s"
    if entry.header is not None and entry.header.columns:
        return line
    line += (
        f", width {summary.width} ({summary.dtype}), "
        f"norm {summary.norm_min:.2f} to {summary.norm_max:.2f}"
    )
    return line if summary.alike is None else f"{line}, neighbours' cosine {summary.alike:.2f}"


def bar(features: Features, end_s: float, cells: int) -> str:
    """Time as `cells` characters: [ where a window begins, = inside a window, . for none."""
    cell_N = np.minimum((features.start_s / end_s * cells).astype(int), cells - 1)
    last_N = np.ceil(features.end_s / end_s * cells).astype(int)
    drawn = ["."] * cells
    for first, last in zip(cell_N, last_N, strict=True):
        drawn[first:last] = "=" * (min(last, cells) - first)
    for first in cell_N:
        drawn[first] = "["
    return "".join(drawn)


def marked_text(window: Mapping[str, Any]) -> str:
    """A window's string, marked if it is flagged as hallucinated; "" for a window without one."""
    text: str = window.get("text", "")
    return f"(hallucinated) {text}" if window.get(HALLUCINATED) else text


def _entry(entry: StreamEntry, end_s: float) -> Iterator[str]:
    features = entry.features
    yield ""
    parts = filter(None, [entry.outcome.value, summary_line(entry), entry.reason])
    yield from _wrapped("; ".join(parts), f"{entry.stream}: ")
    if entry.flags:
        yield from _wrapped(", ".join(entry.flags), f"{_INDENT}flagged: ")
    if features is None or not len(features.values):
        return
    if end_s:
        yield f"{_INDENT}|{bar(features, end_s, _BAR)}|"
    if entry.strings is None:
        return
    for window in entry.windows():
        times = f"{window.pop('start_s'):7.1f} {window.pop('end_s'):7.1f}"
        text, confidence = marked_text(window), window["confidence"]
        for shown in ("text", "confidence", HALLUCINATED):
            window.pop(shown, None)
        string = list(_wrapped(text, f"{_INDENT}{times}  {confidence:.2f}  "))
        named = f"({', '.join(f'{name} {value:.2f}' for name, value in window.items())})"
        if window and len(string[-1]) + len(named) + 2 <= COLUMNS:
            string[-1] += f"  {named}"
        elif window:
            string.append(f"{_INDENT}{'':23}{named}")
        yield from string


def _captions(entry: StreamEntry, with_text: bool) -> Iterator[str]:
    features = entry.features
    text = "" if features is None or not features.texts else features.texts[0]
    parts = [entry.outcome.value, *filter(None, [entry.reason]), *entry.flags]
    if text and with_text:
        parts.insert(0, text)
    yield from _wrapped("; ".join(parts), f"{entry.stream} {entry.item}: ")


def _wrapped(text: str, head: str) -> Iterator[str]:
    head = printable(head)
    deeper = " " * (len(head) if len(head) < COLUMNS // 2 else len(_INDENT))
    yield from textwrap.wrap(
        printable(text), COLUMNS, initial_indent=head, subsequent_indent=deeper
    ) or [head.rstrip()]
