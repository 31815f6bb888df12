"""Voice-activity detection, and the windows of speech that Whisper transcribes.

A voice-activity detector (Silero's, from the faster-whisper wheel) finds utterances. Whisper
always processes 30 s at once, so utterances are joined into windows of at most 30 s; pauses longer
than `pause_s` are left out, and the times of segments in a window are mapped back to the clip's.
Positions are samples at RATE, times are seconds. N samples, U utterances.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from m2hf.config import Section
from m2hf.extract.inference.clock import Clocked
from m2hf.extract.weights.weight import PackagedFile, Weight

RATE = 16000  # Hz; Whisper and the detector were trained on it
WINDOW_S = 30.0
_SHORTEST_PAUSE_S = 0.1  # between two utterances
_PIECE = 600 * RATE  # detected at once, so that memory does not grow with the clip
_FRAME_S = 512 / RATE  # the detector gives one probability per frame

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Span:
    """The samples from `first` to `last`, exclusive."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first


class Detector(Section):
    """The voice-activity detector; the defaults are those of faster-whisper's own filter."""

    threshold: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Least probability that counts as speech, in (0, 1)."""
    pause_s: float = Field(default=2.0, ge=0.1, le=10.0)
    """Pauses longer than this many seconds are not transcribed."""
    pad_s: float = Field(default=0.4, ge=0.0, le=2.0)
    """Seconds of such a pause that are kept next to the speech on each side."""

    def utterances(self, samples: Samples) -> list[Span]:
        """U spans of speech without a pause of 0.1 s, in time order. With the padding around it,
        each fits into a window. samples: (N,) at RATE."""
        from faster_whisper.vad import VadOptions, get_speech_timestamps, get_vad_model

        options = VadOptions(
            threshold=self.threshold,
            max_speech_duration_s=WINDOW_S - max(self.pause_s, 2 * self.pad_s),
            min_silence_duration_ms=round(_SHORTEST_PAUSE_S * 1000),
            speech_pad_ms=0,
        )
        model = get_vad_model()
        if not isinstance(model.session, Clocked):
            model.session = Clocked(model.session, "run")
        found = []
        for first in range(0, len(samples), _PIECE):
            piece = samples[first : first + _PIECE]
            for speech in get_speech_timestamps(piece, options):
                last = min(speech["end"], len(piece))
                if speech["start"] < last:
                    found.append(Span(first + speech["start"], first + last))
        return found

    def padded(self, utterances: Sequence[Span], count: int) -> list[Span]:
        """Utterances with the pauses to transcribe around them, in a sound of `count` samples.

        Two spans around a pause of at most `pause_s` meet in its middle, so that a window can end
        there.
        """
        if not utterances:
            return []
        pad, pause = round(self.pad_s * RATE), round(self.pause_s * RATE)
        firsts, lasts = [max(0, utterances[0].first - pad)], []
        for one, two in pairwise(utterances):
            gap = two.first - one.last
            before, after = (pad, pad) if gap > max(pause, 2 * pad) else (gap // 2, gap - gap // 2)
            lasts.append(one.last + before)
            firsts.append(two.first - after)
        lasts.append(min(count, utterances[-1].last + pad))
        return [Span(first, last) for first, last in zip(firsts, lasts, strict=True)]


def weight() -> Weight:
    """The weights of the detector."""
    name = "silero_vad_v6.onnx"
    return Weight(
        name,
        size_mb=1,
        sha256="4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2",
        packaged=PackagedFile((("faster-whisper", f"faster_whisper/assets/{name}"),)),
        get="install the version of faster-whisper in constraints.txt",
    )


def speech_share(utterances: Sequence[Span], start_s: float, end_s: float) -> float:
    """Fraction of the time from start_s to end_s that is detected as speech, in 0..1."""
    first, last = start_s * RATE, max(end_s, start_s + _FRAME_S) * RATE
    inside = sum(max(0.0, min(u.last, last) - max(u.first, first)) for u in utterances)
    return min(1.0, inside / (last - first))


@dataclass(frozen=True)
class Window:
    """Spans that are transcribed as one sound. Neighbours that touch form one run: nothing is left
    out between them."""

    spans: tuple[Span, ...]

    @cached_property
    def runs(self) -> list[Span]:
        """Spans, joined where they touch."""
        runs: list[Span] = []
        for span in self.spans:
            if runs and runs[-1].last == span.first:
                runs[-1] = Span(runs[-1].first, span.last)
            else:
                runs.append(span)
        return runs

    @cached_property
    def _starts(self) -> list[int]:
        """Where each run begins in the joined sound, and where that ends."""
        return [0, *accumulate(len(run) for run in self.runs)]

    def __len__(self) -> int:
        return self._starts[-1]

    def joined(self, samples: Samples) -> Samples:
        """The sound, one run after another."""
        return np.concatenate([samples[run.first : run.last] for run in self.runs])

    def clip_times(
        self, start_s: float, end_s: float, slack_s: float
    ) -> tuple[float, float] | None:
        """Times in the clip of a part of the joined sound; None where it spans several runs.

        A part that reaches at most slack_s into a neighbouring run is trimmed, since there is only
        padding. Times after the end of the sound are set to its end.
        """
        first, last = sorted(min(max(round(t * RATE), 0), len(self)) for t in (start_s, end_s))
        slack = round(slack_s * RATE)
        parts = [
            (max(first, begin), min(last, end), run.first - begin)
            for run, (begin, end) in zip(self.runs, pairwise(self._starts), strict=True)
        ]
        long = [part for part in parts if part[1] - part[0] > slack]
        if len(long) > 1:
            return None
        start, end, shift = max(parts, key=lambda part: part[1] - part[0])
        return (start + shift) / RATE, (max(start, end) + shift) / RATE

    def split(self, time_s: float) -> tuple["Window", "Window"]:
        """Two windows, split after the run that contains time_s of the joined sound."""
        at = min(bisect_right(self._starts, round(time_s * RATE)), len(self.runs) - 1)
        return Window(tuple(self.runs[:at])), Window(tuple(self.runs[at:]))


def windows(spans: Sequence[Span]) -> Iterator[Window]:
    """Fill windows of at most WINDOW_S with the spans in order; a longer span is split."""
    most = round(WINDOW_S * RATE)
    taken: list[Span] = []
    for span in spans:
        for first in range(span.first, span.last, most):
            part = Span(first, min(first + most, span.last))
            if taken and sum(map(len, taken)) + len(part) > most:
                yield Window(tuple(taken))
                taken = []
            taken.append(part)
    if taken:
        yield Window(tuple(taken))
