"""The file formats of `m2hf export`; one video is written at a time.

npz    DIR/<stream>/<id>.npz            values, start_s, end_s: what `m2hf import` reads
       DIR/<stream>/<id>.json           strings and confidences, for streams with strings
wds    DIR/<dataset>-000000.tar ...     WebDataset: for each video, under one key,
       <key>.<stream>.npy               values (N, D)
       <key>.json                       id, split, captions; by stream status, times, digest
arrow  DIR/<stream>.arrow               a table of all videos: see `m2hf.exchange.arrow`

Ids are escaped (`m2hf.keys.safe_name`); in a key dots are escaped too, since WebDataset would cut
it there. A video that is EMPTY in a stream has an array without rows, a missing one has no array.
The files hold no modification time and no owner: equal features give equal bytes.
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
from m2hf.exchange.item import ExportedItem, FeatureWriter, ValueType, strings
from m2hf.keys import canonical_json, safe_name
from m2hf.manifest import Row

SAMPLES = 1000  # videos in a tar
_NAME_MAX = 255  # bytes of a file name on common file systems


class NpzFolders:
    """A folder for each stream, a file for each video."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, row: Row, streams: Mapping[str, ExportedItem]) -> None:
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

    def add(self, row: Row, streams: Mapping[str, ExportedItem]) -> None:
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
        records = {stream: item.as_json() for stream, item in streams.items()}
        self._member(f"{key}.json", canonical_json({**head, "streams": records}).encode())

    def close(self) -> None:
        """Close the open tar."""
        if self._tar is not None:
            self._tar.close()

    def _member(self, name: str, content: bytes) -> None:
        assert self._tar is not None
        info = tarfile.TarInfo(name)  # mtime, uid and gid are 0, without an owner's name
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
    """Raises UsageError for an unknown format."""
    if name not in _FORMATS:
        raise UsageError(f"--format {name}: no such format; known: {', '.join(_FORMATS)}")


def open_files(
    name: str, folder: Path, dataset: str, kinds: Mapping[str, ValueType]
) -> AbstractContextManager[FeatureWriter]:
    """The files of format `name` in `folder`, of the streams in `kinds`; complete when the
    context ends."""
    return _FORMATS[name](folder, dataset, kinds)


def _npy(values: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(values), allow_pickle=False)
    return stream.getvalue()
