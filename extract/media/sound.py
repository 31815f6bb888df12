"""Sound of a clip, and how it is put together from pieces with times."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import MediaError
from m2hf.extract.media.framecrc import TimedStream
from m2hf.extract.media.spool import Bytes, Spool

_BACK_S = 0.5  # time stamps that go back by less are taken for rounding
_GAP_S = 0.1  # time stamps of sound without a gap deviate by less (also ffmpeg's default)
_BYTES = 4  # per sample, float32
_CHUNK = 1 << 20
_QUIET = 0.01  # root mean square, -40 dB: only a mix below it may be one that cancels out
_LOUDER = 10.0  # by which factor one channel is louder than a mix that cancels out


@dataclass(frozen=True, eq=False)
class Sound:
    """The sound of a clip at one sample rate."""

    samples: NDArray[np.float32]
    """(N,) mono, in -1..1; sample 0 is the start of the clip."""

    rate: int
    """Samples per second."""

    remark: str = ""
    """What the features should say of it: which of several streams or channels was read."""

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.rate


@dataclass(frozen=True)
class _Piece:
    """Samples without a gap: where they are in the decoded data, and in the clip."""

    first: int
    count: int
    at: int

    @property
    def end(self) -> int:
        return self.at + self.count


def aligned(data: Bytes, times: TimedStream, rate: int, spool: Spool, output: int) -> Bytes:
    """(4 * N,) bytes of float32 samples in which sample n is at n/rate seconds.

    data: the samples as decoded, one after the other; times: of ffmpeg's packets of them. Gaps
    become silence; what is before time 0 or overlaps the sound before it is left out. Written to
    `output` of the spool, except where the data is so already. Raises MediaError where the time
    stamps go back.
    """
    pieces = _pieces(times, rate)
    whole = len(data) // _BYTES
    if not pieces:
        return data[:0]
    if len(pieces) == 1 and pieces[0].at == 0:
        return data[: whole * _BYTES]
    position = 0
    for piece in pieces:
        _append_silence(spool, output, piece.at - position)
        skipped = max(0, position - piece.at)
        first, end = piece.first + skipped, min(piece.first + piece.count, whole)
        for start in range(first * _BYTES, end * _BYTES, _CHUNK):
            spool.append(output, data[start : min(start + _CHUNK, end * _BYTES)].tobytes())
        position = max(position, piece.end)
    return spool.take(output)


def cancels_out(mix: NDArray[np.float32], channel: NDArray[np.float32]) -> bool:
    """Whether the mix of the channels is nearly silent, and one of them isn't."""
    return level(channel) > _LOUDER * level(mix)


def nearly_silent(samples: NDArray[np.float32]) -> bool:
    return level(samples) < _QUIET


def level(samples: NDArray[np.float32]) -> float:
    """Root mean square."""
    blocks = range(0, len(samples), _CHUNK)
    squares = sum(float(np.square(samples[b : b + _CHUNK], dtype=np.float64).sum()) for b in blocks)
    return float(np.sqrt(squares / max(1, len(samples))))


def _pieces(times: TimedStream, rate: int) -> list[_Piece]:
    pieces: list[_Piece] = []
    first, stuck, last_pts = 0, 0, None
    for pts, size in zip(times.pts, times.sizes, strict=True):
        count = size // _BYTES
        # Where times go back, ffmpeg writes the least that is later than the one before.
        goes_back = last_pts is not None and pts - last_pts <= 1 < count
        stuck = stuck + count if goes_back else 0
        if last_pts is not None and stuck > _BACK_S * rate:
            raise MediaError(
                f"the time stamps of the sound go back after {times.seconds(last_pts):.2f} s"
            )
        last_pts = pts
        at = round(times.seconds(pts) * rate)
        if pieces and (goes_back or abs(at - pieces[-1].end) <= _GAP_S * rate):
            last = pieces[-1]
            pieces[-1] = _Piece(last.first, last.count + count, last.at)
        else:
            pieces.append(_Piece(first, count, at))
        first += count
    if pieces and 0 < abs(pieces[0].at) <= 1:  # rounding of the first time stamp
        pieces[0] = _Piece(pieces[0].first, pieces[0].count, 0)
    return pieces


def _append_silence(spool: Spool, output: int, count: int) -> None:
    for start in range(0, count * _BYTES, _CHUNK):
        spool.append(output, bytes(min(_CHUNK, count * _BYTES - start)))
