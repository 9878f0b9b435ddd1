"""Sliding windows over spatial axes: how many fit, what padding they need, and a strided view of them.

    size 6, kernel 3, stride 2, SAME_UPPER        pad pre 0, post 1
    [ 0 1 2 3 4 5 ] .                             3 windows: 012 234 45.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import List, NamedTuple, Sequence, Tuple

import numpy as np
from numpy.lib.stride_tricks import as_strided


class Span(NamedTuple):
    """Windows along one axis: `count` of them, the first starting `pre` before the data, the last ending `post` behind
    it (negative: data at the end that no window reaches)."""

    size: int
    kernel: int
    stride: int
    dilation: int
    count: int
    pre: int
    post: int


def spans(shape: Sequence[int], kernel: Sequence[int], fields: SimpleNamespace, dilation: Sequence[int]) -> List[Span]:
    """One Span for each spatial axis, `kernel` and the layer's fields giving one number per axis."""
    rows = zip(shape, kernel, fields.stride_nd, dilation, fields.pre_padding, fields.post_padding)
    return [_span(size, k, s, d, pre, post, fields.padding_mode) for size, k, s, d, pre, post in rows]


def _span(size: int, kernel: int, stride: int, dilation: int, pre: int, post: int, mode: str) -> Span:
    """PaddingMode in numbers: NvInfer.h; SAME_* is TensorFlow's rule, the total clamped to 0 (measured on 8.5.3.1)."""
    reach = dilation * (kernel - 1) + 1
    if mode.startswith("SAME"):
        count = -(-size // stride)
        pre = same_padding((count - 1) * stride + reach - size, mode)[0]
    else:
        post = pre if mode.startswith("CAFFE") else post
        spare = size + pre + post - reach
        count = (-(-spare // stride) if mode.endswith("ROUND_UP") else spare // stride) + 1
        if mode == "CAFFE_ROUND_UP" and (count - 1) * stride >= size + pre:
            count -= 1  # Caffe drops a last window that starts behind the data
    return Span(size, kernel, stride, dilation, count, pre, (count - 1) * stride + reach - size - pre)


def same_padding(total: int, mode: str) -> Tuple[int, int]:
    """(pre, post) of SAME_UPPER, which puts an odd one behind, or SAME_LOWER, which puts it in front."""
    total = max(total, 0)
    smaller, larger = total // 2, total - total // 2
    return (smaller, larger) if mode == "SAME_UPPER" else (larger, smaller)


def pad(x: np.ndarray, axes: Sequence[Span], value: float) -> np.ndarray:
    """`x` (..., *spatial) with `value` around it as far as the windows reach; `x` itself where they stay inside."""
    if all(span.pre == 0 and span.post <= 0 for span in axes):
        return x
    lead = x.shape[: x.ndim - len(axes)]
    padded = np.full(lead + tuple(span.pre + span.size + max(span.post, 0) for span in axes), value, x.dtype)
    padded[(Ellipsis,) + tuple(slice(span.pre, span.pre + span.size) for span in axes)] = x
    return padded


def view(padded: np.ndarray, axes: Sequence[Span]) -> np.ndarray:
    """Windows of `padded` (..., *spatial) as a view (..., *kernel, *count), nothing copied."""
    lead = padded.ndim - len(axes)
    steps = padded.strides[lead:]
    return as_strided(
        padded,
        padded.shape[:lead] + tuple(span.kernel for span in axes) + tuple(span.count for span in axes),
        padded.strides[:lead]
        + tuple(step * span.dilation for step, span in zip(steps, axes))
        + tuple(step * span.stride for step, span in zip(steps, axes)),
        writeable=False,
    )


def tap(start: int, span: Span) -> slice:
    """Where element `start` of every window lies along a padded axis."""
    first = start * span.dilation
    return slice(first, first + (span.count - 1) * span.stride + 1, span.stride)
