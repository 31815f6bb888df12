"""Trace a number in a written table back to the inputs that it was computed from, and compute it
again from the similarity files.

A table's file carries its document (`records.py`): every row with its numbers, and for
each block the chain of digests. A CSV holds no chain, so its runs must be given.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from m2hf.errors import UsageError
from m2hf.fuse.tables.bootstrap import LEVEL
from m2hf.fuse.tables.chain import TraceFiles, streams_read
from m2hf.fuse.tables.grid import SHORT
from m2hf.fuse.tables.recompute import Difference, recompute
from m2hf.fuse.tables.visible import VisibleRow, visible_row
from m2hf.fuse.tables.written import read_document
from m2hf.keys import canonical_json


@dataclass(frozen=True)
class Trace:
    """One row of a written table: its records, one per direction, its block (data, label and
    digest), and the chain of that block, None where the table has none (CSV). suffix: of the file;
    visible: the cells that it prints, None where those are the records; notes: of its part."""

    records: Sequence[Mapping[str, Any]]
    place: Mapping[str, str]
    known_chain: Mapping[str, Any] | None
    suffix: str
    visible: VisibleRow | None
    notes: Sequence[str]

    @classmethod
    def of(cls, path: Path, row: str) -> "Trace":
        """The row named `row` in the table at `path`; where several blocks have a row of that
        name, `row@digest` with the first digits of the block's digest, or `row@label`.

        Raises UsageError for a file that is no table or can't be traced, and for a row that is
        missing or ambiguous.
        """
        text, document = read_document(path)
        blocks = list(_blocks(document))
        rows = [record for block in blocks for record in block["rows"]]
        names = {record["name"]: not record["subset"] for record in rows}
        name, _, where = (row, "", "") if row in names else row.rpartition("@")
        found = [
            (block, records)
            for block in blocks
            if block["digest"].startswith(where) or block["label"].startswith(where)
            if (records := [r for r in block["rows"] if r["name"] == name])
        ]
        if not found:
            near = difflib.get_close_matches(row, names, n=1, cutoff=0.5)
            hint = (
                f"did you mean {near[0]!r}?"
                if near
                else f"it has {', '.join(n for n, whole in names.items() if whole)}"
            )
            raise UsageError(f"{path}: no row {row!r}; {hint}")
        if len(found) > 1:
            choice = ", ".join(f"'{name}@{block['digest'][:SHORT]}'" for block, _ in found)
            raise UsageError(f"{path}: {len(found)} rows are named {name!r}; give one of {choice}")
        block, records = found[0]
        place = {key: block[key] for key in ("data", "label", "digest")}
        chain = None if path.suffix == ".csv" else document["chains"][block["digest"]]
        visible = visible_row(text, path.suffix, document, block["number"], records[0])
        return cls(records, place, chain, path.suffix, visible, block["notes"])

    @property
    def chain(self) -> Mapping[str, Any]:
        """The chain of the block; empty where it is not known."""
        return self.known_chain or {}

    def compare(self, runs: Sequence[Path], kinds: Path | None) -> "Comparison":
        """Compute the row again from the similarity files of `runs`, and compare every number."""
        first, found = self.records[0], list(self._contradictions())
        if self.known_chain is not None and not self.runs:
            reason = "compute it again with `m2hf matrices` and compare"
            return Comparison(self, reason, found)
        again = recompute(first, self.place["digest"], self.known_chain, self.notes, runs, kinds)
        if isinstance(again, str):
            return Comparison(self, again, found)
        if isinstance(again, Difference):
            return Comparison(self, "other files", [again, *found])
        if self.visible is not None and not self.visible.problem:
            found = []  # the files decide which of the two is wrong
        found += again.differences(self.records, self.chain, self.suffix, self.visible)
        trace = (
            self if self.known_chain is not None else replace(self, known_chain=again.block.chain)
        )
        return Comparison(trace, "", found)

    def _contradictions(self) -> Iterator[Difference]:
        """Where the printed cells differ from the record; needs no files."""
        if self.visible is None:
            return
        if self.visible.problem:
            yield Difference(
                "printed table", "not as written:", self.visible.problem, "again", "write the table"
            )
            return
        for record in self.records:
            for column, texts in _printed(record):
                cell = self.visible.cells.get((record["direction"], column), "")
                text = texts[0]
                if not f"{cell} ".startswith(tuple(f"{each} " for each in texts)):
                    number = f"{record['direction'].upper()} {column}"
                    yield Difference(number, "the table prints", cell, text, "its record gives")

    @property
    def runs(self) -> Sequence[Mapping[str, Any]]:
        """The chain of each run; empty for a table of given matrices."""
        runs: Sequence[Mapping[str, Any]] = self.chain.get("runs", ())
        return runs

    def check(self, files: TraceFiles) -> list[dict[str, bool]]:
        """For each run, which of its inputs are in `files`, and whether they are unchanged.

        Raises UsageError for files of a run where the numbers come from given matrices.
        """
        if self.known_chain is not None and not self.runs and files != TraceFiles():
            raise UsageError(
                "this row was computed from given matrices, not from a run, store or manifest"
            )
        return [files.check(run) for run in self.runs]

    def lines(self, checked: Sequence[Mapping[str, bool]]) -> Iterator[str]:
        """The chain as lines of text; `checked` as returned by `check`."""
        first = self.records[0]
        label = f" ({self.place['label']})" if self.place["label"] else ""
        yield f"{first['name']}: {self.place['data']}{label}"
        for record in self.records:
            yield (
                f"  {record['direction'].upper()} R@1 {record['R@1']}, "
                f"95 % {record['ci'][0]} to {record['ci'][1]}, MnR {record['MnR']}; "
                f"{record['queries']} queries, {record['candidates']} candidates"
            )
        yield f"  flags: {', '.join(first['flags']) or 'none'}"
        yield f"  digest {self.place['digest']}"
        for number, (run, same) in enumerate(zip(self.runs, checked, strict=True), start=1):
            yield f"run {number} of {len(self.runs)}: {run['dataset']} {run['split']}"
            yield from self._run_lines(run, same)
        for name, sha256 in self.chain.get("files", {}).items():
            yield f"{name}: sha256 {sha256}"
        for name, blend in self.chain.get("blends", {}).items():
            if name == _plain(first["scoring"]):
                terms = canonical_json(blend["terms"])
                yield f"{blend['rule']}, parameters from {blend['origin']}: {terms}"

    def _run_lines(self, run: Mapping[str, Any], same: Mapping[str, bool]) -> Iterator[str]:
        def verdict(key: str) -> str:
            return "" if key not in same else " (matches)" if same[key] else " (DIFFERS)"

        yield f"  similarity file: sha256 {run['similarity']}{verdict('similarity')}"
        yield (
            f"  checkpoint: sha256 {run['checkpoint']}{verdict('checkpoint')}, "
            f"trained on {run['trained_on']}"
        )
        yield f"  manifest: sha256 {run['manifest']}{verdict('manifest')}"
        reads = streams_read(run["config"], _plain(self.records[0]["scoring"]))
        for role, stream in run["streams"].items():
            if reads is None or role in reads:
                yield f"  stream {role}: {stream['stream']}, revision {stream['revision']}"
                yield f"    fingerprint {stream['fingerprint']}"
                yield f"    shards: sha256 {stream['shards']}{verdict(role)}"
                yield f"    items used: sha256 {stream['digest']}"
                yield f"    config {canonical_json(stream['config'])}"
                for name, sha256 in stream["weights"].items():
                    yield f"    weights {name}: sha256 {sha256}"
        yield f"  fuse config {canonical_json(run['config'])}"


def _plain(scoring: str) -> str:
    """The name of the matrix before post-processing."""
    return scoring.partition(" + ")[0]


def _blocks(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    number = 0
    for part in document["parts"]:
        for block in part["blocks"]:
            yield {**block, "data": part["data"], "notes": part["notes"], "number": number}
            number += 1


def _printed(record: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """What a table may print of a record, as far as the record tells; empty for damaged numbers."""
    numbers = (record["R@1"], record["MnR"], *record["ci"])
    if not all(type(number) in (int, float) for number in numbers):
        return
    yield "R@1", _rounded(record["R@1"], 1)
    if record["subset"]:
        yield "queries", [f"{record['queries']}"]
        return
    low, high = (_rounded(end, 1) for end in record["ci"])
    yield f"{LEVEL} %", [f"{one} to {other}" for one in low for other in high]
    yield "MnR", _rounded(record["MnR"], 2)


def _rounded(number: float, decimals: int) -> list[str]:
    """The number as printed; both neighbours where its record, itself rounded, may be either."""
    texts = (f"{number + shift:.{decimals}f}" for shift in (0, -1e-6, 1e-6))
    return list(dict.fromkeys(texts))


@dataclass(frozen=True)
class Comparison:
    """A row against its files. trace: the row, with its chain where the files gave it; reason: why
    it was not computed again, "" if it was; differences: numbers that differ."""

    trace: Trace
    reason: str
    differences: Sequence[Difference]

    def lines(self) -> Iterator[str]:
        """What was found, as lines of text."""
        yield from map(str, self.differences)
        if self.reason:
            yield f"not computed again: {self.reason}"
        elif not self.differences:
            yield "computed again from the similarity files: every number of the row is the same"
