"""`python -m benchmarks.extraction.ocr --clips DIR`: OCR of real clips with less work.

Two savings, each compared with the full work: a smaller image for the detector (`canvas`), and
unchanged frames left out (`same`). Words are case-folded and matched by frame, as multisets; "sure"
words are of strings that the `text` extractor keeps. The reference is the result of the full work,
so no annotation is needed. Seconds are of the processor, one thread, least affected by other load;
compare them within one run only.
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
from m2hf.extract.media.decode import decode
from m2hf.extract.media.frames import Frames
from m2hf.extract.ocr import Ocr, OcrSession
from m2hf.extract.text import Text

FULL = 640
CANVASES = (480, 320, 256)
BLOCKS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_SURE = float(Text.model_fields["ocr_confidence"].default)

Words = Counter[str]


@dataclass(frozen=True)
class FrameWords:
    """OCR of one frame: all words, those of sure strings, and the seconds it took."""

    words: Words
    sure: Words
    seconds: float


@dataclass
class OcrVariant:
    """One variant. found: word counts by kind ("words" or "sure"): in common with the full work, of
    the full work, and of this variant itself."""

    variant: str
    frames: int = 0
    seconds: float = 0.0
    found: Words = field(default_factory=Counter)

    def add(self, page: FrameWords, full: FrameWords) -> None:
        """Count one frame, given as read by this variant and by the full work."""
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
    clips = [frames_of(path) for path in sorted(given.clips.glob("*.mp4"))]
    smaller = _canvases(clips, given.canvas_every_s)
    rules = _rules(clips, given.change_every_s, given.change_canvas)
    print(f"## Detection size, a frame each {given.canvas_every_s:g} s\n")
    print(_table(smaller))
    print(f"\n## Change rule, a frame each {given.change_every_s:g} s, {given.change_canvas}\n")
    print(_table(rules))
    print(json.dumps({"canvas": [_plain(r) for r in smaller], "rule": [_plain(r) for r in rules]}))
    return 0


def frames_of(path: Path) -> Frames:
    view = Ocr().view
    frames = decode(path, [view]).frames(view)
    assert isinstance(frames, Frames), path.name
    return frames


def every(frames: Frames, seconds: float) -> list[int]:
    """The middle frame of each interval of `seconds`: the first frame of a clip is often blank."""
    step = max(1, round(seconds * Ocr().view.fps))
    return list(range(min(step // 2, len(frames) - 1), len(frames), step))


def _canvases(clips: Sequence[Frames], every_s: float) -> list[OcrVariant]:
    sessions = {size: OcrSession(Ocr(canvas=size), "cpu") for size in (FULL, *CANVASES)}
    rows = {size: OcrVariant(f"canvas {size}") for size in sessions}
    for frames in clips:
        for index in every(frames, every_s):
            pages = {
                size: _read(session, frames.pixels[index]) for size, session in sessions.items()
            }
            for size, row in rows.items():
                row.frames += 1
                row.seconds += pages[size].seconds
                row.add(pages[size], pages[FULL])
    return list(rows.values())


def _rules(clips: Sequence[Frames], every_s: float, canvas: int) -> list[OcrVariant]:
    """Each frame is read once; the rules then select among these readings."""
    session = OcrSession(Ocr(canvas=canvas), "cpu")
    variants: dict[str, Callable[[Frames, list[int]], list[int]]] = {
        "each frame": lambda frames, candidates: candidates,
        "mean below 1": lambda frames, candidates: _mean_changed(frames.pixels, candidates),
    }
    for same in BLOCKS:
        variants[f"largest block below {same:g}"] = partial(_block_changed, same)
    rows = {variant: OcrVariant(variant) for variant in variants}
    for frames in clips:
        candidates = every(frames, every_s)
        pages = {index: _read(session, frames.pixels[index]) for index in candidates}
        for variant, rule in variants.items():
            read, row = rule(frames, candidates), rows[variant]
            row.frames += len(read)
            row.seconds += sum(pages[index].seconds for index in read)
            for index in candidates:
                row.add(pages[max(r for r in read if r <= index)], pages[index])
    return list(rows.values())


def _read(session: OcrSession, pixels: NDArray[np.uint8]) -> FrameWords:
    began = time.process_time()
    found = session.read(pixels)
    seconds = time.process_time() - began
    return FrameWords(
        words_of(text for _, text, _ in found),
        words_of(text for _, text, sure in found if sure >= _SURE),
        seconds,
    )


def words_of(texts: Any) -> Words:
    return Counter(word for text in texts for word in re.findall(r"\w+", text.casefold()))


def _block_changed(same: float, frames: Frames, candidates: list[int]) -> list[int]:
    return changed(frames.pixels, candidates, same)


def _mean_changed(pixels: NDArray[np.uint8], candidates: Sequence[int]) -> list[int]:
    """The simplest rule: mean absolute difference of small grey frames."""
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


def _table(rows: Sequence[OcrVariant]) -> str:
    lines = [
        "| variant | frames read | seconds | of full | recall | precision | recall of sure words |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| {row.variant} | {row.frames} | {row.seconds:.1f} "
            f"| {row.seconds / rows[0].seconds:.2f} "
            f"| {row.share('words', 'full'):.3f} | {row.share('words', 'its own'):.3f} "
            f"| {row.share('sure', 'full'):.3f} |"
        )
    return "\n".join(lines)


def _plain(row: OcrVariant) -> dict[str, Any]:
    return asdict(row) | {"found": dict(row.found)}


if __name__ == "__main__":
    sys.exit(main())
