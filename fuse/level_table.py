"""The levels as a recipe has them: a table of rows with defaults, and the roles of streams.

Reading one needs no torch.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from m2hf.config import Section

FRAMES = "frames"
CAPTIONS = "captions"
LATE_FUSION = "late_fusion"

_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


class Level(Section):
    """One level of M2HF: what of a video the caption query is compared with."""

    stream: str
    """Role of the stream that the level reads: a key of `fuse.streams`."""
    query: str = CAPTIONS
    """Role of the captions that the level compares its stream with: a key of `fuse.streams`. Where
    it is not `captions`, the two have a space of their own, of another encoder; frames, and so
    every early fusion, are compared with `captions`."""
    fusion: Literal["none", "aligned", "append", "add", "concat", "words"] = "none"
    """Early fusion of the frames with the stream. none: the stream alone, which must lie in the
    query's space or be listed in `fuse.project`; aligned: each frame plus what it finds in the
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

    @model_serializer(mode="wrap")
    def _default_query_unsaid(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Checkpoints and similarity files of runs with one query role keep their bytes."""
        stored: dict[str, Any] = fields(self)
        return {k: v for k, v in stored.items() if (k, v) != ("query", CAPTIONS)}


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


def spaces(levels: Mapping[str, Level]) -> dict[str, str]:
    """The query role of each role whose rows are compared with a query's: of frames and captions,
    of the streams of levels without fusion, and of their own queries."""
    alone = [v for v in levels.values() if v.enabled and v.fusion == "none"]
    compared = {FRAMES: CAPTIONS, CAPTIONS: CAPTIONS, **{v.stream: v.query for v in alone}}
    return compared | {v.query: v.query for v in alone}


def check_levels(levels: Mapping[str, Level], streams: Mapping[str, str]) -> None:
    """Raises ValueError for a table that can't be one. streams: stream by role."""
    for name, level in levels.items():
        _check_level(name, level, streams)
    for (name, level), (other, second) in combinations(levels.items(), 2):
        for one, reads, asked in ((name, level, second), (other, second, level)):
            if reads.stream == asked.query:
                raise ValueError(
                    f"level {one!r} reads {reads.stream!r}, which are the queries of level "
                    f"{other if one == name else name!r}; a role is either videos or captions"
                )
        alone = level.fusion == second.fusion == "none"
        if alone and level.stream == second.stream and level.query != second.query:
            raise ValueError(
                f"levels {name!r} and {other!r} compare {level.stream!r} with {level.query!r} and "
                f"with {second.query!r}; give one of them a role of its own in fuse.streams, with "
                "the same stream"
            )


def _check_level(name: str, level: Level, streams: Mapping[str, str]) -> None:
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
    if level.query not in streams:
        raise ValueError(
            f"level {name!r} has query {level.query!r}, which is not in fuse.streams; "
            f"it has {', '.join(streams)}"
        )
    if level.query in (FRAMES, level.stream):
        raise ValueError(f"level {name!r}: its query {level.query!r} is no role of captions")
    scores_frames = level.stream == FRAMES or level.fusion not in ("none", "words")
    if scores_frames and level.query != CAPTIONS:
        raise ValueError(
            f"level {name!r} scores frames, which are compared with {CAPTIONS!r}, not with "
            f"{level.query!r}; leave its query out, or name other captions in "
            f"fuse.streams.{CAPTIONS}"
        )
    if level.stream == FRAMES and level.fusion != "none":
        raise ValueError(f'level {name!r}: frames with themselves; set fusion = "none", or stream')


def check_project(given: Sequence[str], joint: Sequence[str]) -> None:
    """Raises ValueError for a projected role that is not in a joint space."""
    for role in given:
        if role not in joint:
            near = difflib.get_close_matches(role, joint, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"roles that are: {', '.join(joint)}"
            raise ValueError(f"{role!r} is not compared with the captions directly; {hint}")


def _merge(default: dict[str, Any], given: Any) -> Any:
    given = {} if given is None else given
    return {**default, **given} if isinstance(given, Mapping) else given
