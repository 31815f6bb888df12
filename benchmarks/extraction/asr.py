"""`python -m benchmarks.extraction.asr --clips DIR`: variants of ASR against plain openai-whisper.

"plain" is openai's own transcribe on the whole sound. Prints Markdown: processor seconds without
decoding (least affected by other load), the share of time inside models, and the word error rate
against plain ("kept" leaves out segments flagged as hallucinated, on both sides); then every
flagged segment. One thread.
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

from m2hf.extract.asr import Asr, AsrSession, is_hallucinated
from m2hf.extract.inference.clock import CLOCK
from m2hf.extract.media.decode import DecodedClip, decode
from m2hf.extract.media.sound import Sound
from m2hf.extract.speech import checkpoints, vad
from m2hf.extract.speech.engines import Segment
from m2hf.extract.speech.vad import RATE

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "openai": {"vad": False},
    "openai vad": {},
    "faster float32": {"vad": False, "engine": "faster-whisper"},
    "faster int8": {"vad": False, "engine": "faster-whisper", "compute_type": "int8"},
    "faster float32 vad": {"engine": "faster-whisper"},
    "faster int8 vad": {"engine": "faster-whisper", "compute_type": "int8"},
}
PLAIN = "plain"


@dataclass(frozen=True)
class TranscribedSegment:
    """A segment: seconds, text, the values that the flag is decided by, and the flag."""

    start_s: float
    end_s: float
    text: str
    values: tuple[float, ...]
    hallucinated: bool


@dataclass(frozen=True)
class Transcript:
    """One clip under one variant. seconds: of the processor, without decoding; forward: share of
    the time inside models."""

    clip: str
    seconds: float
    forward: float
    lines: tuple[TranscribedSegment, ...]

    def words(self, kept: bool) -> list[str]:
        """In lower case, without punctuation; kept: without segments flagged as hallucinated."""
        lines = (line.text for line in self.lines if not (kept and line.hallucinated))
        return re.findall(r"[\w']+", " ".join(lines).lower())


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, and with --out write everything as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.extraction.asr")
    parser.add_argument("--clips", type=Path, required=True, help="a folder of .mp4 files")
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument(
        "--ways", dest="variants", nargs="*", choices=[*VARIANTS], default=[*VARIANTS]
    )
    parser.add_argument("--out", type=Path, help="a JSON file with every segment")
    given = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(1)
    found = {p.stem: decode(p, (), (RATE,)) for p in sorted(given.clips.glob("*.mp4"))}
    clips = {name: clip for name, clip in found.items() if clip.sound(RATE) is not None}
    transcripts = {PLAIN: transcribe_all(plain(given.model), clips)}
    for variant in given.variants:
        session = Asr.model_validate({"model": given.model, **VARIANTS[variant]}).open("cpu")
        transcripts[variant] = transcribe_all(stored(session), clips)
    print("\n".join(chain(table(transcripts), ["", *hallucinations(transcripts)])))
    if given.out:
        plain_data = {variant: [asdict(t) for t in of] for variant, of in transcripts.items()}
        given.out.write_text(json.dumps(plain_data, indent=1, ensure_ascii=False), encoding="utf-8")
    return 0


def transcribe_all(
    transcribe: Callable[[DecodedClip], tuple[TranscribedSegment, ...]],
    clips: Mapping[str, DecodedClip],
) -> list[Transcript]:
    """Each clip in turn, after a warm-up on the last one, so that one-time work is not timed and an
    encoder still has the window of another clip."""
    transcribe(list(clips.values())[-1])
    transcripts = []
    for name, clip in clips.items():
        CLOCK.take()
        began, busy = time.perf_counter(), time.process_time()
        lines = transcribe(clip)
        busy, passed = time.process_time() - busy, time.perf_counter() - began
        transcripts.append(Transcript(name, busy, CLOCK.take() / passed, lines))
    return transcripts


def plain(model: str) -> Callable[[DecodedClip], tuple[TranscribedSegment, ...]]:
    """openai's transcribe, with the options and the hallucination rule of Asr."""
    import torch

    declared = Asr(model=model)
    whisper = checkpoints.load(checkpoints.weights(model, "", converted=False)[0].locate(), "cpu")
    for part in (whisper.encoder, whisper.decoder):
        CLOCK.watch(part)

    def transcribe(clip: DecodedClip) -> tuple[TranscribedSegment, ...]:
        sound = clip.sound(RATE)
        assert isinstance(sound, Sound)
        torch.manual_seed(declared.seed)
        result = whisper.transcribe(
            sound.samples,
            temperature=declared.temperatures,
            condition_on_previous_text=False,
            fp16=False,
        )
        utterances = declared.detector.utterances(sound.samples)
        lines = []
        for s in result["segments"]:
            if s["text"].strip():
                segment = Segment(s["start"], s["end"], s["text"].strip(), *(s[c] for c in _OF))
                share = vad.speech_share(utterances, segment.start_s, segment.end_s)
                doubted = declared.doubts.exceeded_by(segment, share)
                lines.append(TranscribedSegment(*segment[:3], (*segment[3:], share), doubted))
        return tuple(lines)

    return transcribe


