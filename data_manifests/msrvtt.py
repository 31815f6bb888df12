"""MSR-VTT: 10,000 clips with 20 sentences each, in the three splits of published results.

train_val_videodatainfo.json, test_videodatainfo.json   clips with their official split, sentences
MSRVTT_train.9k.csv, MSRVTT_train.7k.csv                1k-A: ids of the training clips (video_id)
MSRVTT_JSFUSION_test.csv                                1k-A: 1,000 clips, each with the one
                                                        sentence that is its query
                                                        (video_id, sentence)

The 7k list is the official train and validation splits; the 9k list adds the official test split
without the 1,000. Each clip is a file of its own.
"""

from collections.abc import Collection, Iterator, Mapping

from pydantic import BaseModel

from m2hf.data_manifests.annotations import AnnotatedVideo, AnnotationFolder, sentence
from m2hf.data_manifests.problems import Remark
from m2hf.errors import ManifestError
from m2hf.manifest import Split

TRAIN_VAL, TEST = "train_val_videodatainfo.json", "test_videodatainfo.json"
_OFFICIAL: dict[Split, tuple[str, str]] = {
    "train": (TRAIN_VAL, "train"),
    "val": (TRAIN_VAL, "validate"),
    "test": (TEST, "test"),
}


class _VideoEntry(BaseModel):
    video_id: str
    split: str


class _SentenceEntry(BaseModel):
    video_id: str
    sen_id: int
    caption: str


class _VideoDataInfo(BaseModel):
    """The keys of a videodatainfo file that are read."""

    videos: list[_VideoEntry]
    sentences: list[_SentenceEntry]


def read_full(
    files: AnnotationFolder, splits: Collection[Split]
) -> Iterator[AnnotatedVideo | Remark]:
    """The official split: every sentence of a test clip is a query."""
    for name in (TRAIN_VAL, TEST):
        parts = {_OFFICIAL[split][1]: split for split in splits if _OFFICIAL[split][0] == name}
        if not parts:
            continue
        info = files.json(name, _VideoDataInfo)
        captions = _captions(name, info)
        for index, clip in enumerate(info.videos):
            if split := parts.get(clip.split):
                texts = captions[clip.video_id]
                yield _video(split, clip.video_id, texts, f"{name}: videos[{index}]")


def read_1ka(
    files: AnnotationFolder, splits: Collection[Split], train_list: str, pool: tuple[str, ...]
) -> Iterator[AnnotatedVideo | Remark]:
    """JSFusion's 1k-A: 1,000 test clips with one sentence each; training clips with all of theirs.

    train_list: file of the training ids; pool: videodatainfo files with their sentences.
    """
    test = list(_test(files)) if "test" in splits else []
    if "train" in splits:
        captions: dict[str, list[str]] = {}
        for name in pool:
            captions |= _captions(name, files.json(name, _VideoDataInfo))
        yield from _train(files, captions, train_list, {video.id for video in test})
    yield from test


def _test(files: AnnotationFolder) -> Iterator[AnnotatedVideo]:
    for where, row in files.table("MSRVTT_JSFUSION_test.csv", ("video_id", "sentence")):
        yield _video("test", row["video_id"], [sentence(row["sentence"], where)], where)


def _train(
    files: AnnotationFolder, captions: Mapping[str, list[str]], train_list: str, tested: set[str]
) -> Iterator[AnnotatedVideo | Remark]:
    named = set(tested)
    for where, row in files.table(train_list, ("video_id",)):
        named.add(row["video_id"])
        yield _video("train", row["video_id"], captions.get(row["video_id"], []), where)
    left = tuple(video for video in captions if video not in named)
    if left and tested:
        yield Remark(f"{len(left)} captioned clips are neither in {train_list} nor in test", left)


def _captions(name: str, info: _VideoDataInfo) -> dict[str, list[str]]:
    """Id -> its sentences, ordered by sen_id as in the official files."""
    captions: dict[str, list[str]] = {clip.video_id: [] for clip in info.videos}
    numbered = sorted(enumerate(info.sentences), key=lambda pair: pair[1].sen_id)
    for index, annotated in numbered:
        where = f"{name}: sentences[{index}]"
        if annotated.video_id not in captions:
            raise ManifestError(
                f"{where}: a caption of {annotated.video_id!r}, which is not among the videos"
            )
        captions[annotated.video_id].append(sentence(annotated.caption, where))
    return captions


def _video(split: Split, video: str, captions: list[str], where: str) -> AnnotatedVideo:
    return AnnotatedVideo(split, video, f"{video}.mp4", tuple(captions), where)
