"""Which file of the media root a row names, for a page that plays it."""

import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from m2hf.errors import UsageError
from m2hf.manifest import Row


@dataclass(frozen=True)
class MediaFile:
    """path: of a regular file inside the root; None where there is none to play, and `why`."""

    path: Path | None
    why: str = ""

    @property
    def type(self) -> str:
        """What a browser is told that it is: pictures or sound, or else nothing it would run."""
        guessed = mimetypes.guess_type(self.path or "")[0] or ""
        return guessed if guessed.startswith(("video/", "audio/")) else "application/octet-stream"


@dataclass(frozen=True)
class MediaFiles:
    """A media root, by its real path."""

    root: Path

    @classmethod
    def open(cls, root: Path) -> Self:
        if not root.is_dir():
            raise UsageError(f"--media {root}: no such folder; give the root of the video files")
        return cls(root.resolve())

    def find(self, row: Row) -> MediaFile:
        """A manifest's path stays inside the root by its text; here also by every link in it,
        since what is found is given to whoever opens the page."""
        try:
            path = (self.root / row.path).resolve(strict=True)
        except (OSError, RuntimeError):  # not there, may not be read, links in a circle
            return MediaFile(None, "the file is not there")
        if not path.is_relative_to(self.root):
            return MediaFile(None, "the file is a link to outside the media folder")
        if not path.is_file():
            return MediaFile(None, "this is no regular file")
        return MediaFile(path)
