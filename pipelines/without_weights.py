"""What a store knows of features whose weights are not on this machine."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from m2hf.errors import ShardError
from m2hf.keys import canonical_json
from m2hf.layout import StoreLayout
from m2hf.shard import Shard

MISSING = "missing"  # in place of the weights: the fingerprint is that of no stream


def declared_by_store(layout: StoreLayout, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What the first stream of the extractor `name` with these settings was declared with.

    settings: all but the weights; where no stream has them, they are declared without weights.
    """
    for stream in layout.streams(name):
        for path in layout.shards(stream):
            with suppress(ShardError):
                found = dict(Shard.open(path).header.config)
                if _apart(found) == _apart(settings):
                    return found
                break
    return settings | {"weights": MISSING}


def _apart(declared: Mapping[str, Any]) -> str:
    return canonical_json({key: value for key, value in declared.items() if key != "weights"})
