"""Kinds of queries, read from a CSV: a table has a row for each kind. numpy only.

Q queries.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from m2hf.array_types import BoolArray
from m2hf.errors import UsageError
from m2hf.keys import sha256_file
from m2hf.plain_data import csv_rows, read_text, shown


@dataclass(frozen=True)
class QueryKinds:
    """path: the CSV file; digest: its sha256; kinds: by query id."""

    path: Path
    digest: str
    kinds: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a CSV with the header `id,kind` and one line per query.

        Raises UsageError for a missing or malformed file, and for an id that occurs twice.
        """
        if not path.is_file():
            raise UsageError(f"--kinds {path}: no such file; expected CSV with id,kind")
        kinds: dict[str, str] = {}
        for where, line in csv_rows(read_text(path, str(path)), str(path), ("id", "kind")):
            query, kind = line["id"].strip(), line["kind"].strip()
            if not kind:
                raise UsageError(f"{where}: {shown(query)} has no kind")
            if query in kinds:
                raise UsageError(f"{where}: {shown(query)} occurs twice")
            kinds[query] = kind
        return cls(path, sha256_file(path), kinds)

    def masks(self, query_ids: Sequence[str]) -> Iterator[tuple[str, BoolArray]]:
        """Each kind with its mask (Q,); raises UsageError for a query without a kind."""
        missing = [query for query in query_ids if query not in self.kinds]
        if missing:
            raise UsageError(
                f"{self.path}: no kind for query {missing[0]!r}"
                + (f" (and {len(missing) - 1} others)" if len(missing) > 1 else "")
                + "; ids are <video id>#<number of its caption, from 0>"
            )
        kind_Q = np.array([self.kinds[query] for query in query_ids])
        for kind in sorted(set(kind_Q.tolist())):
            yield kind, kind_Q == kind
