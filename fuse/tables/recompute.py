"""Compute a row of a written table again from similarity files, and compare every number."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2hf.errors import UsageError
from m2hf.fuse.run_folder import similarity_of
from m2hf.fuse.tables.formats import TRACED
from m2hf.fuse.tables.grid import row_cells
from m2hf.fuse.tables.kinds import QueryKinds
from m2hf.fuse.tables.post_processing import PostProcessing, Ranking
from m2hf.fuse.tables.records import csv_text, row_records
from m2hf.fuse.tables.similarity_table import SimilarityTable
from m2hf.fuse.tables.table import Table, TableBlock, TablePart, TableRow
from m2hf.fuse.tables.visible import VisibleRow
from m2hf.keys import canonical_json, sha256_file

_POST = re.compile(r" \+ (dual softmax|querybank) (\S+)$")
_ELSEWHERE = ("data", "block", "digest", "notes")  # columns of CSV that other rows decide


@dataclass(frozen=True)
class Difference:
    """A number of the table, and what the files give; source: what the table's number is in."""

    number: str
    source: str
    table: str
    files: str
    against: str = "the files give"

    def __str__(self) -> str:
        return f"{self.number}: {self.source} {self.table}, {self.against} {self.files}"


@dataclass(frozen=True)
class Recomputation:
    """A row computed again, with the block that it is in."""

    row: TableRow
    block: TableBlock

    def differences(
        self,
        records: Sequence[Mapping[str, Any]],
        chain: Mapping[str, Any],
        suffix: str,
        visible: VisibleRow | None,
    ) -> Iterator[Difference]:
        """Every number in which the table differs from what the files give."""
        expected = list(row_records(self.row)) if suffix != ".csv" else list(self._csv_records())
        keys = None if suffix in (".csv", ".json") else TRACED
        by_direction = {record["direction"]: record for record in records}
        source = "the table has" if keys is None else "the table's record has"
        for wanted in expected:
            direction = str(wanted["direction"])
            have = by_direction.pop(direction, {})
            names = dict.fromkeys((*wanted, *have)) if keys is None else keys
            for name in names:
                if have.get(name) != wanted.get(name) and name not in _ELSEWHERE:
                    number = f"{direction.upper()} {name}"
                    yield Difference(number, source, _text(have, name), _text(wanted, name))
            if visible is not None and not visible.problem:
                yield from self._printed(direction, visible)
        for direction in by_direction:
            yield Difference(f"{direction.upper()} row", source, "one", "none")
        if chain != self.block.chain and suffix != ".csv":
            for key, found, right in changed(chain, self.block.chain):
                yield Difference(f"chain, {key}", source, found, right)

    def _printed(self, direction: str, visible: VisibleRow) -> Iterator[Difference]:
        for column, right in row_cells(self.row, direction).items():
            printed = visible.cells.get((direction, column), "")
            if printed != right:
                number = f"{direction.upper()} {column}"
                yield Difference(number, "the table prints", printed or "nothing", right or "none")

    def _csv_records(self) -> Iterator[Mapping[str, Any]]:
        block = TableBlock("", (self.row,), "", {})
        text = csv_text(Table((TablePart("", (block,), ()),)))
        for row in csv.DictReader(io.StringIO(text, newline="")):
            yield {**row, "flags": [row["flags"]], "ci": [row["R@1_low"], row["R@1_high"]]}


def recompute(
    record: Mapping[str, Any],
    digest: str,
    chain: Mapping[str, Any] | None,
    notes: Sequence[str],
    runs: Sequence[Path],
    kinds: Path | None,
) -> "Recomputation | Difference | str":
    """The row of `record` from the similarity files of `runs`, or why that was not possible; a
    Difference where they don't give the digest.

    chain: of the row's block, None where the table has none (CSV): then `runs` must be exactly
    those of the row, or of the table. Raises UsageError for a run without a similarity file.
    """
    if not runs:
        return "give --run RUN, the folder with similarity.h5, for each run of the row"
    paths = {sha256_file(path): path for path in map(_similarity, runs)}
    if chain is not None:
        wanted = [run["similarity"] for run in chain["runs"]]
        lacking = [sha256 for sha256 in wanted if sha256 not in paths]
        if lacking:
            return f"no --run has the similarity file {lacking[0]}"
        paths = {sha256: paths[sha256] for sha256 in wanted}
    if (chain or {}).get("files") and kinds is None:
        return "the table was made with --kinds FILE; give the same file"
    table = maker_of([record["scoring"]], notes, kinds).build(list(paths.values()))
    for _, block, row in table.rows():
        if block.digest == digest and row.name == record["name"]:
            return Recomputation(row, block)
    digests = sorted({block.digest for part in table.parts for block in part.blocks})
    return Difference("digest", "the table has", digest, ", ".join(digests))


def maker_of(scorings: Iterable[str], notes: Sequence[str], kinds: Path | None) -> SimilarityTable:
    """What made the rows of these scorings, in a part with these notes; kinds: the file of kinds of
    queries that it had."""
    found = filter(None, map(_POST.search, dict.fromkeys(scorings)))
    scales = [(post[1], float(post[2])) for post in found if _is_number(post[2])]
    dual = tuple(dict.fromkeys(scale for name, scale in scales if name[0] == "d"))
    bank = [scale for name, scale in scales if name[0] == "q"]
    processing = PostProcessing(dual, bank[0]) if bank else PostProcessing(dual)
    group = Ranking(True).rule(2, 1)
    return SimilarityTable(
        processing, Ranking(group in notes), None if kinds is None else QueryKinds.read(kinds)
    )


def _similarity(run: Path) -> Path:
    path = similarity_of(run)
    if not path.is_file():
        raise UsageError(f"--run {run}: no {path.name} there; give the folder of a run")
    return path


def _is_number(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False


def _text(record: Mapping[str, Any], name: str) -> str:
    if name not in record or record[name] == "":
        return "nothing"
    value = record[name]
    return value if isinstance(value, str) else canonical_json(value)


def changed(found: Any, right: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Path and both values of each place in which two pieces of plain data differ."""
    if isinstance(found, Mapping) and isinstance(right, Mapping):
        for key in dict.fromkeys((*found, *right)):
            yield from changed(found.get(key), right.get(key), f"{path}.{key}" if path else key)
    elif isinstance(found, list) and isinstance(right, list) and len(found) == len(right):
        for number, pair in enumerate(zip(found, right, strict=True)):
            yield from changed(*pair, f"{path}.{number}")
    elif found != right:
        yield path, canonical_json(found), canonical_json(right)
