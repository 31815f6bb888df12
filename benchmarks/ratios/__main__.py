"""`python -m benchmarks.ratios`: reading, token-wise scoring and training, as ratios to plain code.

Each pair runs in turn in this process, one thread, and the best of each counts, so that a busy
machine changes both alike. Features are random; their cost is that of real ones.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.ratios.features import RandomFeatures, random_tokens
from benchmarks.ratios.plain import einsum_interaction
from m2hf.atomic import atomic_text
from m2hf.fuse.config import ModelConfig
from m2hf.fuse.model.scorers import TokenwiseScorer

_ROUNDS = 5
_ATOL = 1e-4


@dataclass(frozen=True)
class Ratio:
    """CPU seconds of two ways of the same work. ours, plain: the best of the rounds."""

    name: str
    ours: float
    plain: float

    @property
    def value(self) -> float:
        """Ours as a multiple of plain."""
        return self.ours / self.plain


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a Markdown table; exit code 1 if the two ways of scoring disagree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ratios", description=__doc__)
    parser.add_argument("--videos", type=int, default=9000, help="videos to read from")
    parser.add_argument("--gallery", type=int, default=1000, help="captions and videos to score")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        features = RandomFeatures.write(Path(folder), given.videos)
        ratios = [_reading(features), _training(features)]
    scoring, difference = _scoring(given.gallery)
    ratios.append(scoring)
    print("| what, beside what | CPU s | plain, CPU s | ratio |\n|---|---:|---:|---:|")
    for ratio in ratios:
        print(f"| {ratio.name} | {ratio.ours:.4f} | {ratio.plain:.4f} | {ratio.value:.2f} |")
    print(f"\ntoken-wise scores differ by at most {difference:.1e}")
    if given.json is not None:
        rows = {r.name: {"ours": r.ours, "plain": r.plain, "ratio": r.value} for r in ratios}
        atomic_text(given.json, json.dumps(rows, indent=1) + "\n")
    return 0 if difference <= _ATOL else 1


def _reading(features: RandomFeatures) -> Ratio:
    """Batches of 128 videos in three streams, and a copy of the same arrays."""
    batches = features.batches(128)
    arrays = [features.read(ids) for ids in batches]
    ours, plain = _best(
        lambda: [features.read(ids) for ids in batches],
        lambda: [[values.copy() for values in batch] for batch in arrays],
    )
    name = "a batch of 128 videos in 3 streams, beside a copy of it"
    return Ratio(name, ours / len(batches), plain / len(batches))


def _training(features: RandomFeatures) -> Ratio:
    """Steps of the default training, and the same on a batch that is there already."""
    steps = features.training_steps(256)
    ours, plain = _best(steps.from_disk, steps.in_memory)
    return Ratio("a training step of 256 captions, beside one on a batch in memory", ours, plain)


@torch.inference_mode()
def _scoring(count: int) -> tuple[Ratio, float]:
    """Captions of 5 to 32 words and videos of 3 to 12 rows; and the greatest difference."""
    model = TokenwiseScorer(512, ModelConfig())
    queries, videos = random_tokens(count, 5, 32, sentence=True), random_tokens(count, 3, 12)
    ours, plain = _best(
        lambda: model(queries, videos), lambda: einsum_interaction(queries, videos), rounds=2
    )
    difference = (model(queries, videos) - einsum_interaction(queries, videos)).abs().max()
    name = f"token-wise scores of {count} captions and videos, beside the padded einsum"
    return Ratio(name, ours, plain), float(difference)


def _best(
    ours: Callable[[], object], plain: Callable[[], object], rounds: int = _ROUNDS
) -> tuple[float, float]:
    """CPU seconds of each, the best of some rounds after one that isn't timed."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for timed in range(rounds + 1):
        for found, work in zip(seconds, (ours, plain), strict=True):
            began = time.process_time()
            work()
            if timed:
                found.append(time.process_time() - began)
    return min(seconds[0]), min(seconds[1])


if __name__ == "__main__":
    sys.exit(main())
