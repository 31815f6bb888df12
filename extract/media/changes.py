"""Change detection: which frames of a clip differ from the last one that was kept."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_BLOCKS = (32, 18)  # across and down: a block of a 640 x 360 frame is 20 x 20, a short word


def changed(pixels: NDArray[np.uint8], candidates: Iterable[int], same: float) -> list[int]:
    """Indices of the first candidate frame and of each that differs from the one kept before it.

    pixels: (F, H, W, 3). same: two frames differ where, in one block, the mean absolute difference
    of grey levels, of 255, reaches this. A mean over the whole frame would miss one changed word
    of a subtitle.
    """
    import cv2

    kept: list[int] = []
    last: NDArray[np.uint8] | None = None
    for index in candidates:
        gray = np.asarray(cv2.cvtColor(pixels[index], cv2.COLOR_RGB2GRAY), np.uint8)
        if last is not None:
            difference = cv2.absdiff(gray, last).astype(np.float32)
            if float(cv2.resize(difference, _BLOCKS, interpolation=cv2.INTER_AREA).max()) < same:
                continue
        kept.append(int(index))
        last = gray
    return kept
