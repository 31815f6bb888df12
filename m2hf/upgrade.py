"""Write shards of an older schema version again in the present one, after a check of every item."""

from collections.abc import Iterator
from pathlib import Path

from m2hf.errors import ShardError
from m2hf.layout import StoreLayout
from m2hf.shard import VERSION, Shard, write_shard


def upgrade_store(root: Path) -> Iterator[tuple[Path, bool, str]]:
    """Upgrade the shards of all datasets in a store; yields (shard, whether it was written again,
    "" or why it was left as it is) for each.

    Raises UsageError for a folder that is no store, SchemaError for a shard of a later version.
    """
    for dataset in StoreLayout.datasets(root):
        layout = StoreLayout(root, dataset)
        for stream in layout.streams():
            for path in layout.shards(stream):
                try:
                    yield path, upgrade_shard(path), ""
                except ShardError as error:
                    yield path, False, str(error)


def upgrade_shard(path: Path) -> bool:
    """Whether the shard was of an older version and is written again; raises ShardError for one
    with damage, of which nothing is written."""
    shard = Shard.open(path)
    shard.verify()
    if shard.version == VERSION:
        return False
    dtype, width = shard.values.dtype.name, shard.values.shape[1]
    write_shard(path, shard.header, list(shard.items()), dtype, width)
    return True
