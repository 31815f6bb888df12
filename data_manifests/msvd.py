"""MSVD: 1,970 clips of YouTube videos with about 41 sentences each; every sentence is a query.

train_list.txt, val_list.txt, test_list.txt   an id per line
captions_msvd.json                            id -> its sentences

An id is `<YouTube id>_<start>_<end>`; each clip is a file of that name.
"""

from collections.abc import Collection, Iterator

from m2hf.data_manifests.annotations import AnnotatedVideo, AnnotationFolder, sentence
from m2hf.data_manifests.problems import Remark
from m2hf.manifest import SPLITS, Split

CAPTIONS = "captions_msvd.json"


def read(files: AnnotationFolder, splits: Collection[Split]) -> Iterator[AnnotatedVideo | Remark]:
    """The listed clips, each with its sentences in file order."""
    captions = files.json(CAPTIONS, dict[str, list[str]])
    lists = {split: f"{split}_list.txt" for split in SPLITS}
    for split in (split for split in SPLITS if split in splits):
        for where, line in files.lines(lists[split]):
            video = line.strip()
            texts = enumerate(captions.get(video, ()))
            sentences = tuple(
                sentence(text, f"{CAPTIONS}: {video}[{index}]") for index, text in texts
            )
            yield AnnotatedVideo(split, video, f"{video}.avi", sentences, where)
    if all(files.has(name) for name in lists.values()):
        listed = {line.strip() for name in lists.values() for _, line in files.lines(name)}
        left = tuple(video for video in captions if video not in listed)
        if left:
            yield Remark(f"{len(left)} videos of {CAPTIONS} are in no list: left out", left)
