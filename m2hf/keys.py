"""Names derived from content: canonical JSON, digests, fingerprints and buckets.

Nothing here depends on a clock, a host, a path or the order of a dict, so equal content has the
same name on every machine.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

T = TypeVar("T")

SHORT = 8  # hex digits of a fingerprint in the name of a stream


def canonical_json(value: Any) -> str:
    """JSON text with sorted keys and no spaces; raises ValueError on NaN or infinity."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def sha256_hex(data: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """64 hex digits of a file's content; cached while its size and mtime stay the same."""
    stat = path.stat()
    return _sha256_file(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _sha256_file(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(declared: Mapping[str, Any]) -> str:
    """64 hex digits of what an extractor declares: config, revision, weights, decode policy."""
    return sha256_hex(canonical_json(declared).encode())


def bucket_of(item_id: str, buckets: int) -> int:
    """The bucket of an id: sha256(id) mod buckets, independent of all other ids."""
    return int(sha256_hex(item_id.encode()), 16) % buckets


def group_by_bucket(
    items: Iterable[T], buckets: int, key: Callable[[T], str]
) -> dict[int, list[T]]:
    """Bucket -> its items, in the order of `items`; key: the id that an item is placed by."""
    grouped: dict[int, list[T]] = {}
    for item in items:
        grouped.setdefault(bucket_of(key(item), buckets), []).append(item)
    return grouped


def safe_name(name: str) -> str:
    """`name` as one file-name part: everything but letters, digits and `_-.` is percent-escaped."""
    escaped = quote(name, safe="")
    return escaped.replace(".", "%2E") if escaped in {"", ".", ".."} else escaped
