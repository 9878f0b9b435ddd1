"""Pooling: a window is reduced one axis after the other, by shifted slices, so k x k costs 2k passes and no copy.

    max over rows (H), stride taken -> max over columns (W); a sum likewise, then divided by what was counted
"""

from __future__ import annotations

from typing import List, Sequence

import numpy as np

from engine.interpreter.layer import Layer
from engine.interpreter.reduction import total
from engine.interpreter.windows import Span, pad, spans, tap

# What TensorRT 8.5.3.1 starts a maximum with: a window that lies in the padding keeps it (EXPLICIT_ROUND_UP).
LOWEST = float(np.finfo(np.float32).min)


def pooling(layer: Layer, x: np.ndarray) -> np.ndarray:
    """x (n, c, *spatial) -> (n, c, *count)."""
    fields = layer.fields
    window = fields.window_size_nd
    axes = spans(x.shape[x.ndim - len(window) :], window, fields, (1,) * len(window))
    if fields.type == "MAX":
        return _maximum(x, axes)
    average = _average(x, axes, fields.average_count_excludes_padding)
    if fields.type == "AVERAGE":
        return average
    return (1 - fields.blend_factor) * _maximum(x, axes) + fields.blend_factor * average


def _maximum(x: np.ndarray, axes: Sequence[Span]) -> np.ndarray:
    return _slide(np.maximum, pad(x, axes, LOWEST), axes)


def _average(x: np.ndarray, axes: Sequence[Span], excludes_padding: bool) -> np.ndarray:
    """Sum over what is divided by: the window's positions on the data, or all positions of the window.

    The latter also with EXPLICIT_ROUND_UP, where PyTorch counts only the padded input: measured on 8.5.3.1. A window
    wholly in the padding, its positions on the data counted, gives 0 / 0 = NaN; TensorRT's answer is not measured.
    """
    padded = pad(x, axes, 0)
    if all(span.count == 1 for span in axes):
        cut = (Ellipsis,) + tuple(slice(span.kernel) for span in axes)
        y = total(padded[cut], tuple(range(x.ndim - len(axes), x.ndim)), keep_dims=True)
    else:
        y = _slide(np.add, padded, axes)
    for axis, span in enumerate(axes, x.ndim - len(axes)):
        counted = _positions_on_data(span) if excludes_padding else [span.kernel] * span.count
        y /= np.array(counted, x.dtype).reshape((-1,) + (1,) * (x.ndim - 1 - axis))
    return y


def _slide(combine: np.ufunc, padded: np.ndarray, axes: Sequence[Span]) -> np.ndarray:
    """Combines the elements of every window, axis by axis; always a new array."""
    y = padded
    for axis, span in enumerate(axes, padded.ndim - len(axes)):
        slices = [y[(slice(None),) * axis + (tap(start, span),)] for start in range(span.kernel)]
        y = combine(slices[0], slices[1]) if len(slices) > 1 else slices[0].copy()
        for other in slices[2:]:
            combine(y, other, out=y)
    return y


def _positions_on_data(span: Span) -> List[int]:
    starts = [index * span.stride - span.pre for index in range(span.count)]
    return [max(0, min(start + span.kernel, span.size) - max(start, 0)) for start in starts]
