"""Training and validation videos, and the captions that can be trained on.

The test split is never used for either: where a data set has no validation split, part of train
is held out. Choosing the epoch on test, as is common, is a leak.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from m2hf.errors import UsageError
from m2hf.fuse.config import FusionConfig
from m2hf.fuse.features.store import FeatureStore, without
from m2hf.fuse.level_table import FRAMES
from m2hf.keys import sha256_hex
from m2hf.manifest import Caption, Manifest, Row, captions_of
from m2hf.packed_rows import PackedRows


def hash_key(item_id: str) -> str:
    """sha256 of an id: a sort key that depends on nothing else."""
    return sha256_hex(item_id.encode())


def train_and_val(manifest: Manifest, val_fraction: float) -> tuple[PackedRows, PackedRows]:
    """Training and validation rows; the share `val_fraction` of train with the lowest sha256 of
    the id is held out where the manifest has no val split."""
    train, val = manifest.split("train"), manifest.split("val")
    if val:
        return train, val
    ids = list(train.ids())
    held_out = set(sorted(ids, key=hash_key)[: math.ceil(val_fraction * len(train))])
    held_V = np.array([item in held_out for item in ids], dtype=np.bool_)
    return train.chosen(np.flatnonzero(~held_V)), train.chosen(np.flatnonzero(held_V))


def usable_captions(rows: Sequence[Row], store: FeatureStore) -> list[Caption]:
    """Captions that have features in every query role and whose video has frames."""
    captions = list(captions_of(rows))
    has_text = store.told([caption.id for caption in captions])
    has_frames = store[FRAMES].present([caption.video for caption in captions])
    usable = has_text & has_frames
    return [caption for caption, use in zip(captions, usable, strict=True) if use]


@dataclass(frozen=True)
class TrainingSet:
    """The captions that a run trains on.

    A stream may lack videos of the manifest: a clip failed, an extraction was not completed, or
    arrays were imported for some videos only. This is usual after days of extraction, so such
    videos count as lacking the modality and are named; they are left out only where the config
    asks for the intersection. A stream that has an entry for none of them is an error, since that
    can't be intended; one in which all are EMPTY is not (MSVD has no audio).

    absent: by role, the training videos that its stream has no entry for; lost: how many of
    them were left out.
    """

    captions: tuple[Caption, ...]
    absent: dict[str, tuple[str, ...]]
    lost: int

    @classmethod
    def of(cls, rows: Sequence[Row], store: FeatureStore, config: FusionConfig) -> Self:
        """The captions of `rows` to train on.

        Raises UsageError for a stream that has no entry for any of their videos, and where
        less than two videos are in every stream and the config asks for these alone.
        """
        captions = usable_captions(rows, store)
        videos = list(dict.fromkeys(caption.video for caption in captions))
        absent = absent_videos(videos, store)
        for role, missing in absent.items():
            if len(missing) == len(videos):
                raise UsageError(
                    f"stream {role}: {store.info[role].name} has no entry for any of the "
                    f"{len(videos)} training videos; extract or import it for them"
                    f"{without(role, config)}"
                )
        if config.train.videos == "all":
            return cls(tuple(captions), absent, 0)
        lost = {video for missing in absent.values() for video in missing}
        if lost and len(videos) - len(lost) < 2:
            lacks = ", ".join(f"{role} lacks {len(missing)}" for role, missing in absent.items())
            raise UsageError(
                f"split train: {len(videos) - len(lost)} of {len(videos)} videos are in every "
                f"stream ({lacks}), and training needs two; set fuse.train.videos=all"
            )
        kept = tuple(caption for caption in captions if caption.video not in lost)
        return cls(kept, absent, len(lost))


def absent_videos(videos: Sequence[str], store: FeatureStore) -> dict[str, tuple[str, ...]]:
    """Those of `videos` with frames that a stream has no entry for, by role; only roles that
    lack some."""
    seen = store[FRAMES].present(videos)
    absent = {}
    for role in store.video_roles:
        lacks = seen & ~store[role].holds(videos)
        if lacks.any():
            absent[role] = tuple(video for video, x in zip(videos, lacks, strict=True) if x)
    return absent
