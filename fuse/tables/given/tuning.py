"""Tuning of a blend on matrices with ground truth: validation, or on test if asked; then flagged.

Weights of `sum` add up to one and are searched on a grid of step 0.01: exhaustively for two
matrices, by coordinate ascent for more, where the other weights keep their proportions. The best
has the highest T2V R@1, then the highest RSum, then comes first. Centres and deviations are those
of the matrices. Slopes, biases and offsets of the trained rules are fitted by the contrastive loss,
which alone needs torch.

L matrices, Q queries, V videos.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from m2hf.array_types import IntArray
from m2hf.fuse.scores.late_rules import FLAT, TRAINED
from m2hf.fuse.scores.metrics import SUM_KS, ScoreMatrix, row_chunks, t2v_ranks
from m2hf.fuse.tables.given.blend import Blend, Origin, Term

_STEPS = 100


def tune(
    blend: Blend, scores: Mapping[str, ScoreMatrix], video_of_query: IntArray, origin: Origin
) -> Blend:
    """The same rule with parameters tuned on `scores`, which are of the split `origin`."""
    chosen = {name: scores[name] for name in blend.terms}
    if blend.rule == "sum":
        weights = _best_weights(blend, chosen, video_of_query)
        terms = {n: Term(weight=w) for n, w in zip(chosen, weights, strict=True)}
        return blend.with_terms(terms, origin)
    if blend.rule in TRAINED:
        return blend.with_terms(_fitted(blend.rule, chosen, video_of_query), origin)
    return blend.with_terms({name: _standard(matrix) for name, matrix in chosen.items()}, origin)


def _best_weights(
    blend: Blend, scores: Mapping[str, ScoreMatrix], video_of_query: IntArray
) -> Sequence[float]:
    def quality(weights: Sequence[float]) -> tuple[float, float]:
        terms = {name: Term(weight=w) for name, w in zip(scores, weights, strict=True)}
        ranks = t2v_ranks(blend.with_terms(terms, "none").apply(scores), video_of_query)
        recalls = [ranks.recall(k).expected for k in SUM_KS]
        return recalls[0], sum(recalls)

    best: Sequence[float] = [1 / len(scores)] * len(scores)
    if len(scores) == 1:
        return best
    if len(scores) == 2:
        return max(_moved(best, 0), key=quality)
    reached, before = quality(best), None
    while reached != before:
        before = reached
        for place in range(len(scores)):
            found = max(_moved(best, place), key=quality)
            if quality(found) > reached:
                best, reached = found, quality(found)
    return best


def _moved(weights: Sequence[float], place: int) -> Iterator[list[float]]:
    """Weight `place` at every step of the grid; the others share the rest in proportion."""
    others = sum(weights) - weights[place]
    for step in range(_STEPS + 1):
        left = (_STEPS - step) / _STEPS
        shared = [left * w / others if others else left / (len(weights) - 1) for w in weights]
        shared[place] = step / _STEPS
        yield shared


def _standard(scores_QV: ScoreMatrix) -> Term:
    """Mean and deviation over all scores, in two passes."""
    count = scores_QV.shape[0] * scores_QV.shape[1]
    centre = sum(float(rows.sum(dtype=np.float64)) for _, rows in row_chunks(scores_QV)) / count
    squares = (
        float(((rows_QV.astype(np.float64) - centre) ** 2).sum())
        for _, rows_QV in row_chunks(scores_QV)
    )
    deviation = float(np.sqrt(sum(squares) / count))
    return Term(centre=centre, deviation=deviation if deviation > FLAT else 1.0)


def _fitted(
    rule: str, scores: Mapping[str, ScoreMatrix], video_of_query: IntArray
) -> dict[str, Term]:
    from m2hf.fuse.model.calibration import fit_calibration

    scores_LQV = np.stack([np.asarray(matrix[:], dtype=np.float32) for matrix in scores.values()])
    valid_LV = np.ones(scores_LQV.shape[::2], dtype=np.bool_)
    by = fit_calibration(rule, scores_LQV, valid_LV, video_of_query)
    return {
        name: Term(
            weight=float(by.alpha_L[place]),
            bias=float(by.bias_L[place]),
            offset=float(by.offset_L[place]),
            mixture_weight=float(by.mixture_alpha_L[place]),
            mixture_offset=float(by.mixture_offset_L[place]),
            centre=float(by.centre_L[place]),
            deviation=float(by.deviation_L[place]),
        )
        for place, name in enumerate(scores)
    }
