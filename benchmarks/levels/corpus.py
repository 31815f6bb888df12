"""Synthetic features of known latent factors, written as shards: the data of every row.

A video has four latent factors: what it looks like, sounds like, how it moves, and the words in
it. A caption mentions a random part of them. Frames show the look, the audio stream the sound,
the motion stream the movement, the text stream the words, each with noise of the video's own
that no average over rows removes. So no single stream identifies the video of every caption, and
fusion has a known reason to help. Frames, texts and captions share one space, as in CLIP; audio
and motion have spaces of their own, of the same width, so that a row may also score them alone.

K latent width of a factor, D width of a stream, V videos, N rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from m2hf.array_types import FloatArray
from m2hf.features import Features, unit_rows
from m2hf.keys import bucket_of, fingerprint
from m2hf.layout import StoreLayout
from m2hf.manifest import Card, Manifest, Row, Split, captions_of
from m2hf.shard import ShardItem, write_shard
from m2hf.shard_header import ShardHeader

FACTORS = ("look", "sound", "movement", "words")
NAME = "latent_factors"

_K = 12
_BUCKETS = 2
_WINDOW_S = 2.0
_FILLERS = 2  # words of a caption that carry no factor


@dataclass(frozen=True)
class Sizes:
    """Number of videos by split, and of captions of a training video; other videos have one."""

    train: int = 1000
    val: int = 150
    test: int = 500
    captions: int = 2

    def scaled(self, share: float) -> "Sizes":
        """The same with a fraction of the videos."""
        train, val, test = (round(share * n) for n in (self.train, self.val, self.test))
        return Sizes(train, val, test, self.captions)


@dataclass(frozen=True)
class StreamPlan:
    """A stream: the factor it shows, its width, the maximum of rows per video, and whether it is
    in the captions' space."""

    factor: str
    width: int
    rows: int
    joint: bool


STREAMS = {
    "clip": StreamPlan("look", 64, 6, joint=True),
    "audio": StreamPlan("sound", 64, 6, joint=False),
    "motion": StreamPlan("movement", 64, 4, joint=False),
    "text": StreamPlan("words", 64, 3, joint=True),
}
JOINT = STREAMS["clip"].width


@dataclass(frozen=True)
class Setting:
    """How hard each factor is.

    mention: probability that a caption mentions it; noise: standard deviation of the noise of a
    video's stream, the factor's own being 1; missing: share of videos without it; sizes: of the
    splits.
    """

    name: str
    mention: Mapping[str, float]
    noise: Mapping[str, float]
    missing: Mapping[str, float]
    sizes: Sizes = Sizes()


_MISSING = {"sound": 0.12, "words": 0.40}
SETTINGS = {
    setting.name: setting
    for setting in (
        Setting(
            "imbalanced",
            mention={"look": 0.9, "sound": 0.5, "movement": 0.5, "words": 0.5},
            noise={"look": 0.6, "sound": 1.0, "movement": 1.0, "words": 1.0},
            missing=_MISSING,
        ),
        Setting(
            "balanced",
            mention=dict.fromkeys(FACTORS, 0.7),
            noise=dict.fromkeys(FACTORS, 0.7),
            missing=_MISSING,
        ),
        Setting(
            "small",
            mention=dict.fromkeys(FACTORS, 0.7),
            noise=dict.fromkeys(FACTORS, 0.7),
            missing=_MISSING,
            sizes=Sizes(train=300, val=0, test=150, captions=1),
        ),
    )
}


