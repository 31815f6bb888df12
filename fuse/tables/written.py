"""Read a written table: its text, and the document that is in it; CSV gives one without chains."""

import csv
import io
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from m2hf.errors import SchemaError, UsageError
from m2hf.fuse.tables.formats import FORMATS, embedded
from m2hf.fuse.tables.records import SCHEMA, VERSION
from m2hf.plain_data import read_text, shown


class _Shape(BaseModel):
    """What a trace reads of a document; other keys are left alone."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Level(_Shape):
    stream: str
    fusion: str


class _Config(_Shape):
    levels: dict[str, _Level] = Field(default_factory=dict)


class _Stream(_Shape):
    stream: str
    revision: Any
    fingerprint: str
    shards: str
    digest: str
    config: dict[str, Any]
    weights: dict[str, str]


class _Run(_Shape):
    similarity: str
    dataset: str
    split: str
    checkpoint: str
    trained_on: str
    manifest: str
    streams: dict[str, _Stream]
    config: _Config


class _Blend(_Shape):
    rule: str
    origin: str
    terms: dict[str, Any]


class _Chain(_Shape):
    runs: list[_Run] = Field(default_factory=list)
    files: dict[str, str] = Field(default_factory=dict)
    blends: dict[str, _Blend] = Field(default_factory=dict)


class _Record(_Shape):
    name: str
    direction: str
    scoring: str
    subset: str
    recall: Any = Field(alias="R@1")
    ci: list[Any] = Field(min_length=2, max_length=2)
    MnR: Any
    queries: Any
    candidates: Any
    flags: list[str]


class _Block(_Shape):
    label: str
    digest: str
    rows: list[_Record]


class _Part(_Shape):
    data: str
    notes: list[str]
    blocks: list[_Block]


class _Document(_Shape):
    chains: dict[str, _Chain]
    parts: list[_Part]


def read_document(path: Path) -> tuple[str, Mapping[str, Any]]:
    """The text and the document of a table; raises UsageError or SchemaError for another file."""
    if path.suffix not in FORMATS:
        raise UsageError(
            f"{path}: a table ends in {', '.join(FORMATS)}; `m2hf tables --out` writes one"
        )
    text = read_text(path, str(path))
    if path.suffix == ".csv":
        return text, _csv_document(path, text)
    try:
        document = embedded(text, path.suffix)
    except UsageError as error:
        raise UsageError(
            f"{path}: not a table of m2hf, or truncated; `m2hf tables --out` writes one"
        ) from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise SchemaError(f"{path}: not a table of m2hf; `m2hf tables --out` writes one")
    if document.get("version") != VERSION:
        raise SchemaError(
            f"{path}: {SCHEMA} schema version {shown(document.get('version'))}, this m2hf reads "
            f"{VERSION}; write the table again"
        )
    _check(path, document, chains=True)
    return text, document


def _check(path: Path, document: Mapping[str, Any], chains: bool) -> None:
    try:
        _Document.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise SchemaError(
            f"{path}: its record is damaged: {shown(key)}: {first['msg']}; write the table again"
        ) from error
    digests = {block["digest"] for part in document["parts"] for block in part["blocks"]}
    if chains and (lacking := sorted(digests - document["chains"].keys())):
        raise SchemaError(
            f"{path}: its record has no chain of digest {shown(lacking[0])}; write the table again"
        )


def _csv_document(path: Path, text: str) -> Mapping[str, Any]:
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), restval="", strict=True))
    except csv.Error as error:
        raise UsageError(f"{path}: not a CSV file: {error}") from error
    needed = {"data", "block", "digest", "notes", "R@1_low", "R@1_high", "flags", "name"}
    if not rows or not needed <= rows[0].keys() or any(None in row for row in rows):
        raise SchemaError(f"{path}: not a table of m2hf; `m2hf tables --out` writes one")
    parts = []
    for (data, label, digest), of_block in groupby(
        rows, key=lambda row: (row["data"], row["block"], row["digest"])
    ):
        records = [
            {**row, "ci": [row["R@1_low"], row["R@1_high"]], "flags": [row["flags"]]}
            for row in of_block
        ]
        notes = str(records[0]["notes"]).split("; ")
        block = {"label": label, "digest": digest, "rows": records}
        parts.append({"data": data, "notes": notes, "blocks": [block]})
    document = {"chains": {}, "parts": parts}
    _check(path, document, chains=False)
    return document
