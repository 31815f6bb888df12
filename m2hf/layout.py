"""Where shards lie: store/<dataset>/<extractor>@<fingerprint8>/<bucket>-of-<n>.h5."""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import tomli_w

from m2hf.atomic import atomic_text
from m2hf.errors import MismatchError, SchemaError, UsageError
from m2hf.keys import canonical_json, safe_name, sha256_file, sha256_hex
from m2hf.plain_data import json_object, read_text, shown
from m2hf.streams import StreamName

_RECORD = "store.json"
_RECIPE_HEADER = (
    "# The recipe that this store was begun with: verbs use it where --config gives none.\n"
)
_PRECISIONS = ("bfloat16", "float32")
_MOST_BUCKETS = 1 << 18  # each is a task and a file: more than any set needs
_FEW = 16  # buckets up to which a set has one for each two videos
_SHARD_NAME = re.compile(r"^(\d+)-of-(\d+)\.h5$")


def default_buckets(videos: int) -> int:
    """Buckets for a set of this size: about its square root, at most 256 videos in each.

    A bucket is a task, and a killed process repeats its bucket: larger buckets mean fewer files,
    smaller ones less lost work. In a small set a bucket has about two videos, so that a few workers
    end at the same time.
    """
    wanted = max(math.sqrt(videos), videos / 256, min(videos / 2, _FEW), 1)
    return int(2 ** round(math.log2(wanted)))


