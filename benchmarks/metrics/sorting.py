"""What one writes first: sort every row, and look where the right answer landed.

numpy alone, with ties in the order that the sort leaves them in, so its numbers agree with ours
only where there are none.
"""

import numpy as np

from m2hf.array_types import FloatArray, IntArray


def t2v_ranks(scores_QV: FloatArray, video_of_query: IntArray) -> IntArray:
    """(Q,) rank of each query's video, from 1."""
    order_QV = np.argsort(-scores_QV, axis=1)
    ranks: IntArray = np.argmax(order_QV == video_of_query[:, None], axis=1) + 1
    return ranks


def v2t_ranks(scores_QV: FloatArray, video_of_query: IntArray) -> IntArray:
    """Rank of each captioned video's first own caption, from 1, other own ones in no one's way:
    the first own caption stands before all others of its own."""
    videos = np.unique(video_of_query)
    order_VQ = np.argsort(-scores_QV.T[videos], axis=1)
    ranks: IntArray = np.argmax(video_of_query[order_VQ] == videos[:, None], axis=1) + 1
    return ranks
