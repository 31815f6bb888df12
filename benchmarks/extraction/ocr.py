"""`python -m benchmarks.extraction.ocr --clips DIR`: OCR of real clips with less work.

Two ways to save, each beside all of the work: a smaller picture for the detector (`canvas`), and
frames left out whose picture did not change (`same`). Words are case-folded and matched by frame,
as multisets; "sure" words are of strings that the extractor of text keeps. No truth is needed:
what is found is held against what all of the work finds. Seconds are of the processor, one thread,
so that others on the machine count less; read them as ratios of one run.
"""

import argparse
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2hf.extract.media.changes import changed
from m2hf.extract.media.decode import Frames, decode
from m2hf.extract.ocr import Ocr, OcrSession
from m2hf.extract.text import Text

FULL = 640
CANVASES = (480, 320, 256)
BLOCKS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_SURE = float(Text.model_fields["ocr_confidence"].default)

Words = Counter[str]


@dataclass(frozen=True)
class Page:
    """What one reading of one frame gave: words, those of sure strings, and its seconds."""

    words: Words
    sure: Words
    seconds: float


@dataclass
class Row:
    """One way to do it. found, sure: words in common with all of the work; of: words of all of
    the work; own: words of this one."""

    way: str
    frames: int = 0
    seconds: float = 0.0
    found: Words = field(default_factory=Counter)

    def add(self, page: Page, full: Page) -> None:
        """Count one frame, that shows the words of `full`, as read on `page`."""
        for kind in ("words", "sure"):
            mine, whole = getattr(page, kind), getattr(full, kind)
            self.found[f"{kind} in common"] += (mine & whole).total()
            self.found[f"{kind} of full"] += whole.total()
            self.found[f"{kind} of its own"] += mine.total()

    def share(self, kind: str, of: str) -> float:
        """Recall (of "full") or precision (of "its own")."""
        return self.found[f"{kind} in common"] / max(self.found[f"{kind} of {of}"], 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables as Markdown, then all numbers as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.extraction.ocr", description=__doc__
    )
    parser.add_argument("--clips", type=Path, required=True, help="a folder of .mp4 files")
    parser.add_argument("--canvas-every-s", type=float, default=5.0, help="frames of table 1")
    parser.add_argument("--change-every-s", type=float, default=2.0, help="frames of table 2")
    parser.add_argument("--change-canvas", type=int, default=320, help="detector's size in table 2")
    given = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(1)
    clips = [_frames(path) for path in sorted(given.clips.glob("*.mp4"))]
    smaller = _canvases(clips, given.canvas_every_s)
    rules = _rules(clips, given.change_every_s, given.change_canvas)
    print(f"## Detection size, a frame each {given.canvas_every_s:g} s\n")
    print(_table(smaller))
    print(f"\n## Change rule, a frame each {given.change_every_s:g} s, {given.change_canvas}\n")
    print(_table(rules))
    print(json.dumps({"canvas": [_plain(r) for r in smaller], "rule": [_plain(r) for r in rules]}))
    return 0


def _frames(path: Path) -> Frames:
    view = Ocr().view
    frames = decode(path, [view]).frames(view)
    assert frames is not None, path.name
    return frames


def _every(frames: Frames, seconds: float) -> list[int]:
    """The middle of each so many seconds: the first frame of a clip is often blank."""
    step = max(1, round(seconds * Ocr().view.fps))
    return list(range(min(step // 2, len(frames) - 1), len(frames), step))


def _canvases(clips: Sequence[Frames], every_s: float) -> list[Row]:
    sessions = {size: OcrSession(Ocr(canvas=size), "cpu") for size in (FULL, *CANVASES)}
    rows = {size: Row(f"canvas {size}") for size in sessions}
    for frames in clips:
        for index in _every(frames, every_s):
            pages = {
                size: _read(session, frames.pixels[index]) for size, session in sessions.items()
            }
            for size, row in rows.items():
                row.frames += 1
                row.seconds += pages[size].seconds
                row.add(pages[size], pages[FULL])
    return list(rows.values())


def _rules(clips: Sequence[Frames], every_s: float, canvas: int) -> list[Row]:
    """Each frame is read once; what a rule would have read is then looked up."""
    session = OcrSession(Ocr(canvas=canvas), "cpu")
    ways: dict[str, Callable[[Frames, list[int]], list[int]]] = {
        "each frame": lambda frames, candidates: candidates,
        "mean below 1": lambda frames, candidates: _mean_changed(frames.pixels, candidates),
    }
    for same in BLOCKS:
        ways[f"largest block below {same:g}"] = partial(_block_changed, same)
    rows = {way: Row(way) for way in ways}
    for frames in clips:
        candidates = _every(frames, every_s)
        pages = {index: _read(session, frames.pixels[index]) for index in candidates}
        for way, rule in ways.items():
            read, row = rule(frames, candidates), rows[way]
            row.frames += len(read)
            row.seconds += sum(pages[index].seconds for index in read)
            for index in candidates:
                row.add(pages[max(r for r in read if r <= index)], pages[index])
    return list(rows.values())


def _read(session: OcrSession, picture: NDArray[np.uint8]) -> Page:
    began = time.process_time()
    found = session.read(picture)
    seconds = time.process_time() - began
    return Page(
        _words(text for _, text, _ in found),
        _words(text for _, text, sure in found if sure >= _SURE),
        seconds,
    )


def _words(texts: Any) -> Words:
    return Counter(word for text in texts for word in re.findall(r"\w+", text.casefold()))


def _block_changed(same: float, frames: Frames, candidates: list[int]) -> list[int]:
    return changed(frames.pixels, candidates, same)


def _mean_changed(pixels: NDArray[np.uint8], candidates: Sequence[int]) -> list[int]:
    """What one writes first: the mean difference over the whole of a small grey picture."""
    import cv2

    found: list[int] = []
    last: NDArray[Any] | None = None
    for index in candidates:
        small = cv2.resize(pixels[index], (160, 90), interpolation=cv2.INTER_AREA)
        gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
        if last is None or float(np.abs(gray - last).mean()) >= 1.0:
            found.append(index)
            last = gray
    return found


def _table(rows: Sequence[Row]) -> str:
    lines = [
        "| way | frames read | seconds | of all | recall | precision | recall of sure words |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| {row.way} | {row.frames} | {row.seconds:.1f} | {row.seconds / rows[0].seconds:.2f} "
            f"| {row.share('words', 'full'):.3f} | {row.share('words', 'its own'):.3f} "
            f"| {row.share('sure', 'full'):.3f} |"
        )
    return "\n".join(lines)


def _plain(row: Row) -> dict[str, Any]:
    return asdict(row) | {"found": dict(row.found)}


if __name__ == "__main__":
    sys.exit(main())
