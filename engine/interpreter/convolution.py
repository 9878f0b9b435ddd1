"""Convolution and deconvolution as matrix products; axes n image, g group, c channel in a group, o map in a group.

    1x1             kernel[g o c]        x[g c position]: no copy
    k x k           kernel[g o (c i j)]  columns[g (c i j) position], copied from windows, a block of rows at a time
    depthwise       kernel[g o i j]      shifted slices of x, added tap by tap, a cache-sized run of channels at a time
    deconvolution   kernel[g (o i j) c]  x[g c position] -> columns, added into the output at shifted slices
"""

from __future__ import annotations

import math
from itertools import product
from typing import List, Optional, Sequence, Tuple

import numpy as np

from engine.interpreter.layer import Layer
from engine.interpreter.windows import Span, pad, same_padding, spans, tap, view

# Columns of one block. Measured on ResNet-50's shapes, two cores: one block for a whole 64x64x64 image (9 MB) and
# blocks of 16 rows are equally fast; the limit only keeps large images from needing hundreds of megabytes.
BLOCK_BYTES = 16 << 20
# Output of one run of depthwise channels: it is read and written once per tap, so it should stay in the L2 cache.
RUN_BYTES = 512 << 10


def convolution(
    layer: Layer, x: np.ndarray, kernel: Optional[np.ndarray] = None, bias: Optional[np.ndarray] = None
) -> np.ndarray:
    """x (n, channels, *spatial) -> (n, maps, *count); kernel (maps, channels / groups, *window)."""
    fields = layer.fields
    if kernel is None:
        kernel = fields.kernel.reshape((fields.num_output_maps, -1) + fields.kernel_size_nd)
    groups, window = fields.num_groups, kernel.shape[2:]
    axes = spans(x.shape[2:], window, fields, fields.dilation_nd)
    padded = _by_group(pad(x, axes, 0), groups)
    kernel = kernel.reshape((groups, -1) + kernel.shape[1:])
    if padded.shape[2] == 1:
        y = _depthwise(padded, kernel[:, :, 0], axes)
    elif math.prod(window) == 1:
        y = _pointwise(padded, kernel, axes)
    else:
        y = _windowed(padded, kernel, axes)
    y = y.reshape((len(x), fields.num_output_maps) + tuple(span.count for span in axes))
    return _add_bias(y, fields.bias if bias is None else bias)


