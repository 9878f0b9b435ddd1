"""Every layer type: its output shape against PyTorch and TensorFlow, its parameters, and what it says when wrong.

Images are odd on purpose: not square, 1 or 3 channels, sizes that a stride does not divide.
"""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from spec.layers import LAYERS, Layer, Slot, TensorType, WeightedLayer
from spec.shapes import ShapeError

ODD = (2, 3, 9, 7)
GREY = (1, 1, 5, 8)

CONVOLUTION = {"filters": 6, "kernel": 3, "padding": "valid", "bias": True}
DEPTHWISE = {"kernel": 3, "padding": "valid", "bias": False}

# (type, keys, input shapes, the same in PyTorch), run on tensors without storage
TORCH_ROWS = [
    ("convolution", {"padding": 1}, [ODD], lambda F, w, x: F.conv2d(x, w(6, 3, 3, 3), padding=1)),
    ("convolution", {"stride": 2}, [ODD], lambda F, w, x: F.conv2d(x, w(6, 3, 3, 3), stride=2)),
    ("convolution", {"kernel": [1, 5], "stride": [3, 1]}, [GREY],
     lambda F, w, x: F.conv2d(x, w(6, 1, 1, 5), stride=(3, 1))),
    ("convolution", {"padding": [2, 0], "dilation": [3, 2]}, [ODD],
     lambda F, w, x: F.conv2d(x, w(6, 3, 3, 3), padding=(2, 0), dilation=(3, 2))),
    ("convolution", {"padding": [[0, 2], [1, 3]], "stride": 2}, [ODD],
     lambda F, w, x: F.conv2d(F.pad(x, (1, 3, 0, 2)), w(6, 3, 3, 3), stride=2)),
    ("convolution", {"groups": 3}, [ODD], lambda F, w, x: F.conv2d(x, w(6, 1, 3, 3), groups=3)),
    ("convolution", {"kernel": [4, 2], "padding": "same"}, [ODD],
     lambda F, w, x: F.conv2d(F.pad(x, (0, 1, 1, 2)), w(6, 3, 4, 2))),
    ("depthwise_convolution", {"multiplier": 2, "stride": 2, "padding": [[1, 0], [0, 1]]}, [ODD],
     lambda F, w, x: F.conv2d(F.pad(x, (0, 1, 1, 0)), w(6, 1, 3, 3), stride=2, groups=3)),
    ("deconvolution", {"stride": 2, "padding": 1}, [ODD],
     lambda F, w, x: F.conv_transpose2d(x, w(3, 6, 3, 3), stride=2, padding=1)),
    ("deconvolution", {"stride": 2, "padding": 1, "output_padding": 1}, [ODD],
     lambda F, w, x: F.conv_transpose2d(x, w(3, 6, 3, 3), stride=2, padding=1, output_padding=1)),
    ("deconvolution", {"stride": [3, 2], "padding": [0, 1], "output_padding": [2, 0]}, [GREY],
     lambda F, w, x: F.conv_transpose2d(x, w(1, 6, 3, 3), stride=(3, 2), padding=(0, 1), output_padding=(2, 0))),
    ("deconvolution", {"stride": 2, "kernel": 4, "padding": 0, "dilation": 2, "groups": 3}, [ODD],
     lambda F, w, x: F.conv_transpose2d(x, w(3, 2, 4, 4), stride=2, dilation=2, groups=3)),
    ("deconvolution", {"padding": [[0, 2], [1, 0]]}, [ODD],
     lambda F, w, x: F.conv_transpose2d(x, w(3, 6, 3, 3))[:, :, 0:-2, 1:]),
    ("dense", {"units": 11, "bias": False}, [(2, 7)], lambda F, w, x: F.linear(x, w(11, 7))),
    ("pooling", {"function": "max", "window": 3}, [ODD], lambda F, w, x: F.max_pool2d(x, 3)),
    ("pooling", {"function": "max", "window": [2, 3], "stride": [2, 1], "padding": [1, 0]}, [GREY],
     lambda F, w, x: F.max_pool2d(x, (2, 3), (2, 1), (1, 0))),
    ("pooling", {"function": "max", "window": 2, "stride": 2, "ceil": True}, [ODD],
     lambda F, w, x: F.max_pool2d(x, 2, 2, ceil_mode=True)),
    ("pooling", {"function": "max", "window": 3, "stride": 2, "padding": 1, "ceil": True}, [GREY],
     lambda F, w, x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True)),
    ("pooling", {"function": "average", "window": 3, "stride": 2, "padding": 1, "ceil": True,
     "count_padding": True}, [GREY],
     lambda F, w, x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True)),
    ("pooling", {"function": "average", "window": "global"}, [ODD], lambda F, w, x: F.adaptive_avg_pool2d(x, 1)),
    ("batch_norm", {"epsilon": 1e-5}, [ODD], lambda F, w, x: F.batch_norm(x, w(3), w(3))),
    ("batch_norm", {"epsilon": 1e-5}, [(2, 7)], lambda F, w, x: F.batch_norm(x, w(7), w(7))),
    ("scale", {"scale": [1, 2, 3], "shift": 1}, [ODD], lambda F, w, x: x * w(1, 3, 1, 1) + 1),
    ("lrn", {"window": 5, "alpha": 1e-4, "beta": 0.75, "k": 2, "alpha_of": "mean"}, [ODD],
     lambda F, w, x: F.local_response_norm(x, 5)),
    ("activation", {"function": "relu"}, [ODD], lambda F, w, x: F.relu(x)),
    ("activation", {"function": "gelu", "approximate": True}, [(2, 7)], lambda F, w, x: F.gelu(x)),
    ("prelu", {}, [ODD], lambda F, w, x: F.prelu(x, w(3))),
    ("softmax", {"axis": -1}, [ODD], lambda F, w, x: F.softmax(x, -1)),
    ("elementwise", {"function": "sum"}, [ODD, ODD], lambda F, w, x, y: x + y),
    ("elementwise", {"function": "div"}, [(1, 3, 1, 7), (1, 1, 5, 1), (1, 3, 5, 7)], lambda F, w, x, y, z: x / y / z),
    ("reduce", {"function": "mean", "axes": ["h", "w"]}, [ODD], lambda F, w, x: x.mean((2, 3))),
    ("reduce", {"function": "max", "axes": [-1], "keep_dims": True}, [ODD], lambda F, w, x: x.amax(-1, keepdim=True)),
    ("argmax", {}, [ODD], lambda F, w, x: x.argmax(1)),
    ("argmax", {"axis": "w", "keep_dims": True}, [ODD], lambda F, w, x: x.argmax(3, keepdim=True)),
    ("top_k", {"k": 5, "axis": "h"}, [ODD], lambda F, w, x: x.topk(5, 2).values),
    ("constant", {"shape": [1, 3, 1, 1]}, [], lambda F, w: w(1, 3, 1, 1)),
    ("cast", {"dtype": "float16"}, [ODD], lambda F, w, x: x.half()),
    ("concatenation", {}, [ODD, (2, 5, 9, 7)], lambda F, w, x, y: _cat(1, x, y)),
    ("concatenation", {"axis": "w"}, [ODD, ODD, ODD], lambda F, w, x, y, z: _cat(3, x, y, z)),
    ("flatten", {"order": "NCHW"}, [ODD], lambda F, w, x: x.flatten(1)),
    ("flatten", {}, [(2, 5, 1, 1)], lambda F, w, x: x.flatten(1)),
    ("reshape", {"shape": [7, -1]}, [(2, 21)], lambda F, w, x: x.reshape(2, 7, -1)),
    ("reshape", {"shape": [7, 3, 9], "order": "NCHW"}, [ODD], lambda F, w, x: x.reshape(2, 7, 3, 9)),
    ("transpose", {"axes": [0, 3, 1, 2]}, [ODD], lambda F, w, x: x.permute(0, 3, 1, 2)),
    ("squeeze", {"axes": ["h", -1]}, [(2, 5, 1, 1)], lambda F, w, x: x.squeeze((2, 3))),
    ("padding", {"pad": [[0, 3], [2, 1]]}, [ODD], lambda F, w, x: F.pad(x, (2, 1, 0, 3))),
    ("padding", {"pad": [2, 6], "mode": "reflect"}, [ODD], lambda F, w, x: F.pad(x, (6, 6, 2, 2), mode="reflect")),
    ("padding", {"pad": 9, "mode": "edge"}, [ODD], lambda F, w, x: F.pad(x, (9, 9, 9, 9), mode="replicate")),
    ("slice", {"axes": ["h", "c"], "start": [1, 0], "size": [4, 2], "stride": [2, 1]}, [ODD],
     lambda F, w, x: x[:, :2, 1:8:2]),
    ("slice", {"axes": [-1], "start": [6], "size": [1]}, [ODD], lambda F, w, x: x[..., 6:]),
    ("gather", {"axis": "c", "indices": [2, 1, 0, 0]}, [ODD], lambda F, w, x: x[:, [2, 1, 0, 0]]),
    ("resize", {"mode": "bilinear", "coordinates": "half_pixel", "size": [4, 15]}, [ODD],
     lambda F, w, x: F.interpolate(x, (4, 15), mode="bilinear")),
    ("resize", {"mode": "nearest", "coordinates": "asymmetric", "rounding": "floor", "scale": [2, 3]}, [ODD],
     lambda F, w, x: F.interpolate(x, scale_factor=(2, 3))),
]  # fmt: skip

