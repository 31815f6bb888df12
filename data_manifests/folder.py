"""Build a manifest from a folder of videos and a CSV file of captions."""

import csv
from dataclasses import dataclass
from pathlib import Path

from m2hf.data_manifests.media_folder import media_files
from m2hf.errors import ManifestError, UsageError
from m2hf.keys import bucket_of
from m2hf.manifest import SPLITS, Card, Manifest, Protocol, Row, Split


@dataclass(frozen=True)
class FolderManifest:
    """The manifest, and a report on it. without_captions: ids of videos without a caption."""

    manifest: Manifest
    without_captions: tuple[str, ...]
    split_by_hash: bool


def from_folder(videos: Path, captions: Path, name: str) -> FolderManifest:
    """One row a media file under `videos`; its id is the file name without its extension.

    captions: CSV with a header `id,caption[,split]`, one line per caption. Without a split
    column the ids are split by hash: 70 % train, 10 % val, 20 % test. A video without a caption
    stays in the gallery as a distractor; where there is a split column it is in test.

    Raises UsageError where a path is missing, ManifestError for two files of one id, a caption
    for an unknown id, an unknown split, or an id in two splits.
    """
    if not videos.is_dir():
        raise UsageError(f"{videos}: no such folder of videos")
    files: dict[str, Path] = {}
    for path in media_files(videos):
        if path.stem in files:
            raise ManifestError(
                f"id {path.stem!r} is the name of two files: {files[path.stem]} and {path}; "
                "ids must be unique, rename one"
            )
        files[path.stem] = path
    if not files:
        raise ManifestError(f"{videos}: no media file there (looked for *.mp4, *.mkv, ...)")
    texts, splits = _read_captions(captions, files)
    rows = [
        Row(
            id=video,
            path=path.as_posix(),
            split=splits.get(video, "test") if splits else _by_hash(video),
            captions=tuple(texts.get(video, ())),
        )
        for video, path in files.items()
    ]
    several = any(len(row.captions) > 1 for row in rows if row.split == "test")
    protocol: Protocol = "multi_caption" if several else "one_caption"
    manifest = Manifest(
        Card(name=name, protocol=protocol, source="a folder of videos"), tuple(rows)
    )
    declared = manifest.card.model_copy(update={"splits": manifest.counts()})
    return FolderManifest(
        Manifest(declared, manifest.rows),
        tuple(row.id for row in rows if not row.captions),
        split_by_hash=not splits,
    )


def _read_captions(
    path: Path, files: dict[str, Path]
) -> tuple[dict[str, list[str]], dict[str, Split]]:
    if not path.is_file():
        raise UsageError(f"--captions {path}: no such file; expected CSV with id,caption[,split]")
    texts: dict[str, list[str]] = {}
    splits: dict[str, Split] = {}
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        header = reader.fieldnames or []
        if not {"id", "caption"} <= set(header):
            raise ManifestError(
                f"{path}: header is {','.join(header)}, expected id,caption[,split]"
            )
        for line in reader:
            where = f"{path}, line {reader.line_num}"
            video, text = (line["id"] or "").strip(), (line["caption"] or "").strip()
            if video not in files:
                raise ManifestError(
                    f"{where}: a caption for id {video!r}, but no video file has that name; "
                    "add the file or remove the line"
                )
            if not text:
                raise ManifestError(f"{where}: the caption of {video!r} is empty")
            texts.setdefault(video, []).append(text)
            if "split" in header:
                split = _split(line["split"], where)
                if splits.setdefault(video, split) != split:
                    raise ManifestError(
                        f"{where}: {video!r} is in split {splits[video]} and in {split}"
                    )
    return texts, splits


def _split(text: str | None, where: str) -> Split:
    for split in SPLITS:
        if (text or "").strip() == split:
            return split
    raise ManifestError(f"{where}: split {text!r}; expected {', '.join(SPLITS)}")


def _by_hash(video: str) -> Split:
    place = bucket_of(video, 10)
    return "train" if place < 7 else "val" if place == 7 else "test"
