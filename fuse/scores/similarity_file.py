"""The similarity file: every score of a split and what each traces back to, in one HDF5 file.

It is all that tables read. Equal inputs give equal bytes: no clocks, no hosts, no paths. Written
block by block and read by mapping, its matrices need never be in memory.

    query_id (Q,), video_id (V,)      UTF-8, fixed width
    video_of_query (Q,)               int64 index of each query's own video
    scores/<level> (Q, V)             float32; -1 where a video is out of the level
    scores/late_fusion (Q, V)         float32; videos that no level knows lie below all others
    masks/<level> (V,)                bool: whether the level says anything of the video
    present/<role> (V,)               bool: whether the video has features of this stream
    bank/<level or late_fusion> (B, V)   float32, optional: a querybank, training queries against
                                      these videos, scored and fused alike

Root attributes: schema, version, dataset, benchmark, split, manifest, checkpoint, trained_on
as text; levels, roles, streams, config, flags, missing, declared as JSON.

What is in the file follows from the shards, the captions and the config, and it holds their
digests; so the sha256 of the file is the digest of all that its numbers were made from.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from m2hf.array_types import BoolArray, IntArray
from m2hf.atomic import atomic_write
from m2hf.errors import UsageError
from m2hf.fuse.config import LATE_FUSION
from m2hf.hdf5 import check_schema, fixed_strings, map_dataset, read_strings
from m2hf.keys import canonical_json

SCHEMA = "m2hf.similarity"
VERSION = 2
FILE_NAME = "similarity.h5"

_TEXT = ("dataset", "benchmark", "split", "manifest", "checkpoint", "trained_on")
_JSON = ("streams", "config", "flags", "missing", "declared")
_ROWS = 256  # of a matrix, checked at a time


@dataclass(frozen=True, eq=False)
class SimilarityHeader:
    """What the file holds beside scores and masks, and all that is known before scoring.

    present: by role of a stream of videos. manifest, checkpoint: sha256; trained_on: name of the
    training dataset; streams: by role {stream, fingerprint, digest of the items used, shards:
    sha256 of all files of the stream, extractor, config, weights: name -> sha256}; config: the
    resolved fusion config; flags: by role; missing: by role, how many videos (or queries) have
    no features; declared: how many videos and captions the dataset's card says the split has,
    or nothing.

    Raises ValueError for arrays that don't fit together.
    """

    dataset: str
    benchmark: str
    split: str
    manifest: str
    checkpoint: str
    trained_on: str
    streams: Mapping[str, Mapping[str, Any]]
    config: Mapping[str, Any]
    flags: Mapping[str, Sequence[str]]
    missing: Mapping[str, int]
    declared: Mapping[str, int]
    query_ids: tuple[str, ...]
    video_ids: tuple[str, ...]
    video_of_query: IntArray
    present: Mapping[str, BoolArray]

    def __post_init__(self) -> None:
        q, v = len(self.query_ids), len(self.video_ids)
        if self.video_of_query.shape != (q,):
            raise ValueError(f"video_of_query: expected ({q},), got {self.video_of_query.shape}")
        if q and not 0 <= self.video_of_query.min() <= self.video_of_query.max() < v:
            raise ValueError(f"video_of_query: a query names a video outside 0..{v - 1}")
        self._check_masks("present", self.present)

    @contextmanager
    def draft(
        self, path: Path, levels: Sequence[str], banks: Mapping[str, int]
    ) -> Iterator["SimilarityDraft"]:
        """A file to be filled with the scores of these levels, which takes its place at `path`
        at the end, after it was read back; a failure leaves there what was there.

        banks: number of queries by level, where there is a querybank.
        """
        q, v = len(self.query_ids), len(self.video_ids)
        shapes = {f"scores/{name}": (q, v) for name in [*levels, LATE_FUSION]}
        shapes |= {f"bank/{name}": (rows, v) for name, rows in banks.items()}
        with (
            atomic_write(path, verify=_verify) as temporary,
            h5py.File(temporary, "w") as file,
        ):
            file.attrs["schema"] = SCHEMA
            file.attrs["version"] = VERSION
            for name in _TEXT:
                file.attrs[name] = getattr(self, name)
            for name in _JSON:
                file.attrs[name] = canonical_json(getattr(self, name))
            file.attrs["levels"] = canonical_json(list(levels))
            file.attrs["roles"] = canonical_json(list(self.present))
            file["query_id"] = fixed_strings(self.query_ids)
            file["video_id"] = fixed_strings(self.video_ids)
            file["video_of_query"] = self.video_of_query.astype("<i8")
            for name, mask in self.present.items():
                file[f"present/{name}"] = mask
            for name in levels:
                file[f"masks/{name}"] = np.zeros(v, dtype=np.bool_)
            # Room is given now, so that bytes don't depend on the order in which it is filled.
            early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            for name, shape in shapes.items():
                file.create_dataset(name, shape, "<f4", dcpl=early)
            yield SimilarityDraft(file)

    def _check_masks(self, group: str, masks: Mapping[str, BoolArray]) -> None:
        for name, mask in masks.items():
            if mask.shape != (len(self.video_ids),):
                expected = f"({len(self.video_ids)},)"
                raise ValueError(f"{group}/{name}: expected {expected}, got {mask.shape}")


@dataclass(frozen=True, eq=False)
class SimilarityDraft:
    """A similarity file whose matrices take blocks and give rows, as arrays do, on disk."""

    file: h5py.File

    def scores(self, name: str) -> Any:
        """(Q, V) of a level, or of late_fusion."""
        return self.file[f"scores/{name}"]

    def bank(self, name: str) -> Any:
        """(B, V) of a level, or of late_fusion."""
        return self.file[f"bank/{name}"]

    def write_mask(self, level: str, mask_V: BoolArray) -> None:
        """Which videos the level says something of."""
        self.file[f"masks/{level}"][:] = mask_V


@dataclass(frozen=True, eq=False)
class SimilarityFile(SimilarityHeader):
    """All that the file holds.

    scores: by level in the order of the table, then late_fusion; masks: by level; bank: by
    level, where there is a querybank.

    Raises ValueError for arrays that don't fit together and for a score that is NaN.
    """

    scores: Mapping[str, NDArray[np.float32]]
    masks: Mapping[str, BoolArray]
    bank: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        q, v = len(self.query_ids), len(self.video_ids)
        if list(self.scores) != [*self.masks, LATE_FUSION]:
            raise ValueError(f"scores of {list(self.scores)} but masks of {list(self.masks)}")
        for name, matrix in self.scores.items():
            if matrix.shape != (q, v):
                raise ValueError(f"scores/{name}: expected ({q}, {v}), got {matrix.shape}")
            _check_no_nan(f"scores/{name}", matrix)
        self._check_masks("masks", self.masks)
        for name, matrix in self.bank.items():
            if name not in self.scores:
                raise ValueError(f"bank/{name}: a bank for scores that are not there")
            if matrix.ndim != 2 or matrix.shape[1] != v:
                raise ValueError(f"bank/{name}: expected (B, {v}), got {matrix.shape}")
            _check_no_nan(f"bank/{name}", matrix)

    @property
    def known_V(self) -> BoolArray:
        """(V,) videos that any level knows."""
        known_V: BoolArray = np.any(list(self.masks.values()), axis=0)
        return known_V

    def write(self, path: Path) -> None:
        """Write atomically; the file counts only after it was read back."""
        banks = {name: len(matrix) for name, matrix in self.bank.items()}
        with self.draft(path, list(self.masks), banks) as draft:
            for name, matrix in self.scores.items():
                draft.scores(name)[:] = matrix
            for name, matrix in self.bank.items():
                draft.bank(name)[:] = matrix
            for name, mask in self.masks.items():
                draft.write_mask(name, mask)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Matrices are mapped, not loaded. Raises UsageError for a file that is missing or
        damaged, SchemaError for one that is no similarity file or of another version."""
        if not path.is_file():
            raise UsageError(f"{path}: no such file; `m2hf eval` writes RUN/{FILE_NAME}")
        try:
            with h5py.File(path, "r") as file:
                check_schema(path, file, SCHEMA, VERSION, "run `m2hf eval` again")
                levels, roles = (json.loads(file.attrs[name]) for name in ("levels", "roles"))
                banks = [name for name in [*levels, LATE_FUSION] if f"bank/{name}" in file]
                about: dict[str, Any] = {name: str(file.attrs[name]) for name in _TEXT}
                about |= {name: json.loads(file.attrs[name]) for name in _JSON}
                return cls(
                    **about,
                    query_ids=read_strings(file["query_id"]),
                    video_ids=read_strings(file["video_id"]),
                    video_of_query=file["video_of_query"][:],
                    scores={
                        name: map_dataset(path, file[f"scores/{name}"])
                        for name in [*levels, LATE_FUSION]
                    },
                    masks={name: file[f"masks/{name}"][:] for name in levels},
                    present={name: file[f"present/{name}"][:] for name in roles},
                    bank={name: map_dataset(path, file[f"bank/{name}"]) for name in banks},
                )
        except (OSError, KeyError, ValueError) as error:
            raise UsageError(
                f"{path}: damaged similarity file ({error}); run `m2hf eval` again"
            ) from error


def _check_no_nan(name: str, matrix: NDArray[np.float32]) -> None:
    for start in range(0, len(matrix), _ROWS):
        nan = np.isnan(matrix[start : start + _ROWS])
        if nan.any():
            row, column = np.argwhere(nan)[0]
            raise ValueError(f"{name}: row {start + row}, column {column} is NaN")


def _verify(path: Path) -> None:
    SimilarityFile.read(path)
