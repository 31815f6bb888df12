"""Where weight files are: an explicit path, then installed package data, then a library's cache.

Files are found and hashed before a run starts and read as data: no package that ships weights is
imported, nothing is unpickled, and nothing is downloaded.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from m2hf.errors import ResourceError
from m2hf.keys import sha256_file


@dataclass(frozen=True)
class Packaged:
    """A weight file inside an installed distribution; in several parts where wheels are small."""

    parts: tuple[tuple[str, str], ...]  # (distribution, path inside site-packages)

    def find(self) -> tuple[Path, ...] | None:
        found = []
        for name, inside in self.parts:
            try:
                path = Path(str(distribution(name).locate_file(inside)))
            except PackageNotFoundError:
                return None
            if not path.is_file():
                return None
            found.append(path)
        return tuple(found)


@dataclass(frozen=True)
class Weight:
    """One weight file that an extractor needs.

    sha256: of what is packaged, pinned where we know it; cached_sha256: of what is cached, all of
    it or its first digits; size_mb: for the message, 0 where it is small; get: what to run to
    have it.
    """

    name: str
    size_mb: int
    sha256: str | None = None
    explicit: str = ""
    packaged: Packaged | None = None
    cached: Path | None = None
    cached_sha256: str | None = None
    get: str = ""

    def locate(self) -> "WeightFile":
        """The file, with its digest checked.

        Raises ResourceError that names file, size, digest and what to do where it is missing,
        and where its content is not what was pinned.
        """
        if self.explicit:
            path = Path(self.explicit).expanduser()
            if not path.is_file():
                raise ResourceError(f"weights {self.name}: no such file: {path}")
            return WeightFile(self.name, (path,), self._checked((path,), pinned=None))
        packaged = self.packaged.find() if self.packaged else None
        if packaged:
            return WeightFile(self.name, packaged, self._checked(packaged, self.sha256))
        if self.cached is not None and self.cached.is_file():
            paths = (self.cached,)
            return WeightFile(self.name, paths, self._checked(paths, self.cached_sha256))
        size = f"{self.size_mb} MB" if self.size_mb else ""
        sha256 = self.sha256 or self.cached_sha256
        digest = f"sha256 {sha256}" if sha256 else ""
        known = ", ".join(filter(None, [size, digest]))
        raise ResourceError(
            f"weights {self.name}{f' ({known})' if known else ''} are not on this machine; "
            f"{self.get}"
        )

    def _checked(self, paths: Sequence[Path], pinned: str | None) -> str:
        digest = digest_of(tuple(paths))
        if pinned is not None and not digest.startswith(pinned):
            raise ResourceError(
                f"weights {self.name}: {paths[0]} has sha256 {digest}, expected {pinned}; "
                f"the file is not the one we know: {self.get}"
            )
        return digest


@dataclass(frozen=True)
class WeightFile:
    """A weight file that is there: its parts in order, and the sha256 of them together."""

    name: str
    paths: tuple[Path, ...]
    sha256: str

    def read(self) -> bytes:
        """The whole content."""
        return b"".join(path.read_bytes() for path in self.paths)


def digest_of(paths: tuple[Path, ...]) -> str:
    """sha256 of the files one after another; remembered while sizes and mtimes stay the same."""
    if len(paths) == 1:
        return sha256_file(paths[0])
    return _digest(paths, tuple(p.stat().st_mtime_ns for p in paths))


@lru_cache(maxsize=64)
def _digest(paths: tuple[Path, ...], _mtimes: tuple[int, ...]) -> str:
    sha = hashlib.sha256()
    for path in paths:
        sha.update(path.read_bytes())
    return sha.hexdigest()
