"""The edges of a picture, which ControlNets are shown (Canny 1986)."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

LOW_THRESHOLD, HIGH_THRESHOLD = 100, 200  # what the demonstration of 2302.05543 begins with
TAN_22 = 2**0.5 - 1  # of 22.5 degrees, where one of the eight neighbours is nearer than the next
Bytes = NDArray[np.uint8]


def canny(pixels: Bytes, low: int = LOW_THRESHOLD, high: int = HIGH_THRESHOLD) -> NDArray[np.bool_]:
    """The edges (H, W) of a picture (H, W, 3), one pixel wide (Canny 1986), as OpenCV's Canny finds them.

    That is: Sobel's 3 x 3 derivatives of the channel where |dx| + |dy| is largest, no smoothing; of what is
    a ridge across its edge, all above `high` and, joined to that, all above `low`.
    """
    dx, dy = (_sobel(pixels.astype(np.int32), axis) for axis in (1, 0))  # (H, W, 3)
    strongest = (abs(dx) + abs(dy)).argmax(-1)[..., None]  # (H, W, 1)
    dx, dy = (np.take_along_axis(one, strongest, -1)[..., 0] for one in (dx, dy))  # (H, W)
    strength = abs(dx) + abs(dy)
    around = np.pad(strength, 1)
    height, width = strength.shape

    def neighbour(down: int, right: int) -> NDArray[np.int32]:
        return around[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    across, upright = abs(dy) < TAN_22 * abs(dx), abs(dx) < TAN_22 * abs(dy)
    falling = (dx < 0) == (dy < 0)  # the edge's normal points down and right, or up and left
    # Of two that are equal the first is the edge; along a diagonal neither.
    ridge = np.select(
        [across, upright, falling],
        [
            (strength > neighbour(0, -1)) & (strength >= neighbour(0, 1)),
            (strength > neighbour(-1, 0)) & (strength >= neighbour(1, 0)),
            (strength > neighbour(-1, -1)) & (strength > neighbour(1, 1)),
        ],
        (strength > neighbour(-1, 1)) & (strength > neighbour(1, -1)),
    )
    parts, _ = ndimage.label(ridge & (strength > low), np.ones((3, 3)))  # (H, W)
    strong = np.unique(parts[ridge & (strength > high)])
    return np.isin(parts, strong[strong > 0])


def _sobel(pixels: NDArray[np.int32], axis: int) -> NDArray[np.int32]:
    """The derivative along one side, smoothed along the other; scipy's own would smooth the channels too."""
    slope = ndimage.correlate1d(pixels, [-1, 0, 1], axis, mode="nearest")
    smooth: NDArray[np.int32] = ndimage.correlate1d(slope, [1, 2, 1], 1 - axis, mode="nearest")
    return smooth
