"""Read the captions of a data set from a CSV file with columns of ids, captions and perhaps splits.

All problems of the file are reported together; docs/own-videos.md has the rules for users.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from m2hf.data_manifests.csv_table import CsvRow, CsvTable, decode_utf8, read_table
from m2hf.data_manifests.problems import Problems, Remark, quoted
from m2hf.errors import ManifestError, UsageError
from m2hf.manifest import SPLITS, Split
from m2hf.plain_data import read_bytes, shown


@dataclass(frozen=True)
class Columns:
    """Names of the columns. split: "" for `split` where the file has it; one that is named must be
    there. Raises UsageError for a name that two have."""

    id: str = "id"
    caption: str = "caption"
    split: str = ""

    def __post_init__(self) -> None:
        if len({*self.needed}) < len(self.needed) or not all(self.needed):
            raise UsageError(
                f"--id-column, --caption-column, --split-column: {shown(','.join(self.needed))}; "
                "name a column of its own for each"
            )

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that the header must have."""
        return (self.id, self.caption, *([self.split] if self.split else []))

    def __str__(self) -> str:
        return ",".join(self.needed) + ("" if self.split else "[,split]")


COLUMNS = Columns()


@dataclass(frozen=True)
class ResolvedId:
    """The id of the video that an id in the file stands for, or the problem with it.

    left_out: whether the video exists and is left out of the manifest, so that its captions are.
    """

    id: str
    problem: str = ""
    remedy: str = ""
    left_out: bool = False


@dataclass
class CaptionsFile:
    """Captions by video id in file order, splits by video id (empty where the file has no such
    column), and remarks."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    splits: dict[str, Split] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)


def read_captions(
    path: Path,
    resolve: Callable[[str], ResolvedId],
    known: Collection[str] = (),
    columns: Columns = COLUMNS,
) -> CaptionsFile:
    """The captions in the file at `path`.

    resolve: the video that an id in it stands for; known: ids that may occur.

    Raises UsageError if there is no such file, ManifestError with all problems of the file.
    """
    if not path.is_file():
        raise UsageError(f"--captions {path}: no such file; expected CSV with {columns}")
    problems = Problems(path)
    text = decode_utf8(path, read_bytes(path, f"--captions {path}", ManifestError))
    table = read_table(path, text, columns.needed, problems)
    reading = _Reading(problems, resolve, table, known, columns)
    for row in table.rows:
        reading.add(row)
    problems.raise_if_any()
    if not reading.found.texts and not reading.left_out:
        problems.add(1, "no captions after the header", "add a line for each caption")
        problems.raise_if_any()
    reading.found.remarks += [*table.remarks(path.name), *reading.remarks(path.name)]
    return reading.found


class _Reading:
    def __init__(
        self,
        problems: Problems,
        resolve: Callable[[str], ResolvedId],
        table: CsvTable,
        known: Collection[str],
        columns: Columns,
    ) -> None:
        self.found = CaptionsFile()
        self.left_out: dict[str, int] = {}
        self._problems, self._table = problems, table
        self._renamed: dict[str, str] = {}
        self._resolved: dict[str, ResolvedId] = {}
        self._resolve = resolve
        self._columns, self._split = columns, columns.split or "split"
        self._known = {row.fields[columns.id].strip() for row in table.rows} | {*known}
        self._known.discard("")

    def add(self, row: CsvRow) -> None:
        written, text = (row.fields[c].strip() for c in (self._columns.id, self._columns.caption))
        if self._swallowed(row):
            return
        resolved = self._video(written)
        if resolved.left_out:
            self.left_out[written] = self.left_out.get(written, 0) + 1
            return
        sound = True
        if resolved.problem:
            self._problems.add(row.line, resolved.problem, resolved.remedy)
            sound = False
        if not text:
            what = f"the caption of {quoted(written)} is empty"
            self._problems.add(row.line, what, "add a text or remove the line")
            sound = False
        if self._split in self._table.columns:
            sound &= self._add_split(row, resolved.id)
        if sound:
            self.found.texts.setdefault(resolved.id, []).append(text)
            if resolved.id != written:
                self._renamed[written] = resolved.id

    def remarks(self, name: str) -> list[Remark]:
        found = []
        if self._renamed:
            pairs = tuple(f"{written} is {video}" for written, video in self._renamed.items())
            found.append(
                Remark(f"{name}: {len(pairs)} ids are written differently from the video's", pairs)
            )
        if self.left_out:
            count = sum(self.left_out.values())
            what = f"{name}: {count} captions are of files that are left out"
            found.append(Remark(what, tuple(self.left_out)))
        return found

    def _video(self, written: str) -> ResolvedId:
        if written not in self._resolved:
            self._resolved[written] = self._resolve(written)
        return self._resolved[written]

    def _swallowed(self, row: CsvRow) -> bool:
        """Whether the row has another row in it, since a quote is not closed; reports that."""
        for offset, line in enumerate(row.continued, start=1):
            first, separator, _ = line.partition(self._table.separator)
            if separator and first.strip().strip('"') in self._known:
                what = f"a quote opened here takes in line {row.line + offset}, a line of its own"
                self._problems.add(row.line, what, "close the quote, or remove it")
                return True
        return False

    def _add_split(self, row: CsvRow, video: str) -> bool:
        text = row.fields[self._split].strip()
        split = next((split for split in SPLITS if split == text), None)
        if split is None:
            what = f"split {quoted(text)}; expected {', '.join(SPLITS)}"
            self._problems.add(row.line, what, "correct it")
            return False
        if self.found.splits.setdefault(video, split) != split:
            what = f"{quoted(video)} is in split {self.found.splits[video]} and in {split}"
            self._problems.add(row.line, what, "give a video one split")
            return False
        return True
