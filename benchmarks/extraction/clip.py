"""`python -m benchmarks.extraction.clip --clips DIR`: variants of running CLIP on frames.

The baseline, "plain", is open_clip's: Pillow resizes each frame, in float32. Each row changes one
thing; "default" resizes by torch. Weights are random (time
and rounding are those of trained ones). Seconds are of the processor, one thread; compare them
within one run only. Agreement is the cosine of each frame's vector with the baseline's.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2hf.extract.base import PreparedClip
from m2hf.extract.clip import FrameEncoder
from m2hf.extract.media.decode import DecodedClip, decode
from m2hf.extract.networks.encoder import Encoder

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"resize": "pillow"},
    "batches of 4": {"resize": "pillow", "batch": 4},
    "bfloat16": {"resize": "pillow", "precision": "bfloat16"},
    "default": {},
}


@dataclass(frozen=True)
class ClipVariant:
    """One variant: processor seconds to preprocess and in total, minimum and mean cosine."""

    variant: str
    frames: int
    prepare_s: float
    all_s: float
    least_cosine: float
    mean_cosine: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a Markdown table, then the numbers as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.extraction.clip", description=__doc__
    )
    parser.add_argument("--clips", type=Path, required=True, help="a folder of .mp4 files")
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument(
        "--ways", dest="variants", nargs="*", choices=[*VARIANTS], default=[*VARIANTS]
    )
    given = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(1)
    clips = [decode(path, FrameEncoder().views()) for path in sorted(given.clips.glob("*.mp4"))]
    rows: list[ClipVariant] = []
    plain: NDArray[np.float32] | None = None
    for variant in dict.fromkeys(["plain", *given.variants]):
        values, prepare_s, all_s = _run(given.model, VARIANTS[variant], clips)
        plain = values if plain is None else plain
        cosine = (values * plain).sum(axis=1)
        rows.append(
            ClipVariant(
                variant, len(values), prepare_s, all_s, float(cosine.min()), float(cosine.mean())
            )
        )
    print(
        "| variant | frames | preprocessing s | total s | of plain | minimum cosine | mean cosine |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row.variant} | {row.frames} | {row.prepare_s:.1f} | {row.all_s:.1f} "
            f"| {row.all_s / rows[0].all_s:.2f} | {row.least_cosine:.6f} | {row.mean_cosine:.6f} |"
        )
    print(json.dumps([asdict(row) for row in rows]))
    return 0


def _run(
    model: str, variant: Mapping[str, Any], clips: Sequence[DecodedClip]
) -> tuple[NDArray[np.float32], float, float]:
    """(F, D) vectors of all frames, seconds of preprocessing, and seconds in total."""
    encoder = Encoder(model=model, pretrained="")
    session: Any = FrameEncoder.model_validate({"encoder": encoder, **variant}).open("cpu")
    session.extract(clips[0])  # the first call is slower
    began, prepare_s = time.process_time(), 0.0
    values: dict[str, NDArray[np.float32]] = {}
    finish = {}
    for i, clip in enumerate(clips):
        at = time.process_time()
        prepared = session.prepare(clip)
        prepare_s += time.process_time() - at
        assert isinstance(prepared, PreparedClip)
        finish[str(i)] = prepared.finish
        session.queue.add(str(i), prepared.rows)
        while session.queue.waiting:
            values |= session.queue.advance()
    all_s = time.process_time() - began
    vectors = [finish[name](rows).values for name, rows in values.items()]
    return np.concatenate(vectors), prepare_s, all_s


if __name__ == "__main__":
    sys.exit(main())
