"""The straightforward implementation: sort every row, and find the place of the right video.

numpy alone. Ties stay in the order of the sort, so its ranks agree with ours only without ties.
"""

import numpy as np

from m2hf.array_types import FloatArray, IntArray


def t2v_ranks(scores_QV: FloatArray, video_of_query: IntArray) -> IntArray:
    """(Q,) rank of each query's video, from 1."""
    order_QV = np.argsort(-scores_QV, axis=1)
    ranks: IntArray = np.argmax(order_QV == video_of_query[:, None], axis=1) + 1
    return ranks


def v2t_ranks(scores_QV: FloatArray, video_of_query: IntArray) -> IntArray:
    """Rank of each captioned video's best own caption, from 1; its other captions rank after that
    one, so they never lower it."""
    videos = np.unique(video_of_query)
    order_VQ = np.argsort(-scores_QV.T[videos], axis=1)
    ranks: IntArray = np.argmax(video_of_query[order_VQ] == videos[:, None], axis=1) + 1
    return ranks
