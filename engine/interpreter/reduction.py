"""Reductions over axes: sums and means in pairs, products, extremes, top-k, softmax.

NumPy adds in pairs only along the last axis in memory; over others it adds row by row, and a float32 sum of n values
is off by up to n rounding errors instead of log2(n). So the reduced axes are moved last first.
"""

from __future__ import annotations

import math
from typing import Optional, Tuple

import numpy as np

from engine.interpreter.layer import Layer


def axes_of(mask: int, rank: int) -> Tuple[int, ...]:
    """TensorRT's bit mask of axes as numbers: 0b1100 -> (2, 3)."""
    return tuple(axis for axis in range(rank) if mask >> axis & 1)


def total(x: np.ndarray, axes: Tuple[int, ...], keep_dims: bool = False) -> np.ndarray:
    """Sum over `axes`, added in pairs."""
    kept = tuple(axis for axis in range(x.ndim) if axis not in axes)
    rows = x.transpose(kept + axes).reshape(tuple(x.shape[axis] for axis in kept) + (-1,))
    y = np.ascontiguousarray(rows).sum(axis=-1, dtype=x.dtype)
    return np.expand_dims(y, axes) if keep_dims else y


def mean(x: np.ndarray, axes: Tuple[int, ...], keep_dims: bool = False) -> np.ndarray:
    """Mean over `axes`; of integers, truncated towards zero."""
    y, count = total(x, axes, keep_dims), math.prod(x.shape[axis] for axis in axes)
    return y / count if x.dtype.kind == "f" else np.sign(y) * (np.abs(y) // count)


def reduce(layer: Layer, x: np.ndarray) -> np.ndarray:
    """SUM, PROD, MAX, MIN or AVG over the layer's axes."""
    axes, keep = axes_of(layer.fields.axes, x.ndim), layer.fields.keep_dims
    return REDUCTIONS[layer.fields.op](x, axes, keep)


REDUCTIONS = {
    "SUM": total,
    "PROD": lambda x, axes, keep: np.prod(x, axis=axes, keepdims=keep, dtype=x.dtype),
    "MAX": lambda x, axes, keep: np.max(x, axis=axes, keepdims=keep),
    "MIN": lambda x, axes, keep: np.min(x, axis=axes, keepdims=keep),
    "AVG": mean,
}


def softmax(layer: Layer, x: np.ndarray) -> np.ndarray:
    """exp(x - max) / sum over the layer's axes."""
    axes = axes_of(layer.fields.axes, x.ndim)
    y = np.exp(x - x.max(axis=axes, keepdims=True))
    y /= total(y, axes, keep_dims=True)
    return y


def top_k(layer: Layer, x: np.ndarray, k: Optional[np.ndarray] = None) -> Tuple[np.ndarray, np.ndarray]:
    """Values and indices of the k largest or smallest, best first; among equals the lower index (8.5.3.1)."""
    (axis,) = axes_of(layer.fields.axes, x.ndim)
    count = layer.fields.k if k is None else int(k)
    order = _descending(x, axis) if layer.fields.op == "MAX" else np.argsort(x, axis=axis, kind="stable")
    indices = order.take(range(count), axis=axis)
    return np.take_along_axis(x, indices, axis), indices


def _descending(x: np.ndarray, axis: int) -> np.ndarray:
    """Indices of a stable descending sort: reverse, sort ascending, reverse again (negating fails for integers)."""
    last = x.shape[axis] - 1
    return np.flip(last - np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
