"""`python -m benchmarks.concepts`: which names of classes, and how many, should `concepts` mix?

Reads EfficientNet-Lite0's features of frames (frames.h5), sentence vectors of captions by
all-MiniLM-L6-v2 (captions.npz) and their manifest; nothing is trained. A video's score is the
cosine of a caption and the mean of its frames. Choose on val. --out writes the vectors of all
frames, as the recipe makes them, for `m2hf import --stream concepts=FILE`.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from m2hf.array_types import FloatArray, IntArray
from m2hf.extract.concepts import Concepts, mixture
from m2hf.extract.networks.image_network import ImageNetwork
from m2hf.extract.networks.sentence_encoder import SentenceEncoder
from m2hf.features import Features, unit_rows
from m2hf.fuse.scores.metrics import t2v_ranks
from m2hf.manifest import Manifest
from m2hf.row import captions_of
from m2hf.streams import IMAGE

WAYS = ((1.0, 20), (2.0, 20), (4.0, 20), (4.0, 50), (6.0, 20))  # temperature, classes
TOP = (1, 5, 10)


@dataclass(frozen=True, eq=False)
class Split:
    """logits_VFC: of each video's frames; captions_QD: unit vectors; video_Q: of each caption."""

    logits_VFC: Sequence[FloatArray]
    captions_QD: FloatArray
    video_Q: IntArray

    @classmethod
    def read(cls, data: Path, name: str) -> "Split":
        rows = [row for row in Manifest.load(data / "manifest").rows if row.split == name]
        network = ImageNetwork().open("cpu")
        with h5py.File(data / "frames.h5") as file:
            logits_VFC = [network.logits(file[row.id][:].astype(np.float32)) for row in rows]
        stored = np.load(data / "captions.npz")
        place = {caption: n for n, caption in enumerate(stored["ids"])}
        captions = list(captions_of(rows))
        of_video = {row.id: n for n, row in enumerate(rows)}
        return cls(
            logits_VFC,
            unit_rows(stored["sentence"][[place[c.id] for c in captions]].astype(np.float32)),
            np.array([of_video[c.video] for c in captions]),
        )

    def recall(self, names_CD: FloatArray, temperature: float, classes: int) -> list[float]:
        """R@1, 5, 10 in percent."""
        frames_VFD = [mixture(f, names_CD, temperature, classes) for f in self.logits_VFC]
        videos_VD = unit_rows(np.stack([frames_FD.mean(axis=0) for frames_FD in frames_VFD]))
        ranks = t2v_ranks(self.captions_QD @ videos_VD.T, self.video_Q)
        return [ranks.recall(top).expected for top in TOP]


def lines(split: Split) -> Iterator[str]:
    """A table in Markdown."""
    whole = ImageNetwork().open("cpu").class_names
    synonyms = [name.partition(": ")[0] for name in whole]
    forms = {
        "first synonym": [name.partition(",")[0] for name in synonyms],
        "all synonyms": synonyms,
        "all, and definition": whole,
    }
    encoder = SentenceEncoder().open("cpu")
    yield "| names | logits divided by | classes | R@1 | R@5 | R@10 |"
    yield "|---|---|---|---|---|---|"
    for form, names in forms.items():
        names_CD = encoder.encode_sentences(list(names))
        names_CD -= names_CD.mean(axis=0)
        for temperature, classes in WAYS:
            found = " | ".join(f"{r:.1f}" for r in split.recall(names_CD, temperature, classes))
            yield f"| {form} | {temperature:g} | {classes} | {found} |"


def write(data: Path, out: Path) -> None:
    """The rows of `concepts` for every video of frames.h5, a data set each."""
    session = Concepts(encoder=SentenceEncoder()).open("cpu")
    with h5py.File(data / "frames.h5") as frames, h5py.File(out, "w") as file:
        for video, stored in frames.items():
            times = np.arange(len(stored), dtype=np.float64)
            image = Features(stored[:].astype(np.float32), times, times + 1)
            file[video] = session.extract({IMAGE: image}).values


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.concepts", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the features")
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--out", type=Path, help="write vectors, print no table")
    chosen = parser.parse_args(arguments)
    if chosen.out is not None:
        write(chosen.data, chosen.out)
        return 0
    split = Split.read(chosen.data, chosen.split)
    print(f"{len(split.video_Q)} captions, {len(split.logits_VFC)} videos of {chosen.split}\n")
    for line in lines(split):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
