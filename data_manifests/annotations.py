"""Read annotation files as their owners publish them; the base of all benchmark readers.

A reader parses the files of one benchmark and yields an `AnnotatedVideo` or a `Remark` at a time.
Opening, decompression and error messages are here. A file may be compressed: `NAME.gz` for NAME.
"""

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from m2hf.data_manifests.csv_table import decode_utf8, read_table
from m2hf.data_manifests.problems import Problems, Remark
from m2hf.errors import ManifestError, UsageError
from m2hf.manifest import Split
from m2hf.plain_data import read_bytes

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


class AnnotationFolder:
    """A folder of annotation files. Every error names the file and the line or key in it.

    remarks: on the form of the files that were read.
    """

    def __init__(self, folder: Path, source: str) -> None:
        """source: where to get the files. Raises UsageError if `folder` doesn't exist."""
        if not folder.is_dir():
            raise UsageError(f"--annotations {folder}: no such folder; get the files from {source}")
        self._folder = folder
        self._source = source
        self.remarks: list[Remark] = []

    def has(self, name: str) -> bool:
        """Whether the file exists."""
        return self._find(name) is not None

    def json(self, name: str, form: type[T]) -> T:
        """Parse the file as JSON of the type `form`; keys that are not in `form` are ignored.

        Raises ManifestError where it is not JSON in UTF-8 or doesn't match.
        """
        path, text = self._text(name)
        try:
            return TypeAdapter(form).validate_json(text)
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

        Raises ManifestError for another header and for rows that are too short or too long.
        """
        path, text = self._text(name)
        problems = Problems(path)
        table = read_table(path, text, columns, problems)
        problems.raise_if_any()
        self.remarks += table.remarks(name)
        for row in table.rows:
            yield f"{path}, line {row.line}", row.fields

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
        data = read_bytes(path, str(path), ManifestError)
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
        return path, decode_utf8(path, data)


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
