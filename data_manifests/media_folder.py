"""Find the media files below a folder: all of them, or the file of a given video."""

from collections.abc import Iterator
from pathlib import Path

from m2hf.errors import ManifestError, UsageError

_VIDEO_EXTENSIONS = {
    ".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".divx", ".mpg", ".mpeg", ".ts",
    ".mts", ".m2ts", ".flv", ".wmv", ".asf", ".ogv", ".3gp", ".3gpp", ".3g2", ".gif",
}  # fmt: skip
_AUDIO_EXTENSIONS = {".mp3", ".wav", ".m4a", ".ogg", ".flac"}


def media_files(root: Path) -> Iterator[Path]:
    """Every video or audio file below `root`, relative to it and sorted."""
    for path in _files(root):
        if path.suffix.lower() in _VIDEO_EXTENSIONS | _AUDIO_EXTENSIONS:
            yield path


class MediaFolder:
    """Finds the file of a video below a root, in any folder and with any container."""

    def __init__(self, root: Path) -> None:
        """Scan `root` once. Raises UsageError if it is not a folder."""
        if not root.is_dir():
            raise UsageError(f"--media {root}: no such folder; give the root of the video files")
        self._paths: set[str] = set()
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for path in _files(root):
            text = path.as_posix()
            self._paths.add(text)
            self._by_name.setdefault(path.name, []).append(text)
            if path.suffix.lower() in _VIDEO_EXTENSIONS:
                self._by_stem.setdefault(path.stem, []).append(text)

    def find(self, video: str, conventional: str) -> str | None:
        """The path of the file of `video`, relative to the root; None where there is none.

        In this order: its `conventional` path; a file of that name in any folder; a video file of
        any container named `video`, or `conventional` with one more extension.
        Raises ManifestError where two files match equally.
        """
        if conventional in self._paths:
            return conventional
        name = conventional.rpartition("/")[2]
        by_stem = [path for stem in {video: 0, name: 0} for path in self._by_stem.get(stem, ())]
        found = self._by_name.get(name) or by_stem
        if len(found) > 1:
            raise ManifestError(
                f"--media: id {video!r} is the name of two files: {found[0]} and {found[1]}; "
                f"remove one, or rename the right one to {conventional}"
            )
        return found[0] if found else None


def _files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        if not path.name.startswith(".") and path.is_file():
            yield path.relative_to(root)
