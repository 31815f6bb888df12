"""Caption embeddings computed by other tools, for `m2hf import --captions`.

One .npz or .h5 file with C captions:

    ids            (C,)      strings: `<video id>#<index>`, the index counting a video's captions
                             in the manifest from 0
    sentence       (C, D)    floats, one vector for each caption
    texts          (C,)      strings, optional: checked against the manifest's captions
    tokens         (T, D)    floats, optional: token vectors of all captions, one after another
    token_offset   (C+1,)    integers, with tokens: caption i owns rows offset[i] .. offset[i+1]

Without texts it can't be verified that a vector belongs to its caption, and the shards are
flagged. An .h5 file is read item by item; an .npz file is read at once.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from m2hf import numpy_files
from m2hf.array_types import FloatArray, IntArray
from m2hf.errors import ManifestError, UsageError
from m2hf.exchange.arrays import (
    SKIP,
    ItemArrays,
    open_array_file,
    refused,
    rows_of,
)
from m2hf.hdf5 import keys, own_object, read_rows, stored_dataset

_KNOWN = {"ids", "sentence", "texts", "tokens", "token_offset"}
_NEEDED = {"ids", "sentence"}
_FORM = "ids (C,), sentence (C, D), and optionally texts, and tokens with token_offset"


class CaptionArrays:
    """The captions of one file by id: row 0 is the sentence, its tokens follow."""

    def __init__(
        self,
        path: Path,
        stored: Mapping[str, Any],
        captions: Mapping[str, str],
        skip_unknown: bool,
    ) -> None:
        """stored: arrays or datasets by name; captions: id -> text of the manifest.

        Raises UsageError for a file of another form, ManifestError for an id that is not in the
        manifest (unless those are skipped), one that occurs twice, and a text that differs from
        the manifest's.
        """
        self._path, self._stored = path, stored
        names = set(stored)
        if not names >= _NEEDED or names - _KNOWN:
            have = ", ".join(sorted(names)) or "nothing"
            raise UsageError(f"--captions {path}: has {have}; expected {_FORM}")
        if ("tokens" in stored) != ("token_offset" in stored):
            raise UsageError(f"--captions {path}: tokens and token_offset belong together")
        ids = self._strings("ids")
        self.texts = self._strings("texts") if "texts" in stored else None
        self._offset = self._offsets(len(ids)) if "tokens" in stored else None
        for name in ("sentence", "texts"):
            if name in stored and stored[name].shape[:1] != (len(ids),):
                shape = stored[name].shape
                raise UsageError(f"--captions {path}: {len(ids)} ids, but {name} has shape {shape}")
        self._place = self._places(ids, captions, skip_unknown)
        self.unknown = len(ids) - len(self._place)

    @property
    def names(self) -> Mapping[str, str]:
        return {item: f"--captions {self._path}: {item!r}" for item in self._place}

    def read(self, item: str) -> ItemArrays:
        place, where = self._place[item], f"--captions {self._path}: {item!r}"
        sentence = self._rows(where, "sentence", slice(place, place + 1))
        text = None if self.texts is None else self.texts[place]
        if self._offset is None:
            return ItemArrays(sentence, text=text)
        start, end = (int(row) for row in self._offset[place : place + 2])
        tokens = self._rows(where, "tokens", slice(start, end))
        if tokens.shape[1] != sentence.shape[1] or tokens.dtype != sentence.dtype:
            raise UsageError(
                f"{where}: tokens are {tokens.dtype} of width {tokens.shape[1]} and the sentence "
                f"{sentence.dtype} of width {sentence.shape[1]}; both need one type and width"
            )
        return ItemArrays(np.concatenate([sentence, tokens]), text=text)

    def _rows(self, where: str, name: str, rows: slice) -> FloatArray:
        stored = self._stored[name]
        if len(stored.shape) != 2:
            raise UsageError(f"{where}: {name} has shape {stored.shape}, expected (., D)")
        with refused(where):
            chosen = read_rows(stored, rows) if isinstance(stored, h5py.Dataset) else stored[rows]
        return rows_of(f"{where}: {name}", chosen)

    def _whole(self, name: str) -> NDArray[Any]:
        stored = self._stored[name]
        if not isinstance(stored, h5py.Dataset):
            return np.asarray(stored)
        with refused(f"--captions {self._path}"):
            return read_rows(stored)

    def _strings(self, name: str) -> list[str]:
        stored = self._whole(name)
        values = stored.tolist()
        if stored.ndim != 1 or not all(isinstance(value, str | bytes) for value in values):
            raise UsageError(f"--captions {self._path}: {name} must be a list of strings")
        try:
            return [value.decode() if isinstance(value, bytes) else value for value in values]
        except UnicodeDecodeError as error:
            raise UsageError(f"--captions {self._path}: {name} are not UTF-8 ({error})") from error

    def _offsets(self, captions: int) -> IntArray:
        stored, tokens = self._whole("token_offset"), self._stored["tokens"].shape[:1]
        sound = (
            stored.dtype.kind in "iu"
            and stored.shape == (captions + 1,)
            and stored[0] == 0
            and (stored[-1],) == tokens
            and bool((stored[1:] >= stored[:-1]).all())
        )
        if not sound:
            raise UsageError(
                f"--captions {self._path}: token_offset must be {captions + 1} integers, rising "
                f"from 0 to {tokens[0] if tokens else 0}, the rows of tokens"
            )
        offsets: IntArray = stored.astype(np.int64)
        return offsets

    def _places(
        self, ids: list[str], captions: Mapping[str, str], skip_unknown: bool
    ) -> dict[str, int]:
        places: dict[str, int] = {}
        for place, item in enumerate(ids):
            if item not in captions:
                if skip_unknown:
                    continue
                raise ManifestError(
                    f"--captions {self._path}: {item!r} is no caption of the manifest; "
                    f"an id is <video id>#<index of the caption, from 0>; correct it, or {SKIP}"
                )
            if item in places:
                raise ManifestError(f"--captions {self._path}: {item!r} occurs twice; remove one")
            if self.texts is not None and self.texts[place] != captions[item]:
                raise ManifestError(
                    f"--captions {self._path}: {item!r} embeds {self.texts[place]!r}, "
                    f"but the manifest says {captions[item]!r}; embed the manifest's captions"
                )
            places[item] = place
        return places


@contextmanager
def open_captions(
    path: Path, captions: Mapping[str, str], skip_unknown: bool
) -> Iterator[CaptionArrays]:
    """The caption file at `path`; the other arguments and the errors as of `CaptionArrays`."""
    if path.suffix == ".npz":
        if not path.is_file():
            raise UsageError(f"--captions {path}: no such file")
        stored = numpy_files.load(path, f"--captions {path}")
        if not isinstance(stored, dict):
            raise UsageError(f"--captions {path}: one array; expected an .npz with {_FORM}")
        yield CaptionArrays(path, stored, captions, skip_unknown)
        return
    with open_array_file(path, "an .npz file") as file:
        with refused(f"--captions {path}"):
            parts = {key: stored_dataset(own_object(file, key)) for key in keys(file)}
        yield CaptionArrays(path, parts, captions, skip_unknown)
