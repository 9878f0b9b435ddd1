"""Every layer with weights or arithmetic against PyTorch in float64, on odd sizes; in float32 and in float64.

    row: name -> inputs, the layer in TensorRT-RTX, the same in PyTorch
"""

from __future__ import annotations

from typing import Any, Callable, Dict, NamedTuple, Tuple

import numpy as np
import pytest

from engine.interpreter import Interpreter
from engine.interpreter.evaluators import EVALUATORS
from tests.one_layer import configured, constant, network_of, outputs_of, relative_error, trt

torch = pytest.importorskip("torch")
F = torch.nn.functional

# Of max|y|. float32: sums of up to 300 products, powers and exponentials; float64: rounding alone.
TOLERANCE = {np.float32: 1e-6, np.float64: 1e-14}
RANDOM = np.random.default_rng(20)


def values(*shape: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    """Uniform float32 numbers."""
    return RANDOM.uniform(low, high, shape).astype(np.float32)


class Row(NamedTuple):
    inputs: Tuple[np.ndarray, ...]
    build: Callable[..., Any]
    reference: Callable[..., Any]


def double(array: np.ndarray) -> Any:
    return torch.from_numpy(array).double()


def convolution(shape, maps, window, bias=True, groups=1, mode="EXPLICIT_ROUND_DOWN", pads=None, **settings) -> Row:
    """pads: ((pre), (post)); settings: stride, dilation. `same` padding is compared through TensorFlow's formula."""
    kernel, offset = values(maps, shape[1] // groups, *window), values(maps) if bias else None
    stride, dilation = settings.get("stride", (1,) * len(window)), settings.get("dilation", (1,) * len(window))
    pre, post = pads or same_pads(shape[2:], window, stride, dilation, mode)

    def build(network, x):
        layer = network.add_convolution_nd(x, maps, window, kernel, *([offset] if bias else []))
        configured(layer, stride_nd=stride, dilation_nd=dilation, num_groups=groups)
        if pads:
            configured(layer, pre_padding=pre, post_padding=post)
        return configured(layer, padding_mode=getattr(trt.PaddingMode, mode))

    def reference(x):
        around = [side for pair in reversed(list(zip(pre, post))) for side in pair]
        convolve = {2: F.conv2d, 3: F.conv3d}[len(window)]
        offsets = double(offset) if bias else None
        return convolve(F.pad(x, around), double(kernel), offsets, stride, 0, dilation, groups)

    return Row((values(*shape),), build, reference)


def same_pads(size, window, stride, dilation, mode) -> Tuple[Tuple[int, ...], Tuple[int, ...]]:
    if not mode.startswith("SAME"):
        return (0,) * len(window), (0,) * len(window)
    pairs = []
    for n, k, s, d in zip(size, window, stride, dilation):
        whole = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        pairs.append((whole // 2, whole - whole // 2) if mode == "SAME_UPPER" else (whole - whole // 2, whole // 2))
    return tuple(zip(*pairs))


def deconvolution(shape, maps, window, groups=1, pads=((0, 0), (0, 0)), stride=(1, 1), dilation=(1, 1)) -> Row:
    kernel, offset = values(shape[1], maps // groups, *window), values(maps)

    def build(network, x):
        layer = network.add_deconvolution_nd(x, maps, window, kernel, offset)
        configured(layer, stride_nd=stride, dilation_nd=dilation, num_groups=groups)
        return configured(layer, pre_padding=pads[0], post_padding=pads[1])

    def reference(x):
        full = F.conv_transpose2d(x, double(kernel), double(offset), stride, 0, 0, groups, dilation)
        (top, left), (bottom, right) = pads
        return full[:, :, top : full.shape[2] - bottom, left : full.shape[3] - right]

    return Row((values(*shape),), build, reference)


def pooling(kind, window, stride, padding, excludes=True, blend=0.0) -> Row:
    def build(network, x):
        layer = network.add_pooling_nd(x, getattr(trt.PoolingType, kind), window)
        if kind != "MAX":
            configured(layer, average_count_excludes_padding=excludes)
        if kind == "MAX_AVERAGE_BLEND":
            configured(layer, blend_factor=blend)
        return configured(layer, stride_nd=stride, padding_nd=padding)

    def reference(x):
        most = F.max_pool2d(x, window, stride, padding)
        average = F.avg_pool2d(x, window, stride, padding, count_include_pad=not excludes)
        return {"MAX": most, "AVERAGE": average, "MAX_AVERAGE_BLEND": (1 - blend) * most + blend * average}[kind]

    return Row((values(2, 3, 11, 14),), build, reference)


def with_kernel_tensor() -> Row:
    kernel = values(4, 3, 3, 5)

    def build(network, x):
        layer = network.add_convolution_nd(x, 4, (3, 5), trt.Weights())
        layer.set_input(1, constant(network, kernel))
        return layer

    return Row((values(2, 3, 9, 12),), build, lambda x: F.conv2d(x, double(kernel)))


def activation(name, alpha, beta, function) -> Row:
    def build(network, x):
        return configured(network.add_activation(x, getattr(trt.ActivationType, name)), alpha=alpha, beta=beta)

    return Row((values(2, 3, 5, 7),), build, function)


def unary(name, function, low=-0.9, high=0.9) -> Row:
    return Row((values(2, 3, 5, 7, low=low, high=high),),
               lambda network, x: network.add_unary(x, getattr(trt.UnaryOperation, name)), function)  # fmt: skip


def binary(name, function, *shapes, low=-2.0) -> Row:
    shapes = shapes or ((2, 3, 5, 7), (2, 3, 5, 7))
    return Row(tuple(values(*shape, low=low) for shape in shapes),
               lambda network, a, b: network.add_elementwise(a, b, getattr(trt.ElementWiseOperation, name)),
               function)  # fmt: skip


def scale(mode, length, shape, power=None) -> Row:
    """shape: how PyTorch broadcasts the flat weights."""
    gamma, shift = values(length, low=0.5), values(length, low=0.0)
    powers = None if power is None else np.full(length, power, np.float32)

    def build(network, x):
        weights = (shift, gamma, trt.Weights() if power is None else powers)
        return network.add_scale_nd(x, getattr(trt.ScaleMode, mode), *weights, 1)

    def reference(x):
        return (x * double(gamma).reshape(shape) + double(shift).reshape(shape)) ** (1.0 if power is None else power)

    return Row((values(2, 3, 5, 7, low=0.0),), build, reference)


def reduce(name, axes, keep, function) -> Row:
    mask = sum(1 << axis for axis in axes)
    return Row((values(2, 5, 33, 47, low=0.5, high=1.5),),
               lambda network, x: network.add_reduce(x, getattr(trt.ReduceOperation, name), mask, keep),
               function)  # fmt: skip


def resize(shape, mode, transformation, function, **attributes) -> Row:
    def build(network, x):
        layer = configured(network.add_resize(x), resize_mode=getattr(trt.InterpolationMode, mode))
        transform = getattr(trt.ResizeCoordinateTransformation, transformation)
        return configured(layer, coordinate_transformation=transform, shape=shape, **attributes)

    return Row((values(2, 3, 7, 10),), build, function)


def interpolate(size, mode, **settings) -> Callable[[Any], Any]:
    return lambda x: F.interpolate(x, size, mode=mode, **settings)


def matrix(op0, op1, shape_a, shape_b, function) -> Row:
    def build(network, a, b):
        return network.add_matrix_multiply(a, getattr(trt.MatrixOperation, op0), b, getattr(trt.MatrixOperation, op1))

    return Row((values(*shape_a), values(*shape_b)), build, function)


def normalization(axes, groups, shape, function) -> Row:
    gamma, beta = values(*shape), values(*shape)

    def build(network, x):
        weights = (constant(network, gamma), constant(network, beta))
        layer = network.add_normalization_v2(x, *weights, sum(1 << axis for axis in axes))
        return configured(layer, epsilon=2.0**-10, num_groups=groups)

    return Row((values(2, 6, 5, 7),), build, lambda x: function(x) * double(gamma) + double(beta))


ROWS: Dict[str, Row] = {
    "convolution 3x5, one channel": convolution((2, 1, 9, 12), 4, (3, 5)),
    "convolution no bias": convolution((2, 3, 9, 12), 4, (3, 3), bias=False),
    "convolution stride on odd": convolution((2, 3, 11, 15), 5, (3, 3), stride=(2, 2), pads=((1, 1), (1, 1))),
    "convolution asymmetric": convolution((2, 3, 9, 12), 4, (3, 2), stride=(2, 1), pads=((1, 0), (2, 3))),
    "convolution dilated": convolution((1, 3, 13, 12), 4, (3, 2), dilation=(2, 3), stride=(1, 2)),
    "convolution groups": convolution((2, 6, 9, 7), 9, (3, 3), groups=3, stride=(2, 2)),
    "convolution depthwise": convolution((2, 5, 9, 7), 5, (3, 3), groups=5, stride=(2, 1), pads=((1, 1), (1, 1))),
    "convolution multiplier 2": convolution((2, 5, 9, 7), 10, (3, 3), groups=5, dilation=(2, 1)),
    "convolution 1x1": convolution((2, 3, 9, 7), 4, (1, 1)),
    "convolution 1x1 stride": convolution((2, 3, 9, 7), 4, (1, 1), stride=(2, 2)),
    "convolution 1x1 padded": convolution((2, 3, 9, 7), 4, (1, 1), pads=((1, 0), (0, 2))),
    "convolution 1x1 groups": convolution((2, 6, 9, 7), 4, (1, 1), groups=2),
    "convolution same upper": convolution((1, 3, 11, 14), 4, (4, 3), mode="SAME_UPPER", stride=(2, 3)),
    "convolution same lower": convolution((1, 3, 11, 14), 4, (4, 3), mode="SAME_LOWER", stride=(2, 3)),
    "convolution 3-d": convolution((1, 3, 5, 6, 7), 4, (3, 2, 3), stride=(2, 1, 1)),
    "convolution kernel as tensor": with_kernel_tensor(),
    "deconvolution stride": deconvolution((2, 3, 5, 7), 4, (3, 3), stride=(2, 2)),
    "deconvolution one map": deconvolution((2, 3, 5, 7), 1, (4, 2), stride=(2, 3), pads=((1, 0), (2, 1))),
    "deconvolution groups": deconvolution((2, 6, 5, 7), 4, (3, 4), groups=2, pads=((0, 1), (1, 0))),
    "deconvolution dilated": deconvolution((1, 4, 5, 7), 3, (3, 2), dilation=(2, 3)),
    "pooling max": pooling("MAX", (3, 2), (2, 1), (1, 1)),
    "pooling max global": pooling("MAX", (11, 14), (1, 1), (0, 0)),
    "pooling average": pooling("AVERAGE", (3, 2), (2, 3), (1, 1)),
    "pooling average counting padding": pooling("AVERAGE", (3, 2), (2, 3), (1, 1), excludes=False),
    "pooling average global": pooling("AVERAGE", (11, 14), (1, 1), (0, 0)),
    "pooling blend": pooling("MAX_AVERAGE_BLEND", (2, 3), (2, 2), (0, 0), blend=0.25),
    "relu": activation("RELU", 0.0, 0.0, F.relu),
    "sigmoid": activation("SIGMOID", 0.0, 0.0, torch.sigmoid),
    "tanh": activation("TANH", 0.0, 0.0, torch.tanh),
    "leaky relu": activation("LEAKY_RELU", 0.25, 0.0, lambda x: F.leaky_relu(x, 0.25)),
    "elu": activation("ELU", 0.5, 0.0, lambda x: F.elu(x, 0.5)),
    "selu": activation("SELU", 1.5, 1.25, lambda x: 1.25 * F.elu(x, 1.5)),
    "softsign": activation("SOFTSIGN", 0.0, 0.0, F.softsign),
    "softplus": activation("SOFTPLUS", 0.5, 2.0, lambda x: 0.5 * torch.log1p(torch.exp(2 * x))),
    "clip": activation("CLIP", -0.5, 1.5, lambda x: x.clamp(-0.5, 1.5)),
    "hard sigmoid": activation("HARD_SIGMOID", 0.25, 0.5, lambda x: (0.25 * x + 0.5).clamp(0, 1)),
    "scaled tanh": activation("SCALED_TANH", 1.5, 0.75, lambda x: 1.5 * torch.tanh(0.75 * x)),
    "thresholded relu": activation("THRESHOLDED_RELU", 0.5, 0.0, lambda x: F.threshold(x, 0.5, 0)),
    "gelu erf": activation("GELU_ERF", 0.0, 0.0, F.gelu),
    "gelu tanh": activation("GELU_TANH", 0.0, 0.0, lambda x: F.gelu(x, approximate="tanh")),
    "unary exp": unary("EXP", torch.exp), "unary log": unary("LOG", torch.log, 0.1, 3),
    "unary sqrt": unary("SQRT", torch.sqrt, 0, 3), "unary recip": unary("RECIP", torch.reciprocal, 0.5, 3),
    "unary abs": unary("ABS", torch.abs), "unary neg": unary("NEG", torch.neg), "unary sin": unary("SIN", torch.sin),
    "unary cos": unary("COS", torch.cos), "unary tan": unary("TAN", torch.tan), "unary sinh": unary("SINH", torch.sinh),
    "unary cosh": unary("COSH", torch.cosh), "unary asin": unary("ASIN", torch.asin),
    "unary acos": unary("ACOS", torch.acos), "unary atan": unary("ATAN", torch.atan),
    "unary asinh": unary("ASINH", torch.asinh), "unary acosh": unary("ACOSH", torch.acosh, 1.5, 3),
    "unary atanh": unary("ATANH", torch.atanh), "unary ceil": unary("CEIL", torch.ceil, -3, 3),
    "unary floor": unary("FLOOR", torch.floor, -3, 3), "unary erf": unary("ERF", torch.erf, -3, 3),
    "unary sign": unary("SIGN", torch.sign), "unary round": unary("ROUND", torch.round, -3, 3),
    "sum": binary("SUM", torch.add), "prod": binary("PROD", torch.mul), "max": binary("MAX", torch.maximum),
    "min": binary("MIN", torch.minimum), "sub": binary("SUB", torch.sub), "div": binary("DIV", torch.div, low=0.5),
    "pow": binary("POW", torch.pow, low=0.5), "floor div": binary("FLOOR_DIV", torch.floor_divide, low=0.5),
    "sum broadcast": binary("SUM", torch.add, (1, 3, 1, 7), (1, 3, 5, 1)),
    "sub broadcast first": binary("SUB", torch.sub, (1, 1, 1, 1), (1, 3, 5, 7)),
    "scale uniform": scale("UNIFORM", 1, (1,)),
    "scale channel": scale("CHANNEL", 3, (3, 1, 1)),
    "scale channel power": scale("CHANNEL", 3, (3, 1, 1), power=1.5),
    "scale elementwise": scale("ELEMENTWISE", 3 * 5 * 7, (3, 5, 7), power=2.0),
    "reduce sum": reduce("SUM", (2, 3), True, lambda x: x.sum((2, 3), keepdim=True)),
    "reduce sum rows": reduce("SUM", (2,), False, lambda x: x.sum(2)),
    "reduce prod": reduce("PROD", (1,), False, lambda x: x.prod(1)),
    "reduce max": reduce("MAX", (1, 3), False, lambda x: x.amax((1, 3))),
    "reduce min": reduce("MIN", (3,), True, lambda x: x.amin(3, keepdim=True)),
    "reduce mean": reduce("AVG", (1, 2), False, lambda x: x.mean((1, 2))),
    "softmax": Row((values(2, 3, 5, 7),),
                   lambda network, x: configured(network.add_softmax(x), axes=0b10), lambda x: x.softmax(1)),
    "lrn": Row((values(2, 7, 5, 3),), lambda network, x: network.add_lrn(x, 5, 0.5, 0.75, 2.0),
               lambda x: F.local_response_norm(x, 5, 0.5, 0.75, 2.0)),
    "lrn wider than channels": Row((values(2, 3, 5, 3),), lambda network, x: network.add_lrn(x, 7, 0.25, 0.5, 1.0),
                                   lambda x: F.local_response_norm(x, 7, 0.25, 0.5, 1.0)),
    "parametric relu": Row((values(2, 3, 5, 7), values(1, 3, 1, 1)),
                           lambda network, x, a: network.add_parametric_relu(x, a),
                           lambda x, a: F.prelu(x, a.flatten())),
    "normalization instance": normalization((2, 3), 1, (1, 6, 1, 1), lambda x: F.instance_norm(x, eps=2.0**-10)),
    "normalization group": normalization((2, 3), 3, (1, 6, 1, 1), lambda x: F.group_norm(x, 3, eps=2.0**-10)),
    "normalization layer": normalization((1, 2, 3), 1, (1, 6, 5, 7),
                                         lambda x: F.layer_norm(x, x.shape[1:], eps=2.0**-10)),
    "resize nearest": resize((2, 3, 17, 5), "NEAREST", "ASYMMETRIC", interpolate((17, 5), "nearest"),
                             nearest_rounding=trt.ResizeRoundMode.FLOOR),
    "resize linear": resize((2, 3, 17, 6), "LINEAR", "HALF_PIXEL", interpolate((17, 6), "bilinear")),
    "resize linear aligned": resize((2, 3, 4, 21), "LINEAR", "ALIGN_CORNERS",
                                    interpolate((4, 21), "bilinear", align_corners=True)),
    "resize cubic": resize((2, 3, 17, 6), "CUBIC", "HALF_PIXEL", interpolate((17, 6), "bicubic"), cubic_coeff=-0.75),
    "resize to one pixel": resize((2, 3, 1, 1), "LINEAR", "HALF_PIXEL", interpolate((1, 1), "bilinear")),
    "matrix": matrix("NONE", "NONE", (3, 5, 7), (3, 7, 4), torch.matmul),
    "matrix transposed": matrix("TRANSPOSE", "TRANSPOSE", (3, 7, 5), (3, 4, 7), lambda a, b: a.mT @ b.mT),
    "matrix broadcast": matrix("NONE", "TRANSPOSE", (3, 5, 7), (1, 4, 7), lambda a, b: a @ b.mT),
    "matrix vector": matrix("NONE", "VECTOR", (3, 5, 7), (3, 7), lambda a, b: torch.einsum("bij,bj->bi", a, b)),
    "vector matrix": matrix("VECTOR", "NONE", (3, 7), (3, 7, 4), lambda a, b: torch.einsum("bj,bjk->bk", a, b)),
    "vector vector": matrix("VECTOR", "VECTOR", (3, 7), (3, 7), lambda a, b: torch.einsum("bj,bj->b", a, b)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name", ROWS)
def test_computes_what_torch_computes(name, dtype):
    row = ROWS[name]
    (y,) = outputs_of(row.build, dtype, **{f"input{index}": x for index, x in enumerate(row.inputs)})
    reference = row.reference(*(double(x) for x in row.inputs)).numpy()
    assert y.dtype == dtype
    assert relative_error(y, reference) <= TOLERANCE[dtype]


@pytest.mark.parametrize("name", ROWS)
def test_nothing_becomes_float64_by_accident(name):
    """Before the interpreter casts a result to its tensor's type; a float64 factor would double time and memory."""
    inputs = {f"input{index}": x for index, x in enumerate(ROWS[name].inputs)}
    interpreter = Interpreter(network_of(ROWS[name].build, **inputs), trt)
    layer = next(layer for layer in interpreter.layers if layer.type != "CONSTANT")
    arrays = interpreter.run(inputs, fetch=[tensor.name for tensor in layer.inputs])
    assert EVALUATORS[layer.type](layer, *arrays.values()).dtype == np.float32


def test_a_large_image_is_convolved_in_blocks_of_rows():
    """Its columns would take 24 MB at once; the last block is shorter than the others."""
    row = convolution((1, 4, 413, 401), 3, (3, 3), stride=(1, 1))
    (y,) = outputs_of(row.build, x=row.inputs[0])
    assert relative_error(y, row.reference(double(row.inputs[0])).numpy()) <= TOLERANCE[np.float32]


@pytest.mark.parametrize("shape, axes", [((100_000, 1), 0b01), ((1, 100_000), 0b10), ((400, 250), 0b11)])
def test_float32_means_are_added_in_pairs(shape, axes):
    """0.1 added 100,000 times one after the other is off by 1e-3 of the mean."""
    x = np.full(shape, 0.1, np.float32)
    (y,) = outputs_of(lambda network, t: network.add_reduce(t, trt.ReduceOperation.AVG, axes, False), x=x)
    assert np.abs(y - x.flat[0]).max() <= 1e-8


def test_group_normalization_with_a_scale_per_group():
    """add_normalization, superseded in TensorRT 10.15, scales groups; add_normalization_v2 scales channels."""
    x, gamma, beta = values(2, 6, 5, 7), values(1, 3, 1, 1), values(1, 3, 1, 1)

    def build(network, t):
        layer = network.add_normalization(t, constant(network, gamma), constant(network, beta), 0b1100)
        return configured(layer, num_groups=3)

    (y,) = outputs_of(build, np.float64, x=x)
    gamma, beta = (double(array).repeat_interleave(2, 1) for array in (gamma, beta))
    reference = F.group_norm(double(x), 3, eps=float(np.float32(1e-5))) * gamma + beta
    assert relative_error(y, reference.numpy()) <= TOLERANCE[np.float64]