_OF = Segment._fields[3:]


def stored(session: AsrSession) -> Callable[[DecodedClip], tuple[TranscribedSegment, ...]]:
    """Segments as the extractor stores them."""

    def transcribe(clip: DecodedClip) -> tuple[TranscribedSegment, ...]:
        f = session.extract(clip)
        columns = zip(f.start_s, f.end_s, f.texts or (), f.values, is_hallucinated(f), strict=True)
        return tuple(
            TranscribedSegment(
                float(start), float(end), text, tuple(map(float, values[:4])), bool(flagged)
            )
            for start, end, text, values, flagged in columns
        )

    return transcribe


def edits(one: Sequence[str], two: Sequence[str]) -> int:
    """Levenshtein distance in words."""
    row = np.arange(len(two) + 1)
    for i, word in enumerate(one):
        above, row = row, np.full(len(two) + 1, i + 1)
        for j, other in enumerate(two):
            row[j + 1] = min(above[j] + (word != other), above[j + 1] + 1, row[j] + 1)
    return int(row[-1])


def table(transcripts: Mapping[str, Sequence[Transcript]]) -> list[str]:
    """A row per variant."""
    base = transcripts[PLAIN]
    all_s = sum(h.seconds for h in base)
    rows = [
        "| variant | s | of plain | in models | WER | WER kept | speech lost | speech new "
        "| flagged segments |",
        "|---|---:|---:|---:|---:|---:|---|---|---:|",
    ]
    for variant, of in transcripts.items():
        seconds = sum(h.seconds for h in of)
        models = sum(h.forward * h.seconds for h in of) / seconds
        lost = [
            h.clip for h, p in zip(of, base, strict=True) if p.words(True) and not h.words(True)
        ]
        new = [h.clip for h, p in zip(of, base, strict=True) if h.words(True) and not p.words(True)]
        rows.append(
            f"| {variant} | {seconds:.1f} | {seconds / all_s:.2f} | {models:.0%} "
            f"| {_word_error_rate(of, base, False):.1%} | {_word_error_rate(of, base, True):.1%} "
            f"| {', '.join(lost) or 'none'} | {', '.join(new) or 'none'} "
            f"| {sum(line.hallucinated for h in of for line in h.lines)} |"
        )
    return rows


def hallucinations(transcripts: Mapping[str, Sequence[Transcript]]) -> list[str]:
    """A row for each segment that is flagged as hallucinated."""
    columns = " | ".join(Asr.columns[:4])
    rows = [
        f"| variant | clip | seconds | {columns} | text |",
        "|---|---|---|---:|---:|---:|---:|---|",
    ]
    for variant, of in transcripts.items():
        for h in of:
            for line in h.lines:
                if line.hallucinated:
                    values = " | ".join(f"{value:.2f}" for value in line.values)
                    when = f"{line.start_s:.1f} to {line.end_s:.1f}"
                    text = line.text[:60].replace("|", "/")
                    rows.append(f"| {variant} | {h.clip} | {when} | {values} | {text} |")
    return rows


def _word_error_rate(of: Sequence[Transcript], base: Sequence[Transcript], kept: bool) -> float:
    pairs = [(p.words(kept), h.words(kept)) for h, p in zip(of, base, strict=True)]
    return sum(edits(*pair) for pair in pairs) / max(1, sum(len(p) for p, _ in pairs))


if __name__ == "__main__":
    sys.exit(main())
