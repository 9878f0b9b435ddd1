"""Slices of partitioned TensorFlow variables: their keys in a checkpoint, and their merge into one array.

    big [10 7] = slice "0,4:-" + slice "4,3:-" + slice "7,3:-"    each under OrderedCode(0, name, rank, extents)

Source: tensorflow/core/util/saved_tensor_slice_util.cc (EncodeTensorNameSlice) and
tensorflow/core/lib/strings/ordered_code.cc.
"""

from __future__ import annotations

from typing import Any, Callable, Sequence, Tuple

import numpy as np

from spec.errors import CheckpointError

_FULL_EXTENT = -1  # the length of an axis that is not sliced


def slice_key(name: str, part: Any) -> bytes:
    """The key under which the slice `part`, a TensorSliceProto, of the variable `name` is stored."""
    key = _number(0) + _string(name.encode()) + _number(len(part.extent))
    for extent in part.extent:
        key += _signed(extent.start) + _signed(extent.length if extent.HasField("length") else _FULL_EXTENT)
    return key


def region(part: Any, shape: Tuple[int, ...]) -> Tuple[slice, ...]:
    """Where the slice `part`, a TensorSliceProto, lies in the variable of this shape."""
    return tuple(
        slice(extent.start, extent.start + extent.length) if extent.HasField("length") else slice(0, size)
        for extent, size in zip(part.extent, shape)
    )


def region_shape(where: Sequence[slice]) -> Tuple[int, ...]:
    """The shape of a region."""
    return tuple(axis.stop - axis.start for axis in where)


def merge(parts: Sequence[Any], shape: Tuple[int, ...], dtype: np.dtype, load: Callable, place: str) -> np.ndarray:
    """The whole variable: `load(part, shape)` reads one slice.

    Raises:
        CheckpointError: a slice reaches outside, or the slices do not cover the variable exactly once.
    """
    whole, covered = np.empty(shape, dtype), np.zeros(shape, bool)
    for part in parts:
        where = region(part, shape)
        if len(part.extent) != len(shape) or any(not 0 <= a.start <= a.stop <= n for a, n in zip(where, shape)):
            raise CheckpointError(f"{place}: damaged: a slice reaches outside of the shape {shape}")
        if covered[where].any():
            raise CheckpointError(f"{place}: damaged: slices overlap")
        covered[where] = True
        whole[where] = load(part, region_shape(where))
    if not covered.all():
        raise CheckpointError(f"{place}: damaged: its {len(parts)} slices leave a hole in the shape {shape}")
    return whole


def _number(value: int) -> bytes:
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "big")


def _string(value: bytes) -> bytes:
    # 0x00 and 0xff are escaped through a byte that keeps the order of keys.
    return value.replace(b"\xff", b"\xff\x00").replace(b"\x00", b"\x00\xff") + b"\x00\x01"


def _signed(value: int) -> bytes:
    # The count of leading one bits is the length; the sign bit comes next, flipped for negative numbers.
    size = (value if value >= 0 else ~value).bit_length() // 7 + 1
    header = ((0xFF00 >> size) & 0xFF) << 8 * (size - 1)
    return ((value & (1 << 8 * size) - 1) ^ header).to_bytes(size, "big")
