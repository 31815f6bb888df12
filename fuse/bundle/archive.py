"""A zip archive of plain files, written with equal bytes for equal files, and read with distrust.

Members are stored, not compressed, so that none is larger than the archive. Read is only what
`write` may have written: no other compression, no encryption, no links, no folders, no name that
occurs twice or leads out of the folder.
"""

import hashlib
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from m2hf.atomic import atomic_write, raise_if_unreadable
from m2hf.errors import SchemaError, UsageError, first_line
from m2hf.plain_data import shown

_NAME = re.compile(r"[A-Za-z0-9_@%.~+-]{1,255}(/[A-Za-z0-9_@%.~+-]{1,255})*")
_CLOCK = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold: equal files give equal bytes
_MODE = stat.S_IFREG | 0o644
_UNIX = 3
_FLAGS = 0x808  # a name in UTF-8, sizes after the content; not: encrypted, patched
_CHUNK = 1 << 20


def write_archive(path: Path, members: Mapping[str, Path | bytes]) -> None:
    """Write `members`, files or bytes by name, atomically, in the order of their names."""
    with (
        atomic_write(path) as temporary,
        ZipFile(temporary, "w", ZIP_STORED, allowZip64=True) as archive,
    ):
        for name, content in sorted(members.items()):
            about = ZipInfo(name, _CLOCK)
            about.create_system, about.external_attr = _UNIX, _MODE << 16
            if isinstance(content, bytes):
                archive.writestr(about, content)
                continue
            about.file_size = content.stat().st_size
            with content.open("rb") as source, archive.open(about, "w") as target:
                shutil.copyfileobj(source, target, _CHUNK)


@dataclass(frozen=True)
class Archive:
    """An open archive whose members are sound by name, kind and size. sizes: in bytes, by name."""

    path: Path
    sizes: Mapping[str, int]
    _file: ZipFile

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator["Archive"]:
        """Raises UsageError for a missing file, SchemaError for what is no archive of `write`."""
        if not path.is_file():
            raise UsageError(f"{path}: no such file; `m2hf bundle` writes one")
        try:
            file = ZipFile(path)
        except (BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise_if_unreadable(path, error)
            raise SchemaError(
                f"{path}: not a bundle of m2hf, or truncated ({first_line(error)})"
            ) from error
        with file:
            found = file.infolist()
            for about in found:
                if problem := _problem(about):
                    raise SchemaError(
                        f"{path}: member {shown(about.orig_filename)} {problem}; `m2hf bundle` "
                        "writes no such file, so it is not read"
                    )
            if not all(0 <= about.header_offset < path.stat().st_size for about in found):
                raise SchemaError(f"{path}: a member begins outside the file")
            sizes = {about.filename: about.file_size for about in found}
            if len(sizes) < len(found):
                names = [about.filename for about in found]
                twice = next(name for name in names if names.count(name) > 1)
                raise SchemaError(f"{path}: member {shown(twice)} occurs twice")
            if sum(sizes.values()) > path.stat().st_size:
                raise SchemaError(f"{path}: its members are larger than the file, so they overlap")
            yield cls(path, sizes, file)

    def read(self, name: str, most: int) -> bytes:
        """The content of a member; raises SchemaError for one that is lacking, damaged, or larger
        than `most` bytes."""
        if name not in self.sizes:
            raise SchemaError(f"{self.path}: no member {name}; not a bundle of m2hf")
        if self.sizes[name] > most:
            raise SchemaError(f"{self.path}: {name}: {self.sizes[name]} bytes, at most {most}")
        try:
            return self._file.read(name)
        except (BadZipFile, EOFError, OSError) as error:
            raise SchemaError(f"{self.path}: {name}: damaged ({first_line(error)})") from error

    def extract(self, name: str, target: Path) -> str:
        """Write a member to `target`, whose folder is made; returns its sha256, or "" for one that
        can't be read to its end."""
        target.parent.mkdir(parents=True, exist_ok=True)
        sha = hashlib.sha256()
        try:
            with self._file.open(name) as source, target.open("wb") as copy:
                for chunk in _chunks(source):
                    sha.update(chunk)
                    copy.write(chunk)
        except (BadZipFile, EOFError):
            return ""
        return sha.hexdigest()


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    while chunk := source.read(_CHUNK):
        yield chunk


def _problem(about: ZipInfo) -> str:
    """What `write_archive` would not have written; "" for nothing."""
    name = about.orig_filename
    if not _NAME.fullmatch(name) or {".", ".."} & {*name.split("/")}:
        return "has a name that is no relative path of plain characters"
    if about.flag_bits & ~_FLAGS:
        return "is encrypted, or of another unusual kind"
    if about.compress_type != ZIP_STORED or about.compress_size != about.file_size:
        return "is compressed"
    if stat.S_IFMT(about.external_attr >> 16) not in (0, stat.S_IFREG):
        return "is a link or another special file"
    return ""