# the same in TensorFlow, which takes n h w c; x is the first input as n h w c
TF_ROWS = [
    ("convolution", {"padding": "same", "stride": 2}, ODD,
     lambda tf, x: tf.nn.conv2d(x, tf.zeros([3, 3, 3, 6]), 2, "SAME")),
    ("convolution", {"padding": "valid", "stride": [1, 3]}, ODD,
     lambda tf, x: tf.nn.conv2d(x, tf.zeros([3, 3, 3, 6]), [1, 3], "VALID")),
    ("convolution", {"padding": "same", "kernel": 1, "stride": 3}, GREY,
     lambda tf, x: tf.nn.conv2d(x, tf.zeros([1, 1, 1, 6]), 3, "SAME")),
    ("convolution", {"padding": "valid", "dilation": [3, 2]}, ODD,
     lambda tf, x: tf.nn.conv2d(x, tf.zeros([3, 3, 3, 6]), 1, "VALID", dilations=[3, 2])),
    ("depthwise_convolution", {"padding": "same", "stride": 2, "multiplier": 2}, ODD,
     lambda tf, x: tf.nn.depthwise_conv2d(x, tf.zeros([3, 3, 3, 2]), [1, 2, 2, 1], "SAME")),
    ("deconvolution", {"padding": "same", "stride": 2}, ODD, lambda tf, x: transposed(tf, x, 3, 2, "same")),
    ("deconvolution", {"padding": "same", "stride": 3, "kernel": 2}, ODD,
     lambda tf, x: transposed(tf, x, 2, 3, "same")),
    ("deconvolution", {"padding": "same_lower", "stride": 2, "kernel": 4}, ODD,
     lambda tf, x: transposed(tf, x, 4, 2, "same")),
    ("deconvolution", {"padding": "valid", "stride": 2, "kernel": 5}, GREY,
     lambda tf, x: transposed(tf, x, 5, 2, "valid")),
    ("deconvolution", {"padding": "valid", "stride": [3, 2], "kernel": 2}, GREY,
     lambda tf, x: transposed(tf, x, 2, (3, 2), "valid")),
    ("pooling", {"function": "max", "window": 3, "stride": 2, "padding": "same"}, ODD,
     lambda tf, x: tf.nn.max_pool2d(x, 3, 2, "SAME")),
    ("pooling", {"function": "average", "window": [2, 3], "padding": "same", "count_padding": False}, GREY,
     lambda tf, x: tf.nn.avg_pool2d(x, [2, 3], [2, 3], "SAME")),
    ("pooling", {"function": "max", "window": 2, "padding": "valid"}, ODD,
     lambda tf, x: tf.nn.max_pool2d(x, 2, 2, "VALID")),
    ("lrn", {"window": 3, "alpha": 1e-4, "beta": 0.5, "k": 1.0, "alpha_of": "sum"}, ODD, lambda tf, x: tf.nn.lrn(x, 1)),
    ("padding", {"pad": [[1, 0], [2, 3]]}, ODD, lambda tf, x: tf.pad(x, [[0, 0], [1, 0], [2, 3], [0, 0]])),
    ("resize", {"mode": "bilinear", "coordinates": "half_pixel", "size": [4, 15]}, ODD,
     lambda tf, x: tf.image.resize(x, [4, 15])),
    ("reshape", {"shape": [7, 9, -1], "order": "NHWC"}, ODD, lambda tf, x: tf.reshape(x, [2, 7, 9, -1])),
    ("concatenation", {"axis": "h"}, ODD, lambda tf, x: tf.concat([x, x], axis=1)),
]  # fmt: skip


