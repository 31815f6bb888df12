"""Find the media file of a manifest row, for the player of the page."""

import mimetypes
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from m2hf.manifest import Row
from m2hf.media_root import MediaRoot


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
    """The files below a media root."""

    root: MediaRoot

    @classmethod
    def open(cls, root: Path) -> Self:
        """Raises UsageError where `root` is no folder."""
        return cls(MediaRoot.open(root))

    def find(self, row: Row) -> MediaFile:
        """The file of a row. A manifest's path can't leave the root by its text; symbolic links
        that leave it are refused here, since the page serves the file to every visitor."""
        path = self.root.inside(row.path)
        if path is None:
            return MediaFile(None, "the file is a link to outside the media folder")
        try:
            mode = path.stat().st_mode
        except OSError:  # missing, unreadable, or a cycle of links
            return MediaFile(None, "the file is not there")
        if not stat.S_ISREG(mode):
            return MediaFile(None, "this is not a regular file")
        return MediaFile(path)
