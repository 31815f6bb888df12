"""What a similarity file was made from, as plain data, and whether the files still are that.

A chain goes from a number to the similarity file, the checkpoint, the shards with their configs
and weights, the manifest and the fusion config. It holds digests, never paths.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2hf.errors import UsageError
from m2hf.fuse.similarity import FILE_NAME, SimilarityFile
from m2hf.keys import canonical_json, sha256_file, sha256_hex
from m2hf.layout import StoreLayout
from m2hf.manifest import Manifest

CHECKPOINT = "checkpoint.safetensors"


def chain_of(path: Path, file: SimilarityFile) -> dict[str, Any]:
    """The chain of the similarity file `file`, which lies at `path`."""
    return {
        "similarity": sha256_file(path),
        "dataset": file.dataset,
        "split": file.split,
        "checkpoint": file.checkpoint,
        "trained_on": file.trained_on,
        "manifest": file.manifest,
        "streams": dict(file.streams),
        "config": dict(file.config),
    }


def shards_sha256(layout: StoreLayout, stream: str) -> str:
    """64 hex digits over every byte of every shard of a stream, wherever the store lies."""
    files = [[path.name, sha256_file(path)] for path in layout.shards(stream)]
    return sha256_hex(canonical_json(files).encode())


@dataclass(frozen=True)
class Files:
    """Where the things that a chain speaks of may lie; each may be left out."""

    run: Path | None = None
    store: Path | None = None
    manifest: Path | None = None

    def check(self, chain: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
        """What is named here and belongs to the chain, and whether it is the same to the byte."""
        if self.run is not None:
            for name, key in ((FILE_NAME, "similarity"), (CHECKPOINT, "checkpoint")):
                path = self.run / name
                if not path.is_file():
                    raise UsageError(f"--run {self.run}: no {name} there; name the run's folder")
                yield key, sha256_file(path) == chain[key]
        if self.manifest is not None:
            yield "manifest", Manifest.load(self.manifest).digest == chain["manifest"]
        if self.store is not None:
            layout = StoreLayout(self.store, chain["dataset"])
            for role, stream in chain["streams"].items():
                same = shards_sha256(layout, stream["stream"]) == stream["shards"]
                yield f"stream {role}", same
