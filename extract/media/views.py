"""What to decode of a clip: views of its frames, and limits on what one file may cost."""

from typing import Annotated

from pydantic import AfterValidator, Field

from m2hf.config import Section


class FrameView(Section):
    """Which pictures of a clip to have: the first frame in each 1/fps seconds of stream time.

    max_side bounds the longer side and never enlarges; `size` (width, height) is exact instead.
    """

    fps: float = 1.0
    max_side: int = 640
    size: tuple[int, int] | None = None
    gray: bool = False

    @property
    def channels(self) -> int:
        return 1 if self.gray else 3


def _coloured(view: FrameView) -> FrameView:
    if view.gray:
        raise ValueError("this extractor reads colours; leave `gray` out")
    return view


def _gray(view: FrameView) -> FrameView:
    if not view.gray:
        raise ValueError("this extractor reads grey pictures; leave `gray` out")
    return view


ColourView = Annotated[FrameView, AfterValidator(_coloured)]
GrayView = Annotated[FrameView, AfterValidator(_gray)]


class MediaLimits(Section):
    """What a single file may cost; each limit is an error that says it.

    max_output_mb: of decoded data, for the default extractors enough for three hours. memory_mb:
    what of it stays in memory; beyond it is in temporary files in spool_folder ("": TMPDIR).
    """

    max_pixels: int = 7680 * 4320
    max_duration_s: float = 4 * 3600.0
    max_output_mb: int = 32768
    memory_mb: int = Field(default=512, ge=0)
    spool_folder: str = ""
    timeout_s: float = 3600.0
