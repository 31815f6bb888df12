"""The streams of a data set by role: cached features, memory-mapped.

numpy only. To a model, a video that is EMPTY in a stream and one without an entry there are both
missing; `Stream.holds` distinguishes them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from m2hf.errors import MismatchError, UsageError
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.features.stream import NoItems, Stream, StreamInfo
from m2hf.fuse.level_table import CAPTIONS, FRAMES
from m2hf.layout import StoreLayout


class FeatureStore:
    """The streams of one dataset by role: frames, captions, audio, ..."""

    def __init__(self, streams: Mapping[str, Stream]) -> None:
        self._streams = dict(streams)

    @classmethod
    def open(
        cls, root: Path, dataset: str, config: FusionConfig, videos_only: bool = False
    ) -> Self:
        """Open what `config` reads of `dataset` in the store at `root`.

        videos_only: without the captions, whose stream has no items then, in the space of the
        frames, and may be missing.

        Raises UsageError for a stream that the store lacks, MismatchError for one that should be
        in the joint space and has another width.
        """
        layout = StoreLayout(root, dataset)
        streams: dict[str, Stream] = {}
        for role in config.roles:
            if videos_only and role == CAPTIONS:
                continue
            try:
                streams[role] = Stream.open(layout, config.streams[role])
            except UsageError as error:
                raise UsageError(f"{error}{without(role, config)}") from error
        if videos_only:
            width = streams[FRAMES].info.width
            streams[CAPTIONS] = NoItems(StreamInfo(config.streams[CAPTIONS], "", width))
        first = FRAMES if videos_only else CAPTIONS
        shared = sorted(config.shared_roles, key=lambda role: role != first)
        for role in shared[1:]:
            one, other = streams[role].info, streams[shared[0]].info
            if one.width != other.width:
                projected = json.dumps(sorted({*config.project, role}))
                raise MismatchError(
                    f"{layout.folder}: {role} are {one} and {shared[0]} are {other}, but they must "
                    "be in one space; extract both with the same CLIP model, or learn a "
                    f"projection: --set 'fuse.project={projected}'"
                )
        for name, level in config.word_levels.items():
            for role in (level.stream, CAPTIONS):
                if not streams[role].has_strings:
                    advice = "import them with texts" if role == CAPTIONS else "read another stream"
                    raise UsageError(
                        f"{layout.folder}: level {name} compares words, and {role}, which are "
                        f"{streams[role].info}, have no strings; {advice}, or disable this level: "
                        f"--set fuse.levels.{name}.enabled=false"
                    )
        return cls(streams)

    def __getitem__(self, role: str) -> Stream:
        return self._streams[role]

    @property
    def info(self) -> dict[str, StreamInfo]:
        """What artefacts record of each role's stream."""
        return {role: stream.info for role, stream in self._streams.items()}

    @property
    def video_roles(self) -> tuple[str, ...]:
        """Roles whose items are videos: all but the captions."""
        return tuple(role for role in self._streams if role != CAPTIONS)


def without(role: str, config: FusionConfig) -> str:
    """End of an error message about `role`: how to disable its level, where that is possible."""
    levels = [name for name, level in config.active_levels.items() if level.stream == role]
    if role in config.joint_roles[:2] or not levels:
        return ""
    return f"; or disable this level: --set fuse.levels.{levels[0]}.enabled=false"
