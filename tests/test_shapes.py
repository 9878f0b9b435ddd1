"""Window arithmetic against PyTorch and TensorFlow: sizes by running their own operations, padding by counting taps."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from spec.shapes import (
    ShapeError,
    Window,
    broadcast,
    ceil_pooling,
    deconvolution_crop,
    resolve_padding,
    same_padding,
    show,
)

SAME_CASES = [
    (size, kernel, stride, 1) for size, kernel, stride in product((1, 2, 5, 6, 7, 12), (1, 2, 3, 5), (1, 2, 3))
] + [(size, kernel, 1, dilation) for size, kernel, dilation in product((5, 8, 9), (2, 3), (2, 3))]

TRANSPOSED_CASES = list(product((1, 2, 5), (1, 2, 3, 4, 5), (1, 2, 3)))

xdist_group = pytest.mark.xdist_group("tensorflow")


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def padded_taps(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> np.ndarray:
    """How many taps of each window lie on real pixels: a convolution of ones by ones, [outputs]."""
    pixels = np.pad(np.ones(size), (before, after))
    extent = dilation * (kernel - 1) + 1
    starts = range(0, len(pixels) - extent + 1, stride)
    return np.array([pixels[start : start + extent : dilation].sum() for start in starts])


@xdist_group
@pytest.mark.parametrize(("size", "kernel", "stride", "dilation"), SAME_CASES)
def test_same_padding_is_tensorflows(tf, size, kernel, stride, dilation):
    # a column, since TensorFlow has no dilated 1-D convolution with its own padding
    theirs = tf.nn.conv2d(
        np.ones((1, size, 1, 1), np.float32),
        np.ones((kernel, 1, 1, 1), np.float32),
        strides=[stride, 1],
        padding="SAME",
        dilations=[dilation, 1],
    )
    before, after = same_padding(size, kernel, stride, dilation)
    ours = padded_taps(size, kernel, stride, dilation, before, after)
    np.testing.assert_array_equal(ours, np.ravel(theirs))
    assert Window(kernel, stride, dilation, before, after).output_size(size) == len(ours)


@pytest.mark.parametrize(("size", "kernel", "stride", "dilation"), SAME_CASES)
def test_same_lower_mirrors_same(size, kernel, stride, dilation):
    before, after = same_padding(size, kernel, stride, dilation)
    assert same_padding(size, kernel, stride, dilation, lower=True) == (after, before)
    assert before <= after <= before + 1


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        ("valid", [(0, 0), (0, 0)]),
        ("same", [(0, 1), (1, 1)]),
        ("same_lower", [(1, 0), (1, 1)]),
        (((0, 1), (2, 3)), [(0, 1), (2, 3)]),
    ],
)
def test_every_spelling_of_padding(padding, expected):
    sizes = (6, 7)
    assert [resolve_padding(padding, axis, sizes[axis], 3, 2, 1) for axis in (0, 1)] == expected


def test_ceil_pooling_is_pytorchs(torch):
    pool = torch.nn.functional.max_pool2d
    tried = 0
    for size, kernel, stride in product(range(1, 13), (1, 2, 3, 4), (1, 2, 3, 4)):
        for padding in range(kernel // 2 + 1):
            if size + 2 * padding < kernel:
                continue
            image = torch.empty(1, 1, size, size, device="meta")
            theirs = pool(image, kernel, stride, padding, ceil_mode=True).shape[2]
            outputs, after = ceil_pooling(size, kernel, stride, padding, padding)
            assert outputs == theirs, (size, kernel, stride, padding)
            assert Window(kernel, stride, 1, padding, after).output_size(size) == theirs, (size, kernel, stride)
            tried += 1
    assert tried > 300


def full_deconvolution(x: np.ndarray, kernel: np.ndarray, stride: int, dilation: int = 1) -> np.ndarray:
    """Every input spread over its kernel, nothing dropped: [(size - 1) * stride + extent]."""
    extent = dilation * (len(kernel) - 1) + 1
    output = np.zeros((len(x) - 1) * stride + extent)
    for position, value in enumerate(x):
        output[position * stride : position * stride + extent : dilation] += value * kernel
    return output


def cropped(full: np.ndarray, before: int, after: int) -> np.ndarray:
    return np.pad(full[before : len(full) - max(after, 0)], (0, max(-after, 0)))


@xdist_group
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("size", "kernel", "stride"), TRANSPOSED_CASES)
def test_deconvolution_crop_is_tensorflows(tf, padding, size, kernel, stride):
    rng = np.random.default_rng(size + 10 * kernel + 100 * stride)
    x, taps = rng.integers(1, 9, size), rng.integers(1, 9, kernel)
    outputs = size * stride + (max(kernel - stride, 0) if padding == "valid" else 0)
    theirs = tf.nn.conv2d_transpose(
        x.reshape(1, size, 1, 1).astype(np.float32),
        taps.reshape(kernel, 1, 1, 1).astype(np.float32),
        output_shape=[1, outputs, 1, 1],
        strides=[stride, 1],
        padding=padding.upper(),
    )
    crop = deconvolution_crop(padding, 0, kernel, stride, 1)
    np.testing.assert_array_equal(cropped(full_deconvolution(x, taps, stride), *crop), np.ravel(theirs))


@pytest.mark.parametrize(("padding", "dilation"), [((1, 1), 1), ((0, 0), 2), ((2, 2), 2)])
def test_deconvolution_crop_is_pytorchs(torch, padding, dilation):
    x, taps = np.array([3.0, 1.0, 4.0]), np.array([1.0, 5.0, 9.0])
    theirs = torch.nn.functional.conv_transpose1d(
        torch.tensor(x).reshape(1, 1, -1),
        torch.tensor(taps).reshape(1, 1, -1),
        stride=2,
        padding=padding[0],
        dilation=dilation,
    )
    crop = deconvolution_crop((padding, (0, 0)), 0, 3, 2, dilation)
    np.testing.assert_array_equal(cropped(full_deconvolution(x, taps, 2, dilation), *crop), theirs.ravel())


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_same_lower_crops_the_odd_pixel_in_front(kernel):
    before, after = deconvolution_crop("same", 0, kernel, 2, 1)
    lower = deconvolution_crop("same_lower", 0, kernel, 2, 1)
    assert lower == ((after, before) if after > 0 else (before, after))


def test_a_window_that_does_not_fit_prints_the_arithmetic():
    with pytest.raises(ShapeError, match=r"a window of 7 does not fit into 1 \+ 3 \+ 2 = 6 pixels"):
        Window(kernel=4, stride=1, dilation=2, before=1, after=2).output_size(3)


@pytest.mark.parametrize(
    ("first", "second"), [((2, 3, 5, 7), (2, 3, 5, 7)), ((2, 3, 5, 7), (1, 3, 1, 1)), ((1, 3, 1, 7), (2, 1, 5, 1))]
)
def test_broadcast_is_numpys(first, second):
    assert broadcast(first, second) == np.broadcast_shapes(first, second)


def test_a_dynamic_batch_broadcasts_over_one():
    assert broadcast((-1, 3, 5, 7), (1, 3, 1, 1)) == broadcast((1, 3, 1, 1), (-1, 3, 5, 7)) == (-1, 3, 5, 7)


@pytest.mark.parametrize(("first", "second"), [((1, 3), (1, 4)), ((1, 3), (1, 3, 1)), ((-1, 3), (4, 3))])
def test_what_does_not_broadcast(first, second):
    with pytest.raises(ShapeError, match="do not broadcast: ranks and axes must be equal, or the axis 1"):
        broadcast(first, second)


@pytest.mark.parametrize(("shape", "text"), [((1, 3, 5), "1 x 3 x 5"), ((-1, 3), "N x 3"), ((), "scalar")])
def test_shapes_for_people(shape, text):
    assert show(shape) == text
