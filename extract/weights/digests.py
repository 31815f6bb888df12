"""sha256 of weight files, remembered between processes: gigabytes need not be hashed at each start.

`~/.cache/m2hf/digests.json` has, by path, the device, inode, size and times of each file and the
digest: a ctime can't be set back, as an mtime can. It only saves time: what can't be read there is
hashed again, and a file that is loaded is hashed as it is loaded.
"""

import hashlib
import json
import re
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from m2hf.atomic import atomic_text
from m2hf.errors import M2hfError
from m2hf.plain_data import json_object

_CACHE = "~/.cache/m2hf/digests.json"
_MOST = 512  # files that are remembered
_WORTH_BYTES = 1 << 20  # smaller files are hashed sooner than looked up
_SETTLED_S = 2.0  # a file that changed a moment ago may change again within one tick of the clock

Stamps = tuple[tuple[int, ...], ...]


def digest_of(paths: tuple[Path, ...]) -> str:
    """sha256 of the files' concatenation; cached while inode, size and times stay the same."""
    while True:
        stamps = _stamps(paths)
        digest = _digest(paths, stamps)
        if _stamps(paths) == stamps:
            return digest


def _stamps(paths: tuple[Path, ...]) -> Stamps:
    """Device, inode, size, mtime and ctime of each file."""
    stats = [path.stat() for path in paths]
    return tuple((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats)


@lru_cache(maxsize=256)
def _digest(paths: tuple[Path, ...], stamps: Stamps) -> str:
    if sum(size for _, _, size, _, _ in stamps) < _WORTH_BYTES:
        return _hashed(paths)
    key, entry = "\n".join(str(path.absolute()) for path in paths), [list(s) for s in stamps]
    known = _remembered().get(key)
    if isinstance(known, list) and len(known) == 2 and known[0] == entry and _is_digest(known[1]):
        return str(known[1])
    digest = _hashed(paths)
    if all(max(mtime, ctime) / 1e9 < time.time() - _SETTLED_S for *_, mtime, ctime in stamps):
        _remember(key, [entry, digest])
    return digest


def _hashed(paths: tuple[Path, ...]) -> str:
    sha = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                sha.update(block)
    return sha.hexdigest()


def _remembered() -> dict[str, Any]:
    """Entries by path; none where the file can't be read or is something else."""
    path = Path(_CACHE).expanduser()
    with suppress(OSError, UnicodeDecodeError, M2hfError):
        return json_object(path.read_text(encoding="utf-8"), str(path))
    return {}


def _remember(key: str, entry: list[Any]) -> None:
    """Add an entry; the latest are kept. Another process may do so at the same time: one of the two
    entries is lost, and that file hashed again."""
    others = {name: value for name, value in _remembered().items() if name != key}
    kept = {**dict(list(others.items())[-_MOST + 1 :]), key: entry}
    path = Path(_CACHE).expanduser()
    with suppress(OSError, M2hfError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_text(path, json.dumps(kept, indent=1) + "\n")


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None
