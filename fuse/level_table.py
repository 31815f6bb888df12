"""The levels as a recipe has them: a table of rows with defaults, and the roles of streams.

Reading one needs no torch.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from m2hf.config import Section

FRAMES = "frames"
CAPTIONS = "captions"
LATE_FUSION = "late_fusion"

_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


class Level(Section):
    """One level of M2HF: what of a video the caption query is compared with."""

    stream: str
    """Role of the stream that the level reads: a key of `fuse.streams`."""
    fusion: Literal["none", "aligned", "append", "add", "concat", "words"] = "none"
    """Early fusion of the frames with the stream. none: the stream alone, which must lie in the
    captions' space or be listed in `fuse.project`; aligned: each frame plus what it finds in the
    stream by cross-attention, plus the pooled stream and a network over the frame and the stream at
    its time; add: cross-attention alone; append: what the frames find, as further tokens; concat:
    baseline, each frame joined with the pooled stream and projected. words: no vectors and nothing
    trained, BM25 of the caption's words and the stream's strings. Our reading."""
    enabled: bool = True
    """Whether the level is part of the model."""
    weight: float = Field(default=1.0, gt=0, le=1e6)
    """In zero-shot fusion, which is the sum over levels of weight x (cosine - `centre`); unused
    where the fusion is trained."""
    centre: float = Field(default=0.0, ge=-1, le=1)
    """In zero-shot fusion, the cosine that a video without the level counts as: that of a caption
    and a video that don't match."""


DEFAULT_STREAMS = {
    FRAMES: "clip",
    CAPTIONS: "caption",
    "audio": "audio",
    "motion": "motion",
    "text": "text",
}
DEFAULT_LEVELS = {
    "visual": Level(stream=FRAMES),
    "audio_visual": Level(stream="audio", fusion="aligned"),
    "motion_visual": Level(stream="motion", fusion="aligned"),
    "text": Level(stream="text"),
}
# A word that few videos have adds about 2 to BM25; the cosines of videos differ by about 0.1.
OPTIONAL_LEVELS = {"words": Level(stream="text", fusion="words", enabled=False, weight=0.1)}


def over_default_levels(given: Mapping[str, Any]) -> dict[str, Any]:
    """The default levels with what a recipe changes of them, then its own, sorted: the order of
    levels doesn't depend on that in the TOML file."""
    known = {n: v.model_dump() for n, v in (DEFAULT_LEVELS | OPTIONAL_LEVELS).items()}
    merged: dict[str, Any] = {name: _merge(row, given.get(name)) for name, row in known.items()}
    merged.update((name, given[name]) for name in sorted(set(given) - set(merged)))
    return merged


def joint_roles(levels: Mapping[str, Level]) -> tuple[str, ...]:
    """Roles whose rows are compared with the query: frames, captions, and levels without fusion."""
    alone = [v.stream for v in levels.values() if v.enabled and v.fusion == "none"]
    return tuple(dict.fromkeys([FRAMES, CAPTIONS, *alone]))


def check_level(name: str, level: Level, streams: Mapping[str, str]) -> None:
    """Raises ValueError for a row that can't be one. streams: stream by role."""
    if not _NAME.match(name) or name == LATE_FUSION:
        raise ValueError(
            f"level {name!r}: a name is lower-case letters, digits and _, and not {LATE_FUSION!r}"
        )
    if level.stream not in streams:
        raise ValueError(
            f"level {name!r} reads stream {level.stream!r}, which is not in fuse.streams; "
            f"it has {', '.join(streams)}"
        )
    if level.stream == CAPTIONS:
        raise ValueError(f"level {name!r} reads the captions, which are the queries")
    if level.stream == FRAMES and level.fusion != "none":
        raise ValueError(f'level {name!r}: frames with themselves; set fusion = "none", or stream')


def _merge(default: dict[str, Any], given: Any) -> Any:
    given = {} if given is None else given
    return {**default, **given} if isinstance(given, Mapping) else given
