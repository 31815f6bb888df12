"""Read annotation files as their owners publish them; the base of all benchmark readers.

A reader parses the files of one benchmark and yields an `AnnotatedVideo` or a `Remark` at a time.
Opening, decompression and error messages are here. A file may be compressed: `NAME.gz` for NAME.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from m2hf.errors import ManifestError, UsageError
from m2hf.manifest import Split

T = TypeVar("T")


@dataclass(frozen=True)
class AnnotatedVideo:
    """A video in the annotations. path: its conventional path; where: the file and line or key of
    the annotation, for errors; start, end: the clip in seconds of the file, None for all of it."""

    split: Split
    id: str
    path: str
    captions: tuple[str, ...]
    where: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Remark:
    """An irregularity in the files that the user should know of, and the ids it concerns."""

    text: str
    ids: tuple[str, ...]


class AnnotationFolder:
    """A folder of annotation files. Every error names the file and the line or key in it."""

    def __init__(self, folder: Path, source: str) -> None:
        """source: where to get the files. Raises UsageError if `folder` doesn't exist."""
        if not folder.is_dir():
            raise UsageError(f"--annotations {folder}: no such folder; get the files from {source}")
        self._folder = folder
        self._source = source

    def has(self, name: str) -> bool:
        """Whether the file exists."""
        return self._find(name) is not None

    def json(self, name: str, form: type[T]) -> T:
        """Parse the file as JSON of the type `form`; keys that are not in `form` are ignored.

        Raises ManifestError where it is not JSON or doesn't match.
        """
        path, data = self._read(name)
        try:
            return TypeAdapter(form).validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = _key(first["loc"])
            raise ManifestError(f"{path}: {key}{first['msg']}") from error

    def lines(self, name: str) -> Iterator[tuple[str, str]]:
        """(location, line) of each line that is not blank, without its line ending.

        Raises ManifestError where the file is not UTF-8.
        """
        path, text = self._text(name)
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield f"{path}, line {number}", line.rstrip("\r")

    def table(self, name: str, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, str]]]:
        """(location, row) of each row of a CSV file whose header has at least `columns`.

        Raises ManifestError for another header and for a row that is too short.
        """
        path, text = self._text(name)
        reader = csv.DictReader(io.StringIO(text, newline=""))
        header = reader.fieldnames or []
        if not set(columns) <= set(header):
            raise ManifestError(
                f"{path}, line 1: the header is {','.join(header)}, expected {','.join(columns)}"
            )
        try:
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                for column in columns:
                    if row[column] is None:
                        raise ManifestError(f"{where}: no {column}; the line is too short")
                yield where, row
        except csv.Error as error:
            raise ManifestError(f"{path}, line {reader.line_num}: not CSV ({error})") from error

    def _find(self, name: str) -> Path | None:
        paths = (self._folder / name, self._folder / f"{name}.gz")
        return next((path for path in paths if path.is_file()), None)

    def _read(self, name: str) -> tuple[Path, bytes]:
        path = self._find(name)
        if path is None:
            raise UsageError(
                f"--annotations {self._folder}: no {name} or {name}.gz there; get the files from "
                f"{self._source}; or name the splits whose files are there with --splits"
            )
        data = path.read_bytes()
        if path.suffix != ".gz":
            return path, data
        try:
            return path, gzip.decompress(data)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ManifestError(
                f"{path}: damaged gzip file ({error}); download it again"
            ) from error

    def _text(self, name: str) -> tuple[Path, str]:
        path, data = self._read(name)
        try:
            return path, data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ManifestError(f"{path}, line {line}: not UTF-8 ({error.reason})") from error


def sentence(text: str, where: str) -> str:
    """A caption stripped of white space; raises ManifestError for an empty one."""
    if stripped := text.strip():
        return stripped
    raise ManifestError(f"{where}: the caption is empty; add a text or remove the entry")


def _key(location: tuple[int | str, ...]) -> str:
    """`sentences[3].caption: ` for ("sentences", 3, "caption")."""
    if not location:
        return ""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".") + ": "
