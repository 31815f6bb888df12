"""Build the manifest of a benchmark from its official annotation files, and check it.

Each benchmark has a card, `<name>.toml` in this folder, and a reader in the module of its data set.
"""

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from m2hf.atomic import atomic_text
from m2hf.data_manifests import activitynet, cards, didemo, lsmdc, msrvtt, msvd
from m2hf.data_manifests.annotations import AnnotatedVideo, AnnotationFolder
from m2hf.data_manifests.media_folder import MediaFolder
from m2hf.data_manifests.problems import Remark
from m2hf.errors import ManifestError, UsageError
from m2hf.manifest import SPLITS, Card, Manifest, Row, Split

Reader = Callable[[AnnotationFolder, Collection[Split]], Iterator[AnnotatedVideo | Remark]]

MISSING = "missing.txt"  # in the manifest folder: id and path of each video without a file

READERS: dict[str, Reader] = {
    "activitynet": activitynet.read,
    "didemo": didemo.read,
    "lsmdc": lsmdc.read,
    "msrvtt-1ka-7k": partial(
        msrvtt.read_1ka, train_list="MSRVTT_train.7k.csv", pool=(msrvtt.TRAIN_VAL,)
    ),
    "msrvtt-1ka-9k": partial(
        msrvtt.read_1ka, train_list="MSRVTT_train.9k.csv", pool=(msrvtt.TRAIN_VAL, msrvtt.TEST)
    ),
    "msrvtt-full": msrvtt.read_full,
    "msvd": msvd.read,
}


@dataclass(frozen=True)
class BuiltManifest:
    """A benchmark's manifest, and a report on it.

    left_out: splits that were not requested; differences: lines on how the rows of the others
    differ from the card; remarks: irregularities of the files, with ids; missing: rows whose file
    was not found, which stay in the manifest and in every gallery.
    """

    manifest: Manifest
    left_out: tuple[Split, ...]
    differences: tuple[str, ...]
    remarks: tuple[Remark, ...]
    missing: tuple[Row, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything but the rows, for `manifest build --json`."""
        counts = self.manifest.counts()
        return {
            "counts": {split: count.model_dump() for split, count in counts.items()},
            "left_out": self.left_out,
            "differences": self.differences,
            "remarks": [{"text": remark.text, "ids": remark.ids} for remark in self.remarks],
            "missing": [row.id for row in self.missing],
            "digest": self.manifest.digest,
        }

    def save(self, folder: Path) -> None:
        """Write the manifest, and the list of missing files if there are any."""
        self.manifest.save(folder)
        lines = [f"{row.id}\t{row.path}\n" for row in self.missing]
        if lines:
            atomic_text(folder / MISSING, "".join(lines))
        else:
            (folder / MISSING).unlink(missing_ok=True)


def card(name: str) -> Card:
    """The card of a benchmark; raises UsageError, naming a similar one, for an unknown name."""
    if name in set(cards.names()) - set(READERS):
        raise UsageError(f"{name} is generated: m2hf manifest {name} --out DIR")
    if name not in READERS:
        near = difflib.get_close_matches(name, READERS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(READERS)}"
        raise UsageError(f"no benchmark {name!r}; {hint}")
    return cards.read(name)


def build(
    name: str, annotations: Path, media: Path | None = None, only: Collection[str] = ()
) -> BuiltManifest:
    """The manifest of the benchmark `name` from the folder of its official files.

    media: root of the videos; each is searched there by name, in any container; where it is not
    found, or no root is given, the manifest has its conventional path. only: splits to build, by
    default all of the card.

    Raises UsageError for an unknown name or split and for a missing file, ManifestError for files
    that contradict each other.
    """
    declared = card(name)
    for split in only:
        if split not in declared.splits:
            raise UsageError(f"--splits {split}: {name} has {', '.join(declared.splits)}")
    wanted = tuple(split for split in declared.splits if not only or split in only)
    folder = None if media is None else MediaFolder(media)
    files = AnnotationFolder(annotations, declared.source)
    found = list(READERS[name](files, wanted))
    videos = list(_unique(item for item in found if isinstance(item, AnnotatedVideo)))
    remarks = [*files.remarks, *(item for item in found if isinstance(item, Remark))]
    remarks += _without_captions(videos)
    rows, missing = [], []
    for video in videos:
        path = None if folder is None else folder.find(video.id, video.path)
        row = _row(video if path is None else replace(video, path=path))
        rows.append(row)
        if folder is not None and path is None:
            missing.append(row)
    manifest = Manifest(declared, tuple(rows))
    wanted_counts = {split: declared.splits[split] for split in wanted}
    compared = Manifest(declared.model_copy(update={"splits": wanted_counts}), manifest.rows)
    return BuiltManifest(
        manifest,
        tuple(split for split in declared.splits if split not in wanted),
        tuple(compared.check()),
        tuple(remarks),
        tuple(missing),
    )


def _unique(videos: Iterable[AnnotatedVideo]) -> Iterator[AnnotatedVideo]:
    seen: dict[str, AnnotatedVideo] = {}
    for video in videos:
        first = seen.setdefault(video.id, video)
        if first is not video:
            places = (
                f"twice in split {video.split}"
                if first.split == video.split
                else f"in split {first.split} and in {video.split}"
            )
            raise ManifestError(
                f"{video.where}: {video.id!r} is {places} (first: {first.where}); "
                "a video must be in one split, once"
            )
        yield video


def _without_captions(videos: list[AnnotatedVideo]) -> Iterator[Remark]:
    for split in SPLITS:
        ids = tuple(video.id for video in videos if video.split == split and not video.captions)
        if ids:
            yield Remark(f"{len(ids)} videos of split {split} have no caption; they are kept", ids)


def _row(video: AnnotatedVideo) -> Row:
    try:
        return Row(
            id=video.id,
            path=video.path,
            split=video.split,
            captions=video.captions,
            start=video.start,
            end=video.end,
        )
    except ValidationError as error:
        first: Any = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        raise ManifestError(
            f"{video.where}: {'.'.join(map(str, first['loc']))} {first['input']!r}: {message}"
        ) from error