def _cat(axis, *tensors):
    import torch

    return torch.cat(tensors, axis)


def transposed(tf, x, kernel, stride, padding):
    return tf.keras.layers.Conv2DTranspose(6, kernel, stride, padding)(x)


def layer_of(word: str, keys: dict) -> Layer:
    defaults = {"convolution": CONVOLUTION, "deconvolution": CONVOLUTION, "depthwise_convolution": DEPTHWISE}
    return LAYERS[word](name="x", **dict(defaults.get(word, {}), **keys))


def row_ids(rows):
    return [f"{row[0]}-{number}" for number, row in enumerate(rows)]


@pytest.mark.parametrize(("word", "keys", "shapes", "theirs"), TORCH_ROWS, ids=row_ids(TORCH_ROWS))
def test_output_shape_is_pytorchs(word, keys, shapes, theirs):
    torch = pytest.importorskip("torch")

    def without_storage(*shape):
        return torch.empty(*shape, device="meta")

    expected = theirs(torch.nn.functional, without_storage, *(without_storage(*shape) for shape in shapes))
    made = layer_of(word, keys).outputs([TensorType(shape, "float32") for shape in shapes])
    assert made["x"].shape == tuple(expected.shape)


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


@pytest.mark.xdist_group("tensorflow")
@pytest.mark.parametrize(("word", "keys", "shape", "theirs"), TF_ROWS, ids=row_ids(TF_ROWS))
def test_output_shape_is_tensorflows(tf, word, keys, shape, theirs):
    batch, channels, height, width = shape
    expected = theirs(tf, tf.zeros([batch, height, width, channels])).shape
    layer = layer_of(word, keys)
    inputs = [TensorType(shape, "float32")] * layer.input_count[0]
    assert layer.outputs(inputs)["x"].shape == tuple(expected[axis] for axis in (0, 3, 1, 2))


