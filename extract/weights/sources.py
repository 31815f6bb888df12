"""Where weights are published: each kind of source resolves to a URL with its digest."""

import hashlib
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import urlsplit

from m2hf.atomic import atomic_write
from m2hf.errors import ResourceError, first_line
from m2hf.keys import sha256_file

_SHA256_DIGITS, _SHA1_DIGITS = 64, 40


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server, and what is known about it before it is downloaded."""

    url: str
    file: str
    """File name."""
    size: int | None = None
    """Bytes, if known."""
    sha256: str = ""
    """All or the first digits, if known."""
    git_sha1: str = ""
    """Git's blob id, if known; the hub gives it for small files in place of a sha256."""

    def check(self, path: Path) -> None:
        """Raise ResourceError where the file at `path` differs from what is known about it."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            raise ResourceError(f"{self.url}: got {size} bytes, expected {self.size}")
        digest = sha256_file(path)
        if not digest.startswith(self.sha256):
            raise ResourceError(f"{self.url}: sha256 is {digest}, expected {self.sha256}")
        if self.git_sha1 and _git_sha1(path) != self.git_sha1:
            raise ResourceError(f"{self.url}: its git blob id is not {self.git_sha1}")


class DownloadSource(Protocol):
    """Where one weight file is downloaded from."""

    def resolve(self) -> RemoteFile:
        """The file to download; a source that asks its server raises ResourceError on failure."""

    def unpack(self, downloaded: Path) -> Path:
        """The weight file: the download itself, or a file extracted from it."""

    @property
    def unpinned(self) -> str:
        """What of its sha256 m2hf doesn't know before the download, for messages; "" if it knows
        all of it."""


@dataclass(frozen=True)
class UrlSource:
    """A plain URL. sha256: all or the first digits; the URL itself often contains them."""

    url: str
    sha256: str

    def resolve(self) -> RemoteFile:
        return RemoteFile(self.url, PurePosixPath(urlsplit(self.url).path).name, sha256=self.sha256)

    def unpack(self, downloaded: Path) -> Path:
        return downloaded

    @property
    def unpinned(self) -> str:
        known = len(self.sha256)
        if known == _SHA256_DIGITS:
            return ""
        return f"its sha256 is not pinned but for the first {known} of {_SHA256_DIGITS} digits"


@dataclass(frozen=True)
class ZipSource:
    """A member of a zip file at a URL. sha256: of the member; the zip's own is not published."""

    url: str
    member: str
    sha256: str

    def resolve(self) -> RemoteFile:
        return RemoteFile(self.url, f"{self.member}.zip")

    def unpack(self, downloaded: Path) -> Path:
        """Extract the member next to the zip, and delete the zip."""
        target = downloaded.with_name(self.member)
        try:
            with (
                zipfile.ZipFile(downloaded) as archive,
                archive.open(self.member) as packed,
                atomic_write(target, verify=self._check) as temporary,
                temporary.open("wb") as stream,
            ):
                shutil.copyfileobj(packed, stream, 1 << 20)
        except (zipfile.BadZipFile, KeyError, EOFError) as error:
            raise ResourceError(
                f"{self.url}: not a zip file that contains {self.member}: {first_line(error)}"
            ) from error
        finally:
            downloaded.unlink()
        return target

    @property
    def unpinned(self) -> str:
        return ""

    def _check(self, path: Path) -> None:
        digest = sha256_file(path)
        if digest != self.sha256:
            raise ResourceError(
                f"{self.url}: its member {self.member} has sha256 {digest}, expected {self.sha256}"
            )


@dataclass(frozen=True)
class HubSource:
    """A file of a repository on the Hugging Face hub: the first of `files` that exists there."""

    repository: str
    files: tuple[str, ...]

    def cached(self) -> tuple[Path | None, str | None]:
        """The file in huggingface_hub's cache, and its sha256 if the cache records it.

        The cache names a file by the server's ETag, which is the sha256 for large files.
        Raises ValueError for a malformed repository name.
        """
        from huggingface_hub import try_to_load_from_cache

        found = (try_to_load_from_cache(self.repository, file) for file in self.files)
        path = next((Path(each) for each in found if isinstance(each, str)), None)
        blob = "" if path is None else path.resolve().name
        return path, blob if len(blob) == _SHA256_DIGITS else None

    def resolve(self) -> RemoteFile:
        """Ask the hub (`HF_ENDPOINT` is respected, and no token is sent)."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError

        for file in self.files:
            url = hf_hub_url(self.repository, file)
            try:
                metadata = get_hf_file_metadata(url, token=False)
            except EntryNotFoundError:
                continue
            except Exception as error:  # whatever its HTTP client raises
                raise ResourceError(
                    f"{url}: can't get its digest from the hub, which needs a network: "
                    f"{first_line(error)}"
                ) from error
            etag = metadata.etag or ""
            if len(etag) not in (_SHA256_DIGITS, _SHA1_DIGITS):
                raise ResourceError(f"{url}: the hub gives no digest, so it can't be checked")
            return RemoteFile(
                # Pinned to a commit, so that a download resumed later gets the same file.
                hf_hub_url(self.repository, file, revision=metadata.commit_hash),
                PurePosixPath(file).name,
                metadata.size,
                sha256=etag if len(etag) == _SHA256_DIGITS else "",
                git_sha1=etag if len(etag) == _SHA1_DIGITS else "",
            )
        raise ResourceError(
            f"{self.repository}: the hub repository has no {' or '.join(self.files)}"
        )

    def unpack(self, downloaded: Path) -> Path:
        return downloaded

    @property
    def unpinned(self) -> str:
        return "its sha256 is not pinned: it is what the hub gives for `main` on that day"


def _git_sha1(path: Path) -> str:
    data = path.read_bytes()
    header = b"blob %d\0" % len(data)
    return hashlib.sha1(header + data, usedforsecurity=False).hexdigest()
