"""DiDeMo: Flickr videos with a few described moments each; a video's descriptions form one query.

train_list.txt, val_list.txt, test_list.txt      a file name per line: the videos that are used
train_data.json, val_data.json, test_data.json   descriptions, each with times by several
                                                 annotators

A time is a pair of chunks of 5 s, the first and the last of the moment. Annotators saw the
first 30 s of a video (the owners' README), so these are the clip, however long the file is.
An id is the file name without its extension, since copies of a file differ in the extension.
A few videos have descriptions under two extensions, one of which is listed: those under the other
are left out, as in published results, and reported.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Annotated

from pydantic import Field

from m2hf.data_manifests.annotations import AnnotatedVideo, AnnotationFolder, sentence
from m2hf.data_manifests.problems import Remark
from m2hf.manifest import SPLITS, Split

CLIP_S = 30.0


@dataclass(frozen=True)
class _MomentDescription:
    video: str
    description: str
    times: Annotated[list[tuple[int, int]], Field(min_length=1)]
    annotation_id: int

    @property
    def order(self) -> tuple[float, float, int]:
        """Median start, then median end, over annotators; then the annotation id. The median is
        our choice: one annotator in four often marks another moment."""
        starts, ends = zip(*self.times, strict=True)
        return median(starts), median(ends), self.annotation_id


def read(files: AnnotationFolder, splits: Collection[Split]) -> Iterator[AnnotatedVideo | Remark]:
    """The listed videos, each with one paragraph: its descriptions in time order."""
    for split in (split for split in SPLITS if split in splits):
        name = f"{split}_data.json"
        moments: dict[str, list[_MomentDescription]] = {}
        for index, moment in enumerate(files.json(name, list[_MomentDescription])):
            sentence(moment.description, f"{name}: [{index}]")
            moments.setdefault(moment.video, []).append(moment)
        list_name = f"{split}_list.txt"
        listed = set()
        for where, line in files.lines(list_name):
            video = line.strip()
            listed.add(video)
            ordered = sorted(moments.get(video, ()), key=lambda moment: moment.order)
            paragraph = " ".join(moment.description.strip() for moment in ordered)
            captions = (paragraph,) if ordered else ()
            yield AnnotatedVideo(split, _stem(video), video, captions, where, start=0.0, end=CLIP_S)
        yield from _left_out(name, [video for video in moments if video not in listed], listed)


def _left_out(name: str, videos: list[str], listed: set[str]) -> Iterator[Remark]:
    stems = {_stem(video) for video in listed}
    renamed = tuple(video for video in videos if _stem(video) in stems)
    unknown = tuple(video for video in videos if _stem(video) not in stems)
    if renamed:
        what = f"{len(renamed)} videos of {name} are listed with another extension"
        yield Remark(f"{what}: descriptions under this one are left out", renamed)
    if unknown:
        yield Remark(f"{len(unknown)} videos of {name} are in no list: left out", unknown)


def _stem(video: str) -> str:
    return video.rpartition(".")[0] or video
