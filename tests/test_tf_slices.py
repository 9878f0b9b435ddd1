"""Keys of slices, and slices that do not fit together."""

from __future__ import annotations

import numpy as np
import pytest

from spec.errors import CheckpointError
from weights.tf_protos import message_class
from weights.tf_slices import merge, slice_key


def part(*extents):
    """A TensorSliceProto; None is a whole axis."""
    proto = message_class("TensorSliceProto")()
    for extent in extents:
        added = proto.extent.add()
        if extent:
            added.start, added.length = extent
    return proto


@pytest.mark.parametrize(
    "name, extents, key",
    [
        # As ordered_code.cc writes them: 0, name, rank, then start and length of each axis.
        ("w", [], "00 77 00 01 00"),
        ("w", [None], "00 77 00 01 01 01 80 7f"),
        ("w", [(0, 63)], "00 77 00 01 01 01 80 bf"),
        ("w", [(64, 8191)], "00 77 00 01 01 01 c0 40 df ff"),
        ("w", [(8192, 1 << 20)], "00 77 00 01 01 01 e0 20 00 f0 10 00 00"),
        ("é\0", [], "00 c3 a9 00 ff 00 01 00"),
    ],
)
def test_keys(name, extents, key):
    # The rank of `w` with one axis is 01 01: one byte long, value one.
    assert slice_key(name, part(*extents)).hex(" ") == key


def test_keys_sort_like_numbers():
    starts = [0, 1, 63, 64, 65, 8191, 8192, 1 << 20, (1 << 20) + 1, 1 << 27, 1 << 34, 1 << 41, 1 << 48]
    keys = [slice_key("w", part((start, 1))) for start in starts]
    assert keys == sorted(keys) and len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "parts, message",
    [
        ([part((0, 2)), part((3, 1))], r"w: damaged: its 2 slices leave a hole in the shape \(4,\)"),
        ([part((0, 3)), part((2, 2))], "slices overlap"),
        ([part((0, 5))], "a slice reaches outside"),
        ([part((0, 4), None)], "a slice reaches outside"),
        ([part((-1, 4))], "a slice reaches outside"),
    ],
)
def test_slices_that_do_not_fit(parts, message):
    with pytest.raises(CheckpointError, match=message):
        merge(parts, (4,), np.dtype("f"), lambda _, shape: np.zeros(shape, "f"), "w")
