"""The exported features of one video in one stream, or the reason why there are none."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from m2hf.features import Features
from m2hf.manifest import Row


@dataclass(frozen=True)
class ValueType:
    """Width D and type of the values of a stream."""

    width: int
    dtype: str


@dataclass(frozen=True, eq=False)
class ExportedItem:
    """One video in one stream: its features with the digest of the item in its shard, or
    `missing`, the reason why there are none."""

    features: Features | None
    digest: str = ""
    missing: str = ""

    def as_json(self) -> dict[str, Any]:
        """Everything except the values."""
        f = self.features
        if f is None:
            return {"status": "missing", "reason": self.missing}
        record = {
            "status": f.status.value,
            "reason": f.reason,
            "digest": self.digest,
            "start_s": f.start_s.tolist(),
            "end_s": f.end_s.tolist(),
        }
        return record | strings(f)


class FeatureWriter(Protocol):
    """Writes videos one by one."""

    def add(self, row: Row, streams: Mapping[str, ExportedItem]) -> None:
        """Write one video's features, by stream."""


def strings(features: Features) -> dict[str, Any]:
    """The strings of an item with their confidences, for JSON; {} where it has none."""
    if features.texts is None or features.confidence is None:
        return {}
    return {
        "texts": list(features.texts),
        "confidence": [round(float(sure), 6) for sure in features.confidence],
    }
