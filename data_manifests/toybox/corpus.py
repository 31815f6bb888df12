"""The toybox corpus: scenes, splits, captions, manifest, and an mp4 file for each scene.

OUT/videos/<id>.mp4   the clips
OUT/scenes.json       the ground truth of each
OUT/kinds.csv         the kind of each caption, for `m2hf tables --kinds`
"""

import json
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np

from m2hf.atomic import atomic_text
from m2hf.data_manifests import cards
from m2hf.data_manifests.toybox.captions import SEEN, hidden_parts, sentence, timed_sentence
from m2hf.data_manifests.toybox.clip_file import write_clip_file
from m2hf.data_manifests.toybox.drawing import frames
from m2hf.data_manifests.toybox.families import BLOCK, TWINS, caption_kinds, draw_toybox
from m2hf.data_manifests.toybox.scene import Scene
from m2hf.data_manifests.toybox.sound import soundtrack
from m2hf.data_manifests.toybox.timing import (
    TimedScene,
    draw_timing,
    timed_frames,
    timed_soundtrack,
)
from m2hf.data_manifests.toybox.voice import synthesize
from m2hf.errors import UsageError
from m2hf.manifest import Manifest, Row, Split, captions_of

MIN_CLIPS, MAX_CLIPS = 3 * BLOCK, 9999  # a block for each split; four digits in an id
TEST_SHARE, VAL_SHARE = 1 / 8, 1 / 8
TRAIN_CAPTIONS = 6
UNSEEN_SHARE = 0.6  # of training captions with two or more hidden parts: no visible part

ToyboxKind = Literal["modalities", "timing"]
"""modalities: captions that need frames, motion, sound, signs or speech (families.py); timing:
captions that need frames and sound at their times (timing.py)."""
DATASETS: dict[ToyboxKind, str] = {"modalities": "toybox", "timing": "toybox-timing"}


@dataclass(frozen=True)
class ToyboxCaption:
    """A caption; kind: what is needed to find its clip (families.caption_kinds), "timing" or
    "free"."""

    text: str
    kind: str


@dataclass(frozen=True)
class ToyboxClip:
    """The scene of one clip, its split, and its captions."""

    scene: Scene | TimedScene
    split: Split
    captions: tuple[ToyboxCaption, ...]


@dataclass(frozen=True)
class ToyboxCorpus:
    """All clips by id. The same size, seed and kind give the same corpus."""

    seed: int
    clips: dict[str, ToyboxClip]
    kind: ToyboxKind = "modalities"

    @classmethod
    def draw(cls, clips: int, seed: int = 0, kind: ToyboxKind = "modalities") -> Self:
        """Families are not divided between splits; TWINS successive clips are one of kind timing.

        Raises UsageError for numbers out of range.
        """
        if not MIN_CLIPS <= clips <= MAX_CLIPS:
            raise UsageError(f"toybox: {clips} clips; expected {MIN_CLIPS} to {MAX_CLIPS}")
        if seed < 0:
            raise UsageError(f"toybox: seed {seed}; expected 0 or more")
        return cls(seed, _clips(clips, seed, kind), kind)

    def availability(self) -> dict[str, int]:
        """How many clips have sound, a sign, speech."""
        scenes = [clip.scene for clip in self.clips.values()]
        found = {"sound": [s.sound for s in scenes], "a sign": [s.sign for s in scenes]}
        found["speech"] = [s.spoken for s in scenes]
        return {name: len(values) - values.count(None) for name, values in found.items()}

    def kinds(self) -> dict[str, str]:
        """Caption id -> its kind."""
        kinds = [caption.kind for clip in self.clips.values() for caption in clip.captions]
        ids = [caption.id for caption in captions_of(self.manifest().rows)]
        return dict(zip(ids, kinds, strict=True))

    def manifest(self) -> Manifest:
        """One row per clip, with a card that declares the counts of this corpus."""
        rows = tuple(
            Row(
                id=name,
                path=f"{name}.mp4",
                split=clip.split,
                captions=tuple(caption.text for caption in clip.captions),
            )
            for name, clip in self.clips.items()
        )
        card = cards.read("toybox")
        if self.kind != "modalities":
            about = {"name": DATASETS[self.kind], "source": f"{card.source} --kind {self.kind}"}
            card = card.model_copy(update=about)
        counts = Manifest(card, rows).counts()
        return Manifest(card.model_copy(update={"splits": counts}), rows)


