"""Settings of the decoder: views of the frames, and limits on one file."""

from typing import Annotated

from pydantic import AfterValidator, Field

from m2hf.config import Section


class FrameView(Section):
    """Which frames of a clip to decode, and to which size."""

    fps: float = Field(default=1.0, gt=0.0, le=1000.0)
    """Frames per second: the first frame in each 1/fps seconds of the stream, at its own time."""

    max_side: int = Field(default=640, ge=2, le=1 << 14)
    """Longer side in pixels; larger frames are shrunk, smaller ones are not enlarged."""

    size: tuple[int, int] | None = None
    """Exact width and height in pixels, in place of `max_side`; the aspect ratio is not kept."""

    gray: bool = False
    """Whether to decode to grey levels instead of RGB."""

    @property
    def channels(self) -> int:
        return 1 if self.gray else 3


def _coloured(view: FrameView) -> FrameView:
    if view.gray:
        raise ValueError("this extractor reads RGB frames; gray must be false")
    return view


def _gray(view: FrameView) -> FrameView:
    if not view.gray:
        raise ValueError("this extractor reads grey frames; gray must be true")
    return view


ColourView = Annotated[FrameView, AfterValidator(_coloured)]
GrayView = Annotated[FrameView, AfterValidator(_gray)]


class MediaLimits(Section):
    """Limits on one file. A file over one of them is a MediaError that names the limit; only
    `memory_mb` is no error."""

    follow_links: bool = False
    """Whether to follow symbolic links that lead out of the media root. A media root that is a link
    itself, and links within it, are followed in any case."""

    max_pixels: int = 7680 * 4320
    """Most pixels of a frame in the file, width times height; the default is 8K UHD."""

    max_duration_s: float = 4 * 3600.0
    """Longest duration of a clip, in seconds."""

    max_gap_s: float = 3600.0
    """Longest time in a clip without a new frame, or without sound, in seconds; beyond it, its time
    stamps count as damaged."""

    max_output_mb: int = 32768
    """Most decoded data of a clip, in MiB; the default is enough for three hours of the default
    extractors' views."""

    memory_mb: int = Field(default=512, ge=0)
    """Most decoded data of a clip to keep in memory, in MiB; the rest is in temporary files."""

    spool_folder: str = ""
    """Folder of the temporary files; "" is the system's (TMPDIR)."""

    timeout_s: float = 3600.0
    """Most seconds that decoding a clip may take."""
