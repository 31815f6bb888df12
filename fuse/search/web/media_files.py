"""Find the media file of a manifest row, for the player of the page."""

import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from m2hf.errors import UsageError
from m2hf.manifest import Row


@dataclass(frozen=True)
class MediaFile:
    """path: of a regular file inside the root, or None, with the reason."""

    path: Path | None
    reason: str = ""

    @property
    def type(self) -> str:
        """The media type for the response: video or audio, or else one that a browser won't run."""
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
        """The file of a row. A manifest's path can't leave the root by its text; symbolic links
        that leave it are refused here, since the page serves the file to every visitor."""
        try:
            path = (self.root / row.path).resolve(strict=True)
        except (OSError, RuntimeError):  # missing, unreadable, or a cycle of links
            return MediaFile(None, "the file is not there")
        if not path.is_relative_to(self.root):
            return MediaFile(None, "the file is a link to outside the media folder")
        if not path.is_file():
            return MediaFile(None, "this is not a regular file")
        return MediaFile(path)
