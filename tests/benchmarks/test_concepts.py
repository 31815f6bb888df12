"""The benchmark of names of classes."""

import numpy as np
from benchmarks.concepts.__main__ import Split


def test_recall_is_of_the_video_that_shows_what_a_caption_names() -> None:
    """Three videos, each of two frames of one class; a class and a caption are an axis."""
    logits_VFC = [np.repeat(9 * np.eye(3, dtype=np.float32)[[v]], 2, axis=0) for v in range(3)]
    names_CD = np.eye(3, dtype=np.float32)
    for own, first in ((np.arange(3), 100), (np.array([1, 2, 0]), 0)):
        split = Split(logits_VFC, names_CD, own)
        assert split.recall(names_CD, 1.0, 2) == [first, 100, 100]
