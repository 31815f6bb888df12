"""The index of a bundle, and where its files are.

    bundle.json                             this index: digests of all others, versions
    table.<md, tex, json or html>           the table, as it was written
    runs/<similarity16>/checkpoint.safetensors, similarity.h5, config.json
    manifests/<digest16>/card.toml, rows.jsonl
    store/<dataset>/<stream>/<shard>.h5     the streams that the runs read
    kinds.csv                               where the table has rows by kind of query

<similarity16> and <digest16> are the first 16 hex digits of the digests in the table's chain.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from m2hf.config import Section, parse
from m2hf.errors import SchemaError, UsageError
from m2hf.keys import canonical_json
from m2hf.plain_data import json_object, shown
from m2hf.streams import StreamName

NAME = "bundle.json"
KINDS = "kinds.csv"
LARGEST = 1 << 28  # bytes of an index, or of a table, that is read
_SCHEMA = "m2hf.bundle"
_VERSION = 1
_DIGITS = 16


class Member(Section):
    """A file of a bundle: bytes, and digest."""

    size: int = Field(ge=0, strict=True)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Index(Section):
    """table: name of the table's file; members: all files but the index itself."""

    table: Literal["table.md", "table.tex", "table.json", "table.html"]
    environment: dict[str, str]
    members: dict[str, Member]

    def text(self) -> bytes:
        """The file."""
        about = {"schema": _SCHEMA, "version": _VERSION, **self.model_dump(mode="json")}
        return (canonical_json(about) + "\n").encode()

    @classmethod
    def read(cls, content: bytes, where: str) -> "Index":
        """Raises SchemaError for bytes that are no index, or of another version."""
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise SchemaError(f"{where}: not UTF-8") from error
        about = json_object(text, where, SchemaError)
        schema, found = about.pop("schema", None), about.pop("version", None)
        if (schema, found) != (_SCHEMA, _VERSION):
            raise SchemaError(
                f"{where}: {shown(schema)} version {shown(found)}, this m2hf reads {_SCHEMA} "
                f"version {_VERSION}"
            )
        return parse(cls, about, where, SchemaError)


@dataclass(frozen=True)
class ChainRun:
    """A run of a table: label and digest of its block, and its chain."""

    label: str
    block: str
    chain: Mapping[str, Any]

    @property
    def folder(self) -> str:
        return f"runs/{self.chain['similarity'][:_DIGITS]}"

    @property
    def manifest(self) -> str:
        return f"manifests/{self.chain['manifest'][:_DIGITS]}"

    def __str__(self) -> str:
        return f"{self.label}, similarity file {self.chain['similarity'][:_DIGITS]}"


def runs_of(path: Path, document: Mapping[str, Any]) -> Sequence[ChainRun]:
    """The runs of a table's document, in the order of its blocks, each once.

    Raises UsageError for a table without chains, and for one of given matrices.
    """
    found: dict[str, ChainRun] = {}
    for block in _blocks(document):
        chain = document["chains"].get(block["digest"])
        if chain is None:
            raise UsageError(
                f"{path}: a CSV does not say what it was made from; give the same table as .md, "
                ".tex, .json or .html"
            )
        if not chain.get("runs"):
            raise UsageError(f"{path}: made from given matrices, not from runs")
        for run in chain["runs"]:
            _check(path, run)
            found.setdefault(run["similarity"], ChainRun(block["label"], block["digest"], run))
    if not found:
        raise UsageError(f"{path}: a table without rows")
    return list(found.values())


def kinds_digest(document: Mapping[str, Any]) -> str:
    """sha256 of the kinds of queries that the table has rows of; "" for none."""
    for chain in document["chains"].values():
        for digest in chain.get("files", {}).values():
            return str(digest)
    return ""


def _check(path: Path, run: Mapping[str, Any]) -> None:
    """Raises SchemaError for digests and names of streams that can't be any: they name files."""
    digests = [run[key] for key in ("similarity", "checkpoint", "manifest")]
    digests += [stream["shards"] for stream in run["streams"].values()]
    try:
        for stream in run["streams"].values():
            StreamName(stream["stream"])
        if not all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests):
            raise ValueError("not a sha256")
    except ValueError as error:
        raise SchemaError(f"{path}: the chain of its numbers is damaged: {error}") from error


def _blocks(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for part in document["parts"]:
        yield from part["blocks"]