@dataclass(frozen=True)
class StoreLayout:
    """The folder of one dataset inside a store."""

    root: Path
    dataset: str

    @classmethod
    def open(cls, root: Path, dataset: str = "") -> "StoreLayout":
        """The layout of `dataset`, or of the only dataset in the store.

        Raises UsageError where there is none, or more than one to choose from.
        """
        have = cls.datasets(root)
        if not dataset and len(have) > 1:
            raise UsageError(
                f"{root}: features of {len(have)} datasets, {', '.join(have)}; "
                "choose one with --manifest"
            )
        if dataset and dataset not in have:
            raise UsageError(f"{root}: no dataset {dataset!r}; the store has {', '.join(have)}")
        return cls(root, dataset or have[0])

    @classmethod
    def datasets(cls, root: Path) -> list[str]:
        """The datasets in the store, sorted; raises UsageError where there is none."""
        have = sorted(unquote(path.parent.name) for path in root.glob(f"*/{_RECORD}"))
        if not have:
            raise UsageError(f"{root}: no store; give the folder that `m2hf extract` wrote to")
        return have

    @property
    def folder(self) -> Path:
        return self.root / safe_name(self.dataset)

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    def stream(self, extractor: str, fingerprint: str) -> Path:
        """Folder of one extractor's shards."""
        return self.folder / StreamName.of(extractor, fingerprint)

    def shard(self, extractor: str, fingerprint: str, bucket: int, buckets: int) -> Path:
        width = len(str(buckets - 1))
        return self.stream(extractor, fingerprint) / f"{bucket:0{width}d}-of-{buckets}.h5"

    def streams(self, extractor: str | None = None) -> list[StreamName]:
        """All streams here, or those of one extractor, sorted; other folders are left out."""
        found: list[StreamName] = []
        for path in self.folder.glob("*@*"):
            with suppress(ValueError):
                found.append(StreamName(path.name))
        return sorted(
            stream
            for stream in found
            if extractor in (None, stream.extractor) and (self.folder / stream).is_dir()
        )

    def shards(self, stream: str) -> Iterator[Path]:
        """Shard files of one stream, in bucket order."""
        named = [
            (int(m[1]), path)
            for path in (self.folder / stream).glob("*.h5")
            if (m := _SHARD_NAME.match(path.name))
        ]
        yield from (path for _, path in sorted(named))

    def digest(self, stream: str) -> str:
        """sha256 over all bytes of all shards of one stream, independent of the store's path."""
        files = [[path.name, sha256_file(path)] for path in self.shards(stream)]
        return sha256_hex(canonical_json(files).encode())

    def find_stream(self, name: str) -> StreamName:
        """The stream called `name`: `extractor@fingerprint8`, or an extractor that has just one.

        Raises UsageError where there is none, or more than one to choose from.
        """
        found = [s for s in self.streams() if name in (s, s.extractor)]
        if len(found) == 1:
            return found[0]
        if not found:
            have = ", ".join(self.streams()) or "no streams yet"
            raise UsageError(f"{self.folder}: no features of {name!r}; the store has {have}")
        raise UsageError(
            f"{self.folder}: {name!r} was extracted with more than one config; "
            f"name one of {', '.join(found)}"
        )

    def buckets(self, wanted: int, videos: int) -> int:
        """The number of buckets: the store's if it exists, else `wanted`, else by set size.

        Raises MismatchError where `wanted` differs from the store's number, SchemaError for a
        damaged record.
        """
        if self._record.exists():
            have = self._recorded()[0]
            if wanted not in (0, have):
                raise MismatchError(
                    f"{self.folder}: the store has {have} buckets and the config wants {wanted}; "
                    f"set extract.buckets={have} (or 0), or give another --store"
                )
            return have
        if wanted > _MOST_BUCKETS:
            raise UsageError(
                f"extract.buckets = {wanted}, expected at most {_MOST_BUCKETS}; 0 chooses by the "
                "number of videos"
            )
        return wanted or min(default_buckets(videos), _MOST_BUCKETS)

    def precisions(self) -> dict[str, str]:
        """Stream with precision "auto" -> the precision that the store's first run chose.

        Raises SchemaError for a damaged record.
        """
        return self._recorded()[1] if self._record.exists() else {}

    def record_precisions(self, chosen: Mapping[str, str]) -> None:
        """Store choices beside the number of buckets, which is recorded already; the caller holds
        the lock of the store."""
        self._write_record(self._recorded()[0], chosen)

    def _recorded(self) -> tuple[int, dict[str, str]]:
        """Buckets and precisions."""
        where = str(self._record)
        found = json_object(read_text(self._record, where, SchemaError), where, SchemaError)
        schema, have = found.get("schema"), found.get("buckets")
        if type(schema) is not int or schema != 1:
            raise SchemaError(
                f"{where}: schema {shown(schema)}, this m2hf reads 1; restore the file, or install "
                "the m2hf that wrote it"
            )
        if type(have) is not int or not 1 <= have <= _MOST_BUCKETS:
            raise SchemaError(
                f"{where}: buckets = {shown(have)}, expected 1 to {_MOST_BUCKETS}; restore the "
                "number that the names of the shards end with, <bucket>-of-<buckets>.h5"
            )
        chosen = found.get("precision", {})
        if not isinstance(chosen, dict) or not {*map(str, chosen.values())} <= {*_PRECISIONS}:
            raise SchemaError(
                f"{where}: precision = {shown(chosen)}, expected {' or '.join(_PRECISIONS)} for "
                "each stream; remove the key, and the next run measures it again"
            )
        return have, chosen

    def record(self, buckets: int) -> None:
        """Store the number of buckets, which never changes afterwards."""
        if not self._record.exists():
            self._write_record(buckets, {})

    @property
    def recipe(self) -> Path:
        """The recipe that the store was begun with; there is none if only defaults were used."""
        return self.folder / "recipe.toml"

    def record_recipe(self, recipe: Mapping[str, Any]) -> None:
        """Store a recipe as plain data, unless there is one."""
        if not self.recipe.exists():
            atomic_text(self.recipe, _RECIPE_HEADER + tomli_w.dumps(recipe))

    def _write_record(self, buckets: int, precisions: Mapping[str, str]) -> None:
        record = {"buckets": buckets, "schema": 1}
        chosen = {"precision": dict(precisions)} if precisions else {}
        atomic_text(self._record, canonical_json({**record, **chosen}) + "\n")

    @property
    def _record(self) -> Path:
        return self.folder / _RECORD
