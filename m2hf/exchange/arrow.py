"""Features as Arrow tables: an IPC (Feather) file for each stream, a row for each video.

id, split, captions        of the manifest
status, reason, digest     as in the shard; a missing video has status "missing" and null lists
values                     list of fixed-size lists of D: (N, D)
start_s, end_s             lists of N
texts, confidence          lists of N for streams with strings, else null
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from m2hf.array_types import FloatArray
from m2hf.exchange.item import ExportedItem, ValueType
from m2hf.keys import safe_name
from m2hf.manifest import Row

_BATCH = 256  # videos in a record batch, which is in memory at once


class ArrowTables:
    """Writes a file for each stream, one record batch of videos at a time; needs pyarrow."""

    def __init__(self, folder: Path, kinds: Mapping[str, ValueType]) -> None:
        import pyarrow as pa
        from pyarrow import ipc

        self._arrow: Any = pa
        self._schemas = {stream: self._schema(kind) for stream, kind in kinds.items()}
        self._rows: dict[str, list[tuple[Row, ExportedItem]]] = {stream: [] for stream in kinds}
        self._writers = {
            stream: ipc.new_file(str(folder / f"{safe_name(stream)}.arrow"), schema)
            for stream, schema in self._schemas.items()
        }

    def add(self, row: Row, streams: Mapping[str, ExportedItem]) -> None:
        """One row in the table of each stream."""
        for stream, item in streams.items():
            self._rows[stream].append((row, item))
            if len(self._rows[stream]) == _BATCH:
                self._flush(stream)

    def close(self) -> None:
        """Write the last batches and close the files."""
        for stream, writer in self._writers.items():
            self._flush(stream)
            writer.close()

    def _flush(self, stream: str) -> None:
        pairs, self._rows[stream] = self._rows[stream], []
        if not pairs:
            return
        schema = self._schemas[stream]
        found = [item.features for _, item in pairs]
        records = [item.as_json() for _, item in pairs]
        columns = {
            "id": [row.id for row, _ in pairs],
            "split": [row.split for row, _ in pairs],
            "captions": [list(row.captions) for row, _ in pairs],
            **{key: [r.get(key) for r in records] for key in ("status", "reason", "digest")},
            "start_s": [None if f is None else f.start_s for f in found],
            "end_s": [None if f is None else f.end_s for f in found],
            "texts": [None if f is None else f.texts for f in found],
            "confidence": [None if f is None else f.confidence for f in found],
        }
        made = {
            key: self._arrow.array(column, type=schema.field(key).type)
            for key, column in columns.items()
        }
        made["values"] = self._values([None if f is None else f.values for f in found], schema)
        batch = self._arrow.RecordBatch.from_arrays(
            [made[key] for key in schema.names], schema=schema
        )
        self._writers[stream].write_batch(batch)

    def _values(self, values: list[FloatArray | None], schema: Any) -> Any:
        """The column `values`, made without a Python object for each number."""
        arrow, vector = self._arrow, schema.field("values").type.value_type
        counts = [0 if v is None else len(v) for v in values]
        empty = np.zeros(0, vector.value_type.to_pandas_dtype())
        flat = np.concatenate([empty, *(v.reshape(-1) for v in values if v is not None)])
        rows = arrow.FixedSizeListArray.from_arrays(
            arrow.array(flat.astype(empty.dtype, copy=False)), vector.list_size
        )
        offsets = arrow.array(np.cumsum([0, *counts]).astype(np.int32))
        return arrow.ListArray.from_arrays(
            offsets, rows, mask=arrow.array([v is None for v in values])
        )

    def _schema(self, kind: ValueType) -> Any:
        arrow = self._arrow
        string, seconds = arrow.string(), arrow.list_(arrow.float64())
        vector = arrow.list_(arrow.from_numpy_dtype(np.dtype(kind.dtype)), kind.width)
        return arrow.schema(
            {
                "id": string,
                "split": string,
                "captions": arrow.list_(string),
                "status": string,
                "reason": string,
                "digest": string,
                "values": arrow.list_(vector),
                "start_s": seconds,
                "end_s": seconds,
                "texts": arrow.list_(string),
                "confidence": seconds,
            }
        )