@pytest.mark.parametrize(("word", "keys", "shapes", "theirs"), TORCH_ROWS, ids=row_ids(TORCH_ROWS))
def test_a_dynamic_batch_stays_in_front(word, keys, shapes, theirs):
    fixed = layer_of(word, keys).output_shape(*shapes)
    dynamic = layer_of(word, keys).output_shape(*((-1,) + shape[1:] for shape in shapes))
    assert dynamic[1:] == fixed[1:] and dynamic[0] == (-1 if shapes else 1)


def kernel(layout, **sizes):
    return Slot("kernel", layout, sizes)


def per_channel(*roles, c=3):
    return tuple(Slot(role, "c", {"c": c}) for role in roles)


# (type, keys, input shape, parameters in the order in which Keras creates them)
SLOT_ROWS = [
    ("convolution", {"kernel": [3, 5]}, ODD, (kernel("o i h w", o=6, i=3, h=3, w=5), Slot("bias", "o", {"o": 6}))),
    ("convolution", {"groups": 3, "bias": False}, ODD, (kernel("o i h w", o=6, i=1, h=3, w=3),)),
    ("depthwise_convolution", {"multiplier": 2, "bias": True}, ODD,
     (kernel("(c m) 1 h w", c=3, m=2, h=3, w=3), Slot("bias", "o", {"o": 6}))),
    ("deconvolution", {"kernel": [2, 4], "groups": 3}, ODD, (kernel("i o h w", i=3, o=2, h=2, w=4), Slot("bias",
     "o", {"o": 6}))),
    ("dense", {"units": 11, "bias": True}, (2, 7), (kernel("o i", o=11, i=7), Slot("bias", "o", {"o": 11}))),
    ("dense", {"units": 11, "bias": False}, (2, 7), (kernel("o i", o=11, i=7),)),
    ("batch_norm", {"epsilon": 1e-3}, ODD, per_channel("gamma", "beta", "mean", "variance")),
    ("batch_norm", {"epsilon": 1e-3, "gamma": False}, ODD, per_channel("beta", "mean", "variance")),
    ("batch_norm", {"epsilon": 1e-3, "beta": False}, (2, 7), per_channel("gamma", "mean", "variance", c=7)),
    ("scale", {"learned": ["shift", "scale"]}, ODD, per_channel("scale", "shift")),
    ("scale", {"scale": 2.0, "learned": ["shift"]}, ODD, per_channel("shift")),
    ("scale", {"scale": 2.0}, ODD, ()),
    ("prelu", {}, ODD, (Slot("alpha", "c h w", {"c": 3, "h": 1, "w": 1}),)),
    ("prelu", {"shared": False}, ODD, (Slot("alpha", "c h w", {"c": 3, "h": 9, "w": 7}),)),
    ("constant", {"shape": [1, 3, 1, 5]}, None, (Slot("value", "a b c d", {"a": 1, "b": 3, "c": 1, "d": 5}),)),
    ("constant", {"shape": [1, 2], "value": [3.0, 4.0]}, None, ()),
]  # fmt: skip


