"""Build a manifest of own data: from a folder of videos, a CSV file of captions, or both."""

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from m2hf.data_manifests.captions_file import (
    COLUMNS,
    CaptionsFile,
    Columns,
    ResolvedId,
    read_captions,
)
from m2hf.data_manifests.media_folder import media_files, name_key
from m2hf.data_manifests.problems import Remark, quoted
from m2hf.errors import ManifestError, UsageError
from m2hf.keys import safe_name, sha256_hex
from m2hf.manifest import Card, Manifest, Protocol, Row, Split
from m2hf.media_types import MEDIA_EXTENSIONS, VIDEO_EXTENSIONS
from m2hf.printable import printable

_SHOWN = 10  # ids in an error message


@dataclass(frozen=True)
class OwnManifest:
    """The manifest, and a report on it. without_captions: ids of videos without a caption."""

    manifest: Manifest
    without_captions: tuple[str, ...]
    split_by_hash: bool
    remarks: tuple[Remark, ...]


def from_folder(
    videos: Path, captions: Path | None, name: str, columns: Columns = COLUMNS
) -> OwnManifest:
    """One row a media file under `videos`; its id is the file name without its extension.

    captions: CSV with a header that has `columns`, one line per caption. Without a split column
    the ids are divided in the order of their hashes: the first 70 % are train, 10 % val, the rest
    test; adding videos can move others. A video without a caption
    stays in the gallery as a distractor; where there is a split column it is in test. Without
    captions all videos are in test: there is nothing to train on.

    Raises UsageError where a path is missing, ManifestError for two files of one id, and for
    the problems of the captions file.
    """
    if not videos.is_dir():
        raise UsageError(f"{videos}: no such folder of videos")
    media = media_files(videos)
    folder = _VideoFiles(media.paths)
    if not folder.paths:
        left_out = "; ".join(map(str, (*media.remarks, *folder.remarks)))
        raise ManifestError(
            f"{videos}: no media file there (looked for *.mp4, *.mkv, ...)"
            + (f"; {left_out}" if left_out else "")
        )
    found = (
        None if captions is None else read_captions(captions, folder.resolve, folder.paths, columns)
    )
    rows = [(video, path.as_posix()) for video, path in folder.paths.items()]
    remarks = (*media.remarks, *folder.remarks)
    made = _manifest(name, "a folder of videos", rows, found)
    return replace(made, remarks=(*remarks, *made.remarks))


def from_captions(captions: Path, name: str, columns: Columns = COLUMNS) -> OwnManifest:
    """One row for each id in a captions file, in file order, for features without media.

    A row's path is the id (escaped where that is no relative path): no file is expected there,
    and `m2hf manifest check --media` lists it as missing. Without a split column the ids are
    divided as those of `from_folder`.

    Raises UsageError where the file is missing, ManifestError for its problems.
    """
    spellings: dict[str, str] = {}

    def resolve(written: str) -> ResolvedId:
        return _own_id(spellings.setdefault(name_key(written), written))

    found = read_captions(captions, resolve, columns=columns)
    rows = [(video, _path_of(video)) for video in found.texts]
    made = _manifest(name, "a captions file, without media", rows, found)
    files = tuple(v for v in found.texts if PurePosixPath(v).suffix.lower() in MEDIA_EXTENSIONS)
    if not files:
        return made
    what = f"{len(files)} ids end in the extension of a media file, and arrays to import must, too"
    return replace(made, remarks=(*made.remarks, Remark(what, files)))


