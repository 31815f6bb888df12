"""The similarity file: every score of a split and what each traces back to, in one HDF5 file.

Tables read nothing else. Equal inputs give equal bytes: no clocks, no hosts, no paths. Matrices are
written block by block and mapped to be read, so that they need not fit into memory.

    query_id (Q,), video_id (V,)      UTF-8, fixed width
    video_of_query (Q,)               int64 index of each query's own video
    scores/<level> (Q, V)             float32; -1 where a video is not valid in the level
    scores/late_fusion (Q, V)         float32; videos valid in no level are below all others
    masks/<level> (V,)                bool: whether the video is valid in the level
    present/<role> (V,)               bool: whether the video has features of this stream
    bank/<level or late_fusion> (B, V)   float32, optional: a querybank, training queries against
                                      these videos, scored and fused in the same way
    baselines/<name> (Q, V)           float32, optional, as scores/<level>, of a baseline
                                      (m2hf.fuse.scores.baselines); attributes val_recall,
                                      where there is a validation part, and, of ridge, strength
    baseline_masks/<name> (V,)        bool, as masks/<level>

Root attributes: schema, version, dataset, benchmark, split, manifest, checkpoint, trained_on
as text; levels, roles, streams, config, flags, missing, declared as JSON; baselines, the names,
as JSON where there are some. The first line is a seal over all bytes (`m2hf/seal.py`), which files
of version 2 don't have.

The content follows from the shards, the captions and the config, whose digests are in it; so the
sha256 of the file identifies all that its numbers were made from.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from m2hf.array_types import BoolArray
from m2hf.atomic import atomic_write
from m2hf.errors import UsageError
from m2hf.fuse.level_table import LATE_FUSION
from m2hf.fuse.scores.similarity_header import SimilarityHeader, read_header_fields
from m2hf.hdf5 import Hdf5Reader
from m2hf.keys import canonical_json
from m2hf.seal import SIZE, write_seal

SCHEMA = "m2hf.similarity"
VERSION = 3
MISSING_SCORE = -1.0  # of a video that is not valid in a level: the lowest cosine

_ROWS = 256  # of a matrix, checked at a time


@dataclass(frozen=True, eq=False)
class Baseline:
    """Scores of a baseline: scores (Q, V) float32 in [-1, 1], -1 where video or query is missing;
    valid (V,) bool; strength: of ridge regression, None for zero-shot; val_recall: T2V R@1 in
    percent on the validation part, None without one."""

    scores_QV: NDArray[np.float32]
    valid_V: BoolArray
    strength: float | None
    val_recall: float | None


@dataclass(frozen=True, eq=False)
class SimilarityDraft:
    """A similarity file being written; its matrices are datasets, written by blocks."""

    file: h5py.File

    @classmethod
    @contextmanager
    def open(
        cls,
        path: Path,
        header: SimilarityHeader,
        levels: Sequence[str],
        banks: Mapping[str, int],
        baselines: Sequence[str] = (),
    ) -> Iterator["SimilarityDraft"]:
        """A file to fill with the scores of these levels; at the end it is sealed, read back and
        moved to `path`. After a failure an earlier file at `path` is unchanged.

        banks: number of queries by level, where there is a querybank; baselines: names.
        """
        q, v = len(header.query_ids), len(header.video_ids)
        shapes = {f"scores/{name}": (q, v) for name in [*levels, LATE_FUSION]}
        shapes |= {f"bank/{name}": (rows, v) for name, rows in banks.items()}
        shapes |= {f"baselines/{name}": (q, v) for name in baselines}
        with atomic_write(path, verify=_verify) as temporary:
            with h5py.File(temporary, "w", userblock_size=SIZE) as file:
                file.attrs["schema"] = SCHEMA
                file.attrs["version"] = VERSION
                file.attrs["levels"] = canonical_json(list(levels))
                if baselines:
                    file.attrs["baselines"] = canonical_json(list(baselines))
                header.write_header(file)
                for name in levels:
                    file[f"masks/{name}"] = np.zeros(v, dtype=np.bool_)
                # Space is allocated now, so that bytes don't depend on the order of writing.
                early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                for name, shape in shapes.items():
                    file.create_dataset(name, shape, "<f4", dcpl=early)
                yield cls(file)
            write_seal(temporary)

    def scores(self, name: str) -> Any:
        """(Q, V) of a level, or of late_fusion."""
        return self.file[f"scores/{name}"]

    def bank(self, name: str) -> Any:
        """(B, V) of a level, or of late_fusion."""
        return self.file[f"bank/{name}"]

    def write_baseline(self, name: str, baseline: Baseline) -> None:
        """The scores of a baseline that the draft was opened with."""
        dataset = self.file[f"baselines/{name}"]
        dataset[:] = baseline.scores_QV
        if baseline.val_recall is not None:
            dataset.attrs["val_recall"] = baseline.val_recall
        if baseline.strength is not None:
            dataset.attrs["strength"] = baseline.strength
        self.file[f"baseline_masks/{name}"] = baseline.valid_V

    def write_mask(self, level: str, mask_V: BoolArray) -> None:
        """Write which videos are valid in the level, (V,) bool."""
        self.file[f"masks/{level}"][:] = mask_V


@dataclass(frozen=True, eq=False)
class SimilarityFile(SimilarityHeader):
    """All that the file holds.

    scores: by level in the order of the table, then late_fusion; masks: by level; bank: by
    level, where there is a querybank; baselines: by name, where they were computed.

    Raises ValueError for arrays that don't fit together and for a score that is NaN.
    """

    scores: Mapping[str, NDArray[np.float32]]
    masks: Mapping[str, BoolArray]
    bank: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    baselines: Mapping[str, Baseline] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        q, v = len(self.query_ids), len(self.video_ids)
        if list(self.scores) != [*self.masks, LATE_FUSION]:
            raise ValueError(f"scores of {list(self.scores)} but masks of {list(self.masks)}")
        for name, matrix in self.scores.items():
            if matrix.shape != (q, v):
                raise ValueError(f"scores/{name}: expected ({q}, {v}), got {matrix.shape}")
            _check_no_nan(f"scores/{name}", matrix)
        self.check_masks("masks", self.masks)
        for name, matrix in self.bank.items():
            if name not in self.scores:
                raise ValueError(f"bank/{name}: a querybank without scores of that name")
            if matrix.ndim != 2 or matrix.shape[1] != v:
                raise ValueError(f"bank/{name}: expected (B, {v}), got {matrix.shape}")
            _check_no_nan(f"bank/{name}", matrix)
        for name, baseline in self.baselines.items():
            if baseline.scores_QV.shape != (q, v):
                raise ValueError(f"baselines/{name}: expected ({q}, {v})")
            _check_no_nan(f"baselines/{name}", baseline.scores_QV)
        self.check_masks("baseline_masks", {n: b.valid_V for n, b in self.baselines.items()})

    @property
    def covered_V(self) -> BoolArray:
        """(V,) videos that are valid in at least one level."""
        covered_V: BoolArray = np.any(list(self.masks.values()), axis=0)
        return covered_V

    def write(self, path: Path) -> None:
        """Write atomically; the file is read back before it is moved into place."""
        banks = {name: len(matrix) for name, matrix in self.bank.items()}
        levels, baselines = list(self.masks), list(self.baselines)
        with SimilarityDraft.open(path, self, levels, banks, baselines) as draft:
            for name, matrix in self.scores.items():
                draft.scores(name)[:] = matrix
            for name, matrix in self.bank.items():
                draft.bank(name)[:] = matrix
            for name, mask in self.masks.items():
                draft.write_mask(name, mask)
            for name, baseline in self.baselines.items():
                draft.write_baseline(name, baseline)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Matrices are mapped, not loaded. Raises UsageError for a file that is missing or
        damaged, SchemaError for one that is no similarity file or of another version. Reads the
        whole file once: for its seal, and for values that are NaN."""
        if not path.is_file():
            raise UsageError(f"{path}: no such file; `m2hf eval` writes RUN/similarity.h5")

        def damaged(reason: str) -> UsageError:
            return UsageError(f"{path}: damaged similarity file ({reason}); run `m2hf eval` again")

        with Hdf5Reader.open(path, damaged) as file:
            file.version(SCHEMA, (2,), VERSION, "run `m2hf eval` again")
            levels = file.json("levels", list[str])
            named = [*levels, LATE_FUSION]
            closed = file.json("baselines", list[str]) if "baselines" in file else []
            return cls(
                **read_header_fields(file),
                scores={name: _matrix(file, f"scores/{name}") for name in named},
                masks={name: file.array(f"masks/{name}", "|b1") for name in levels},
                bank={
                    name: _matrix(file, f"bank/{name}") for name in named if f"bank/{name}" in file
                },
                baselines={name: _baseline(file, name) for name in closed},
            )


def _matrix(file: Hdf5Reader, name: str) -> NDArray[np.float32]:
    return file.mapped(name, ("<f4",), axes=2)


def _baseline(file: Hdf5Reader, name: str) -> Baseline:
    dataset = f"baselines/{name}"
    recall, strength = (file.number(name, dataset) for name in ("val_recall", "strength"))
    if recall is None and strength is not None:
        raise ValueError(f"{dataset}: a strength, but no attribute val_recall")
    valid_V = file.array(f"baseline_masks/{name}", "|b1")
    return Baseline(_matrix(file, dataset), valid_V, strength, recall)


def _check_no_nan(name: str, matrix: NDArray[np.float32]) -> None:
    for start in range(0, len(matrix), _ROWS):
        nan = np.isnan(matrix[start : start + _ROWS])
        if nan.any():
            row, column = np.argwhere(nan)[0]
            raise ValueError(f"{name}: row {start + row}, column {column} is NaN")


def _verify(path: Path) -> None:
    SimilarityFile.read(path)
