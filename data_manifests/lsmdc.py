"""LSMDC 2016: clips of some 200 films, a sentence each; retrieval is tested on 1,000 of them.

LSMDC16_annos_training.csv, LSMDC16_annos_val.csv, LSMDC16_challenge_1000_publictect.csv

One form, tab-separated, without a header and without quoting:

CLIP_ID  START_ALIGNED  END_ALIGNED  START_EXTRACTED  END_EXTRACTED  SENTENCE

The same clip may stand on several lines: it is one video with several captions. The times are
those of the film; clips were cut to files `<film>/<clip id>.avi`, so a file is a clip. Clips
0xxx are captioned from film scripts, 1xxx and 3xxx from audio description for the blind (the
owners' README); scripts are in the training part alone.
"""

import re
from collections.abc import Collection, Iterator

from m2hf.data_manifests.annotations import Annotations, Remark, Video, sentence
from m2hf.errors import ManifestError
from m2hf.manifest import SPLITS, Split

_FILES: dict[Split, str] = {
    "train": "LSMDC16_annos_training.csv",
    "val": "LSMDC16_annos_val.csv",
    "test": "LSMDC16_challenge_1000_publictect.csv",
}
_COLUMNS = 6
_CLIP = re.compile(r"(?P<film>.+)_[\d.]+-[\d.]+")


def read(files: Annotations, splits: Collection[Split]) -> Iterator[Video | Remark]:
    """Clips in the order in which they first occur, with all sentences of each."""
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
            yield Video(split, clip, _path(clip, places[clip]), tuple(texts), places[clip])
        several = tuple(clip for clip, texts in captions.items() if len(texts) > 1)
        if several:
            what = f"{len(several)} clips have more than one line in {name}"
            yield Remark(f"{what}: each is one video with several captions", several)


def _path(clip: str, where: str) -> str:
    match = _CLIP.fullmatch(clip)
    if match is None:
        raise ManifestError(f"{where}: clip {clip!r}; expected FILM_START-END")
    return f"{match['film']}/{clip}.avi"
