"""The folder of a manifest's media files: where links lead, and whether its share is there."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from m2hf.errors import ResourceError, UsageError


@dataclass(frozen=True)
class MediaRoot:
    """A media root by its real path, so that it may be a link itself."""

    real: Path

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Raises UsageError where it is no folder, or can't be reached."""
        try:
            found = folder.is_dir()
        except OSError as error:
            raise UsageError(
                f"--media {folder}: {error.strerror}; mount its share, or fix its permissions"
            ) from error
        if not found:
            raise UsageError(f"--media {folder}: no such folder; give the root of the video files")
        return cls(folder.resolve())

    def inside(self, path: str) -> Path | None:
        """The real path of `path`, relative to the root; None where links lead out of the root."""
        try:
            found = (self.real / path).resolve()
        except (OSError, RuntimeError):  # a link that leads to itself
            return self.real / path
        return found if found.is_relative_to(self.real) else None

    def check_reachable(self, path: str) -> None:
        """To be called where `path` can't be decoded: is it the file, or the whole folder?

        Raises ResourceError where the root, or the folder of `path` in it, is gone, empty, can't
        be read, or is a link to nowhere, as where a share is not mounted.
        """
        folder, *more = [self.real / part for part in reversed(Path(path).parents)]
        self._check_folder(folder)
        for folder in more:
            if not os.path.lexists(folder):
                return  # a path that never was
            self._check_folder(folder)

    def _check_folder(self, folder: Path) -> None:
        try:
            with os.scandir(folder) as entries:
                problem = "" if any(entries) else "the folder is empty"
        except (PermissionError, NotADirectoryError):  # of this path alone
            return
        except OSError as error:
            problem = os.strerror(error.errno) if error.errno else str(error)
        if problem:
            raise ResourceError(
                f"{folder}: {problem}; is a share not mounted? Mount it and run the same command "
                "again; if the media there are gone for good, remove the folder or link in --media"
            )