class _VideoFiles:
    """The media files of a folder by id, and what an id in a captions file stands for."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        """Raises ManifestError where two files have one id."""
        self.remarks: list[Remark] = []
        self._refused: set[str] = set()
        self.paths = self._by_id(paths)
        self._names = {name_key(video): video for video in self.paths}
        for video, path in self.paths.items():
            for written in (path.as_posix(), path.name):
                self._names.setdefault(name_key(written), video)
        self._folded = {name.casefold(): video for name, video in self._names.items()}

    def resolve(self, written: str) -> ResolvedId:
        """The video of this id, file name or path, whatever its Unicode normalisation."""
        if written in self.paths:
            return ResolvedId(written)
        key = name_key(written)
        if key in self._names:
            return ResolvedId(self._names[key])
        if key in self._refused:
            return ResolvedId(written, left_out=True)
        stem = PurePosixPath(written.replace("\\", "/")).name
        if PurePosixPath(stem).suffix.lower() in MEDIA_EXTENSIONS:
            stem = PurePosixPath(stem).stem
        near = self._names.get(name_key(stem)) or self._folded.get(key.casefold())
        what = f"a caption for id {quoted(written)}, but no video file has that name"
        if near is None:
            return ResolvedId(written, what, "add the file or remove the line")
        return ResolvedId(
            written,
            f"{what}; did you mean {quoted(near)}?",
            "write ids as the names of the files without their extensions",
        )

    def _by_id(self, paths: tuple[Path, ...]) -> dict[str, Path]:
        groups: dict[str, list[Path]] = {}
        for path in paths:
            groups.setdefault(name_key(path.stem.strip()), []).append(path)
        chosen: dict[str, Path] = {}
        refused, sounds, twice = [], [], []
        for key, group in groups.items():
            videos = [path for path in group if path.suffix.lower() in VIDEO_EXTENSIONS]
            if len(videos) == 1:
                sounds += [path.as_posix() for path in group if path not in videos]
            kept = videos if len(videos) == 1 else group
            video = kept[0].stem.strip()
            if not _is_row(video, kept[0].as_posix()):
                refused += [path.as_posix() for path in group]
                self._refused |= {key, *(name_key(path.name) for path in group)}
            elif len(kept) > 1:
                twice.append((video, kept))
            else:
                chosen[video] = kept[0]
        if twice:
            raise ManifestError(printable(_twice(twice)))
        if refused:
            what = "files whose names can't be ids (control characters, or nothing but spaces)"
            self.remarks.append(Remark(f"{len(refused)} {what} are left out", tuple(refused)))
        if sounds:
            what = f"{len(sounds)} audio files next to a video of the same name are left out"
            self.remarks.append(Remark(what, tuple(sounds)))
        return chosen


def _twice(twice: list[tuple[str, list[Path]]]) -> str:
    shown = "; ".join(
        f"id {video!r} is the name of two files: {paths[0].as_posix()} and {paths[1].as_posix()}"
        for video, paths in twice[:_SHOWN]
    )
    more = f"; and {len(twice) - _SHOWN} more ids" if len(twice) > _SHOWN else ""
    return f"{shown}{more}; ids must be unique, rename one"


def _manifest(
    name: str, source: str, videos: list[tuple[str, str]], found: CaptionsFile | None
) -> OwnManifest:
    """The manifest of (id, path) pairs with the captions of `found`."""
    texts = {} if found is None else found.texts
    splits: dict[str, Split] = {} if found is None else found.splits
    all_test = found is None or bool(splits)
    divided = {} if all_test else _divided([video for video, _ in videos])
    rows = tuple(
        Row(
            id=video,
            path=path,
            split=splits.get(video, divided.get(video, "test")),
            captions=tuple(texts.get(video, ())),
        )
        for video, path in videos
    )
    several = any(len(row.captions) > 1 for row in rows if row.split == "test")
    protocol: Protocol = "multi_caption" if several else "one_caption"
    manifest = Manifest(Card(name=name, protocol=protocol, source=source), rows)
    declared = manifest.card.model_copy(update={"splits": manifest.counts()})
    return OwnManifest(
        Manifest(declared, manifest.rows),
        tuple(row.id for row in rows if not row.captions),
        split_by_hash=not all_test,
        remarks=() if found is None else tuple(found.remarks),
    )


def _own_id(written: str) -> ResolvedId:
    if not written:
        return ResolvedId(written, "no id", "give the id of the video")
    if not _is_row(written, "path"):
        what = f"id {quoted(written)}; expected at most 512 characters, no control characters"
        return ResolvedId(written, what, "give another id")
    return ResolvedId(written)


def _path_of(video: str) -> str:
    return video if PurePosixPath(video).parts and _is_row(video, video) else safe_name(video)


def _is_row(video: str, path: str) -> bool:
    try:
        Row(id=video, path=path, split="test")
    except ValidationError:
        return False
    return True


def _divided(ids: list[str]) -> dict[str, Split]:
    """The split of each id: exact shares of the ids, whatever their order."""
    ordered = sorted(ids, key=lambda video: sha256_hex(video.encode()))
    train, val = (len(ids) * tenths // 10 for tenths in (7, 8))
    return {
        video: "train" if place < train else "val" if place < val else "test"
        for place, video in enumerate(ordered)
    }