def write(
    root: Path, setting: Setting, seed: int, missing: Mapping[str, float], sizes: Sizes
) -> Manifest:
    """Write the store of one data set to `root`; returns its manifest.

    missing: shares by factor that differ from the setting's. Equal seeds give equal features at
    any share, and a video that lacks a factor at one share lacks it at every higher one.
    """
    rows = _rows(sizes)
    rng = np.random.default_rng(seed)
    z_VK = {factor: rng.normal(size=(len(rows), _K)) for factor in FACTORS}
    projections = {factor: rng.normal(size=(_K, JOINT)) / np.sqrt(_K) for factor in FACTORS}
    shares = {**setting.missing, **missing}
    for name, plan in STREAMS.items():
        own = rng.normal(size=(_K, plan.width)) / np.sqrt(_K)
        project = projections[plan.factor] if plan.joint else own
        shown_VK = z_VK[plan.factor] + setting.noise[plan.factor] * rng.normal(size=(len(rows), _K))
        lengths = rng.integers(1, plan.rows + 1, size=len(rows))
        absent = rng.random(len(rows)) < shares.get(plan.factor, 0.0)
        items = {}
        for row, shown_D, length, gone in zip(
            rows, shown_VK @ project, lengths, absent, strict=True
        ):
            noisy_ND = shown_D + 0.5 * rng.normal(size=(length, plan.width))
            items[row.id] = (
                Features.empty(f"no {plan.factor}", plan.width)
                if gone
                else _features(unit_rows(noisy_ND) if plan.joint else noisy_ND)
            )
        write_stream(root, name, items, plan.width, seed)
    captions = _captions(rows, z_VK, projections, setting, rng)
    write_stream(root, "caption", captions, JOINT, seed)
    return Manifest(Card(name=NAME, protocol="one_caption"), tuple(rows))


def _rows(sizes: Sizes) -> list[Row]:
    counts: dict[Split, int] = {"train": sizes.train, "val": sizes.val, "test": sizes.test}
    return [
        Row(
            id=f"{split}{i:05d}",
            path=f"{split}{i:05d}.mp4",
            split=split,
            captions=tuple(
                f"caption {n}" for n in range(sizes.captions if split == "train" else 1)
            ),
        )
        for split, count in counts.items()
        for i in range(count)
    ]


def _captions(
    rows: Sequence[Row],
    z_VK: Mapping[str, FloatArray],
    projections: Mapping[str, FloatArray],
    setting: Setting,
    rng: np.random.Generator,
) -> dict[str, Features]:
    """A sentence vector is the sum of the factors it mentions, plus noise. Word vectors, which only
    token-wise scoring reads, are one for each factor mentioned and some fillers, with the
    sentence's noise and noise of their own. Separate words favour token-wise scoring: a real
    encoder mixes them."""
    of_words = np.random.default_rng(rng.integers(2**32))
    odds = np.array([setting.mention[factor] for factor in FACTORS])
    items = {}
    for video, row in enumerate(rows):
        for caption in captions_of([row]):
            mentioned = rng.random(len(FACTORS)) < odds
            mentioned[int(rng.choice(len(FACTORS), p=odds / odds.sum()))] = True
            blur_D = 0.3 * rng.normal(size=JOINT)
            sentence_D = blur_D
            for factor, is_mentioned in zip(FACTORS, mentioned, strict=True):
                if is_mentioned:
                    sentence_D = sentence_D + z_VK[factor][video] @ projections[factor]
            count = int(mentioned.sum()) + _FILLERS
            words_WD = blur_D + 0.3 * of_words.normal(size=(count, JOINT))
            for word, factor in enumerate(np.array(FACTORS)[mentioned]):
                words_WD[word] += z_VK[factor][video] @ projections[factor]
            items[caption.id] = _features(unit_rows(np.vstack([sentence_D, words_WD])))
    return items


def _features(values_ND: FloatArray) -> Features:
    starts = _WINDOW_S * np.arange(len(values_ND), dtype=np.float64)
    return Features(values_ND.astype(np.float32), starts, starts + _WINDOW_S)


def write_stream(
    root: Path, name: str, items: Mapping[str, Features], width: int, seed: int
) -> None:
    """Write one stream's shards; an item `video#index` is in its video's bucket."""
    layout = StoreLayout(root, NAME)
    config = {"extractor": name, "synthetic": True, "seed": seed}
    for bucket in range(_BUCKETS):
        header = ShardHeader(
            dataset=NAME,
            extractor=name,
            revision=1,
            fingerprint=fingerprint(config),
            bucket=bucket,
            buckets=_BUCKETS,
            manifest="0" * 64,
            config=config,
            weights={},
            environment={},
            flags=("synthetic",),
        )
        inside = [
            ShardItem(item, features, "0" * 64)
            for item, features in items.items()
            if bucket_of(item.partition("#")[0], _BUCKETS) == bucket
        ]
        path = layout.shard(name, header.fingerprint, bucket, _BUCKETS)
        write_shard(path, header, inside, "float16", width)
