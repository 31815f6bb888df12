"""ffmpeg's outputs for one clip: frames of a view, sound at a rate, and the times of the packets.

Each has a filter graph of its own. ffmpeg builds a graph anew when the size, format or sample rate
changes within a file; in a graph that outputs share, one stream's change would disturb the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from m2hf.errors import MediaError
from m2hf.extract.media.views import FrameView
from m2hf.ffmpeg import has_filter

CLOCK_HZ = 705_600_000  # ticks per second that all usual frame and sample rates divide
EDGE_S = 1e-6  # times that differ by less are equal
_JUMP_S = 1.0  # frames come in the order of their times, but for less than this
# The mono mix is scaled to at most 1, as for integers: by default ffmpeg adds float channels up.
_MONO = {"ochl": "mono", "osf": "flt", "rematrix_maxval": 1.0}
_SDR_WHITE = 100  # cd/m2 of SDR video's white (ITU-R BT.1886)
_HDR_PEAK = 1000  # cd/m2 that most HDR video reaches


@dataclass(frozen=True)
class Span:
    """The part of a file to read, and where reading begins and ends; in seconds of the file.

    start_s, end_s: of the part, None for the end of the file; seek_s: where reading begins, or
    rather at the key frame before; read_to_s: where it ends, None for the end of the file; lead_s:
    how long before the part frames are wanted, since the first on the screen may be older than it.
    """

    start_s: float = 0.0
    end_s: float | None = None
    seek_s: float = 0.0
    read_to_s: float | None = None
    lead_s: float = float("inf")

    @property
    def length_s(self) -> float | None:
        return None if self.end_s is None else self.end_s - self.start_s


def frames(stream: Any, view: FrameView, span: Span, transfer: str, pipes: tuple[int, int]) -> Any:
    """The first frame of each 1/fps seconds, at its own time, with square pixels.

    Where the part doesn't begin at time 0, also the frames before it, `span.lead_s` long. Also
    each frame whose time is far before that of the frame before it, so that it is seen.
    transfer: "" or that of an HDR video. pipes: for the pixels, and for the times (framecrc).
    Raises MediaError where a filter that HDR needs is missing.
    """
    cell = f"floor({{}}*{view.fps!r}+{EDGE_S})"
    wanted = f"isnan(prev_t)+gt({cell.format('t')},{cell.format('prev_t')})"
    if span.start_s > 0:
        lead = f"gte(t,{-span.lead_s!r})" if span.lead_s != float("inf") else "1"
        wanted = f"if(lte(t,{EDGE_S}),{lead},{wanted})"
    wanted = f"{wanted}+lt(t,prev_t-{_JUMP_S})"
    filters = [f"settb=1/{CLOCK_HZ}"]
    if span.start_s > 0:
        filters.append(f"setpts=PTS-{span.start_s!r}/TB")
    if span.length_s is not None:  # ends the output, where select would read on
        filters.append(f"trim=end={span.length_s - EDGE_S!r}")
    filters += [f"select='{wanted}'", _scale(view), "setsar=1"]
    filters += _tone_mapping(transfer)
    filters.append(f"format={'gray' if view.gray else 'rgb24'}")
    return stream.output(
        _tee("rawvideo", pipes),
        vf=",".join(filters),
        format="tee",
        vcodec="rawvideo",
        fps_mode="passthrough",
        enc_time_base=f"1:{CLOCK_HZ}",
    )


def sound(stream: Any, rate: int, span: Span, left: bool, pipes: tuple[int, int]) -> Any:
    """Mono samples at `rate`, float32; left: of the first channel alone, in place of the mix."""
    filters = []
    if span.start_s > 0:
        filters.append(f"asetpts=PTS-{span.start_s!r}/TB")
    if span.start_s > 0 or span.length_s is not None:
        end = "" if span.length_s is None else f":end={span.length_s!r}"
        filters.append(f"atrim=start=0{end}")
    if left:
        filters.append("pan=mono|c0=c0")
    options = ":".join(f"{name}={value}" for name, value in _MONO.items())
    filters.append(f"aresample={rate}:{options}")
    return stream.output(
        _tee("f32le", pipes), af=",".join(filters), format="tee", acodec="pcm_f32le"
    )


def packets(streams: Sequence[Any], span: Span, pipe: int) -> Any:
    """Times of the packets of some streams, in this order, which are not decoded for it."""
    import ffmpeg

    # Not as an option of the input, where it would count from the key frame before the part.
    end = {} if span.read_to_s is None else {"t": span.read_to_s}
    return ffmpeg.output(
        *streams, f"pipe:{pipe}", format="framecrc", codec="copy", copyinkf=None, **end
    )


def _tee(muxer: str, pipes: tuple[int, int]) -> str:
    data, times = pipes
    return f"[f={muxer}]pipe\\:{data}|[f=framecrc]pipe\\:{times}"


def _scale(view: FrameView) -> str:
    if view.size is not None:
        width, height = view.size
        return f"scale={width}:{height}:flags=area"
    shrink = f"min(1,{view.max_side}/max(iw*sar,ih))"
    return (
        f"scale='max(2,round(iw*sar*{shrink}))':'max(2,round(ih*{shrink}))'"
        ":flags=bicubic+accurate_rnd+full_chroma_int"
    )


def _tone_mapping(transfer: str) -> list[str]:
    """Filters from HDR (BT.2020, PQ or HLG) to SDR (BT.709). Levels up to half of SDR's white stay,
    those from there to the peak of HDR are compressed into the other half (our choice)."""
    if not transfer:
        return []
    if not (has_filter("zscale") and has_filter("tonemap")):
        raise MediaError(
            f"HDR video ({transfer}): this ffmpeg lacks the filters zscale and tonemap; "
            "use one with libzimg, such as that of the imageio-ffmpeg package"
        )
    return [
        "format=yuv444p10le",
        f"zscale=tin={transfer}:min=bt2020nc:pin=bt2020:t=linear:npl={_SDR_WHITE}",
        "format=gbrpf32le",
        "zscale=p=bt709",
        f"tonemap=mobius:param=0.5:desat=0:peak={_HDR_PEAK / _SDR_WHITE:g}",
        "zscale=t=bt709:m=gbr:r=pc",
        "format=gbrp",
    ]
