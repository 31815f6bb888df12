"""Compute a bundled table again: check every digest, score from the shards, compare each cell."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m2hf.config import parse
from m2hf.errors import M2hfError, SchemaError
from m2hf.fuse.bundle import index
from m2hf.fuse.bundle.archive import Archive
from m2hf.fuse.bundle.environment import changes, environment
from m2hf.fuse.bundle.index import ChainRun, Index
from m2hf.fuse.bundle.side_by_side import Cells, side_by_side
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.evaluation.evaluate import evaluate
from m2hf.fuse.run_folder import RunFolder
from m2hf.fuse.scores.similarity_file import SimilarityFile
from m2hf.fuse.tables.chain import TraceFiles
from m2hf.fuse.tables.grid import SHORT, row_cells
from m2hf.fuse.tables.recompute import Recomputation, changed, maker_of
from m2hf.fuse.tables.table import Table, TablePart
from m2hf.fuse.tables.visible import VisibleRow, visible_row
from m2hf.fuse.tables.written import read_document
from m2hf.keys import sha256_file
from m2hf.manifest import Manifest
from m2hf.plain_data import json_object, read_text

Say = Callable[[str], None]


@dataclass(frozen=True)
class Reproduction:
    """A bundle that is unpacked in `folder`; say: is told every finding, line by line."""

    folder: Path
    about: Index
    say: Say

    @classmethod
    def unpack(cls, bundle: Path, folder: Path, say: Say) -> "Reproduction | None":
        """Unpack into an empty folder; None, after each was named, where files are damaged.

        Raises UsageError or SchemaError for a file that is no bundle.
        """
        with Archive.open(bundle) as archive:
            where = f"{bundle}: {index.NAME}"
            about = Index.read(archive.read(index.NAME, index.LARGEST), where)
            sizes = {name: size for name, size in archive.sizes.items() if name != index.NAME}
            differing = [f"{n}: not in the list of digests" for n in sizes.keys() - about.members]
            for name, member in about.members.items():
                if name not in sizes:
                    differing.append(f"{name}: lacking")
                elif archive.extract(name, folder / name) != member.sha256:
                    differing.append(f"{name}: its bytes differ from those that were packed")
        for line in sorted(differing):
            say(f"DIFFERS  {line}")
        if any(not _readable_anyway(line.partition(": ")[0], about) for line in differing):
            say("nothing is scored from damaged files")
            return None
        if not differing:
            say(f"{len(about.members)} files: every digest is right")
        return cls(folder, about, say)

    def run(self) -> bool:
        """Whether the table is reproduced; raises SchemaError for a table that can't be read."""
        path = self.folder / self.about.table
        text, document = read_document(path)
        runs = index.runs_of(path, document)
        if not self._chains_match(runs, index.kinds_digest(document)):
            return False
        printed = _Printed(text, path.suffix, document)
        kinds = self.folder / index.KINDS
        stored = printed.build(
            {run.chain["similarity"]: self._run(run).similarity for run in runs},
            kinds if kinds.is_file() else None,
        )
        wrong = list(printed.differences(stored))
        for line in wrong:
            self.say(f"DIFFERS  {line}")
        if not wrong:
            self.say("the table says what its similarity files give")
        again = {run.chain["similarity"]: self._score(run) for run in runs}
        moved = list(changes(self.about.environment, environment()))
        self.say("libraries and processor: " + ("; ".join(moved) or "those of the bundle"))
        table = printed.build(again, kinds if kinds.is_file() else None)
        right = side_by_side(list(printed.beside(stored, table)), not moved, self.say)
        return right and not wrong

    def _run(self, run: ChainRun) -> RunFolder:
        return RunFolder(self.folder / run.folder)

    def _chains_match(self, runs: Sequence[ChainRun], kinds: str) -> bool:
        """Whether files are those that the table names; each that is not is named."""
        wrong = []
        for run in runs:
            files = TraceFiles(
                (self.folder / run.folder,), self.folder / "store", self.folder / run.manifest
            )
            try:
                same = files.check(run.chain)
            except M2hfError as error:
                wrong.append(f"{run}: {error}")
                continue
            differing = [key for key, unchanged in same.items() if not unchanged]
            wrong += [f"{run}: {key} is not the one that the table names" for key in differing]
            wrong += [f"{run}: {line}" for line in _config_changes(self._run(run).config, run)]
        path = self.folder / index.KINDS
        if kinds != (sha256_file(path) if path.is_file() else ""):
            wrong.append(f"{index.KINDS}: not the kinds of queries that the table names")
        for line in wrong:
            self.say(f"DIFFERS  {line}")
        return not wrong

    def _score(self, run: ChainRun) -> Path:
        """Score a run again, into a file of its own, and say how its scores compare."""
        folder = self._run(run)
        file = SimilarityFile.read(folder.similarity)
        out = self.folder / "again" / f"{folder.root.name}.h5"
        evaluate(
            Manifest.load(self.folder / run.manifest),
            self.folder / "store",
            folder.root,
            parse(FusionConfig, file.config, str(folder.similarity), SchemaError),
            run.chain["split"],
            with_baselines=bool(file.baselines),
            out=out,
        )
        if sha256_file(out) == run.chain["similarity"]:
            self.say(f"scored again, equal bytes: {run}")
        else:
            self.say(f"scored again, scores differ by up to {_farthest(file, out):.2g}: {run}")
        return out


