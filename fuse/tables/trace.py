"""Trace a number in a written table back to the inputs that it was computed from.

A table's file carries its document (`records.py`): every row with its numbers, and for
each block the chain of digests. A CSV holds only numbers and can't be traced.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2hf.errors import SchemaError, UsageError
from m2hf.fuse.tables.chain import TraceFiles, streams_read
from m2hf.fuse.tables.formats import FORMATS, embedded
from m2hf.fuse.tables.grid import SHORT
from m2hf.fuse.tables.records import SCHEMA, VERSION
from m2hf.keys import canonical_json

_TRACED = [suffix for suffix in FORMATS if suffix != ".csv"]


@dataclass(frozen=True)
class Trace:
    """One row of a written table: its records, one per direction, its block (data, label and
    digest), and the chain of that block."""

    records: Sequence[Mapping[str, Any]]
    place: Mapping[str, str]
    chain: Mapping[str, Any]

    @classmethod
    def of(cls, path: Path, row: str) -> "Trace":
        """The row named `row` in the table at `path`; where several blocks have a row of that
        name, `row@digest` with the first digits of the block's digest, or `row@label`.

        Raises UsageError for a file that is no table or can't be traced, and for a row that is
        missing or ambiguous.
        """
        document = _read(path)
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
        return cls(records, place, document["chains"][block["digest"]])

    @property
    def runs(self) -> Sequence[Mapping[str, Any]]:
        """The chain of each run; empty for a table of given matrices."""
        runs: Sequence[Mapping[str, Any]] = self.chain.get("runs", ())
        return runs

    def check(self, files: TraceFiles) -> list[dict[str, bool]]:
        """For each run, which of its inputs are in `files`, and whether they are unchanged.

        Raises UsageError for files of a run where the numbers come from given matrices.
        """
        if not self.runs and files != TraceFiles():
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
    for part in document["parts"]:
        yield from ({**block, "data": part["data"]} for block in part["blocks"])


def _read(path: Path) -> Mapping[str, Any]:
    if path.suffix not in _TRACED:
        raise UsageError(
            f"{path}: a table that can be traced ends in {', '.join(_TRACED)}; "
            "write it again in one of these with `m2hf tables --out`"
        )
    try:
        document = embedded(path.read_text(encoding="utf-8"), path.suffix)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; `m2hf tables --out` writes one") from error
    except ValueError as error:
        raise UsageError(
            f"{path}: not a table of m2hf, or truncated; `m2hf tables --out` writes one"
        ) from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise SchemaError(f"{path}: not a table of m2hf; `m2hf tables --out` writes one")
    if document.get("version") != VERSION:
        raise SchemaError(
            f"{path}: {SCHEMA} schema version {document.get('version')}, this m2hf reads "
            f"{VERSION}; write the table again"
        )
    return document
