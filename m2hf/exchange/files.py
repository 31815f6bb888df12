"""Features as files for other tools: the arrays of each video, one video at a time.

npz    DIR/<stream>/<id>.npz            values, start_s, end_s: what `m2hf import` reads
       DIR/<stream>/<id>.json           strings and confidences, for streams that have them
wds    DIR/<dataset>-000000.tar ...     WebDataset: for each video, under one key,
       <key>.<stream>.npy               values (N, D)
       <key>.json                       id, split, captions; by stream status, times, digest
arrow  DIR/<stream>.arrow               a table of all videos: see `m2hf.exchange.arrow`

Ids are escaped (`m2hf.keys.safe_name`); a key has no dot besides, where WebDataset would cut it. A
video that is EMPTY in a stream has an array of no rows there, one that is missing has none. No
clock and no owner is inside: equal features give equal bytes.
"""

import io
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2hf.errors import UsageError
from m2hf.exchange.arrow import ArrowTables
from m2hf.exchange.item import Exported, FeatureWriter, ValueType, strings
from m2hf.keys import canonical_json, safe_name
from m2hf.manifest import Row

SAMPLES = 1000  # videos in a tar
_NAME_MAX = 255  # bytes of a file name, on any file system that is in use


class NpzFolders:
    """A folder a stream, a file a video."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, row: Row, streams: Mapping[str, Exported]) -> None:
        """Raises UsageError for an id that is too long for a file name."""
        name = safe_name(row.id)
        if len(name) + len(".json") > _NAME_MAX:
            raise UsageError(f"{row.id}: too long for a file name; --format wds takes any id")
        for stream, item in streams.items():
            folder = self._folder / stream
            folder.mkdir(exist_ok=True)
            if item.features is None:
                continue
            f = item.features
            path = folder / f"{name}.npz"
            np.savez(path, values=f.values, start_s=f.start_s, end_s=f.end_s)
            if found := strings(f):
                text = canonical_json({"id": row.id, **found}) + "\n"
                (folder / f"{name}.json").write_text(text, encoding="utf-8")


class TarShards:
    """Tars of at most `samples` videos, numbered from 0."""

    def __init__(self, folder: Path, dataset: str, samples: int) -> None:
        self._stem, self._samples = folder / safe_name(dataset), samples
        self._count = 0
        self._tar: tarfile.TarFile | None = None

    def add(self, row: Row, streams: Mapping[str, Exported]) -> None:
        if self._count % self._samples == 0:
            self.close()
            path = self._stem.with_name(f"{self._stem.name}-{self._count // self._samples:06d}.tar")
            self._tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._count += 1
        key = safe_name(row.id).replace(".", "%2E")
        for stream, item in streams.items():
            if item.features is not None:
                self._member(f"{key}.{stream}.npy", _npy(item.features.values))
        head = {"id": row.id, "split": row.split, "captions": list(row.captions)}
        told = {stream: item.told() for stream, item in streams.items()}
        self._member(f"{key}.json", canonical_json({**head, "streams": told}).encode())

    def close(self) -> None:
        """End the tar that is open."""
        if self._tar is not None:
            self._tar.close()

    def _member(self, name: str, content: bytes) -> None:
        assert self._tar is not None
        info = tarfile.TarInfo(name)  # mtime, uid and gid are 0, and there is no owner's name
        info.size = len(content)
        self._tar.addfile(info, io.BytesIO(content))


@contextmanager
def _npz(folder: Path, _dataset: str, _kinds: Mapping[str, ValueType]) -> Iterator[FeatureWriter]:
    yield NpzFolders(folder)


@contextmanager
def _wds(folder: Path, dataset: str, _kinds: Mapping[str, ValueType]) -> Iterator[FeatureWriter]:
    with closing(TarShards(folder, dataset, SAMPLES)) as tars:
        yield tars


@contextmanager
def _arrow(folder: Path, _dataset: str, kinds: Mapping[str, ValueType]) -> Iterator[FeatureWriter]:
    with closing(ArrowTables(folder, kinds)) as tables:
        yield tables


_FORMATS = {"npz": _npz, "wds": _wds, "arrow": _arrow}


def check_format(name: str) -> None:
    """Raises UsageError for a format that there isn't."""
    if name not in _FORMATS:
        raise UsageError(f"--format {name}: no such format; known: {', '.join(_FORMATS)}")


def open_files(
    name: str, folder: Path, dataset: str, kinds: Mapping[str, ValueType]
) -> AbstractContextManager[FeatureWriter]:
    """The files of format `name` in `folder`, of the streams in `kinds`; whole when the context
    ends."""
    return _FORMATS[name](folder, dataset, kinds)


def _npy(values: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(values), allow_pickle=False)
    return stream.getvalue()
