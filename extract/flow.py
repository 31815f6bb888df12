"""Motion as histograms of dense optical flow (OpenCV's DIS), one row per window."""

from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from m2hf.extract.base import MediaExtractor, MediaSession
from m2hf.extract.inference.clock import CLOCK
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.decode import DecodedClip
from m2hf.extract.media.frames import Frames
from m2hf.extract.media.views import FrameView, GrayView
from m2hf.features import Features

_BINS = 8  # directions, of 45 degrees each
_GRID = 2  # cells per side
_CELL = _BINS + 1  # values per cell


class Flow(MediaExtractor):
    """Values (L, 36): for each of 2 x 2 cells of the frame, a histogram of oriented optical flow
    (speed in 8 directions) and the mean speed, averaged over a window.

    Speed is in frame widths per second. No weights are needed.
    """

    name: ClassVar[str] = "flow"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "opencv-python-headless")

    view: GrayView = FrameView(fps=8.0, size=(112, 112), gray=True)
    """The frames between which flow is computed."""

    window_s: float = Field(default=1.0, ge=0.01, le=86_400.0)
    """Length of a window, in seconds."""

    @property
    def width(self) -> int:
        return _GRID * _GRID * _CELL

    def views(self) -> tuple[FrameView, ...]:
        return (self.view,)

    def open(self, device: str) -> "FlowSession":
        return FlowSession(self)


class FlowSession(MediaSession):
    def __init__(self, declared: Flow) -> None:
        import cv2

        cv2.setNumThreads(1)  # workers are the parallelism
        self._declared = declared
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def extract(self, clip: DecodedClip) -> Features:
        frames = clip.frames(self._declared.view)
        if isinstance(frames, Absent):
            return Features.empty(frames.reason, self._declared.width)
        if len(frames) < 2:
            return Features.empty("fewer than two frames", self._declared.width)
        # A pair of frames belongs to the window of its first frame.
        window = np.floor(frames.start_s[:-1] / self._declared.window_s).astype(int)
        bounds = [*np.flatnonzero(np.diff(window, prepend=-1)), len(window)]
        values = [self._mean(frames, a, b) for a, b in pairwise(bounds)]
        return Features(
            np.stack(values).astype(np.float32),
            frames.start_s[bounds[:-1]],
            frames.start_s[bounds[1:]],
        )

    def _mean(self, frames: Frames, first: int, end: int) -> NDArray[np.float64]:
        """(36,): mean over the pairs whose first frames are `first` up to `end`, excluded."""
        pairs = []
        for a in range(first, end):
            before, after = frames.pixels[a], frames.pixels[a + 1]
            seconds = max(frames.start_s[a + 1] - frames.start_s[a], 1e-3)
            with CLOCK.running():
                flow = self._flow.calc(before, after, None)
                pairs.append(_histogram(flow / before.shape[1] / seconds))
        mean: NDArray[np.float64] = np.stack(pairs).mean(axis=0)
        return mean


def _histogram(flow: NDArray[np.float32]) -> NDArray[np.float64]:
    """(H, W, 2) flow -> (36,): per cell, mean speed in each direction, then mean speed."""
    speed = np.hypot(flow[..., 0], flow[..., 1])
    angle = np.arctan2(flow[..., 1], flow[..., 0])
    direction = np.floor(angle / (2 * np.pi) * _BINS + 0.5).astype(int) % _BINS
    height, width = speed.shape
    row = np.arange(height)[:, None] * _GRID // height
    column = np.arange(width)[None, :] * _GRID // width
    cell = row * _GRID + column
    area = np.bincount(cell.ravel(), minlength=_GRID * _GRID)
    index = (cell * _BINS + direction).ravel()
    sums = np.bincount(index, weights=speed.ravel(), minlength=_GRID * _GRID * _BINS)
    by_direction = sums.reshape(-1, _BINS) / area[:, None]
    return np.concatenate([by_direction, by_direction.sum(axis=1, keepdims=True)], axis=1).ravel()
