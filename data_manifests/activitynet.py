"""ActivityNet Captions: videos of a few minutes; the sentences of a video form one query.

train.json, val_1.json         id -> duration, sentences, and (start, end) seconds of each
train_ids.json, val_ids.json   ids of the splits; optional, used only for a comparison

Published results test on val_1. The clip is the whole file: the times of sentences are used only
to order them.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from m2hf.data_manifests.annotations import AnnotatedVideo, AnnotationFolder, sentence
from m2hf.data_manifests.problems import Remark
from m2hf.errors import ManifestError
from m2hf.manifest import SPLITS, Split

_FILES: dict[Split, tuple[str, str]] = {
    "train": ("train.json", "train_ids.json"),
    "test": ("val_1.json", "val_ids.json"),
}


@dataclass(frozen=True)
class _Paragraph:
    timestamps: list[tuple[float, float]]
    sentences: list[str]

    def text(self, where: str) -> str:
        """The sentences ordered by start time; equal ones stay in file order."""
        if len(self.timestamps) != len(self.sentences):
            raise ManifestError(
                f"{where}: {len(self.sentences)} sentences, {len(self.timestamps)} timestamps; "
                "expected one for each"
            )
        numbered = sorted(range(len(self.sentences)), key=lambda at: self.timestamps[at][0])
        return " ".join(sentence(self.sentences[at], f"{where}.sentences[{at}]") for at in numbered)


def read(files: AnnotationFolder, splits: Collection[Split]) -> Iterator[AnnotatedVideo | Remark]:
    """Every captioned video, with one paragraph: its sentences in time order."""
    for split in (split for split in SPLITS if split in splits):
        name, ids_name = _FILES[split]
        paragraphs = files.json(name, dict[str, _Paragraph])
        for video, paragraph in paragraphs.items():
            where = f"{name}: {video}"
            captions = (paragraph.text(where),) if paragraph.sentences else ()
            yield AnnotatedVideo(split, video, f"{video}.mp4", captions, where)
        if files.has(ids_name):
            listed = dict.fromkeys(files.json(ids_name, list[str]))
            for text, ids in (
                (f"ids of {ids_name} have no captions in {name}", set(listed) - set(paragraphs)),
                (f"videos of {name} are not in {ids_name}", set(paragraphs) - set(listed)),
            ):
                if ids:
                    yield Remark(f"{len(ids)} {text}", tuple(sorted(ids)))
