"""A folder of features computed elsewhere, and the config that it is trained with.

    FOLDER/captions.npz             or captions.h5: sentence vectors, as of `m2hf import`
    FOLDER/NAME.h5, FOLDER/NAME/    a stream of video features: one HDF5 file, or .npy or .npz files
    FOLDER/**/card.toml             the folder of a manifest; several are folds of the same data

Everything else is ignored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from m2hf.config import parse, read_recipe
from m2hf.errors import UsageError
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.level_table import DEFAULT_LEVELS, DEFAULT_STREAMS, FRAMES

_HDF5 = (".h5", ".hdf5")
_ARRAYS = (".npy", ".npz")

_LIKELY = (FRAMES, DEFAULT_STREAMS[FRAMES])  # names of a stream of frames
_FUSED = DEFAULT_LEVELS["audio_visual"].fusion  # of levels that m2hf has no default for
_OTHERWISE = {level.stream for level in DEFAULT_LEVELS.values()} - {FRAMES}


@dataclass(frozen=True)
class FeatureFolder:
    """manifests: one, or one for each fold; streams: path by name; captions: file of sentence
    vectors; frames: the stream that every video is expected to have."""

    manifests: tuple[Path, ...]
    streams: Mapping[str, Path]
    captions: Path
    frames: str

    @classmethod
    def of(cls, root: Path, frames: str = "") -> Self:
        """What `root` holds; frames: the name of the stream of frames, "" for the one of `_LIKELY`,
        or else the first that no default level reads as something else. Raises UsageError where a
        part is missing."""
        if not root.is_dir():
            raise UsageError(f"--data {root}: no such folder")
        manifests = tuple(sorted(card.parent for card in root.rglob("card.toml")))
        if not manifests:
            raise UsageError(f"--data {root}: no manifest (a folder with card.toml) in it")
        captions = [path for path in _visible(root) if _is_captions(path)]
        if len(captions) != 1:
            found = " and ".join(path.name for path in captions) or "neither"
            raise UsageError(f"--data {root}: expected captions.npz or captions.h5, found {found}")
        streams = {path.stem: path for path in _visible(root) if _is_stream(path)}
        if not streams:
            raise UsageError(
                f"--data {root}: no stream in it; expected NAME.h5, or a folder of .npy or .npz"
            )
        if frames and frames not in streams:
            raise UsageError(f"--frames {frames}: no such stream; there are {', '.join(streams)}")
        by_likelihood = sorted(streams, key=lambda name: (name not in _LIKELY, name in _OTHERWISE))
        frames = frames or by_likelihood[0]
        return cls(manifests, streams, captions[0], frames)

    def config(self, seed: int, shared: Sequence[str], more: Sequence[str]) -> FusionConfig:
        """The default recipe on these streams: its own level where it has one that reads a stream
        of this name, else one that fuses the frames with the stream.

        shared: streams in the space of the captions; others that are compared with them are
        projected; more: overrides, as of `m2hf train --set`. Raises UsageError for a stream that
        is not there, ConfigError for a bad override.
        """
        for name in shared:
            if name not in self.streams:
                raise UsageError(
                    f"--shared {name}: no such stream; there are {', '.join(self.streams)}"
                )
        others = [name for name in self.streams if name != self.frames]
        levels = {level.stream: name for name, level in DEFAULT_LEVELS.items()}
        overrides = [f"fuse.train.seed={seed}", f"fuse.streams.{FRAMES}={self.frames}"]
        for role, level in levels.items():
            if role not in (FRAMES, *others):
                overrides.append(f"fuse.levels.{level}.enabled=false")
        for name in others:
            overrides.append(f"fuse.streams.{name}={name}")
            if name not in DEFAULT_STREAMS:
                overrides.append(f"fuse.levels.{name}_visual.stream={name}")
                overrides.append(f"fuse.levels.{name}_visual.fusion={_FUSED}")
        alone = [name for name in others if _is_compared(levels.get(name))]
        project = [FRAMES, *alone] if self.frames not in shared else alone
        listed = ", ".join(f'"{role}"' for role in project if role not in shared)
        overrides.append(f"fuse.project=[{listed}]")
        return parse(FusionConfig, read_recipe(None, [*overrides, *more])["fuse"])


def _is_compared(level: str | None) -> bool:
    return level is not None and DEFAULT_LEVELS[level].fusion == "none"


def _visible(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if not path.name.startswith("."))


def _is_captions(path: Path) -> bool:
    return path.stem == "captions" and path.suffix in (*_HDF5, ".npz")


def _is_stream(path: Path) -> bool:
    if path.is_dir():
        return any(file.suffix in _ARRAYS for file in path.iterdir())
    return path.suffix in _HDF5 and not _is_captions(path)
