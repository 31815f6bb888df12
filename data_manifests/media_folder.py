"""Find the media files below a folder: all of them, or the file of a given video."""

import os
import unicodedata
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from m2hf.data_manifests.problems import Remark
from m2hf.errors import ManifestError, UsageError
from m2hf.media_root import MediaRoot
from m2hf.media_types import MEDIA_EXTENSIONS, VIDEO_EXTENSIONS


@dataclass(frozen=True)
class MediaFiles:
    """The video and audio files below a folder, relative to it and sorted; remarks: what is there
    and was left out, and links that lead out of the folder."""

    paths: tuple[Path, ...]
    remarks: tuple[Remark, ...]


def media_files(root: Path) -> MediaFiles:
    """Every media file below `root`, in linked folders, too, except hidden files."""
    scan = _Scan(root)
    media = [path for path in scan.paths if path.suffix.lower() in MEDIA_EXTENSIONS]
    suffixes = Counter(path.suffix.lower() or "no extension" for path in scan.paths)
    other = [pair for pair in suffixes.most_common() if pair[0] not in MEDIA_EXTENSIONS]
    counts = tuple(f"{suffix} ({count})" for suffix, count in other)
    broken, undecoded = (
        [path for path in paths if path.suffix.lower() in MEDIA_EXTENSIONS]
        for paths in (scan.broken, scan.undecoded)
    )
    found = (
        ("files without an extension of media files are left out", counts),
        ("links to files that don't exist are left out", _texts(broken)),
        ("names that are not in the encoding of this system are left out", _texts(undecoded)),
        (
            "links that lead out of the folder, which extraction follows only with --set "
            "extract.media.follow_links=true",
            _texts(scan.outside),
        ),
        ("linked folders that contain themselves are not followed", _texts(scan.cycles)),
        ("folders that can't be read are left out", _texts(scan.unreadable)),
    )
    return MediaFiles(tuple(media), tuple(Remark(text, names) for text, names in found if names))


class MediaFolder:
    """Finds the file of a video below a root, in any folder and with any container."""

    def __init__(self, root: Path) -> None:
        """Scan `root` once. Raises UsageError if it is not a folder."""
        if not root.is_dir():
            raise UsageError(f"--media {root}: no such folder; give the root of the video files")
        self._paths: set[str] = set()
        self._by_path: dict[str, str] = {}
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for path in _Scan(root).paths:
            text = path.as_posix()
            self._paths.add(text)
            self._by_path.setdefault(name_key(text), text)
            self._by_name.setdefault(name_key(path.name), []).append(text)
            if path.suffix.lower() in VIDEO_EXTENSIONS:
                self._by_stem.setdefault(name_key(path.stem), []).append(text)

    def find(self, video: str, conventional: str) -> str | None:
        """The path of the file of `video`, relative to the root; None where there is none.

        In this order: its `conventional` path; a file of that name in any folder; a video file of
        any container named `video`, or `conventional` with one more extension. Names that differ
        in Unicode normalisation only are equal.
        Raises ManifestError where two files match equally.
        """
        if conventional in self._paths:
            return conventional
        video_key, path_key = name_key(video), name_key(conventional)
        if path_key in self._by_path:
            return self._by_path[path_key]
        name = path_key.rpartition("/")[2]
        by_stem = [path for stem in {video_key: 0, name: 0} for path in self._by_stem.get(stem, ())]
        found = self._by_name.get(name) or by_stem
        if len(found) > 1:
            raise ManifestError(
                f"--media: id {video!r} is the name of two files: {found[0]} and {found[1]}; "
                f"remove one, or rename the right one to {conventional}"
            )
        return found[0] if found else None


def name_key(name: str) -> str:
    """`name` in the form in which names are compared: Unicode NFC, since macOS writes NFD."""
    return unicodedata.normalize("NFC", name)


class _Scan:
    """The files below a folder, hidden ones excepted, and what could not be followed.

    Each folder is read once, however many links lead to it: real folders first, then links in
    sorted order, so that a file that is reachable by both has its real path.
    """

    def __init__(self, root: Path) -> None:
        self.paths: list[Path] = []
        self.broken: list[Path] = []
        self.undecoded: list[Path] = []
        self.cycles: list[Path] = []
        self.outside: list[Path] = []
        self.unreadable: list[Path] = []
        self._root = root
        self._media_root = MediaRoot(root.resolve())
        self._seen: set[tuple[int, int]] = set()
        links = deque([Path()])
        while links:
            folder = links.popleft()
            if folder.parts and self._contains_itself(folder):
                self.cycles.append(folder)
                continue
            if folder.parts:
                self._note_link(folder)
            links += sorted(self._read_tree(folder))
        self.paths.sort()

    def _contains_itself(self, link: Path) -> bool:
        """Whether the folder that `link` leads to contains the root or the link."""
        target = Path(os.path.realpath(self._root / link))
        places = (Path(os.path.realpath(path)) for path in (self._root, (self._root / link).parent))
        return any(target == place or target in place.parents for place in places)

    def _read_tree(self, top: Path) -> Iterator[Path]:
        """Add the files below `top`; yields the linked folders there."""
        folders = [top]
        while folders:
            folder = folders.pop()
            try:
                stat = (self._root / folder).stat()
                if (stat.st_dev, stat.st_ino) in self._seen:
                    continue
                self._seen.add((stat.st_dev, stat.st_ino))
                entries = sorted(os.scandir(self._root / folder), key=lambda entry: entry.name)
            except OSError:
                self.unreadable.append(folder)
                continue
            for entry in entries:
                path = folder / entry.name
                if _is_folder(entry):
                    if entry.is_symlink():
                        yield path
                    else:
                        folders.append(path)
                elif not entry.name.startswith("."):
                    self._add_file(entry, path)

    def _add_file(self, entry: "os.DirEntry[str]", path: Path) -> None:
        try:
            is_file = entry.is_file()
        except OSError:  # a link that leads to itself
            is_file = False
        if not is_file:
            if entry.is_symlink():
                self.broken.append(path)
        elif not _decodable(path):
            self.undecoded.append(path)
        else:
            self.paths.append(path)
            if entry.is_symlink() and path.suffix.lower() in MEDIA_EXTENSIONS:
                self._note_link(path)

    def _note_link(self, path: Path) -> None:
        """Keep a link that leads out of the root, but not the links in what it leads to."""
        place, parent = (self._media_root.inside(os.fspath(p)) for p in (path, path.parent))
        if place is None and parent is not None:
            self.outside.append(path)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _decodable(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _texts(paths: list[Path]) -> tuple[str, ...]:
    return tuple(path.as_posix() for path in sorted(paths))
