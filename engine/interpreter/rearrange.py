"""Layers that move elements without computing: constant, shape, shuffle, squeeze, unsqueeze, concatenation, slice,
padding, gather. Where the elements stay in order the result is a view of the input.
"""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import numpy as np

from engine.interpreter.layer import Layer
from spec.errors import TensorRTError


def constant(layer: Layer) -> np.ndarray:
    """The layer's weights, read-only."""
    values = layer.fields.weights.reshape(layer.fields.shape)
    values.flags.writeable = False
    return values


def shape_of(layer: Layer, x: np.ndarray) -> np.ndarray:
    """Lengths of the axes of x: INT32 in TensorRT 8, INT64 from 10 on."""
    return np.array(x.shape)


def shuffle(layer: Layer, x: np.ndarray, dims: Optional[np.ndarray] = None) -> np.ndarray:
    """Transpose, reshape, transpose; in the new shape -1 is what remains and 0 keeps the input's length."""
    fields = layer.fields
    x = x.transpose(fields.first_transpose[: x.ndim])  # TensorRT's permutations always have 8 entries
    wanted = fields.reshape_dims if dims is None else tuple(dims.tolist())
    if wanted is not None:
        if fields.zero_is_placeholder:
            wanted = tuple(x.shape[axis] if length == 0 else length for axis, length in enumerate(wanted))
        x = x.reshape(wanted)
    return x.transpose(fields.second_transpose[: x.ndim])


def squeeze(layer: Layer, x: np.ndarray, axes: Optional[np.ndarray] = None) -> np.ndarray:
    """Without the given axes, or without every axis whose length is 1 in the network definition."""
    if axes is None:
        return x.squeeze(tuple(axis for axis, length in enumerate(layer.inputs[0].shape) if length == 1))
    return x.squeeze(tuple(axes.ravel().tolist()))


def unsqueeze(layer: Layer, x: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """With axes of length 1 at the given places of the result."""
    return np.expand_dims(x, tuple(axes.ravel().tolist()))


def concatenation(layer: Layer, *parts: np.ndarray) -> np.ndarray:
    """The inputs one behind the other along the layer's axis."""
    return np.concatenate(parts, axis=layer.fields.axis)


def padding(layer: Layer, x: np.ndarray) -> np.ndarray:
    """Zeros around the last axes, pre (top, left) and post (bottom, right); negative numbers trim."""
    pre, post = layer.fields.pre_padding_nd, layer.fields.post_padding_nd
    lead = x.ndim - len(pre)
    ends = list(zip(x.shape[lead:], pre, post))
    trimmed = x[(Ellipsis,) + tuple(slice(max(-before, 0), size - max(-after, 0)) for size, before, after in ends)]
    return np.pad(trimmed, [(0, 0)] * lead + [(max(before, 0), max(after, 0)) for _, before, after in ends])


def slice_(
    layer: Layer,
    x: np.ndarray,
    start: Optional[np.ndarray] = None,
    size: Optional[np.ndarray] = None,
    stride: Optional[np.ndarray] = None,
    fill: Optional[np.ndarray] = None,
    axes: Optional[np.ndarray] = None,
) -> np.ndarray:
    """x[start + stride * i], i < size, on every axis; what lies outside is given by the layer's mode."""
    rows = _slice_rows(layer, (start, size, stride, axes), x.shape)
    if all(_is_inside(length, *row) for length, row in zip(x.shape, rows)):
        return x[tuple(slice(first, first + step * count, step) for first, count, step in rows)]
    outside = np.zeros((), bool)
    for axis, (first, count, step) in enumerate(rows):
        index, length = first + step * np.arange(count), x.shape[axis]
        beyond = (index < 0) | (index >= length)
        outside = outside | beyond.reshape((-1,) + (1,) * (x.ndim - 1 - axis))
        x = x.take(_fold_index(layer, index, length, beyond.any()), axis=axis)
    if layer.fields.mode != "FILL":
        return x
    return np.where(outside, x.dtype.type(0) if fill is None else fill.astype(x.dtype), x)


def _slice_rows(
    layer: Layer, given: Sequence[Optional[np.ndarray]], lengths: Tuple[int, ...]
) -> List[Tuple[int, int, int]]:
    """(start, size, stride) for each axis; an input replaces the field of its name, axes left out stay whole."""
    fields = layer.fields
    stored = (fields.start, fields.shape, fields.stride, fields.axes)
    start, size, stride, axes = (
        field if array is None else tuple(array.ravel().tolist()) for array, field in zip(given, stored)
    )
    if axes is None:
        return list(zip(start, size, stride))
    rows = [(0, length, 1) for length in lengths]
    for axis, row in zip(axes, zip(start, size, stride)):
        rows[axis % len(lengths)] = row
    return rows


def _is_inside(length: int, start: int, size: int, stride: int) -> bool:
    return stride > 0 and 0 <= start and (size == 0 or start + stride * (size - 1) < length)


def _fold_index(layer: Layer, index: np.ndarray, length: int, goes_beyond: bool) -> np.ndarray:
    """Indices brought inside 0 ... length - 1 as the layer's SampleMode says."""
    mode = layer.fields.mode
    if mode == "WRAP":
        return index % length
    if mode == "REFLECT":  # without repeating the edge: 2 1 | 0 1 2 | 1 0
        period = max(2 * (length - 1), 1)
        return np.minimum(index % period, (period - index) % period) if length > 1 else np.zeros_like(index)
    if mode not in ("CLAMP", "FILL") and goes_beyond:
        raise TensorRTError(
            f"layer '{layer.name}' (SLICE): indices {index.min()} to {index.max()} of an axis of length {length}, mode"
            f" {mode}; wanted indices inside the axis, or a mode for those outside"
        )
    return np.clip(index, 0, length - 1)


def gather(layer: Layer, data: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Elements of data by index: whole slices along one axis, single elements, or slices by leading coordinates."""
    fields = layer.fields
    if fields.mode == "ND":
        return _gather_coordinates(layer, data, indices, fields.num_elementwise_dims)
    indices = _checked_indices(layer, indices, data.shape[fields.axis])
    if fields.mode == "ELEMENT":
        return np.take_along_axis(data, indices, fields.axis)
    if fields.num_elementwise_dims == 0:
        return data.take(indices, axis=fields.axis)
    return np.stack([row.take(index, axis=fields.axis - 1) for row, index in zip(data, indices)])


def _gather_coordinates(layer: Layer, data: np.ndarray, indices: np.ndarray, batch_axes: int) -> np.ndarray:
    """ONNX GatherND: the last axis of indices holds the leading coordinates behind the batch axes."""
    depth = indices.shape[-1]
    leading = np.indices(indices.shape[:batch_axes], sparse=True)
    tail = indices.ndim - 1 - batch_axes
    batch = tuple(axis.reshape(axis.shape + (1,) * tail) for axis in leading)
    lengths = data.shape[batch_axes : batch_axes + depth]
    coordinates = tuple(_checked_indices(layer, indices[..., i], length) for i, length in enumerate(lengths))
    return data[batch + coordinates]


def _checked_indices(layer: Layer, indices: np.ndarray, length: int) -> np.ndarray:
    if indices.size and (indices.min() < -length or indices.max() >= length):
        raise TensorRTError(
            f"layer '{layer.name}' (GATHER): indices from {indices.min()} to {indices.max()}, wanted {-length} to"
            f" {length - 1}: TensorRT's result for others is undefined"
        )
    return indices % length
