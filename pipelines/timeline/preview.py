"""A clip for the eye: small pictures at stored times, and a spectrogram, from one decode.

F pictures; T columns of the spectrogram, M its mel bands.
"""

import base64
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import MediaError
from m2hf.extract.media.decode import Frames, Sound, decode
from m2hf.extract.media.views import FrameView
from m2hf.extract.thumbnail import jpeg
from m2hf.manifest import Row
from m2hf.pipelines.timeline.timeline import Entry
from m2hf.thumbnails import ThumbnailImage

_SIDE = 160  # pixels, the longer side of a thumbnail
_UNSTORED = 12  # pictures of a clip that has no stored times
_QUALITY = 80
_RATE = 16000
_WINDOW = 512
_HOP = 160
_MOST_COLUMNS = 1600
_MELS = 96
_RANGE_DB = 80.0


@dataclass(frozen=True)
class Picture:
    """An image as a data: URI, shown from start_s to end_s."""

    start_s: float
    end_s: float
    uri: str


@dataclass(frozen=True)
class Preview:
    """What the media file of one video gave. error: why it gave nothing; sha256: of the file;
    stored: whether the thumbnails are at the times of stored frames; remark: where it breaks off.
    """

    thumbnails: tuple[Picture, ...] = ()
    spectrogram: Picture | None = None
    duration_s: float = 0.0
    sha256: str = ""
    stored: bool = False
    remark: str = ""
    error: str = ""

    @classmethod
    def of(cls, media: Path, row: Row, frames: Entry | None) -> "Preview":
        """Decode the video of `row` once. frames: the entry whose rows are pictures; without one,
        thumbnails are evenly over the clip. A file that can't be decoded is an `error`."""
        view = FrameView(fps=_fps(frames), max_side=_SIDE)
        try:
            clip = decode(media / row.path, [view], [_RATE], start=row.start, end=row.end)
            pictures, sound = clip.frames(view), clip.sound(_RATE)
        except MediaError as error:
            return cls(error=str(error))
        stored = frames is not None and frames.features is not None and pictures is not None
        if stored and frames is not None and frames.features is not None and pictures is not None:
            pictures = _at(pictures, frames.features.start_s, 1 / view.fps)
        elif pictures is not None:
            pictures = pictures.take(_UNSTORED)
        return cls(
            thumbnails=() if pictures is None else tuple(_thumbnails(pictures)),
            spectrogram=None if sound is None else _spectrogram(sound),
            duration_s=clip.duration_s,
            sha256=clip.sha256,
            stored=stored,
            remark=clip.remark([view], [_RATE]),
        )


def _fps(frames: Entry | None) -> float:
    """Of the grid that stored frames were chosen from, so that the times fall together."""
    if frames is None or frames.header is None:
        return FrameView().fps
    view = frames.header.config.get("config", {}).get("view", {})
    return float(view.get("fps", FrameView().fps))


def _at(frames: Frames, start_s: NDArray[np.floating[Any]], step_s: float) -> Frames:
    """The pictures nearest to these times, without times that have none within a step."""
    apart = np.abs(frames.start_s[None, :] - start_s[:, None])
    near = apart.argmin(axis=1)[apart.min(axis=1) <= step_s]
    return Frames(frames.pixels[near], frames.start_s[near], frames.end_s[near])


def _thumbnails(frames: Frames) -> Iterator[Picture]:
    for pixels, start_s, end_s in zip(frames.pixels, frames.start_s, frames.end_s, strict=True):
        picture = ThumbnailImage(float(start_s), float(end_s), jpeg(pixels, _QUALITY))
        yield Picture(picture.start_s, picture.end_s, picture.uri)


def _spectrogram(sound: Sound) -> Picture:
    """Mel power (M, T) in dB below its peak; long sounds are sampled, at most 1600 columns."""
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
    return Picture(0.0, sound.duration_s, uri)
