"""The folder of weights that m2hf keeps: files, and an index that says what each must be.

`$M2HF_WEIGHTS`, else `~/.cache/m2hf/weights`; a worker without the first takes its driver's. It
holds no absolute path, so it can be copied to another machine as it is. `index.json` is

    {"schema": 1, "weights": {NAME: {"file", "bytes", "sha256", "url"}}}

with `file` relative to the folder. Only what the index lists counts: a file that a copy left out
or cut short is seen.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from m2hf.atomic import atomic_text, raise_if_unwritable
from m2hf.errors import ResourceError, SchemaError
from m2hf.keys import safe_name, sha256_file

VARIABLE = "M2HF_WEIGHTS"
_INDEX, _LOCK, _SCHEMA = "index.json", ".lock", 1
_HOME = "~/.cache/m2hf/weights"
_adopted: list[str] = []  # one at most
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Kept:
    """One line of the index. url: where the file came from."""

    file: str
    bytes: int
    sha256: str
    url: str


@dataclass(frozen=True)
class WeightsFolder:
    """The folder, whether or not it is there yet."""

    root: Path

    @classmethod
    def default(cls) -> "WeightsFolder":
        """Where `$M2HF_WEIGHTS` says, else what was adopted, else in the home folder's cache."""
        said = os.environ.get(VARIABLE) or next(iter(_adopted), _HOME)
        return cls(Path(said).expanduser().absolute())

    def adopt(self) -> None:
        """Make this the default of the process: of a worker, the folder of who started the job.

        Where `$M2HF_WEIGHTS` is set, that stays; a folder that can't be seen here is none.
        """
        _adopted.clear()
        ours = Path(_HOME).expanduser().absolute()
        if not os.environ.get(VARIABLE) and self.root != ours and self.root.is_dir():
            _adopted.append(str(self.root))

    def index(self) -> Mapping[str, Kept]:
        """Name -> what is kept of it; raises SchemaError for an index that is not one of ours."""
        path = self.root / _INDEX
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            if said["schema"] != _SCHEMA:
                raise ValueError(f"schema {said['schema']!r}, expected {_SCHEMA}")
            return {name: _kept(name, entry) for name, entry in said["weights"].items()}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SchemaError(
                f"{path}: not an index of m2hf's weights ({error!r}); remove it and run "
                "`m2hf weights pull` again"
            ) from error

    def path(self, kept: Kept) -> Path:
        return self.root / kept.file

    def find(self, name: str) -> Kept | None:
        """What is kept as `name`, if its file is there."""
        kept = self.index().get(name)
        return kept if kept is not None and self.path(kept).is_file() else None

    def damage(self, kept: Kept) -> str:
        """What is wrong with a file that the index lists; "" where nothing is."""
        path = self.path(kept)
        if not path.is_file():
            return f"{path} is not there"
        if path.stat().st_size != kept.bytes:
            return f"{path} has {path.stat().st_size} bytes, expected {kept.bytes}"
        digest = sha256_file(path)
        return "" if digest == kept.sha256 else f"{path} has sha256 {digest}, not {kept.sha256}"

    def place(self, name: str, file: str) -> Path:
        """Where weights `name` are kept, whose source calls them `file`: NAME/FILE, escaped.

        A name that ends with the file's, as those of a repository's files do, is the place.
        """
        parts = name.split("/")
        inside = parts if parts[-1] == file else [*parts, file]
        return self.root.joinpath(*map(safe_name, inside))

    def record(self, name: str, path: Path, sha256: str, url: str) -> Kept:
        """Add a file that lies in the folder to the index."""
        kept = Kept(path.relative_to(self.root).as_posix(), path.stat().st_size, sha256, url)
        entries = {**self.index(), name: kept}
        said = {"schema": _SCHEMA, "weights": {n: asdict(entries[n]) for n in sorted(entries)}}
        atomic_text(self.root / _INDEX, json.dumps(said, indent=1, sort_keys=True) + "\n")
        return kept

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One writer at a time; raises ResourceError where there is another one, or no room."""
        path = self.root / _LOCK
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = path.open("a")
        except OSError as error:
            raise_if_unwritable(path, error)
            raise ResourceError(
                f"{self.root}: can't be the folder of weights ({error.strerror}); "
                f"set {VARIABLE} to another one"
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ResourceError(
                    f"{self.root}: another `m2hf weights pull` is writing there; wait for it"
                ) from error
            yield


def _kept(name: str, entry: Mapping[str, Any]) -> Kept:
    kept = Kept(**entry)
    inside = PurePosixPath(kept.file)
    if inside.is_absolute() or ".." in inside.parts or not inside.parts:
        raise ValueError(f"{name}: file {kept.file!r} is not inside the folder")
    if not (isinstance(kept.bytes, int) and _SHA256.fullmatch(kept.sha256)):
        raise ValueError(f"{name}: expected bytes and 64 digits of sha256")
    return kept
