"""`python -m benchmarks.extraction.asr --clips DIR`: ways to run ASR, beside plain openai-whisper.

"plain" is openai's own transcribe on the whole sound. Prints Markdown: processor seconds without
decoding (a busy machine changes these least), the part of the time inside models, and how far the
words are from plain's (edits over plain's words; "kept" leaves out what is taken for invented, on
both sides); then every segment that is taken for invented. One thread.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from m2hf.extract.asr import Asr, AsrSession, is_invented
from m2hf.extract.inference.clock import CLOCK
from m2hf.extract.media.decode import DecodedClip, decode
from m2hf.extract.speech import checkpoints, vad
from m2hf.extract.speech.engines import Segment
from m2hf.extract.speech.vad import RATE

WAYS: Mapping[str, Mapping[str, Any]] = {
    "openai": {"vad": False},
    "openai vad": {},
    "faster float32": {"vad": False, "engine": "faster-whisper"},
    "faster int8": {"vad": False, "engine": "faster-whisper", "compute_type": "int8"},
    "faster float32 vad": {"engine": "faster-whisper"},
    "faster int8 vad": {"engine": "faster-whisper", "compute_type": "int8"},
}
PLAIN = "plain"


@dataclass(frozen=True)
class Line:
    """A segment: seconds, what was heard, and what says whether it was there."""

    start_s: float
    end_s: float
    text: str
    values: tuple[float, ...]
    invented: bool


@dataclass(frozen=True)
class Heard:
    """One clip in one way. seconds: of the processor, all but decoding; forward: the part of the
    time that models took."""

    clip: str
    seconds: float
    forward: float
    lines: tuple[Line, ...]

    def words(self, kept: bool) -> list[str]:
        """In lower case, without signs; kept: without what is taken for invented."""
        lines = (line.text for line in self.lines if not (kept and line.invented))
        return re.findall(r"[\w']+", " ".join(lines).lower())


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, and with --out write all as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.extraction.asr")
    parser.add_argument("--clips", type=Path, required=True, help="a folder of .mp4 files")
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--ways", nargs="*", choices=[*WAYS], default=[*WAYS])
    parser.add_argument("--out", type=Path, help="a JSON file with every segment")
    given = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(1)
    found = {p.stem: decode(p, (), (RATE,)) for p in sorted(given.clips.glob("*.mp4"))}
    clips = {name: clip for name, clip in found.items() if clip.sound(RATE) is not None}
    heard = {PLAIN: listen(plain(given.model), clips)}
    for way in given.ways:
        session = Asr.model_validate({"model": given.model, **WAYS[way]}).open("cpu")
        heard[way] = listen(stored(session), clips)
    print("\n".join(chain(table(heard), ["", *invented(heard)])))
    if given.out:
        told = {way: [asdict(h) for h in of] for way, of in heard.items()}
        given.out.write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
    return 0


def listen(
    hear: Callable[[DecodedClip], tuple[Line, ...]], clips: Mapping[str, DecodedClip]
) -> list[Heard]:
    """Each clip in turn, after the last one: what is done once is not meant, and an encoder still
    has the window before."""
    hear(list(clips.values())[-1])
    heard = []
    for name, clip in clips.items():
        CLOCK.take()
        began, busy = time.perf_counter(), time.process_time()
        lines = hear(clip)
        busy, passed = time.process_time() - busy, time.perf_counter() - began
        heard.append(Heard(name, busy, CLOCK.take() / passed, lines))
    return heard


def plain(model: str) -> Callable[[DecodedClip], tuple[Line, ...]]:
    """openai's transcribe, with the options and the doubts of Asr."""
    import torch

    declared = Asr(model=model)
    whisper = checkpoints.load(checkpoints.weight(model, "").locate(), "cpu")
    for part in (whisper.encoder, whisper.decoder):
        CLOCK.watch(part)

    def hear(clip: DecodedClip) -> tuple[Line, ...]:
        sound = clip.sound(RATE)
        assert sound is not None
        torch.manual_seed(declared.seed)
        told = whisper.transcribe(
            sound.samples,
            temperature=declared.temperatures,
            condition_on_previous_text=False,
            fp16=False,
        )
        utterances = declared.detector.utterances(sound.samples)
        lines = []
        for s in told["segments"]:
            if s["text"].strip():
                segment = Segment(s["start"], s["end"], s["text"].strip(), *(s[c] for c in _OF))
                share = vad.speech_share(utterances, segment.start_s, segment.end_s)
                doubted = declared.doubts.about(segment, share)
                lines.append(Line(*segment[:3], (*segment[3:], share), doubted))
        return tuple(lines)

    return hear