@pytest.mark.parametrize(("word", "keys", "shape", "expected"), SLOT_ROWS, ids=row_ids(SLOT_ROWS))
def test_slots(word, keys, shape, expected):
    assert layer_of(word, keys).slots(*([shape] if shape else [])) == expected


def sizes_of(slot: Slot) -> tuple:
    """Lengths in the order of the layout, (c m) as one axis."""
    sizes = dict(slot.sizes, **{"1": 1})
    groups = slot.layout.replace("(c m)", "cm").split()
    return tuple(sizes["c"] * sizes["m"] if axis == "cm" else sizes[axis] for axis in groups)


MODULE_ROWS = [
    ("convolution", {"kernel": [3, 5], "groups": 3}, ODD, lambda nn: nn.Conv2d(3, 6, (3, 5), groups=3)),
    ("depthwise_convolution", {"multiplier": 4, "bias": True}, ODD, lambda nn: nn.Conv2d(3, 12, 3, groups=3)),
    ("deconvolution", {"kernel": [2, 4], "groups": 3}, ODD, lambda nn: nn.ConvTranspose2d(3, 6, (2, 4), groups=3)),
    ("dense", {"units": 11, "bias": True}, (2, 7), lambda nn: nn.Linear(7, 11)),
    ("batch_norm", {"epsilon": 1e-5}, ODD, lambda nn: nn.BatchNorm2d(3)),
]


