"""ActivityNet Captions: videos of up to some minutes whose sentences together are the query.

train.json, val_1.json         id -> duration, sentences, and a (start, end) in seconds of each
train_ids.json, val_ids.json   ids of the parts; may be absent, and are only compared

val_1 is what the field tests on. The clip is the whole file: sentences say when in it their
moments are, which matters for their order alone.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from m2hf.data_manifests.annotations import Annotations, Remark, Video, sentence
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
        """The sentences by their start; those that start together stay in the file's order."""
        if len(self.timestamps) != len(self.sentences):
            raise ManifestError(
                f"{where}: {len(self.sentences)} sentences, {len(self.timestamps)} timestamps; "
                "expected one for each"
            )
        numbered = sorted(range(len(self.sentences)), key=lambda at: self.timestamps[at][0])
        return " ".join(sentence(self.sentences[at], f"{where}.sentences[{at}]") for at in numbered)


def read(files: Annotations, splits: Collection[Split]) -> Iterator[Video | Remark]:
    """Every captioned video, with one paragraph: its sentences in time order."""
    for split in (split for split in SPLITS if split in splits):
        name, ids_name = _FILES[split]
        paragraphs = files.json(name, dict[str, _Paragraph])
        for video, paragraph in paragraphs.items():
            where = f"{name}: {video}"
            captions = (paragraph.text(where),) if paragraph.sentences else ()
            yield Video(split, video, f"{video}.mp4", captions, where)
        if files.has(ids_name):
            listed = dict.fromkeys(files.json(ids_name, list[str]))
            for text, ids in (
                (f"ids of {ids_name} have no captions in {name}", set(listed) - set(paragraphs)),
                (f"videos of {name} are not in {ids_name}", set(paragraphs) - set(listed)),
            ):
                if ids:
                    yield Remark(f"{len(ids)} {text}", tuple(sorted(ids)))