def _by_group(x: np.ndarray, groups: int) -> np.ndarray:
    """(n, g c, *spatial) -> (n, g, c, *spatial)."""
    return x.reshape((x.shape[0], groups, x.shape[1] // groups) + x.shape[2:])


def _add_bias(y: np.ndarray, bias: Optional[np.ndarray]) -> np.ndarray:
    """Adds (maps,) along axis 1 of y in place."""
    if bias is not None:
        y += bias.reshape((-1,) + (1,) * (y.ndim - 2))
    return y


def _pointwise(x: np.ndarray, kernel: np.ndarray, axes: Sequence[Span]) -> np.ndarray:
    """x (n, g, c, *spatial), kernel (g, o, c, 1...) -> (n, g, o, positions)."""
    x = x[(Ellipsis,) + tuple(tap(0, span) for span in axes)]
    return np.matmul(kernel.reshape(kernel.shape[:3]), x.reshape(x.shape[:3] + (-1,)))


def _windowed(x: np.ndarray, kernel: np.ndarray, axes: Sequence[Span]) -> np.ndarray:
    """x padded (n, g, c, *spatial), kernel (g, o, c, *window) -> (n, g, o, *count)."""
    matrix = kernel.reshape(kernel.shape[:2] + (-1,))
    y = np.empty((len(x),) + matrix.shape[:2] + tuple(span.count for span in axes), x.dtype)
    for image, result in zip(x, y):
        windows = view(image, axes)  # (g, c, *window, *count)
        for first, rows in _row_blocks(windows, axes):
            block = windows[(slice(None),) * (2 + len(axes)) + (slice(first, first + rows),)]
            columns = block.reshape(matrix.shape[0], matrix.shape[2], -1)  # the one copy, im2col
            if rows == axes[0].count:
                np.matmul(matrix, columns, out=result.reshape(matrix.shape[:2] + (-1,)))
            else:
                target = result[:, :, first : first + rows]
                target[...] = np.matmul(matrix, columns).reshape(target.shape)
    return y


def _row_blocks(windows: np.ndarray, axes: Sequence[Span]) -> List[Tuple[int, int]]:
    """(first, number) of output rows whose columns take at most BLOCK_BYTES."""
    count = axes[0].count
    rows = max(1, min(count, BLOCK_BYTES * count // (windows.size * windows.itemsize)))
    return [(first, min(rows, count - first)) for first in range(0, count, rows)]


def _depthwise(x: np.ndarray, kernel: np.ndarray, axes: Sequence[Span]) -> np.ndarray:
    """x padded (n, g, 1, *spatial), kernel (g, o, *window) -> (n, g, o, *count)."""
    count = tuple(span.count for span in axes)
    y = np.zeros(x.shape[:2] + kernel.shape[1:2] + count, x.dtype)
    run = max(1, RUN_BYTES // (y[:1, :1].size * y.itemsize))
    for image, result in zip(x, y):
        for first in range(0, len(image), run):
            channels = slice(first, first + run)
            _add_taps(image[channels], kernel[channels], result[channels], axes)
    return y


def _add_taps(x: np.ndarray, kernel: np.ndarray, y: np.ndarray, axes: Sequence[Span]) -> None:
    """y (g, o, *count) += x (g, 1, *spatial) seen through every tap of kernel (g, o, *window)."""
    for position in product(*(range(span.kernel) for span in axes)):
        taps = tuple(tap(start, span) for start, span in zip(position, axes))
        weight = kernel[(Ellipsis,) + position]
        y += x[(Ellipsis,) + taps] * weight.reshape(weight.shape + (1,) * len(axes))


def deconvolution(
    layer: Layer, x: np.ndarray, kernel: Optional[np.ndarray] = None, bias: Optional[np.ndarray] = None
) -> np.ndarray:
    """x (n, channels, *spatial) -> (n, maps, *full - padding); kernel (channels, maps / groups, *window).

    The full output has (size - 1) * stride + reach positions; padding crops it: pre in front, post behind.
    """
    fields = layer.fields
    if kernel is None:
        kernel = fields.kernel.reshape((x.shape[1], -1) + fields.kernel_size_nd)
    groups = fields.num_groups
    axes = [_full_span(*row) for row in zip(x.shape[2:], kernel.shape[2:], fields.stride_nd, fields.dilation_nd)]
    transposed = kernel.reshape(groups, kernel.shape[0] // groups, -1).transpose(0, 2, 1)  # (g, o i j, c)
    full = np.zeros((len(x), fields.num_output_maps) + tuple(span.size for span in axes), x.dtype)
    for image, result in zip(_by_group(x, groups), full):
        columns = np.matmul(transposed, image.reshape(image.shape[:2] + (-1,)))
        columns = columns.reshape((fields.num_output_maps,) + kernel.shape[2:] + x.shape[2:])
        _scatter(columns, result, axes)
    crops = map(_crop, axes, fields.pre_padding, fields.post_padding, [fields.padding_mode] * len(axes))
    return _add_bias(full[(Ellipsis,) + tuple(crops)], fields.bias if bias is None else bias)


def _full_span(size: int, kernel: int, stride: int, dilation: int) -> Span:
    """The windows of the output that the input's positions are spread over."""
    return Span((size - 1) * stride + dilation * (kernel - 1) + 1, kernel, stride, dilation, size, 0, 0)


def _scatter(columns: np.ndarray, full: np.ndarray, axes: Sequence[Span]) -> None:
    """full (maps, *full) += columns (maps, *window, *spatial), tap by tap."""
    for position in product(*(range(span.kernel) for span in axes)):
        taps = tuple(tap(start, span) for start, span in zip(position, axes))
        full[(Ellipsis,) + taps] += columns[(slice(None),) + position]


def _crop(span: Span, pre: int, post: int, mode: str) -> slice:
    if mode.startswith("SAME"):
        pre, post = same_padding(span.dilation * (span.kernel - 1) + 1 - span.stride, mode)
    elif mode.startswith("CAFFE"):
        post = pre
    return slice(pre, span.size - post)