_OF = Segment._fields[3:]


def stored(session: AsrSession) -> Callable[[DecodedClip], tuple[Line, ...]]:
    """What the extractor would store."""

    def hear(clip: DecodedClip) -> tuple[Line, ...]:
        f = session.extract(clip)
        columns = zip(f.start_s, f.end_s, f.texts or (), f.values, is_invented(f), strict=True)
        return tuple(
            Line(float(start), float(end), text, tuple(map(float, values[:4])), bool(flagged))
            for start, end, text, values, flagged in columns
        )

    return hear


def edits(one: Sequence[str], two: Sequence[str]) -> int:
    """Words to change, add or drop to come from one to two."""
    row = np.arange(len(two) + 1)
    for i, word in enumerate(one):
        above, row = row, np.full(len(two) + 1, i + 1)
        for j, other in enumerate(two):
            row[j + 1] = min(above[j] + (word != other), above[j + 1] + 1, row[j] + 1)
    return int(row[-1])


def table(heard: Mapping[str, Sequence[Heard]]) -> list[str]:
    """A row a way."""
    base = heard[PLAIN]
    all_s = sum(h.seconds for h in base)
    rows = [
        "| way | s | of plain | in models | differs | kept differs | speech lost | speech new "
        "| invented segments |",
        "|---|---:|---:|---:|---:|---:|---|---|---:|",
    ]
    for way, of in heard.items():
        seconds = sum(h.seconds for h in of)
        models = sum(h.forward * h.seconds for h in of) / seconds
        lost = [
            h.clip for h, p in zip(of, base, strict=True) if p.words(True) and not h.words(True)
        ]
        new = [h.clip for h, p in zip(of, base, strict=True) if h.words(True) and not p.words(True)]
        rows.append(
            f"| {way} | {seconds:.1f} | {seconds / all_s:.2f} | {models:.0%} "
            f"| {_differs(of, base, False):.1%} | {_differs(of, base, True):.1%} "
            f"| {', '.join(lost) or 'none'} | {', '.join(new) or 'none'} "
            f"| {sum(line.invented for h in of for line in h.lines)} |"
        )
    return rows


def invented(heard: Mapping[str, Sequence[Heard]]) -> list[str]:
    """A row for each segment that is taken for invented."""
    columns = " | ".join(Asr.columns[:4])
    rows = [f"| way | clip | seconds | {columns} | text |", "|---|---|---|---:|---:|---:|---:|---|"]
    for way, of in heard.items():
        for h in of:
            for line in h.lines:
                if line.invented:
                    values = " | ".join(f"{value:.2f}" for value in line.values)
                    when = f"{line.start_s:.1f} to {line.end_s:.1f}"
                    text = line.text[:60].replace("|", "/")
                    rows.append(f"| {way} | {h.clip} | {when} | {values} | {text} |")
    return rows


def _differs(of: Sequence[Heard], base: Sequence[Heard], kept: bool) -> float:
    pairs = [(p.words(kept), h.words(kept)) for h, p in zip(of, base, strict=True)]
    return sum(edits(*pair) for pair in pairs) / max(1, sum(len(p) for p, _ in pairs))


if __name__ == "__main__":
    sys.exit(main())
