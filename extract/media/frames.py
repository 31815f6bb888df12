"""Frames of a clip with their times, and the choice of some of them by time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import MediaError
from m2hf.extract.media.framecrc import TimedStream
from m2hf.extract.media.outputs import EDGE_S
from m2hf.extract.media.source import TimedPixels
from m2hf.extract.media.views import FrameView


@dataclass(frozen=True, eq=False)
class Frames:
    """F frames of one view of a clip, in time order. Each is on the screen until the next one."""

    pixels: NDArray[np.uint8]
    """(F, H, W, 3) RGB, or (F, H, W) where the view is grey."""

    start_s: NDArray[np.float64]
    """(F,) seconds from the start of the clip."""

    end_s: NDArray[np.float64]
    """(F,) seconds: the start of the next frame; for the last one, its own end."""

    def __len__(self) -> int:
        return len(self.pixels)

    def shown_in_steps(self, fps: float) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """(N,) index of the frame that is on the screen in each step of 1/fps seconds, and (N,)
        the number of the step.

        Step n is from n/fps to (n+1)/fps seconds. A step's frame is the one in its middle, so that
        a stream of 29.97 frames per second isn't read one frame late; the last step is the last
        whose middle has a frame, but there is one for any clip.
        """
        first = int(self.start_s[0] * fps + EDGE_S)
        last = int(np.ceil(self.end_s[-1] * fps - 0.5 - EDGE_S)) - 1
        steps = np.arange(first, max(first, last) + 1)
        shown = np.searchsorted(self.start_s, (steps + 0.5) / fps, side="right") - 1
        return np.maximum(shown, 0), steps

    def evenly(self, fps: float, most: int) -> "Frames":
        """The frame of each step of 1/fps seconds, or of `most` steps evenly over the clip where
        there are more: the middles of as many equal parts.

        A frame that stays on the screen is repeated, as in a file that stores it again and again;
        its times are those of the step.
        """
        shown, steps = self.shown_in_steps(fps)
        if len(steps) > most:
            chosen = ((np.arange(most) + 0.5) * len(steps) / most).astype(int)
            shown, steps = shown[chosen], steps[chosen]
        end_s = self.end_s[shown]
        stays = end_s > (steps + 1.5) / fps
        return Frames(
            self.pixels[shown],
            np.maximum(self.start_s[shown], steps / fps),
            np.where(stays, (steps + 1) / fps, end_s),
        )

    def at_most(self, fps: float, most: int) -> "Frames":
        """As `evenly`, but where there are at most `most` steps, each frame once."""
        return self if len(self.shown_in_steps(fps)[1]) <= most else self.evenly(fps, most)


def assemble(
    view: FrameView, decoded: TimedPixels, packets: TimedStream, length_s: float | None
) -> Frames | None:
    """The frames of a view in a part of `length_s` seconds; None where there are none.

    The first one is that on the screen at time 0, however old. Each lasts until the next one; the
    last one until its stream ends, or the part, if frames follow after it. packets: of the stream.
    Raises MediaError where time stamps go back.
    """
    times = decoded.times
    size = times.width * times.height * view.channels
    count = min(len(decoded.data) // size if size else 0, len(times))
    if not count:
        return None
    if set(times.sizes) != {size}:
        raise MediaError("the size of the frames changes")
    pts = np.asarray(times.pts[:count], dtype=np.int64)
    if len(back := np.flatnonzero(np.diff(pts) <= 1)):
        last_s = times.seconds(int(pts[back[0]]))
        raise MediaError(f"the time stamps of the frames go back after {last_s:.2f} s")
    own_s = pts * times.unit_s.numerator / times.unit_s.denominator
    first = max(0, int(np.searchsorted(own_s, EDGE_S, side="right")) - 1)
    start_s = np.maximum(own_s[first:], 0.0)
    # ffmpeg begins a new step of 1/fps when it builds its filters anew, as for another size.
    steps = np.floor(start_s * view.fps + EDGE_S)
    kept = np.flatnonzero(np.diff(steps, prepend=-1.0) > 0)
    last = int(first + kept[-1])
    own_length_s = times.seconds(times.durations[last])
    end_s = own_s[last] + max(1 / view.fps, own_length_s)
    if packets.end_s is not None:
        end_s = min(end_s, max(packets.end_s, own_s[last] + (own_length_s or 1 / view.fps)))
    if length_s is not None:
        stays = packets.none_between(end_s, length_s) and packets.any_from(length_s)
        end_s = length_s if stays else min(end_s, length_s)
    if end_s <= start_s[kept[-1]]:
        return None
    tail = (times.height, times.width) if view.gray else (times.height, times.width, 3)
    pixels = decoded.data[first * size : count * size].reshape(-1, *tail)
    if len(kept) < len(start_s):
        pixels, start_s = pixels[kept], start_s[kept]
    return Frames(pixels, start_s, np.append(start_s[1:], end_s))
