"""`python -m benchmarks.extraction.ocr_engines --clips DIR`: EasyOCR beside RapidOCR on real clips.

Each reads the same frames, one for each --every-s seconds. Words are case-folded and matched by
frame, as multisets, and counted where the string's confidence is at least the engine's threshold.
No engine is right by definition: "in EasyOCR's" is the share of a variant's words that EasyOCR
read, too, "of EasyOCR's" the share of EasyOCR's words that the variant read; --strings prints the
strings of each frame where they differ. Seconds are of the processor, one thread; compare them
within one run only.
"""

import argparse
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.extraction.ocr import Words, every, frames_of, words_of
from m2hf.extract.ocr import Ocr, OcrSession
from m2hf.extract.text import Text

EASY = "easyocr 640"
LEAST = {"easyocr": float(Text.model_fields["ocr_confidence"].default), "rapidocr": 0.7}


@dataclass
class EngineRow:
    """One variant, summed over the frames. characters: letters and digits in common with EasyOCR,
    of its own, whose order and spaces don't count."""

    variant: str
    declared: Ocr
    frames: int = 0
    seconds: float = 0.0
    common: int = 0
    words: int = 0
    easy_words: int = 0
    characters: int = 0
    common_characters: int = 0
    easy_characters: int = 0

    def add(self, texts: Sequence[str], easy: Sequence[str], seconds: float) -> None:
        """Count the strings of one frame, and those of EasyOCR."""
        mine, theirs = words_of(texts), words_of(easy)
        self.frames += 1
        self.seconds += seconds
        self.words += mine.total()
        self.easy_words += theirs.total()
        self.common += (mine & theirs).total()
        mine, theirs = _characters(texts), _characters(easy)
        self.characters += mine.total()
        self.easy_characters += theirs.total()
        self.common_characters += (mine & theirs).total()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table as Markdown, then all numbers as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.extraction.ocr_engines", description=__doc__
    )
    parser.add_argument("--clips", type=Path, required=True, help="a folder of .mp4 files")
    parser.add_argument("--every-s", type=float, default=8.0, help="seconds between frames")
    parser.add_argument("--strings", action="store_true", help="print those that differ")
    given = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(1)
    rows = [EngineRow(EASY, Ocr())]
    rows += [EngineRow(f"rapidocr {n}", Ocr(engine="rapidocr", canvas=n)) for n in (640, 480, 320)]
    sessions = [OcrSession(row.declared, "cpu") for row in rows]
    for path in sorted(given.clips.glob("*.mp4")):
        frames = frames_of(path)
        for index in every(frames, given.every_s):
            read: list[list[str]] = []
            for row, session in zip(rows, sessions, strict=True):
                began = time.process_time()
                found = session.read(frames.pixels[index])
                seconds = time.process_time() - began
                least = LEAST[row.declared.engine]
                read.append([text for _, text, sure in found if sure >= least])
                row.add(read[-1], read[0], seconds)
            if given.strings and words_of(read[0]) != words_of(read[1]):
                print(f"{path.stem} {frames.start_s[index]:.0f} s")
                print(f"  {rows[0].variant}: {' | '.join(read[0])}")
                print(f"  {rows[1].variant}: {' | '.join(read[1])}")
    print(_table(rows))
    print(json.dumps([{k: v for k, v in vars(row).items() if k != "declared"} for row in rows]))
    return 0


def _characters(texts: Sequence[str]) -> Words:
    return Counter("".join(re.findall(r"\w+", " ".join(texts).casefold())))


def _table(rows: Sequence[EngineRow]) -> str:
    lines = [
        "| variant | frames | s | of EasyOCR | words | in EasyOCR's | of EasyOCR's "
        "| characters in EasyOCR's | of EasyOCR's |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        shares = (
            (row.common, row.words),
            (row.common, row.easy_words),
            (row.common_characters, row.characters),
            (row.common_characters, row.easy_characters),
        )
        cells = " | ".join(f"{part / max(whole, 1):.2f}" for part, whole in shares)
        lines.append(
            f"| {row.variant} | {row.frames} | {row.seconds:.1f} "
            f"| {row.seconds / rows[0].seconds:.3f} | {row.words} | {cells} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
