"""Manifests of the benchmarks, from their official annotation files: which there are, and how
one is built, checked against its card, and told about.

A card lies beside this file, `<name>.toml`; a reader in the file of its data set.
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
from m2hf.data_manifests.annotations import Annotations, Remark, Video
from m2hf.data_manifests.media_folder import MediaFolder
from m2hf.errors import ManifestError, UsageError
from m2hf.manifest import SPLITS, Card, Manifest, Row, Split

Reader = Callable[[Annotations, Collection[Split]], Iterator[Video | Remark]]

MISSING = "missing.txt"  # beside the manifest: id and conventional path of videos without a file

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
    """A benchmark's manifest, and what its maker should know.

    differences: lines on how its rows differ from its card, but for splits that were left out
    on purpose; remarks: oddities of the files, with ids; missing: rows whose file is not there,
    which stay in the manifest and in every gallery.
    """

    manifest: Manifest
    left_out: tuple[Split, ...]
    differences: tuple[str, ...]
    remarks: tuple[Remark, ...]
    missing: tuple[Row, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it but the rows, for a script to read."""
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
        """Write the manifest, and the list of missing files where there are any."""
        self.manifest.save(folder)
        lines = [f"{row.id}\t{row.path}\n" for row in self.missing]
        if lines:
            atomic_text(folder / MISSING, "".join(lines))
        else:
            (folder / MISSING).unlink(missing_ok=True)


def card(name: str) -> Card:
    """The card of a benchmark; raises UsageError naming the nearest where there is none."""
    if name in set(cards.names()) - set(READERS):
        raise UsageError(f"{name} is generated: m2hf manifest {name} --out DIR")
    if name not in READERS:
        near = difflib.get_close_matches(name, READERS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(READERS)}"
        raise UsageError(f"no benchmark {name!r}; {hint}")
    return cards.read(name)


def build(
    name: str, annotations: Path, media: Path | None = None, only: Collection[str] = ()
) -> BuiltManifest:
    """The manifest of the benchmark `name` from the folder of its official files.

    media: root of the videos; each is looked for there, by name and whatever its container, and
    where it is missing, or no root is given, its conventional path stays in the manifest. only:
    splits to build, by default all that the card has.

    Raises UsageError for a name, split or file that there isn't, ManifestError for files that
    contradict themselves.
    """
    declared = card(name)
    for split in only:
        if split not in declared.splits:
            raise UsageError(f"--splits {split}: {name} has {', '.join(declared.splits)}")
    wanted = tuple(split for split in declared.splits if not only or split in only)
    folder = None if media is None else MediaFolder(media)
    found = list(READERS[name](Annotations(annotations, declared.source), wanted))
    videos = list(_once(item for item in found if isinstance(item, Video)))
    remarks = [*(item for item in found if isinstance(item, Remark)), *_silent(videos)]
    rows, missing = [], []
    for video in videos:
        path = None if folder is None else folder.find(video.id, video.path)
        row = _row(video if path is None else replace(video, path=path))
        rows.append(row)
        if folder is not None and path is None:
            missing.append(row)
    manifest = Manifest(declared, tuple(rows))
    asked = {split: declared.splits[split] for split in wanted}
    compared = Manifest(declared.model_copy(update={"splits": asked}), manifest.rows)
    return BuiltManifest(
        manifest,
        tuple(split for split in declared.splits if split not in wanted),
        tuple(compared.check()),
        tuple(remarks),
        tuple(missing),
    )


def _once(videos: Iterable[Video]) -> Iterator[Video]:
    seen: dict[str, Video] = {}
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
                "a video is in one split once"
            )
        yield video


def _silent(videos: list[Video]) -> Iterator[Remark]:
    for split in SPLITS:
        ids = tuple(video.id for video in videos if video.split == split and not video.captions)
        if ids:
            yield Remark(f"{len(ids)} videos of split {split} have no caption: they stay", ids)


def _row(video: Video) -> Row:
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
