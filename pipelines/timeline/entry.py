"""One item in one stream: its features and their summary, or why there are none.

N rows of an entry, D their width.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from m2hf.features import Features
from m2hf.shard_header import ShardHeader
from m2hf.streams import THUMBNAIL, extractor_of


class EntryOutcome(StrEnum):
    """The outcome of one item in one stream. DAMAGED: an unreadable shard, or an item that doesn't
    match its digest; MISSING: neither in a shard nor in the ledger."""

    OK = "ok"
    EMPTY = "empty"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    DAMAGED = "damaged"
    MISSING = "not extracted"


@dataclass(frozen=True)
class RowSummary:
    """Statistics of an entry's rows. norm_min, norm_max: of their L2 norms; alike: mean cosine of
    adjacent rows, None where there are fewer than two with a non-zero norm."""

    rows: int
    width: int
    dtype: str
    start_s: float
    end_s: float
    norm_min: float
    norm_max: float
    alike: float | None

    @classmethod
    def of(cls, features: Features) -> "RowSummary | None":
        """None where there are no rows."""
        values_ND = features.values.astype(np.float64)
        if not len(values_ND):
            return None
        norms_N = np.linalg.norm(values_ND, axis=1)
        pairs = norms_N[:-1] * norms_N[1:]
        dots = (values_ND[:-1] * values_ND[1:]).sum(axis=1)
        cosines = dots[pairs > 0] / pairs[pairs > 0]
        return cls(
            rows=len(values_ND),
            width=values_ND.shape[1],
            dtype=features.values.dtype.name,
            start_s=round(float(features.start_s.min()), 4),
            end_s=round(float(features.end_s.max()), 4),
            norm_min=round(float(norms_N.min()), 4),
            norm_max=round(float(norms_N.max()), 4),
            alike=round(float(cosines.mean()), 4) if len(cosines) else None,
        )


@dataclass(frozen=True, eq=False)
class StreamEntry:
    """One item in one stream. reason: why it is not ok, or a remark on rows that are; header,
    features and source (sha256 of what they were made from): None or "" if not in a shard."""

    stream: str
    item: str
    outcome: EntryOutcome
    reason: str = ""
    header: ShardHeader | None = None
    features: Features | None = None
    source: str = ""

    @property
    def extractor(self) -> str:
        return extractor_of(self.stream)

    @property
    def kind(self) -> str:
        """The extractor that made it; `extractor` is its name, which a recipe may have chosen."""
        return self.extractor if self.header is None else self.header.kind

    @property
    def flags(self) -> tuple[str, ...]:
        return () if self.header is None else tuple(self.header.flags)

    @property
    def strings(self) -> tuple[str, ...] | None:
        """Recognized text, one string per row; None for a stream without text."""
        if self.features is None or self.kind == THUMBNAIL:
            return None
        return self.features.texts

    @property
    def summary(self) -> RowSummary | None:
        return None if self.features is None else RowSummary.of(self.features)

    def windows(self) -> Iterator[dict[str, Any]]:
        """Per row: start_s and end_s, text and confidence of a string, and named columns."""
        if self.features is None:
            return
        f, strings = self.features, self.strings
        columns = () if self.header is None else self.header.columns
        for i in range(len(f.values)):
            times = zip(("start_s", "end_s"), (f.start_s[i], f.end_s[i]), strict=True)
            window: dict[str, Any] = {name: round(float(at), 4) for name, at in times}
            if strings is not None and f.confidence is not None:
                window |= {"text": strings[i], "confidence": round(float(f.confidence[i]), 4)}
            for name, value in zip(columns, f.values[i], strict=False):
                window[name] = round(float(value), 4)
            yield window

    def as_json(self) -> dict[str, Any]:
        """The entry that `show --json` prints."""
        return {
            "stream": self.stream,
            "item": self.item,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "flags": list(self.flags),
            "fingerprint": "" if self.header is None else self.header.fingerprint,
            "source_sha256": self.source,
            "summary": None if (summary := self.summary) is None else asdict(summary),
            "windows": list(self.windows()),
        }
