"""Thumbnails of a clip at the times of its stored frames, and its spectrogram, from one decode.

T columns of the spectrogram, M mel bands.
"""

import base64
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import MediaError
from m2hf.extract.media.absent import Absent
from m2hf.extract.media.decode import decode
from m2hf.extract.media.frames import Frames
from m2hf.extract.media.sound import Sound
from m2hf.extract.media.views import FrameView
from m2hf.extract.thumbnail import jpeg
from m2hf.manifest import Row
from m2hf.pipelines.timeline.entry import StreamEntry
from m2hf.thumbnails import ThumbnailImage

_SIDE = 160  # pixels, the longer side of a thumbnail
_UNSTORED = 12  # thumbnails of a clip that has no stored frames
_QUALITY = 80
_RATE = 16000
_WINDOW = 512
_HOP = 160
_MOST_COLUMNS = 1600
_MELS = 96
_RANGE_DB = 80.0

_Stream = TypeVar("_Stream")


@dataclass(frozen=True)
class PreviewImage:
    """An image as a data: URI, shown from start_s to end_s."""

    start_s: float
    end_s: float
    uri: str


@dataclass(frozen=True)
class Preview:
    """Images made from the media file of one video. error: why it could not be decoded; sha256: of
    the file; stored: whether the thumbnails are at the times of stored frames; remark: where the
    file breaks off.
    """

    thumbnails: tuple[PreviewImage, ...] = ()
    spectrogram: PreviewImage | None = None
    duration_s: float = 0.0
    sha256: str = ""
    stored: bool = False
    remark: str = ""
    error: str = ""

    @classmethod
    def of(cls, media: Path, row: Row, frames: StreamEntry | None) -> "Preview":
        """Decode the video of `row` once. frames: the entry whose rows are frames; without one,
        thumbnails are spaced evenly. A file that can't be decoded gives a Preview with `error`."""
        view = FrameView(fps=_fps(frames), max_side=_SIDE)
        try:
            clip = decode(media / row.path, [view], [_RATE], start=row.start, end=row.end)
        except MediaError as error:
            return cls(error=str(error))
        damage: list[str] = []
        decoded = _there(lambda: clip.frames(view), damage)
        sound = _there(lambda: clip.sound(_RATE), damage)
        features = None if frames is None else frames.features
        if decoded is not None and features is not None:
            shown: Frames | None = _nearest(decoded, features.start_s, 1 / view.fps)
        else:
            shown = None if decoded is None else decoded.at_most(view.fps, _UNSTORED)
        return cls(
            thumbnails=() if shown is None else tuple(_thumbnails(shown)),
            spectrogram=None if sound is None else _spectrogram(sound),
            duration_s=clip.duration_s,
            sha256=clip.sha256,
            stored=decoded is not None and features is not None,
            remark="; ".join(filter(None, [*damage, clip.remark([view], [_RATE])])),
        )


def _there(read: Callable[[], _Stream | Absent], damage: list[str]) -> _Stream | None:
    """A stream that is there and undamaged; what is wrong with it is added to `damage`."""
    try:
        found = read()
    except MediaError as error:
        damage.append(str(error))
        return None
    return None if isinstance(found, Absent) else found


def _fps(frames: StreamEntry | None) -> float:
    """The frame rate that stored frames were sampled at, so that the times coincide."""
    if frames is None or frames.header is None:
        return FrameView().fps
    view = frames.header.config.get("config", {}).get("view", {})
    return float(view.get("fps", FrameView().fps))


def _nearest(frames: Frames, start_s: NDArray[np.floating[Any]], step_s: float) -> Frames:
    """The frames nearest to these times; times without a frame within one step are dropped."""
    apart = np.abs(frames.start_s[None, :] - start_s[:, None])
    near = apart.argmin(axis=1)[apart.min(axis=1) <= step_s]
    return Frames(frames.pixels[near], frames.start_s[near], frames.end_s[near])


def _thumbnails(frames: Frames) -> Iterator[PreviewImage]:
    for pixels, start_s, end_s in zip(frames.pixels, frames.start_s, frames.end_s, strict=True):
        thumbnail = ThumbnailImage(float(start_s), float(end_s), jpeg(pixels, _QUALITY))
        yield PreviewImage(thumbnail.start_s, thumbnail.end_s, thumbnail.uri)


def _spectrogram(sound: Sound) -> PreviewImage:
    """Mel power (M, T) in dB below its peak; the hop grows so that T is at most _MOST_COLUMNS."""
    import librosa
    import matplotlib as mpl
    from PIL import Image

    hop = max(_HOP, math.ceil(len(sound.samples) / _MOST_COLUMNS))
    power = librosa.feature.melspectrogram(
        y=sound.samples,
        sr=sound.rate,
        n_fft=_WINDOW,
        hop_length=hop,
        n_mels=_MELS,
        fmin=50.0,
        pad_mode="constant",
    )
    level_MT = librosa.power_to_db(power, ref=np.max, top_db=_RANGE_DB) / _RANGE_DB + 1.0
    colours = mpl.colormaps["magma"](np.clip(level_MT[::-1], 0.0, 1.0), bytes=True)[..., :3]
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(colours)).save(stream, "PNG", optimize=True)
    uri = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
    return PreviewImage(0.0, sound.duration_s, uri)
