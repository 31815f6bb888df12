"""The header of a shard: what its features are and what they were made with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import h5py

from m2hf.hdf5 import Hdf5Reader
from m2hf.keys import canonical_json
from m2hf.streams import CAPTION


@dataclass(frozen=True)
class ShardHeader:
    """Metadata of a shard: its root attributes.

    config: the canonical declared config that the fingerprint was made of; weights: name ->
    sha256; environment: library -> version; columns: names of the D values, if they have names;
    flags: remarks that every table made from the shard must repeat, such as "untrained".
    """

    dataset: str
    extractor: str
    revision: int
    fingerprint: str
    bucket: int
    buckets: int
    manifest: str
    config: Mapping[str, Any]
    weights: Mapping[str, str]
    environment: Mapping[str, str]
    columns: Sequence[str] = ()
    flags: Sequence[str] = ()

    @property
    def kind(self) -> str:
        """The extractor that made it, where `extractor` is the name of a recipe for an instance."""
        return str(self.config.get("extractor", self.extractor))

    @property
    def of_captions(self) -> bool:
        """Whether its items are captions, whatever the stream is called; else they are videos."""
        return self.kind == CAPTION

    @classmethod
    def read(cls, file: Hdf5Reader) -> "ShardHeader":
        """Raises ValueError for an attribute that is missing or of another type."""
        return cls(
            dataset=file.text("dataset"),
            extractor=file.text("extractor"),
            revision=file.count("revision"),
            fingerprint=file.text("fingerprint"),
            bucket=file.count("bucket"),
            buckets=file.count("buckets"),
            manifest=file.text("manifest"),
            config=file.json("config", dict[str, Any]),
            weights=file.json("weights", dict[str, str]),
            environment=file.json("environment", dict[str, str]),
            columns=file.json("columns", list[str]),
            flags=file.json("flags", list[str]),
        )

    def write(self, file: h5py.File) -> None:
        """Write each field as an attribute: text, integers, and JSON of all else."""
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not isinstance(value, str | int):
                value = canonical_json(dict(value) if isinstance(value, Mapping) else list(value))
            file.attrs[entry.name] = value
