"""Where weights are published, and what is known there of a file before it is downloaded."""

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
class Remote:
    """A file on a server. size: bytes, where it is known; sha256: all or the first digits, where
    it is known; git_sha1: the name that git gives the content, of small files on the hub."""

    url: str
    file: str
    size: int | None = None
    sha256: str = ""
    git_sha1: str = ""

    def check(self, path: Path) -> None:
        """Raises ResourceError where the file at `path` is not the one that was announced."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            raise ResourceError(f"{self.url}: {size} bytes came, {self.size} were announced")
        digest = sha256_file(path)
        if not digest.startswith(self.sha256):
            raise ResourceError(f"{self.url}: sha256 is {digest}, expected {self.sha256}")
        if self.git_sha1 and _git_sha1(path) != self.git_sha1:
            raise ResourceError(f"{self.url}: its content is not what git calls {self.git_sha1}")


class Source(Protocol):
    """Where one weight file can be had."""

    def resolve(self) -> Remote:
        """What to download. Asks the server where it must; raises ResourceError without one."""

    def unpack(self, downloaded: Path) -> Path:
        """The weight file that is, or is inside, what was downloaded."""


@dataclass(frozen=True)
class Address:
    """A plain URL. sha256: all of it or its first digits, which the URL itself often holds."""

    url: str
    sha256: str

    def resolve(self) -> Remote:
        return Remote(self.url, PurePosixPath(urlsplit(self.url).path).name, sha256=self.sha256)

    def unpack(self, downloaded: Path) -> Path:
        return downloaded


@dataclass(frozen=True)
class Zipped:
    """A file inside a zip at a URL. sha256: of that file, since nobody pins the zip."""

    url: str
    member: str
    sha256: str

    def resolve(self) -> Remote:
        return Remote(self.url, f"{self.member}.zip")

    def unpack(self, downloaded: Path) -> Path:
        """The member, beside the zip, which is removed."""
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
                f"{self.url}: no zip with {self.member} in it: {first_line(error)}"
            ) from error
        finally:
            downloaded.unlink()
        return target

    def _check(self, path: Path) -> None:
        digest = sha256_file(path)
        if digest != self.sha256:
            raise ResourceError(
                f"{self.url}: {self.member} in it has sha256 {digest}, expected {self.sha256}"
            )


@dataclass(frozen=True)
class Hub:
    """A file of a repository on the Hugging Face hub: the first of `files` that it has."""

    repository: str
    files: tuple[str, ...]

    def cached(self) -> tuple[Path | None, str | None]:
        """Where the hub's own cache has it, and its sha256 where the cache knows that.

        The cache names what it holds by the server's tag: of a large file, its sha256.
        Raises huggingface_hub's HFValidationError for what is no name of a repository.
        """
        from huggingface_hub import try_to_load_from_cache

        found = (try_to_load_from_cache(self.repository, file) for file in self.files)
        path = next((Path(each) for each in found if isinstance(each, str)), None)
        blob = "" if path is None else path.resolve().name
        return path, blob if len(blob) == _SHA256_DIGITS else None

    def resolve(self) -> Remote:
        """Asks the hub (`HF_ENDPOINT` is respected, and no token is sent)."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError

        for file in self.files:
            url = hf_hub_url(self.repository, file)
            try:
                said = get_hf_file_metadata(url, token=False)
            except EntryNotFoundError:
                continue
            except Exception as error:  # whatever its HTTP client raises
                raise ResourceError(
                    f"{url}: asking the hub for its digest failed, which needs a network: "
                    f"{first_line(error)}"
                ) from error
            etag = said.etag or ""
            if len(etag) not in (_SHA256_DIGITS, _SHA1_DIGITS):
                raise ResourceError(f"{url}: the hub says no digest of it, so it can't be checked")
            return Remote(
                # Of one commit, so that a download that goes on tomorrow goes on with the same.
                hf_hub_url(self.repository, file, revision=said.commit_hash),
                PurePosixPath(file).name,
                said.size,
                sha256=etag if len(etag) == _SHA256_DIGITS else "",
                git_sha1=etag if len(etag) == _SHA1_DIGITS else "",
            )
        raise ResourceError(f"{self.repository}: the hub has no {' or '.join(self.files)} there")

    def unpack(self, downloaded: Path) -> Path:
        return downloaded


def _git_sha1(path: Path) -> str:
    data = path.read_bytes()
    header = b"blob %d\0" % len(data)
    return hashlib.sha1(header + data, usedforsecurity=False).hexdigest()