def generate(out: Path, corpus: ToyboxCorpus) -> None:
    """Write out/videos, out/scenes.json and out/kinds.csv.

    The same corpus gives the same bytes, with the same ffmpeg and the same libraries; a second
    call overwrites them. A clip is SECONDS long.

    Raises UsageError where out/videos can't be created or holds other files; ResourceError where
    ffmpeg or the speech synthesizer is missing or fails.
    """
    # Synthesized first, so that a missing synthesizer is an error before anything is written.
    for word in {clip.scene.spoken for clip in corpus.clips.values()} - {None}:
        synthesize(str(word))
    videos = out / "videos"
    _prepare_folder(videos, {f"{name}.mp4" for name in corpus.clips})

    def write(name: str) -> None:
        write_clip(videos / f"{name}.mp4", corpus.clips[name].scene)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # threads: half of the work is in ffmpeg
        deque(pool.map(write, corpus.clips), maxlen=0)
    ground_truth = [{"id": name, **asdict(clip)} for name, clip in corpus.clips.items()]
    scenes = {"seed": corpus.seed, "clips": ground_truth}
    atomic_text(out / "scenes.json", json.dumps(scenes, indent=1) + "\n")
    lines = [f"{caption},{kind}\n" for caption, kind in corpus.kinds().items()]
    atomic_text(out / "kinds.csv", "".join(["id,kind\n", *lines]))


def _clips(count: int, seed: int, kind: ToyboxKind) -> dict[str, ToyboxClip]:
    rng = np.random.default_rng((seed, 1))  # another stream than the one that draws the scenes
    blocks = count // BLOCK
    test = BLOCK * max(1, round(TEST_SHARE * blocks))
    val = test + BLOCK * max(1, round(VAL_SHARE * blocks))
    clips = {}
    for at, scene in enumerate(_scenes(count, seed, kind)):
        split: Split = "test" if at < test else "val" if at < val else "train"
        if isinstance(scene, TimedScene):
            captions = _timed_captions(scene, split, rng)
        else:
            captions = _captions(scene, split, at, rng)
        clips[f"{DATASETS[kind]}{at:04d}"] = ToyboxClip(scene, split, captions)
    return clips


def _scenes(count: int, seed: int, kind: ToyboxKind) -> Sequence[Scene | TimedScene]:
    if kind == "timing":
        return draw_timing(count, seed)
    return draw_toybox(count, seed)


def _timed_captions(
    scene: TimedScene, split: Split, rng: np.random.Generator
) -> tuple[ToyboxCaption, ...]:
    """TRAIN_CAPTIONS for training, else one; each says with which figure the sound is heard."""
    sounding, quiet = scene.figures[scene.sounding], scene.figures[1 - scene.sounding]
    found: dict[str, None] = {}
    while len(found) < (TRAIN_CAPTIONS if split == "train" else 1):
        found[timed_sentence(sounding, quiet, scene.sound, rng)] = None
    return tuple(ToyboxCaption(text, "timing") for text in found)


def _captions(
    scene: Scene, split: Split, at: int, rng: np.random.Generator
) -> tuple[ToyboxCaption, ...]:
    """For training, TRAIN_CAPTIONS about random parts; else one of each kind."""
    if split != "train":
        kinds = caption_kinds(scene, unique=at % BLOCK >= TWINS)
        return tuple(ToyboxCaption(sentence(scene, parts, rng), kind) for kind, parts in kinds)
    found: list[str] = []
    while len(found) < TRAIN_CAPTIONS:
        hidden = [part for part in hidden_parts(scene) if rng.random() < 0.4]
        seen = () if len(hidden) > 1 and rng.random() < UNSEEN_SHARE else SEEN
        text = sentence(scene, [*seen, *hidden], rng)
        if text not in found:
            found.append(text)
    return tuple(ToyboxCaption(text, "free") for text in found)


def _prepare_folder(videos: Path, expected: set[str]) -> None:
    # A stray video would have no captions, and one of another size or seed would mislead.
    try:
        videos.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{videos}: can't create the folder ({error})") from error
    visible = [path.name for path in videos.iterdir() if not path.name.startswith(".")]
    strays = sorted(name for name in visible if name not in expected)
    if strays:
        raise UsageError(
            f"{videos}: contains {strays[0]}, which is not part of this corpus; "
            "use an empty folder or remove the file"
        )


def write_clip(path: Path, scene: Scene | TimedScene) -> None:
    """Write one scene as an mp4 of SECONDS; raises ResourceError as `generate` does."""
    if isinstance(scene, TimedScene):
        write_clip_file(path, timed_frames(scene), timed_soundtrack(scene))
        return
    speech = None if scene.spoken is None else synthesize(scene.spoken)
    write_clip_file(path, frames(scene), soundtrack(scene, speech) if scene.has_audio else None)
