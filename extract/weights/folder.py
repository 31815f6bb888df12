"""The weights folder of m2hf: files, and an index with the size and sha256 of each.

`$M2HF_WEIGHTS`, else `~/.cache/m2hf/weights`; a worker without the variable uses its driver's
folder. It holds no absolute path, so it can be copied to another machine as it is. `index.json` is

    {"schema": 1, "weights": {NAME: {"file", "bytes", "sha256", "url"}}}

with `file` relative to the folder. Files that the index doesn't list are ignored; a listed file
that is missing or cut short after a copy is detected.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, Field, field_validator

from m2hf.atomic import atomic_text, raise_if_unwritable
from m2hf.config import parse
from m2hf.errors import ResourceError, SchemaError
from m2hf.keys import safe_name, sha256_file
from m2hf.locks import lock
from m2hf.plain_data import json_object, read_text, shown

VARIABLE = "M2HF_WEIGHTS"
_INDEX, _LOCK, _SCHEMA = "index.json", ".lock", 1
_HOME = "~/.cache/m2hf/weights"
_adopted: list[str] = []  # at most one folder, set by WeightsFolder.adopt
_MOST_BYTES = 255  # of a file name, as file systems have it


class IndexEntry(BaseModel):
    """One file of the index. url: where it was downloaded from."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    file: str
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    url: str

    @field_validator("file")
    @classmethod
    def _inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError("expected a path inside the folder")
        if any(len(part.encode()) > _MOST_BYTES for part in path.parts):
            raise ValueError(f"a name in it has more than {_MOST_BYTES} bytes")
        return value


class _Index(BaseModel):
    weights: dict[str, IndexEntry]


@dataclass(frozen=True)
class WeightsFolder:
    """The weights folder, whether or not it exists yet."""

    root: Path

    @classmethod
    def default(cls) -> "WeightsFolder":
        """`$M2HF_WEIGHTS`, else the adopted folder, else the one in the home folder's cache."""
        folder = os.environ.get(VARIABLE) or next(iter(_adopted), _HOME)
        return cls(Path(folder).expanduser().absolute())

    def adopt(self) -> None:
        """Make this the default folder of the process; a worker adopts its driver's folder.

        `$M2HF_WEIGHTS` takes precedence; a folder that doesn't exist on this host is ignored.
        """
        _adopted.clear()
        usual = Path(_HOME).expanduser().absolute()
        if not os.environ.get(VARIABLE) and self.root != usual and self.root.is_dir():
            _adopted.append(str(self.root))

    def index(self) -> Mapping[str, IndexEntry]:
        """Name -> entry; raises SchemaError for a file that is not an index of m2hf."""
        path = self.root / _INDEX
        if not path.exists():
            return {}
        where = (
            f"{path}: not an index of m2hf's weights; remove it and run `m2hf weights pull` again"
        )
        index = json_object(read_text(path, where, SchemaError), where, SchemaError)
        schema = index.get("schema")
        if type(schema) is not int or schema != _SCHEMA:
            raise SchemaError(f"{where}: schema {shown(schema)}, expected {_SCHEMA}")
        return parse(_Index, index, where, SchemaError).weights

    def path(self, entry: IndexEntry) -> Path:
        return self.root / entry.file

    def find(self, name: str) -> IndexEntry | None:
        """The entry of `name`, if its file exists."""
        entry = self.index().get(name)
        return entry if entry is not None and self.path(entry).is_file() else None

    def damage(self, entry: IndexEntry) -> str:
        """What is wrong with a file that the index lists; "" if nothing is."""
        path = self.path(entry)
        if not path.is_file():
            return f"{path} does not exist"
        if path.stat().st_size != entry.bytes:
            return f"{path} has {path.stat().st_size} bytes, expected {entry.bytes}"
        digest = sha256_file(path)
        if digest == entry.sha256:
            return ""
        return f"{path} has sha256 {digest}, expected {entry.sha256}"

    def target(self, name: str, file: str) -> Path:
        """The path to store weights `name` at, whose source calls the file `file`: NAME/FILE.

        Both are escaped. A name that already ends with the file name, as the names of a
        repository's files do, is the whole path.
        """
        parts = name.split("/")
        inside = parts if parts[-1] == file else [*parts, file]
        return self.root.joinpath(*map(safe_name, inside))

    def record(self, name: str, path: Path, sha256: str, url: str) -> IndexEntry:
        """Add a file that is inside the folder to the index."""
        file = path.relative_to(self.root).as_posix()
        entry = IndexEntry(file=file, bytes=path.stat().st_size, sha256=sha256, url=url)
        entries = {**self.index(), name: entry}
        index = {
            "schema": _SCHEMA,
            "weights": {n: entries[n].model_dump() for n in sorted(entries)},
        }
        atomic_text(self.root / _INDEX, json.dumps(index, indent=1, sort_keys=True) + "\n")
        return entry

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Lock the folder for writing; raises ResourceError where another process holds the lock,
        the disk is full, or the folder has no locks."""
        path = self.root / _LOCK
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            file = path.open("a")
        except OSError as error:
            raise_if_unwritable(path, error)
            raise ResourceError(
                f"{self.root}: can't be used as the weights folder ({error.strerror}); "
                f"set {VARIABLE} to another one"
            ) from error
        with file:
            if not lock(file, path):
                raise ResourceError(
                    f"{self.root}: another `m2hf weights pull` is writing to it; wait for it to end"
                )
            yield
