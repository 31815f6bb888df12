"""The streams of a data set by role: cached features, memory-mapped.

numpy only. To a model, a video that is EMPTY in a stream and one without an entry there are both
missing; `Stream.holds` distinguishes them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from m2hf.array_types import BoolArray
from m2hf.errors import MismatchError, UsageError
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.features.stream import NoItems, Stream, StreamInfo
from m2hf.fuse.level_table import CAPTIONS, FRAMES
from m2hf.layout import StoreLayout


class FeatureStore:
    """The streams of one dataset by role: frames, captions, audio, ..."""

    def __init__(self, streams: Mapping[str, Stream], query_roles: Sequence[str]) -> None:
        """query_roles: those of `streams` whose items are captions."""
        self._streams = dict(streams)
        self.query_roles = tuple(query_roles)

    @classmethod
    def open(
        cls, root: Path, dataset: str, config: FusionConfig, videos_only: bool = False
    ) -> Self:
        """Open what `config` reads of `dataset` in the store at `root`.

        videos_only: without the captions, whose streams have no items then, in the spaces of what
        they are compared with, and may be missing.

        Raises UsageError for a stream that the store lacks, MismatchError for one that should be
        in a joint space and has another width, or whose items are of the other kind.
        """
        layout = StoreLayout(root, dataset)
        streams: dict[str, Stream] = {}
        for role in config.roles:
            if videos_only and role in config.query_roles:
                continue
            try:
                streams[role] = Stream.open(layout, config.streams[role])
            except UsageError as error:
                raise UsageError(f"{error}{without(role, config)}") from error
        _check_kinds(layout, streams, config)
        for query in dict.fromkeys(config.spaces.values()):
            _check_widths(layout, streams, config, query)
        if videos_only:
            for role in config.query_roles:
                width = streams[config.anchor(role)].info.width
                streams[role] = NoItems(StreamInfo(config.streams[role], "", width))
        for name, level in config.word_levels.items():
            for role in (level.stream, level.query):
                if not streams[role].has_strings:
                    queries = role == level.query
                    advice = "import them with texts" if queries else "read another stream"
                    raise UsageError(
                        f"{layout.folder}: level {name} compares words, and {role}, which are "
                        f"{streams[role].info}, have no strings; {advice}, or disable this level: "
                        f"--set fuse.levels.{name}.enabled=false"
                    )
        return cls(streams, config.query_roles)

    def __getitem__(self, role: str) -> Stream:
        return self._streams[role]

    @property
    def info(self) -> dict[str, StreamInfo]:
        """What artefacts record of each role's stream."""
        return {role: stream.info for role, stream in self._streams.items()}

    @property
    def video_roles(self) -> tuple[str, ...]:
        """Roles whose items are videos: all but the query roles."""
        return tuple(role for role in self._streams if role not in self.query_roles)

    def told(self, ids: Sequence[str]) -> BoolArray:
        """(Q,) which captions have features in every query role."""
        present_RQ = [self[role].present(ids) for role in self.query_roles]
        told_Q: BoolArray = np.logical_and.reduce(present_RQ)
        return told_Q


def _check_kinds(layout: StoreLayout, streams: Mapping[str, Stream], config: FusionConfig) -> None:
    """Raises MismatchError where captions are read as videos, or the reverse."""
    for role, stream in streams.items():
        queries = role in config.query_roles
        if stream.header.of_captions != queries:
            has, wanted = ("videos", "captions") if queries else ("captions", "videos")
            raise MismatchError(
                f"{layout.folder}: {role} are {stream.info}, whose items are {has}, not {wanted}; "
                f"set fuse.streams.{role} to a stream of {wanted}"
            )


def _check_widths(
    layout: StoreLayout, streams: Mapping[str, Stream], config: FusionConfig, query: str
) -> None:
    """Raises MismatchError where the shared roles of a query role's space differ in width."""
    shared = sorted(
        (role for role in config.shared_by(query) if role in streams),
        key=lambda role: role != query,
    )
    for role in shared[1:]:
        one, other = streams[role].info, streams[shared[0]].info
        if one.width != other.width:
            projected = json.dumps(sorted({*config.project, role}))
            raise MismatchError(
                f"{layout.folder}: {role} are {one} and {shared[0]} are {other}, but they must "
                f"be in one space; {_same_encoder(query, config)}, or learn a "
                f"projection: --set 'fuse.project={projected}'"
            )


def _same_encoder(query: str, config: FusionConfig) -> str:
    """What gives streams of one space."""
    if query == CAPTIONS:
        return "extract both with the same CLIP model"
    return f"extract both with the same encoder, give its level another query than {query!r}"


def without(role: str, config: FusionConfig) -> str:
    """End of an error message about `role`: how to disable its level, where that is possible."""
    read = config.active_levels.items()
    levels = [name for name, level in read if role in (level.stream, level.query)]
    if role in (FRAMES, CAPTIONS) or not levels:
        return ""
    return f"; or disable this level: --set fuse.levels.{levels[0]}.enabled=false"