@pytest.mark.parametrize(("word", "keys", "shape", "module"), MODULE_ROWS, ids=row_ids(MODULE_ROWS))
def test_slots_have_the_shapes_of_pytorchs_parameters(word, keys, shape, module):
    """PyTorch's axis orders are ours, so that sizes compare as they are."""
    nn = pytest.importorskip("torch").nn
    state = module(nn).state_dict()
    theirs = [tuple(tensor.shape) for name, tensor in state.items() if name != "num_batches_tracked"]
    assert [sizes_of(slot) for slot in layer_of(word, keys).slots(shape)] == theirs


# (type, keys, input shapes, what the message says)
SHAPE_ERRORS = [
    ("convolution", {}, [(2, 7)], r"takes an image \(n c h w\), its input is 2 x 7"),
    ("convolution", {"kernel": 8}, [ODD], r"a window of 8 does not fit into 0 \+ 7 \+ 0 = 7 pixels"),
    ("convolution", {"groups": 2}, [ODD], "2 groups do not divide 3 channels into 6 filters"),
    ("convolution", {"groups": 3, "filters": 4}, [ODD], "3 groups do not divide 3 channels into 4 filters"),
    ("convolution", {}, [ODD, ODD], "convolution takes 1 input, this one has 2"),
    ("depthwise_convolution", {}, [(2, 3, 5)], "takes an image"),
    ("deconvolution", {"padding": 9}, [GREY], r"padding .* crops all of the output"),
    ("deconvolution", {"groups": 2}, [ODD], "2 groups do not divide 3 channels"),
    ("dense", {"units": 4, "bias": True}, [ODD], "takes n i, its input is 2 x 3 x 9 x 7; put a flatten before it"),
    ("pooling", {"function": "max", "window": 8}, [ODD], "a window of 8 does not fit"),
    ("pooling", {"function": "max", "window": 2, "padding": [0, 2]}, [ODD], "padding 2, 2 holds the whole window of 2"),
    ("batch_norm", {"epsilon": 1e-5}, [(2, 3, 5)], "takes n c or n c h w, its input is 2 x 3 x 5"),
    ("scale", {"scale": [1.0, 2.0]}, [ODD], "scale has 2 values, the input has 3 channels"),
    ("prelu", {}, [(2, 7)], "takes an image"),
    ("lrn", {"window": 3, "alpha": 1, "beta": 1, "k": 1, "alpha_of": "sum"}, [(2, 7)], "takes an image"),
    ("softmax", {"axis": "h"}, [(2, 7)], r"axis 'h' is of images \(n c h w\), the input has 2 axes"),
    ("softmax", {"axis": "n"}, [ODD], "axis 0 is the batch; layers leave it alone"),
    ("softmax", {"axis": -5}, [ODD], "axis -5 is outside the 4 axes of the input"),
    ("elementwise", {"function": "sum"}, [ODD, (2, 3, 9, 6)], "2 x 3 x 9 x 7 and 2 x 3 x 9 x 6 do not broadcast"),
    ("elementwise", {"function": "sum"}, [ODD], "elementwise takes 2 or more inputs, this one has 1"),
    ("reduce", {"function": "mean", "axes": ["h", 2]}, [ODD], r"axes \['h', 2\] name one axis twice"),
    ("reduce", {"function": "mean", "axes": [4]}, [ODD], "axis 4 is outside the 4 axes"),
    ("argmax", {"axis": 0}, [ODD], "axis 0 is the batch"),
    ("top_k", {"k": 4}, [ODD], "k = 4 of the 3 elements along axis 'c'"),
    ("constant", {"shape": [1, 2]}, [ODD], "constant takes 0 inputs, this one has 1"),
    ("concatenation", {}, [ODD, GREY], r"2 x 3 x 9 x 7, 1 x 1 x 5 x 8 differ beside axis 'c'"),
    ("concatenation", {"axis": 2}, [(1, 2, 3), (1, 2)], "1 x 2 x 3, 1 x 2 have different numbers of axes"),
    ("flatten", {}, [ODD], r"flattening 2 x 3 x 9 x 7 needs order: NHWC \(TensorFlow, Keras\) or NCHW \(PyTorch\)"),
    ("reshape", {"shape": [5, -1]}, [(2, 21)], r"2 x 21 does not reshape to N x 5 x \?"),
    ("reshape", {"shape": [0, 21]}, [(2, 21)], "does not reshape"),
    ("reshape", {"shape": [-1, -1]}, [(2, 21)], "does not reshape"),
    ("reshape", {"shape": [3, 63]}, [ODD], "reshaping images needs order: NHWC"),
    ("transpose", {"axes": [1, 0, 2, 3]}, [ODD],
     r"axes \[1, 0, 2, 3\] are no permutation of the 4 axes with the batch first"),
    ("transpose", {"axes": [0, 1]}, [ODD], "are no permutation"),
    ("squeeze", {"axes": ["c", "h"]}, [(2, 1, 3, 1)], r"axes \['c', 'h'\] of 2 x 1 x 3 x 1 are not all 1"),
    ("padding", {"pad": [0, 7], "mode": "reflect"}, [ODD], "needs more than 9 x 7 pixels"),
    ("slice", {"axes": ["w"], "start": [1], "size": [4], "stride": [2]}, [ODD],
     "element 7 of axis 3 is outside 2 x 3 x 9 x 7"),
    ("gather", {"axis": "c", "indices": [0, 3]}, [ODD], "index 3 is outside the 3 elements of axis 'c'"),
    ("resize", {"mode": "bilinear", "coordinates": "half_pixel", "scale": 2}, [(2, 7)], "takes an image"),
]  # fmt: skip