@dataclass(frozen=True)
class _Printed:
    """A written table: text, suffix, document."""

    text: str
    suffix: str
    document: Mapping[str, Any]

    def build(self, similarity: Mapping[str, Path], kinds: Path | None) -> Table:
        """The table of these files, which are given by the digests of the written table's chains;
        blocks are labelled by the digests of its blocks."""
        parts: list[TablePart] = []
        for part in self.document["parts"]:
            blocks = {block["digest"]: block for block in part["blocks"]}
            scorings = [row["scoring"] for block in part["blocks"] for row in block["rows"]]
            labels = {
                similarity[run["similarity"]]: digest
                for digest in blocks
                for run in self.document["chains"][digest]["runs"]
            }
            made = maker_of(scorings, part["notes"], kinds).build(list(labels), labels)
            parts += made.parts
        return Table(tuple(parts))

    def differences(self, stored: Table) -> Iterator[str]:
        """Every number in which the table differs from what its similarity files give."""
        found = {(b.digest, row.name): Recomputation(row, b) for _, b, row in stored.rows()}
        for number, block in enumerate(self._blocks()):
            chain = self.document["chains"][block["digest"]]
            for name, records in _by_name(block["rows"]).items():
                where = f"{block['label']}: {name}"
                again = found.pop((block["digest"], name), None)
                if again is None:
                    yield f"{where}: a row that the files don't give"
                    continue
                visible = self._visible(number, records[0])
                if visible is not None and visible.problem:
                    yield f"{where}: {visible.problem}"
                for each in again.differences(records, chain, self.suffix, visible):
                    yield f"{where}: {each}"
        for (_, name), row in found.items():
            yield f"{name}: not in the table, the files give it (digest {row.block.digest[:SHORT]})"

    def beside(self, stored: Table, again: Table) -> Iterator[tuple[str, int, Cells, Cells]]:
        """Each row and direction: name, queries, cells as printed, and cells computed again.

        stored: the table of the bundled files, for formats that print no cells.
        """
        rows = {(b.digest, row.name): row for _, b, row in stored.rows()}
        new = {(b.label.partition("; ")[0], row.name): row for _, b, row in again.rows()}
        for number, block in enumerate(self._blocks()):
            for name, records in _by_name(block["rows"]).items():
                row, other = (found.get((block["digest"], name)) for found in (rows, new))
                visible = self._visible(number, records[0])
                for direction in row.metrics if row else ():
                    assert row is not None
                    right = row_cells(row, direction)
                    printed = (
                        right
                        if visible is None
                        else {
                            column: visible.cells.get((direction, column), "") for column in right
                        }
                    )
                    computed = row_cells(other, direction) if other else {}
                    title = f"{block['label']}: {name}, {direction.upper()}"
                    yield title, row.metrics[direction].queries, printed, computed

    def _blocks(self) -> Iterator[Mapping[str, Any]]:
        for part in self.document["parts"]:
            yield from part["blocks"]

    def _visible(self, number: int, record: Mapping[str, Any]) -> VisibleRow | None:
        return visible_row(self.text, self.suffix, self.document, number, record)


def _readable_anyway(name: str, about: Index) -> bool:
    """Whether a file that differs is text of which every difference is named."""
    return name == about.table or bool(re.fullmatch(r"runs/[^/]+/config\.json", name))


def _config_changes(path: Path, run: ChainRun) -> Iterator[str]:
    """Every key in which the config of a run is not that of the table, with both values."""
    try:
        found = json_object(read_text(path, path.name), path.name)
    except M2hfError as error:
        yield str(error)
        return
    for key, there, right in changed(found, run.chain["config"]):
        yield f"{path.name}: {key} = {there}, and {right} in the table's chain"


def _by_name(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["name"], []).append(row)
    return found


def _farthest(file: SimilarityFile, out: Path) -> float:
    other = SimilarityFile.read(out)
    return max(
        float(np.abs(scores.astype(np.float64) - other.scores[name]).max(initial=0.0))
        for name, scores in file.scores.items()
    )
