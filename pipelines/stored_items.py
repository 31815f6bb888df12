"""The items of one extractor and bucket that are stored and match their digests."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from m2hf.damage import record_damage
from m2hf.errors import ShardError
from m2hf.pipelines.job import Job
from m2hf.pipelines.plan import read_shard
from m2hf.shard import Shard, ShardItem


@dataclass(frozen=True)
class StoredItems:
    """What may be copied to a new shard, or read by other extractors.

    path: of the shard; shard: None where there is none, or one that can't be read; damaged: ids of
    the items in it that don't match their digests.
    """

    path: Path
    shard: Shard | None
    damaged: tuple[str, ...]

    @classmethod
    def check(cls, job: Job, name: str, bucket: int) -> "StoredItems":
        """Read the whole shard, and check every item."""
        path = job.shard(name, bucket)
        try:
            shard = read_shard(job, name, bucket)
        except ShardError:  # can't be read: reported by the plan, and extracted again
            shard = None
        return cls(path, shard, () if shard is None else shard.damaged())

    def items(self, without: Collection[str] = ()) -> Iterator[ShardItem]:
        """The intact items, but those in `without`."""
        if self.shard is not None:
            for i, item in enumerate(self.shard.ids):
                if item not in self.damaged and item not in without:
                    yield self.shard.item(i)

    def record(self) -> None:
        """Record which items are damaged, for later commands."""
        record_damage(self.path, self.damaged)
