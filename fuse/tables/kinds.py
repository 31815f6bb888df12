"""Kinds of queries that their author has told apart, so that a table can say how each fares.

numpy only. Q queries.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from m2hf.array_types import BoolArray
from m2hf.errors import UsageError
from m2hf.keys import sha256_file


@dataclass(frozen=True)
class QueryKinds:
    """path: of the CSV, with digest sha256; kinds: by the id of a query."""

    path: Path
    digest: str
    kinds: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Self:
        """A CSV with a header `id,kind`, a line a query.

        Raises UsageError for a file that isn't there or isn't that, or has an id twice.
        """
        if not path.is_file():
            raise UsageError(f"--kinds {path}: no such file; expected CSV with id,kind")
        kinds: dict[str, str] = {}
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if not {"id", "kind"} <= set(reader.fieldnames or ()):
                raise UsageError(
                    f"{path}: header is {','.join(reader.fieldnames or ())}, expected id,kind"
                )
            for line in reader:
                query, kind = (line["id"] or "").strip(), (line["kind"] or "").strip()
                where = f"{path}, line {reader.line_num}"
                if not kind:
                    raise UsageError(f"{where}: {query!r} has no kind")
                if query in kinds:
                    raise UsageError(f"{where}: {query!r} is there twice")
                kinds[query] = kind
        return cls(path, sha256_file(path), kinds)

    def masks(self, query_ids: Sequence[str]) -> Iterator[tuple[str, BoolArray]]:
        """Kind, and (Q,) which of the queries are of it; raises UsageError where one has none."""
        lost = [query for query in query_ids if query not in self.kinds]
        if lost:
            raise UsageError(
                f"{self.path}: no kind for query {lost[0]!r}"
                + (f" (and {len(lost) - 1} others)" if len(lost) > 1 else "")
                + "; ids are <video id>#<number of its caption, from 0>"
            )
        kind_Q = np.array([self.kinds[query] for query in query_ids])
        for kind in sorted(set(kind_Q.tolist())):
            yield kind, kind_Q == kind