@pytest.mark.parametrize(("word", "keys", "shapes", "message"), SHAPE_ERRORS, ids=row_ids(SHAPE_ERRORS))
def test_shape_errors(word, keys, shapes, message):
    layer = layer_of(word, keys)
    with pytest.raises(ShapeError, match=message):
        layer.outputs([TensorType(shape, "float32") for shape in shapes])
        layer.slots(*shapes)


# (type, keys, what the message says)
KEY_ERRORS = [
    ("deconvolution", {"padding": "same", "output_padding": 1},
     "output_padding is PyTorch's and needs PyTorch's padding"),
    ("pooling", {"function": "average", "window": 3, "padding": 1}, r"needs count_padding: true \(PyTorch\) or false"),
    ("pooling", {"function": "max", "window": "global", "stride": 2},
     "a global window takes neither stride, padding nor ceil"),
    ("pooling", {"function": "max", "window": 0}, r"found 0, wanted global, one number, or \[height, width\]"),
    ("activation", {"function": "clip", "minimum": 0}, "clip needs maximum"),
    ("activation", {"function": "clip", "minimum": 6, "maximum": 0}, "clip needs minimum < maximum, has 6.0 and 0.0"),
    ("activation", {"function": "relu", "alpha": 0.1}, "relu takes no alpha"),
    ("activation", {"function": "leaky_relu"}, "leaky_relu needs alpha"),
    ("scale", {}, "needs scale, shift, power or learned"),
    ("scale", {"scale": 1, "learned": ["scale"]}, "scale is both written out and learned; keep one"),
    ("lrn", {"window": 4, "alpha": 1, "beta": 1, "k": 1, "alpha_of": "sum"},
     "window 4 is even; TensorRT takes odd windows only"),
    ("constant", {"shape": [3, 1]}, r"shape \[3, 1\] must start with 1"),
    ("constant", {"shape": [1, 2, 3], "value": [1, 2]}, "value has 2 numbers, shape 1 x 2 x 3 has 6"),
    ("padding", {"pad": 1, "mode": "edge", "value": 1}, "mode edge takes no value"),
    ("slice", {"axes": ["c"], "start": [0, 1], "size": [1]}, "axes, start, size and stride differ in length"),
    ("resize", {"mode": "bilinear", "coordinates": "half_pixel"}, "needs either size or scale"),
    ("resize", {"mode": "nearest", "coordinates": "half_pixel", "size": 2}, "mode nearest needs rounding"),
    ("convolution", {"padding": -1}, "found -1, wanted pixels on every side"),
]  # fmt: skip


