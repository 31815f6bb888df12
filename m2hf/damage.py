"""Which items of a shard are damaged, as `m2hf verify` recorded it in a file next to the shard.

To find damaged items takes reading all values; the record makes that known to every later command.
It is removed when the shard is written again.
"""

from collections.abc import Sequence
from pathlib import Path

from m2hf.atomic import atomic_text, raise_if_unwritable
from m2hf.errors import SchemaError
from m2hf.keys import canonical_json
from m2hf.plain_data import json_object, read_text, shown


def record_damage(shard: Path, items: Sequence[str]) -> None:
    """Record that just these items of the shard at this path are damaged; none clears the record.

    Raises ResourceError where the store can't be written.
    """
    if items:
        atomic_text(_record(shard), canonical_json({"items": sorted(items), "schema": 1}) + "\n")
    else:
        clear_damage(shard)


def clear_damage(shard: Path) -> None:
    """Remove the record of a shard that has no damaged items any more, if there is one.

    Raises ResourceError where the store can't be written.
    """
    path = _record(shard)
    if not path.exists():  # a store that is read only may be verified
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise_if_unwritable(path, error)
        raise


def read_damage(shard: Path) -> tuple[str, ...]:
    """The recorded items; none where nothing is recorded. Raises SchemaError for a file of another
    form."""
    path = _record(shard)
    if not path.exists():
        return ()
    where = str(path)
    items = json_object(read_text(path, where, SchemaError), where, SchemaError).get("items")
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise SchemaError(
            f"{where}: items = {shown(items)}, expected ids; delete the file and run `m2hf verify`"
        )
    return tuple(items)


def _record(shard: Path) -> Path:
    return shard.with_suffix(".damaged.json")
