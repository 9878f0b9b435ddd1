"""engine.emitters: each layer type, computed by its network definition, against PyTorch's own function.

    keys + random weights --define--> network definition --interpreter--> output  ┐
    the same weights and input ──────────────────────────── torch ──────> output  ┴─> below 1e-5 of the largest
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import pytest

from engine.interpreter import Interpreter
from engine.network import define
from engine.tensorrt_api import load
from spec.layers import LAYERS
from tests.small_models import graph_of, random_arrays

torch = pytest.importorskip("torch")
F = torch.nn.functional
TENSORRT = load("auto")
IMAGE, ODD, FLAT = (2, 4, 7, 9), (2, 3, 11, 14), (2, 6)
Row = Tuple[str, Dict[str, Any], Tuple[int, ...], Callable[..., Any]]


def conv(x: Any, w: Dict[str, Any], **keys: Any) -> Any:
    return F.conv2d(x, w["kernel"], w.get("bias"), **keys)


def deconv(x: Any, w: Dict[str, Any], **keys: Any) -> Any:
    return F.conv_transpose2d(x, w["kernel"], w.get("bias"), **keys)


def same(x: Any, w: Dict[str, Any], top: int, bottom: int, left: int, right: int, **keys: Any) -> Any:
    """A convolution behind explicit zeros."""
    return conv(F.pad(x, (left, right, top, bottom)), w, **keys)


def norm(x: Any, w: Dict[str, Any], epsilon: float) -> Any:
    return F.batch_norm(x, w["mean"], w["variance"], w.get("gamma"), w.get("beta"), eps=epsilon)


def channel(values: Any) -> Any:
    """[c] as [1, c, 1, 1]."""
    return torch.as_tensor(values).reshape(1, -1, 1, 1)


def lrn_of_sum(x: Any, window: int, alpha: float, beta: float, k: float) -> Any:
    """TensorFlow's: alpha is of the sum, PyTorch's of the mean."""
    return F.local_response_norm(x, window, alpha * window, beta, k)


KERNEL = {"kernel": [3, 2], "bias": True}
CONVOLUTIONS: List[Row] = [
    ("convolution", {**KERNEL, "filters": 5, "padding": [1, 0], "stride": [2, 1]}, ODD,
     lambda x, w: conv(x, w, padding=(1, 0), stride=(2, 1))),
    ("convolution", {**KERNEL, "filters": 6, "groups": 2, "padding": "valid", "dilation": [1, 3]}, IMAGE,
     lambda x, w: conv(x, w, groups=2, dilation=(1, 3))),
    ("convolution", {**KERNEL, "filters": 5, "padding": [[0, 2], [1, 0]], "bias": False}, IMAGE,
     lambda x, w: same(x, w, 0, 2, 1, 0)),
    ("convolution", {**KERNEL, "filters": 5, "padding": "same", "stride": 2}, ODD,
     lambda x, w: same(x, w, 1, 1, 0, 0, stride=2)),
    ("convolution", {"kernel": 4, "filters": 5, "padding": "same", "stride": 2, "bias": True}, ODD,
     lambda x, w: same(x, w, 1, 2, 1, 1, stride=2)),
    ("convolution", {"kernel": 4, "filters": 5, "padding": "same_lower", "stride": 2, "bias": True}, ODD,
     lambda x, w: same(x, w, 2, 1, 1, 1, stride=2)),
    ("depthwise_convolution", {**KERNEL, "multiplier": 2, "padding": 1}, IMAGE,
     lambda x, w: conv(x, w, groups=4, padding=1)),
    ("deconvolution", {**KERNEL, "filters": 5, "padding": "valid", "stride": 2}, ODD,
     lambda x, w: deconv(x, w, stride=2)),
    ("deconvolution", {**KERNEL, "filters": 6, "groups": 2, "padding": [1, 0], "stride": [2, 1]}, IMAGE,
     lambda x, w: deconv(x, w, groups=2, padding=(1, 0), stride=(2, 1))),
    ("deconvolution", {"kernel": 3, "filters": 5, "padding": 1, "output_padding": 1, "stride": 2, "bias": True}, IMAGE,
     lambda x, w: deconv(x, w, padding=1, output_padding=1, stride=2)),
    ("deconvolution", {"kernel": 3, "filters": 5, "padding": 0, "output_padding": 1, "stride": 2, "bias": True}, IMAGE,
     lambda x, w: deconv(x, w, output_padding=1, stride=2)),
    ("deconvolution", {"kernel": 3, "filters": 5, "padding": "same", "stride": 2, "bias": True}, IMAGE,
     lambda x, w: deconv(x, w, stride=2)[:, :, :-1, :-1]),
    ("dense", {"units": 5, "bias": True}, FLAT, lambda x, w: F.linear(x, w["kernel"], w["bias"])),
    ("dense", {"units": 5, "bias": False}, FLAT, lambda x, w: F.linear(x, w["kernel"])),
]  # fmt: skip

POOLINGS: List[Row] = [
    ("pooling", {"function": "max", "window": [2, 3]}, ODD, lambda x, w: F.max_pool2d(x, (2, 3))),
    ("pooling", {"function": "max", "window": 3, "stride": 2, "padding": 1}, ODD,
     lambda x, w: F.max_pool2d(x, 3, 2, 1)),
    ("pooling", {"function": "max", "window": 2, "stride": 3, "padding": 1, "ceil": True}, ODD,
     lambda x, w: F.max_pool2d(x, 2, 3, 1, ceil_mode=True)),
    ("pooling", {"function": "max", "window": 3, "stride": 2, "padding": "same"}, ODD,
     lambda x, w: F.max_pool2d(F.pad(x, (0, 1, 1, 1), value=-torch.inf), 3, 2)),
    ("pooling", {"function": "average", "window": 3, "stride": 2, "padding": 1, "count_padding": True}, ODD,
     lambda x, w: F.avg_pool2d(x, 3, 2, 1)),
    ("pooling", {"function": "average", "window": 3, "stride": 2, "padding": 1, "count_padding": False}, ODD,
     lambda x, w: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
    ("pooling", {"function": "average", "window": 3, "stride": 2, "padding": 1, "count_padding": True, "ceil": True},
     ODD, lambda x, w: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True)),
    ("pooling", {"function": "average", "window": [2, 3], "stride": 3, "padding": 1, "count_padding": False,
                 "ceil": True}, ODD,
     lambda x, w: F.avg_pool2d(x, (2, 3), 3, 1, ceil_mode=True, count_include_pad=False)),
    ("pooling", {"function": "average", "window": 2, "stride": 2, "ceil": True}, ODD,
     lambda x, w: F.avg_pool2d(x, 2, 2, ceil_mode=True)),
    ("pooling", {"function": "average", "window": "global"}, ODD, lambda x, w: x.mean((2, 3), keepdim=True)),
    ("pooling", {"function": "max", "window": "global"}, ODD, lambda x, w: x.amax((2, 3), keepdim=True)),
]  # fmt: skip

NORMALIZATIONS: List[Row] = [
    ("batch_norm", {"epsilon": 1e-1}, IMAGE, lambda x, w: norm(x, w, 1e-1)),
    ("batch_norm", {"epsilon": 1e-3}, FLAT, lambda x, w: norm(x, w, 1e-3)),
    ("batch_norm", {"epsilon": 1e-3, "gamma": False}, IMAGE, lambda x, w: norm(x, w, 1e-3)),
    ("batch_norm", {"epsilon": 1e-3, "beta": False}, IMAGE, lambda x, w: norm(x, w, 1e-3)),
    ("scale", {"scale": 0.5, "shift": [1.0, 2.0, 3.0, 4.0]}, IMAGE,
     lambda x, w: x * 0.5 + channel([1.0, 2.0, 3.0, 4.0])),
    ("scale", {"learned": ["scale", "shift"], "power": 2.0}, IMAGE,
     lambda x, w: (x * channel(w["scale"]) + channel(w["shift"])) ** 2),
    ("scale", {"learned": ["shift"]}, FLAT, lambda x, w: x + w["shift"]),
    ("lrn", {"window": 3, "alpha": 0.3, "beta": 0.75, "k": 2.0, "alpha_of": "mean"}, IMAGE,
     lambda x, w: F.local_response_norm(x, 3, 0.3, 0.75, 2.0)),
    ("lrn", {"window": 5, "alpha": 0.3, "beta": 0.5, "k": 1.0, "alpha_of": "sum"}, IMAGE,
     lambda x, w: lrn_of_sum(x, 5, 0.3, 0.5, 1.0)),
]  # fmt: skip

ACTIVATIONS: List[Row] = [
    ("activation", keys, IMAGE, reference)
    for keys, reference in [
        ({"function": "relu"}, lambda x, w: F.relu(x)),
        ({"function": "relu6"}, lambda x, w: F.relu6(x)),
        ({"function": "clip", "minimum": -1.0, "maximum": 2.0}, lambda x, w: x.clamp(-1, 2)),
        ({"function": "leaky_relu", "alpha": 0.2}, lambda x, w: F.leaky_relu(x, 0.2)),
        ({"function": "elu", "alpha": 0.7}, lambda x, w: F.elu(x, 0.7)),
        ({"function": "selu"}, lambda x, w: F.selu(x)),
        ({"function": "sigmoid"}, lambda x, w: torch.sigmoid(x)),
        ({"function": "hard_sigmoid", "alpha": 1 / 6, "beta": 0.5}, lambda x, w: F.hardsigmoid(x)),
        ({"function": "tanh"}, lambda x, w: torch.tanh(x)),
        ({"function": "softplus"}, lambda x, w: F.softplus(x)),
        ({"function": "softsign"}, lambda x, w: F.softsign(x)),
        ({"function": "swish"}, lambda x, w: F.silu(x)),
        ({"function": "hard_swish"}, lambda x, w: F.hardswish(x)),
        ({"function": "gelu", "approximate": False}, lambda x, w: F.gelu(x)),
        ({"function": "gelu", "approximate": True}, lambda x, w: F.gelu(x, approximate="tanh")),
    ]
] + [
    ("prelu", {}, IMAGE, lambda x, w: F.prelu(x, w["alpha"].flatten())),
    ("prelu", {"shared": False}, IMAGE, lambda x, w: torch.where(x > 0, x, x * w["alpha"])),
    ("softmax", {}, IMAGE, lambda x, w: x.softmax(1)),
    ("softmax", {"axis": "w"}, IMAGE, lambda x, w: x.softmax(3)),
]

ARITHMETIC: List[Row] = [
    ("reduce", {"function": "mean", "axes": ["h", "w"]}, IMAGE, lambda x, w: x.mean((2, 3))),
    ("reduce", {"function": "sum", "axes": ["c"], "keep_dims": True}, IMAGE, lambda x, w: x.sum(1, keepdim=True)),
    ("reduce", {"function": "product", "axes": ["c"]}, IMAGE, lambda x, w: x.prod(1)),
    ("reduce", {"function": "max", "axes": ["w"]}, IMAGE, lambda x, w: x.amax(3)),
    ("reduce", {"function": "min", "axes": [-2]}, IMAGE, lambda x, w: x.amin(2)),
    ("argmax", {}, IMAGE, lambda x, w: x.argmax(1)),
    ("argmax", {"axis": "w", "keep_dims": True}, IMAGE, lambda x, w: x.argmax(3, keepdim=True)),
    ("top_k", {"k": 3, "axis": "h"}, IMAGE, lambda x, w: x.topk(3, 2).values),
    ("top_k", {"k": 2, "largest": False}, FLAT, lambda x, w: x.topk(2, 1, largest=False).values),
    ("cast", {"dtype": "float16"}, IMAGE, lambda x, w: x.half().float()),
    ("cast", {"dtype": "int32"}, IMAGE, lambda x, w: x.int()),
]

ARRANGEMENTS: List[Row] = [
    ("flatten", {"order": "NCHW"}, IMAGE, lambda x, w: x.flatten(1)),
    ("flatten", {"order": "NHWC"}, IMAGE, lambda x, w: x.permute(0, 2, 3, 1).flatten(1)),
    ("reshape", {"shape": [9, -1], "order": "NCHW"}, IMAGE, lambda x, w: x.reshape(2, 9, 28)),
    ("reshape", {"shape": [9, 28], "order": "NHWC"}, IMAGE, lambda x, w: x.permute(0, 2, 3, 1).reshape(2, 9, 28)),
    ("reshape", {"shape": [3, 1, 2], "order": "NHWC"}, FLAT, lambda x, w: x.reshape(2, 3, 1, 2).permute(0, 3, 1, 2)),
    ("reshape", {"shape": [9, 7, 4], "order": "NHWC"}, IMAGE,
     lambda x, w: x.permute(0, 2, 3, 1).reshape(2, 9, 7, 4).permute(0, 3, 1, 2)),
    ("transpose", {"axes": [0, 3, 1, 2]}, IMAGE, lambda x, w: x.permute(0, 3, 1, 2)),
    ("squeeze", {"axes": ["h", "w"]}, (2, 4, 1, 1), lambda x, w: x.squeeze(3).squeeze(2)),
    ("padding", {"pad": [[1, 2], [0, 3]]}, IMAGE, lambda x, w: F.pad(x, (0, 3, 1, 2))),
    ("padding", {"pad": [1, 2], "value": -2.5}, IMAGE, lambda x, w: F.pad(x, (2, 2, 1, 1), value=-2.5)),
    ("padding", {"pad": [[1, 2], [3, 0]], "mode": "reflect"}, IMAGE,
     lambda x, w: F.pad(x, (3, 0, 1, 2), mode="reflect")),
    ("padding", {"pad": [[1, 2], [3, 0]], "mode": "edge"}, IMAGE,
     lambda x, w: F.pad(x, (3, 0, 1, 2), mode="replicate")),
    ("slice", {"axes": ["w", "c"], "start": [1, 0], "size": [3, 2], "stride": [2, 3]}, IMAGE,
     lambda x, w: x[:, 0::3, :, 1:6:2]),
    ("gather", {"axis": "c", "indices": [3, 0, 0]}, IMAGE, lambda x, w: x[:, [3, 0, 0]]),
    ("resize", {"mode": "bilinear", "scale": [2, 3], "coordinates": "half_pixel"}, IMAGE,
     lambda x, w: F.interpolate(x, scale_factor=(2, 3), mode="bilinear", align_corners=False)),
    ("resize", {"mode": "bilinear", "size": [13, 5], "coordinates": "align_corners"}, IMAGE,
     lambda x, w: F.interpolate(x, (13, 5), mode="bilinear", align_corners=True)),
    ("resize", {"mode": "nearest", "size": [13, 5], "coordinates": "asymmetric", "rounding": "floor"}, IMAGE,
     lambda x, w: F.interpolate(x, (13, 5), mode="nearest")),
]  # fmt: skip

ROWS = CONVOLUTIONS + POOLINGS + NORMALIZATIONS + ACTIVATIONS + ARITHMETIC + ARRANGEMENTS


def computed(layers: Any, feeds: Dict[str, np.ndarray], dynamic: bool) -> Tuple[np.ndarray, Dict[Any, np.ndarray]]:
    """Output of the last layer, and the weights it was made with."""
    batch = {"min": 1, "opt": 2, "max": 5} if dynamic else None
    graph = graph_of(layers, {name: array.shape for name, array in feeds.items()}, ["y"], batch)
    arrays = random_arrays(graph)
    network = define(graph, arrays, TENSORRT).network
    return Interpreter(network, TENSORRT.module).run(feeds)["y"], arrays


def assert_equal(output: np.ndarray, wanted: Any) -> None:
    wanted = wanted.numpy()
    assert output.shape == wanted.shape
    assert np.abs(output - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("row", ROWS, ids=[f"{number} {row[0]}" for number, row in enumerate(ROWS)])
def test_a_layer_computes_what_pytorch_computes(row, dynamic):
    word, keys, shape, reference = row
    x = np.random.default_rng(1).uniform(-4, 4, shape).astype(np.float32)
    output, arrays = computed([(word, {"name": "y", "inputs": ["x"], **keys})], {"x": x}, dynamic)
    weights = {role: torch.from_numpy(array) for (_, role), array in arrays.items()}
    assert_equal(output, reference(torch.from_numpy(x), weights))


FUNCTIONS = {
    "sum": torch.add, "product": torch.mul, "max": torch.maximum, "min": torch.minimum, "sub": torch.sub,
    "div": torch.div,
}  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("shapes", [(IMAGE, IMAGE, IMAGE), (IMAGE, (2, 4, 1, 1), (2, 1, 7, 1))], ids=["equal", "odd"])
def test_elementwise_goes_from_left_to_right(function, shapes):
    rng = np.random.default_rng(2)
    feeds = {f"x{number}": rng.uniform(0.5, 2, shape).astype(np.float32) for number, shape in enumerate(shapes)}
    layer = ("elementwise", {"name": "y", "inputs": list(feeds), "function": function})
    first, second, third = (torch.from_numpy(array) for array in feeds.values())
    assert_equal(computed([layer], feeds, False)[0], FUNCTIONS[function](FUNCTIONS[function](first, second), third))


@pytest.mark.parametrize("axis", ["c", "h", -1])
def test_concatenation_keeps_the_order_of_its_inputs(axis):
    feeds = {f"x{n}": np.random.default_rng(n).standard_normal(IMAGE).astype(np.float32) for n in range(3)}
    layer = ("concatenation", {"name": "y", "inputs": list(feeds), "axis": axis})
    wanted = torch.cat([torch.from_numpy(array) for array in feeds.values()], {"c": 1, "h": 2, -1: 3}[axis])
    assert_equal(computed([layer], feeds, True)[0], wanted)


@pytest.mark.parametrize("value", [None, 0.5, [1.0, 2.0, 3.0, 4.0]])
def test_a_constant_has_its_value(value):
    x = np.zeros(IMAGE, np.float32)
    layers = [
        ("constant", {"name": "four", "shape": [1, 4, 1, 1], "value": value}),
        ("elementwise", {"name": "y", "inputs": ["x", "four"], "function": "sum"}),
    ]
    output, arrays = computed(layers, {"x": x}, True)
    wanted = arrays["four", "value"] if value is None else np.array(value, np.float32).reshape(1, -1, 1, 1)
    assert np.array_equal(output, np.broadcast_to(wanted, IMAGE))


def test_every_layer_type_is_compared():
    assert {row[0] for row in ROWS} | {"elementwise", "concatenation", "constant"} == set(LAYERS)
