"""Late fusion of two real matrices, with one of them missing for a share of the videos.

A fusion must not be fitted on its test data: the videos and their captions are split in halves,
each half is fused with a calibration fitted on the other, and its captions are ranked among all
videos. Or a calibration is fitted on a few videos, and the captions of all others are ranked.

L levels, Q queries, V videos.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.levels.report import paired, spread
from benchmarks.levels.rows import SHARES
from m2hf.fuse.model.calibration import fit_calibration
from m2hf.fuse.scores.late_rules import LATE_RULES, TRAINED, Calibration
from m2hf.fuse.scores.metrics import t2v_ranks

# Complete matrix, and the one that is made incomplete; texts by videos, row i's video is column i.
FILES = ("msrvtt_video_matrix.npy", "msrvtt_titles_matrix.npy")
WHOLE = "the whole level alone"

_LOWEST = -1.0


def measure(folder: Path, seeds: int, workers: int, fitted: int | None = None) -> dict[str, Any]:
    """T2V R@1 in percent, a number per seed, by share of missing titles and by rule, and of the
    complete level. fitted: the number of videos that a calibration is fitted on; None for both
    halves in turn. Raises FileNotFoundError if a matrix is not in `folder`."""
    whole_QV, partly_QV = (np.load(folder / name, allow_pickle=False) for name in FILES)
    tasks = [(share, seed) for share in SHARES for seed in range(seeds)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(partial(_one, whole_QV, partly_QV, fitted), tasks))
    table: dict[str, dict[str, list[float]]] = {}
    for (share, _), recalls in zip(tasks, found, strict=True):
        for name, recall in recalls.items():
            table.setdefault(f"{share:.0%}", {}).setdefault(name, []).append(recall)
    return table


def markdown(table: Mapping[str, Mapping[str, Sequence[float]]], fitted: int | None = None) -> str:
    """A line per rule and a column per share: R@1, and the difference from the complete level."""
    lines = ["", "### two real matrices, titles missing at random", ""]
    lines += [f"| rule | {' | '.join(table)} |", "|---|" + "---|" * len(table)]
    for rule in [WHOLE, *LATE_RULES]:
        cells = [
            spread(at[rule]) + ("" if rule == WHOLE else f" ({paired(at[rule], at[WHOLE])})")
            for at in table.values()
        ]
        lines.append(f"| {rule} | {' | '.join(cells)} |")
    parts = ("one half", "the other") if fitted is None else (f"{fitted} videos", "the others")
    lines += ["", f"Fitted on {parts[0]}, tested on the captions of {parts[1]} among all videos."]
    return "\n".join(lines) + "\n"


def _one(
    whole_QV: NDArray[np.float32],
    partly_QV: NDArray[np.float32],
    fitted_videos: int | None,
    task: tuple[float, int],
) -> dict[str, float]:
    share, seed = task
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    count = len(whole_QV)
    gone_V = rng.permutation(count) < round(share * count)
    parts = np.split(rng.permutation(count), [fitted_videos or count // 2])
    valid_LV = np.stack([np.ones(count, dtype=np.bool_), ~gone_V])
    scores_LQV = np.stack([whole_QV, np.where(gone_V, np.float32(_LOWEST), partly_QV)])
    hits: dict[str, list[float]] = {}
    for fitted_on, tested_on in (parts,) if fitted_videos else (parts, parts[::-1]):
        part_LQV, part_LV = scores_LQV[:, fitted_on][:, :, fitted_on], valid_LV[:, fitted_on]
        plain, truth = Calibration.of(part_LQV, part_LV), np.arange(len(fitted_on))
        fitted = {name: fit_calibration(name, part_LQV, part_LV, truth) for name in TRAINED}
        test_LQV = scores_LQV[:, tested_on]
        for name, rule in LATE_RULES.items():
            fused_QV = rule(test_LQV, valid_LV, fitted.get(name, plain))
            hits.setdefault(name, []).append(t2v_ranks(fused_QV, tested_on).recall(1).expected)
        hits.setdefault(WHOLE, []).append(
            t2v_ranks(whole_QV[tested_on], tested_on).recall(1).expected
        )
    return {name: float(np.mean(both)) for name, both in hits.items()}
