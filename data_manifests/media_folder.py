"""The media files below a folder: each by itself, or found again under a name that is known."""

from collections.abc import Iterator
from pathlib import Path

from m2hf.errors import ManifestError, UsageError

_PICTURES = {
    ".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".divx", ".mpg", ".mpeg", ".ts",
    ".mts", ".m2ts", ".flv", ".wmv", ".asf", ".ogv", ".3gp", ".3gpp", ".3g2", ".gif",
}  # fmt: skip
_SOUND = {".mp3", ".wav", ".m4a", ".ogg", ".flac"}


def media_files(root: Path) -> Iterator[Path]:
    """Every media file below `root`, of pictures or of sound, relative to it and sorted."""
    for path in _files(root):
        if path.suffix.lower() in _PICTURES | _SOUND:
            yield path


class MediaFolder:
    """Where below a root the file of a video lies, whatever its container and its folder."""

    def __init__(self, root: Path) -> None:
        """Look through `root` once. Raises UsageError where it is no folder."""
        if not root.is_dir():
            raise UsageError(f"--media {root}: no such folder; give the root of the video files")
        self._paths: set[str] = set()
        self._named: dict[str, list[str]] = {}
        self._stems: dict[str, list[str]] = {}
        for path in _files(root):
            text = path.as_posix()
            self._paths.add(text)
            self._named.setdefault(path.name, []).append(text)
            if path.suffix.lower() in _PICTURES:
                self._stems.setdefault(path.stem, []).append(text)

    def find(self, video: str, usual: str) -> str | None:
        """The path of the file of `video`, relative to the root; None where there is none.

        In this order: `usual`, its conventional path; a file of that name in any folder; a
        picture file of any container that is called `video`, or `usual` with one more ending.
        Raises ManifestError where two files fit equally.
        """
        if usual in self._paths:
            return usual
        name = usual.rpartition("/")[2]
        by_stem = [path for stem in {video: 0, name: 0} for path in self._stems.get(stem, ())]
        found = self._named.get(name) or by_stem
        if len(found) > 1:
            raise ManifestError(
                f"--media: id {video!r} is the name of two files: {found[0]} and {found[1]}; "
                f"remove one, or give the right one the name {usual}"
            )
        return found[0] if found else None


def _files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        if not path.name.startswith(".") and path.is_file():
            yield path.relative_to(root)
