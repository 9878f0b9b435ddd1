"""Axis orders of images: n h w c in TensorFlow and Keras, n c h w in PyTorch and between our layers.

arranged(array, "NHWC", "NCHW", shape)   ->   the same numbers, transposed, unless only the untransposed shape fits
"""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np

from spec.layers.arrangement import TO_NCHW, TO_NHWC

AXES = {("NHWC", "NCHW"): TO_NCHW, ("NCHW", "NHWC"): TO_NHWC}


def arranged(array: np.ndarray, have: str, want: str, shape: Optional[Sequence[int]]) -> np.ndarray:
    """An image in another axis order; arrays that are no images, or are in that order already, as they are.

    Args:
        array: of any rank; only rank 4 is an image.
        have, want: NHWC or NCHW.
        shape: what is expected, -1 where any length fits, None where nothing is known. An image that fits it only
            untransposed stays: graphs with `data_format: NCHW` have such images among others.
    """
    if array.ndim != 4 or have == want:
        return array
    turned = array.transpose(AXES[have, want])
    if fits(array.shape, shape) and not fits(turned.shape, shape):
        return array
    return np.ascontiguousarray(turned)


def fits(shape: Sequence[int], wanted: Optional[Sequence[int]]) -> bool:
    """Whether a shape is one that `wanted` allows: -1 is any length, None any shape."""
    if wanted is None:
        return True
    return len(shape) == len(wanted) and all(want in (-1, length) for length, want in zip(shape, wanted))
