"""R@1 among twins: each query against the TWINS clips of its own family.

Q queries, V videos.
"""

from collections.abc import Sequence

import numpy as np

from m2hf.array_types import FloatArray, IntArray
from m2hf.data_manifests.toybox.families import TWINS
from m2hf.fuse.scores.metrics import t2v_ranks
from m2hf.manifest import Row


def recall_among_twins(
    scores_QV: FloatArray, video_of_query: IntArray, family_V: IntArray
) -> float:
    """Expected T2V R@1 in percent with the videos of the query's family as its gallery.

    family_V: number of each video's family.
    """
    other_QV = family_V[video_of_query][:, None] != family_V[None]
    ranks = t2v_ranks(np.where(other_QV, -np.inf, scores_QV), video_of_query)
    return ranks.recall(1).expected


def families(rows: Sequence[Row], video_ids: Sequence[str]) -> IntArray:
    """(V,) number of each video's family; rows: of the whole set, TWINS in a row are a family."""
    number = {row.id: at // TWINS for at, row in enumerate(rows)}
    return np.array([number[video] for video in video_ids], dtype=np.int64)
