"""Which videos train and which validate, and which captions can be trained on.

Test is never touched: where a set has no validation split, choosing the epoch on test is what
the field does, and is a leak.
"""

import math
from collections.abc import Sequence

from m2hf.fuse.config import CAPTIONS, FRAMES
from m2hf.fuse.store import FeatureStore
from m2hf.keys import sha256_hex
from m2hf.manifest import Caption, Manifest, Row, captions_of


def hash_key(item_id: str) -> str:
    """Sorts ids into an order that depends on nothing but each id itself."""
    return sha256_hex(item_id.encode())


def train_and_val(manifest: Manifest, val_fraction: float) -> tuple[list[Row], list[Row]]:
    """Training and validation rows; the share `val_fraction` of train with the lowest sha256 of
    the id is held out where the manifest has no val split."""
    train, val = manifest.split("train"), manifest.split("val")
    if val:
        return train, val
    ids = sorted((row.id for row in train), key=hash_key)
    held_out = set(ids[: math.ceil(val_fraction * len(train))])
    return (
        [row for row in train if row.id not in held_out],
        [row for row in train if row.id in held_out],
    )


def usable_captions(rows: Sequence[Row], store: FeatureStore) -> list[Caption]:
    """Captions that have features and whose video has frames."""
    captions = list(captions_of(rows))
    has_text = store[CAPTIONS].present([caption.id for caption in captions])
    has_frames = store[FRAMES].present([caption.video for caption in captions])
    usable = has_text & has_frames
    return [caption for caption, use in zip(captions, usable, strict=True) if use]
