"""LSMDC 2016: clips of about 200 films, one sentence each; retrieval is tested on 1,000 of them.

LSMDC16_annos_training.csv, LSMDC16_annos_val.csv, LSMDC16_challenge_1000_publictect.csv

All are tab-separated, without a header and without quoting:

CLIP_ID  START_ALIGNED  END_ALIGNED  START_EXTRACTED  END_EXTRACTED  SENTENCE

A clip may be on several lines: it is one video with several captions. The times are those of the
film; each clip is a file of its own, `<film>/<clip id>.avi`. Clips
0xxx are captioned from film scripts, 1xxx and 3xxx from audio description for the blind (the
owners' README); scripts are in the training split alone.
"""

import re
from collections.abc import Collection, Iterator

from m2hf.data_manifests.annotations import AnnotatedVideo, AnnotationFolder, sentence
from m2hf.data_manifests.problems import Remark
from m2hf.errors import ManifestError
from m2hf.manifest import SPLITS, Split

_FILES: dict[Split, str] = {
    "train": "LSMDC16_annos_training.csv",
    "val": "LSMDC16_annos_val.csv",
    "test": "LSMDC16_challenge_1000_publictect.csv",
}
_COLUMNS = 6
_CLIP = re.compile(r"(?P<film>.+)_[\d.]+-[\d.]+")


def read(files: AnnotationFolder, splits: Collection[Split]) -> Iterator[AnnotatedVideo | Remark]:
    """Clips in the order of their first line, each with all its sentences."""
    for split in (split for split in SPLITS if split in splits):
        name = _FILES[split]
        captions: dict[str, list[str]] = {}
        places: dict[str, str] = {}
        for where, line in files.lines(name):
            columns = line.split("\t")
            if len(columns) != _COLUMNS:
                raise ManifestError(
                    f"{where}: {len(columns)} tab-separated columns, expected {_COLUMNS}: "
                    "clip, four times, sentence"
                )
            clip = columns[0]
            captions.setdefault(clip, []).append(sentence(columns[-1], where))
            places.setdefault(clip, where)
        for clip, texts in captions.items():
            yield AnnotatedVideo(split, clip, _path(clip, places[clip]), tuple(texts), places[clip])
        several = tuple(clip for clip, texts in captions.items() if len(texts) > 1)
        if several:
            what = f"{len(several)} clips have more than one line in {name}"
            yield Remark(f"{what}: each is one video with several captions", several)


def _path(clip: str, where: str) -> str:
    match = _CLIP.fullmatch(clip)
    if match is None:
        raise ManifestError(f"{where}: clip {clip!r}; expected FILM_START-END")
    return f"{match['film']}/{clip}.avi"