@pytest.mark.parametrize(("word", "keys", "message"), KEY_ERRORS, ids=row_ids(KEY_ERRORS))
def test_key_errors(word, keys, message):
    with pytest.raises(ValidationError, match=message):
        layer_of(word, keys)


NO_DEFAULT = [
    ("convolution", "filters"),
    ("convolution", "kernel"),
    ("convolution", "bias"),
    ("dense", "units"),
    ("top_k", "k"),
    ("convolution", "padding"),
    ("batch_norm", "epsilon"),
    ("lrn", "alpha_of"),
    ("lrn", "k"),
    ("resize", "coordinates"),
]


@pytest.mark.parametrize(("word", "key"), NO_DEFAULT)
def test_what_frameworks_disagree_on_has_no_default(word, key):
    assert LAYERS[word].model_fields[key].is_required()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "bool"])
@pytest.mark.parametrize("word", ["convolution", "dense", "pooling", "batch_norm", "activation", "softmax", "reduce"])
def test_only_floats_are_computed_with(word, dtype):
    rows = {row[0]: row for row in TORCH_ROWS}
    _, keys, shapes, _ = rows[word]
    message = f"{word} takes float32 or float16, its input is {dtype}; put a cast before it"
    with pytest.raises(ShapeError, match=message):
        layer_of(word, keys).outputs([TensorType(shape, dtype) for shape in shapes])


def test_inputs_of_different_types():
    pair = [TensorType(ODD, "float32"), TensorType(ODD, "float16")]
    with pytest.raises(ShapeError, match="its inputs have different types: float32, float16"):
        layer_of("elementwise", {"function": "sum"}).outputs(pair)


OUTPUT_DTYPES = [
    ("activation", {"function": "relu"}, "float16", {"x": "float16"}),
    ("cast", {"dtype": "float32"}, "uint8", {"x": "float32"}),
    ("argmax", {}, "float32", {"x": "int32"}),
    ("top_k", {"k": 2}, "float32", {"x": "float32", "x/indices": "int32"}),
    ("transpose", {"axes": [0, 2, 3, 1]}, "int32", {"x": "int32"}),
]


@pytest.mark.parametrize(("word", "keys", "dtype", "expected"), OUTPUT_DTYPES, ids=row_ids(OUTPUT_DTYPES))
def test_output_dtypes(word, keys, dtype, expected):
    layer = layer_of(word, keys)
    made = layer.outputs([TensorType(ODD, dtype)])
    assert {name: tensor.dtype for name, tensor in made.items()} == expected
    assert layer.tensor_names == tuple(made)


def test_every_layer_type_is_tested():
    assert {row[0] for row in TORCH_ROWS} == set(LAYERS)
    weighted = {word for word, cls in LAYERS.items() if issubclass(cls, WeightedLayer)}
    assert {row[0] for row in SLOT_ROWS} == weighted
    never_wrong = {"activation", "cast"}
    assert {row[0] for row in SHAPE_ERRORS} == set(LAYERS) - never_wrong


@pytest.mark.parametrize("word", LAYERS)
def test_a_types_word_and_its_explanation(word):
    assert LAYERS[word].type == word
    assert "Pydantic" not in LAYERS[word].__doc__ and LAYERS[word].__doc__ != Layer.__doc__
