"""Which frames of a clip show another picture than the one that was looked at last."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_BLOCKS = (32, 18)  # across and down: a block of a 640 x 360 picture is 20 x 20, a short word


def changed(pixels: NDArray[np.uint8], candidates: Iterable[int], same: float) -> list[int]:
    """Those of the candidate frames of (F, H, W, 3) whose picture is not that of the frame before
    them in the answer; the first one always is.

    same: two pictures differ where the mean grey difference, of 255, reaches this in one block of
    the picture. A mean over the whole picture would not see one word of a subtitle change.
    """
    import cv2

    found: list[int] = []
    last: NDArray[np.uint8] | None = None
    for index in candidates:
        gray = np.asarray(cv2.cvtColor(pixels[index], cv2.COLOR_RGB2GRAY), np.uint8)
        if last is not None:
            apart = cv2.absdiff(gray, last).astype(np.float32)
            if float(cv2.resize(apart, _BLOCKS, interpolation=cv2.INTER_AREA).max()) < same:
                continue
        found.append(int(index))
        last = gray
    return found
