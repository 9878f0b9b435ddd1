"""Layers in PyTorch beside ours, for tests/test_layer_numbers.py; only rows. Images are n c h w.

    (our type, our keys, input shapes, torch -> what computes it[, kind of numbers])

What computes it is a function, or a module whose parameters are randomised and transplanted by PyTorch's names.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Tuple

ODD, GREY, SMALL, FLAT = (2, 3, 9, 7), (2, 1, 5, 8), (2, 6, 4, 5), (2, 11)


class Row(NamedTuple):
    """`numbers`: normal; wide, up to about 30; ties, few whole numbers; positive; pixels, uint8."""

    type: str
    keys: Dict[str, Any]
    shapes: List[Tuple[int, ...]]
    source: Callable[..., Any]
    numbers: str = "normal"


def padded(t: Any, sides: Tuple[int, int, int, int], module: Any) -> Any:
    """Zeros (left, right, top, bottom), then the module."""
    return t.nn.Sequential(t.nn.ZeroPad2d(sides), module)


def learned(t: Any, **shapes: Tuple[int, ...]) -> Any:
    """A module with a parameter of each name that computes scale * x + shift, or x + value."""

    class Learned(t.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, shape in shapes.items():
                self.register_parameter(name, t.nn.Parameter(t.zeros(shape)))

        def forward(self, x: Any) -> Any:
            own = {name: parameter.reshape(1, -1, 1, 1) for name, parameter in self.named_parameters()}
            return x * own.get("scale", 1.0) + own.get("shift", own.get("value", 0.0))

    return Learned()


CONV = {"filters": 6, "kernel": 3, "padding": 0, "bias": True}
DEPTHWISE = {"kernel": 3, "multiplier": 2, "padding": 1, "bias": True}
AVERAGE = {"function": "average", "window": 3, "stride": 2, "padding": 1}

CONVOLUTIONS = [
    Row("convolution", {**CONV, "padding": 1}, [ODD], lambda t: t.nn.Conv2d(3, 6, 3, padding=1)),
    Row("convolution", {**CONV, "stride": 2}, [ODD], lambda t: t.nn.Conv2d(3, 6, 3, 2)),
    Row("convolution", {**CONV, "kernel": [1, 5], "stride": [3, 1], "bias": False}, [GREY],
        lambda t: t.nn.Conv2d(1, 6, (1, 5), (3, 1), bias=False)),
    Row("convolution", {**CONV, "padding": [2, 0], "dilation": [3, 2]}, [ODD],
        lambda t: t.nn.Conv2d(3, 6, 3, padding=(2, 0), dilation=(3, 2))),
    Row("convolution", {**CONV, "padding": [[0, 2], [1, 3]], "stride": 2}, [ODD],
        lambda t: padded(t, (1, 3, 0, 2), t.nn.Conv2d(3, 6, 3, 2))),
    Row("convolution", {**CONV, "groups": 3}, [ODD], lambda t: t.nn.Conv2d(3, 6, 3, groups=3)),
    Row("convolution", {**CONV, "kernel": [4, 2], "padding": "same"}, [ODD],
        lambda t: t.nn.Conv2d(3, 6, (4, 2), padding="same")),
    Row("convolution", {**CONV, "kernel": 1, "stride": 2}, [ODD], lambda t: t.nn.Conv2d(3, 6, 1, 2)),
    Row("convolution", {**CONV, "kernel": 2, "stride": 3}, [GREY], lambda t: t.nn.Conv2d(1, 6, 2, 3)),
    Row("depthwise_convolution", {**DEPTHWISE}, [ODD], lambda t: t.nn.Conv2d(3, 6, 3, padding=1, groups=3)),
    Row("depthwise_convolution", {**DEPTHWISE, "multiplier": 1, "stride": 2, "padding": [[1, 0], [0, 1]]}, [ODD],
        lambda t: padded(t, (0, 1, 1, 0), t.nn.Conv2d(3, 3, 3, 2, groups=3))),
    Row("depthwise_convolution", {**DEPTHWISE, "dilation": 2, "padding": 2, "bias": False}, [ODD],
        lambda t: t.nn.Conv2d(3, 6, 3, padding=2, dilation=2, groups=3, bias=False)),
    Row("deconvolution", {**CONV, "stride": 2, "padding": 1}, [ODD], lambda t: t.nn.ConvTranspose2d(3, 6, 3, 2, 1)),
    Row("deconvolution", {**CONV, "stride": 2, "padding": 1, "output_padding": 1}, [ODD],
        lambda t: t.nn.ConvTranspose2d(3, 6, 3, 2, 1, 1)),
    Row("deconvolution", {**CONV, "stride": [3, 2], "padding": [0, 1], "output_padding": [2, 0]}, [GREY],
        lambda t: t.nn.ConvTranspose2d(1, 6, 3, (3, 2), (0, 1), (2, 0))),
    Row("deconvolution", {**CONV, "kernel": 2, "stride": 3, "output_padding": 1}, [ODD],
        lambda t: t.nn.ConvTranspose2d(3, 6, 2, 3, 0, 1)),
    Row("deconvolution", {**CONV, "kernel": 1, "stride": 2, "output_padding": 1, "bias": False}, [ODD],
        lambda t: t.nn.ConvTranspose2d(3, 6, 1, 2, 0, 1, bias=False)),
    Row("deconvolution", {**CONV, "groups": 3, "dilation": 2}, [ODD],
        lambda t: t.nn.ConvTranspose2d(3, 6, 3, groups=3, dilation=2)),
    Row("dense", {"units": 5, "bias": True}, [FLAT], lambda t: t.nn.Linear(11, 5)),
    Row("dense", {"units": 5, "bias": False}, [FLAT], lambda t: t.nn.Linear(11, 5, bias=False)),
]  # fmt: skip

POOLINGS = [
    Row("pooling", {"function": "max", "window": 3}, [ODD], lambda t: t.nn.MaxPool2d(3)),
    Row("pooling", {"function": "max", "window": [2, 3], "stride": [2, 1], "padding": [1, 0]}, [GREY],
        lambda t: t.nn.MaxPool2d((2, 3), (2, 1), (1, 0))),
    Row("pooling", {"function": "max", "window": 2, "ceil": True}, [ODD], lambda t: t.nn.MaxPool2d(2, ceil_mode=True)),
    Row("pooling", {"function": "max", "window": 3, "stride": 2, "padding": 1, "ceil": True}, [GREY],
        lambda t: t.nn.MaxPool2d(3, 2, 1, ceil_mode=True)),
    Row("pooling", {"function": "max", "window": 2, "stride": 3, "padding": 1, "ceil": True}, [ODD],
        lambda t: t.nn.MaxPool2d(2, 3, 1, ceil_mode=True)),
    Row("pooling", {"function": "max", "window": "global"}, [ODD], lambda t: t.nn.AdaptiveMaxPool2d(1)),
    Row("pooling", {"function": "average", "window": "global"}, [ODD], lambda t: t.nn.AdaptiveAvgPool2d(1)),
    Row("pooling", {**AVERAGE, "count_padding": True}, [ODD], lambda t: t.nn.AvgPool2d(3, 2, 1)),
    Row("pooling", {**AVERAGE, "count_padding": False}, [ODD],
        lambda t: t.nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
    Row("pooling", {**AVERAGE, "count_padding": True, "ceil": True}, [GREY],
        lambda t: t.nn.AvgPool2d(3, 2, 1, ceil_mode=True)),
    Row("pooling", {**AVERAGE, "count_padding": False, "ceil": True}, [GREY],
        lambda t: t.nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False)),
    Row("pooling", {**AVERAGE, "window": [3, 2], "padding": [1, 0], "count_padding": True, "ceil": True}, [ODD],
        lambda t: t.nn.AvgPool2d((3, 2), 2, (1, 0), ceil_mode=True)),
]  # fmt: skip

NORMALIZATIONS = [
    Row("batch_norm", {"epsilon": 1e-5}, [ODD], lambda t: t.nn.BatchNorm2d(3)),
    Row("batch_norm", {"epsilon": 1e-3}, [FLAT], lambda t: t.nn.BatchNorm1d(11, eps=1e-3)),
    Row("batch_norm", {"epsilon": 1e-5, "gamma": False, "beta": False}, [ODD],
        lambda t: t.nn.BatchNorm2d(3, affine=False)),
    Row("scale", {"scale": [1.5, 2, -3], "shift": 0.5}, [ODD],
        lambda t: lambda x: x * t.tensor([1.5, 2, -3]).view(3, 1, 1) + 0.5),
    Row("scale", {"scale": 2, "shift": 1, "power": 3}, [ODD], lambda t: lambda x: (2 * x + 1) ** 3, "positive"),
    Row("scale", {"learned": ["scale", "shift"]}, [ODD], lambda t: learned(t, scale=(3,), shift=(3,))),
    Row("scale", {"learned": ["shift"], "scale": 1}, [ODD], lambda t: learned(t, shift=(3,))),
    Row("scale", {"scale": 0.5}, [FLAT], lambda t: lambda x: x * 0.5),
    Row("lrn", {"window": 3, "alpha": 0.5, "beta": 0.75, "k": 1.0, "alpha_of": "mean"}, [SMALL],
        lambda t: t.nn.LocalResponseNorm(3, 0.5, 0.75, 1.0)),
    Row("lrn", {"window": 5, "alpha": 0.1, "beta": 0.5, "k": 2.0, "alpha_of": "sum"}, [SMALL],
        lambda t: t.nn.LocalResponseNorm(5, 0.5, 0.5, 2.0)),
    Row("prelu", {}, [ODD], lambda t: t.nn.PReLU(3)),
    Row("softmax", {"axis": "c"}, [ODD], lambda t: t.nn.Softmax(1)),
    Row("softmax", {"axis": "h"}, [ODD], lambda t: t.nn.Softmax(2)),
    Row("softmax", {"axis": -1}, [FLAT], lambda t: t.nn.Softmax(-1)),
]  # fmt: skip

ACTIVATIONS = [
    Row("activation", {"function": "relu"}, [ODD], lambda t: t.relu),
    Row("activation", {"function": "relu6"}, [ODD], lambda t: t.nn.ReLU6(), "wide"),
    Row("activation", {"function": "clip", "minimum": -0.5, "maximum": 0.75}, [ODD],
        lambda t: t.nn.Hardtanh(-0.5, 0.75)),
    Row("activation", {"function": "leaky_relu", "alpha": 0.01}, [ODD], lambda t: t.nn.LeakyReLU()),
    Row("activation", {"function": "elu", "alpha": 0.7}, [FLAT], lambda t: t.nn.ELU(0.7)),
    Row("activation", {"function": "selu"}, [ODD], lambda t: t.nn.SELU()),
    Row("activation", {"function": "sigmoid"}, [FLAT], lambda t: t.sigmoid),
    Row("activation", {"function": "hard_sigmoid", "alpha": "1/6", "beta": 0.5}, [ODD], lambda t: t.nn.Hardsigmoid()),
    Row("activation", {"function": "tanh"}, [ODD], lambda t: t.tanh),
    Row("activation", {"function": "softplus"}, [ODD], lambda t: t.nn.Softplus()),
    Row("activation", {"function": "softsign"}, [ODD], lambda t: t.nn.Softsign()),
    Row("activation", {"function": "swish"}, [ODD], lambda t: t.nn.SiLU()),
    Row("activation", {"function": "hard_swish"}, [FLAT], lambda t: t.nn.Hardswish()),
    Row("activation", {"function": "gelu", "approximate": False}, [ODD], lambda t: t.nn.GELU()),
    Row("activation", {"function": "gelu", "approximate": True}, [FLAT], lambda t: t.nn.GELU("tanh")),
]  # fmt: skip

ARITHMETIC = [
    Row("elementwise", {"function": "sum"}, [ODD, ODD, ODD], lambda t: lambda x, y, z: x + y + z),
    Row("elementwise", {"function": "sub"}, [ODD, (2, 3, 1, 1)], lambda t: t.sub),
    Row("elementwise", {"function": "product"}, [ODD, (2, 1, 9, 1)], lambda t: t.mul),
    Row("elementwise", {"function": "div"}, [FLAT, FLAT], lambda t: t.div, "positive"),
    Row("elementwise", {"function": "max"}, [ODD, ODD], lambda t: t.maximum),
    Row("elementwise", {"function": "min"}, [FLAT, FLAT], lambda t: t.minimum),
    Row("reduce", {"function": "mean", "axes": ["h", "w"]}, [ODD], lambda t: lambda x: x.mean((2, 3))),
    Row("reduce", {"function": "sum", "axes": ["c"]}, [ODD], lambda t: lambda x: x.sum(1)),
    Row("reduce", {"function": "product", "axes": ["w"], "keep_dims": True}, [ODD],
        lambda t: lambda x: x.prod(3, keepdim=True)),
    Row("reduce", {"function": "max", "axes": [-1], "keep_dims": True}, [FLAT],
        lambda t: lambda x: x.amax(-1, keepdim=True)),
    Row("reduce", {"function": "min", "axes": ["c", "h"]}, [ODD], lambda t: lambda x: x.amin((1, 2))),
    Row("argmax", {}, [ODD], lambda t: lambda x: x.argmax(1)),
    Row("argmax", {"axis": "w", "keep_dims": True}, [ODD], lambda t: lambda x: x.argmax(3, keepdim=True), "ties"),
    Row("top_k", {"k": 4, "axis": "h"}, [ODD], lambda t: lambda x: tuple(x.topk(4, 2))),
    Row("top_k", {"k": 3, "axis": 1, "largest": False}, [FLAT], lambda t: lambda x: tuple(x.topk(3, 1, largest=False))),
    Row("constant", {"shape": [1, 3, 1, 1]}, [ODD], lambda t: learned(t, value=(1, 3, 1, 1))),
    Row("constant", {"shape": [1, 1, 9, 1], "value": list(range(9))}, [ODD],
        lambda t: lambda x: x + t.arange(9.0).view(1, 1, 9, 1)),
    Row("cast", {"dtype": "float16"}, [ODD], lambda t: lambda x: x.half()),
    Row("cast", {"dtype": "int32"}, [ODD], lambda t: lambda x: x.int(), "wide"),
    Row("cast", {"dtype": "float32"}, [ODD], lambda t: lambda x: x.float(), "pixels"),
]  # fmt: skip

ARRANGEMENTS = [
    Row("concatenation", {}, [ODD, (2, 5, 9, 7)], lambda t: lambda *x: t.cat(x, 1)),
    Row("concatenation", {"axis": "w"}, [ODD, (2, 3, 9, 2), ODD], lambda t: lambda *x: t.cat(x, 3)),
    Row("concatenation", {"axis": 1}, [FLAT, (2, 3)], lambda t: lambda *x: t.cat(x, 1)),
    Row("flatten", {"order": "NCHW"}, [ODD], lambda t: lambda x: x.flatten(1)),
    Row("flatten", {}, [(2, 5, 1, 1)], lambda t: lambda x: x.view(x.size(0), -1)),
    Row("reshape", {"shape": [11, -1]}, [(2, 33)], lambda t: lambda x: x.reshape(2, 11, -1)),
    Row("reshape", {"shape": [7, 3, 9], "order": "NCHW"}, [ODD], lambda t: lambda x: x.reshape(2, 7, 3, 9)),
    Row("reshape", {"shape": [21, 9], "order": "NCHW"}, [ODD], lambda t: lambda x: x.reshape(2, 21, 9)),
    Row("transpose", {"axes": [0, 2, 3, 1]}, [ODD], lambda t: lambda x: x.permute(0, 2, 3, 1)),
    Row("transpose", {"axes": [0, 2, 1]}, [(2, 5, 3)], lambda t: lambda x: x.transpose(1, 2)),
    Row("squeeze", {"axes": ["h", "w"]}, [(2, 5, 1, 1)], lambda t: lambda x: x.squeeze(3).squeeze(2)),
    Row("squeeze", {"axes": [1]}, [GREY], lambda t: lambda x: x.squeeze(1)),
    Row("padding", {"pad": [[1, 2], [0, 3]]}, [ODD], lambda t: t.nn.ZeroPad2d((0, 3, 1, 2))),
    Row("padding", {"pad": [[1, 2], [0, 3]], "value": -1.5}, [GREY], lambda t: t.nn.ConstantPad2d((0, 3, 1, 2), -1.5)),
    Row("padding", {"pad": [[4, 2], [1, 3]], "mode": "reflect"}, [ODD], lambda t: t.nn.ReflectionPad2d((1, 3, 4, 2))),
    Row("padding", {"pad": [[1, 2], [0, 3]], "mode": "edge"}, [ODD], lambda t: t.nn.ReplicationPad2d((0, 3, 1, 2))),
    Row("slice", {"axes": ["h"], "start": [1], "size": [4], "stride": [2]}, [ODD], lambda t: lambda x: x[:, :, 1:8:2]),
    Row("slice", {"axes": ["c", "w"], "start": [1, 2], "size": [2, 3]}, [ODD], lambda t: lambda x: x[:, 1:3, :, 2:5]),
    Row("slice", {"axes": [1], "start": [3], "size": [2], "stride": [5]}, [FLAT], lambda t: lambda x: x[:, 3:9:5]),
    Row("gather", {"axis": "c", "indices": [2, 1, 0]}, [ODD], lambda t: lambda x: x.flip(1)),
    Row("gather", {"axis": "w", "indices": [6, 0, 0]}, [ODD], lambda t: lambda x: x[..., [6, 0, 0]]),
]  # fmt: skip


def resize(size: Tuple[int, int], mode: str, corners: Any = None) -> Callable[[Any], Any]:
    return lambda t: lambda x: t.nn.functional.interpolate(x, size, mode=mode, align_corners=corners)


RESIZES = [
    Row("resize", {"mode": "bilinear", "size": [13, 5], "coordinates": "half_pixel"}, [ODD],
        resize((13, 5), "bilinear", False)),
    Row("resize", {"mode": "bilinear", "scale": [2, 3], "coordinates": "half_pixel"}, [ODD],
        resize((18, 21), "bilinear", False)),
    Row("resize", {"mode": "bilinear", "size": [4, 11], "coordinates": "align_corners"}, [ODD],
        resize((4, 11), "bilinear", True)),
    Row("resize", {"mode": "nearest", "size": [13, 5], "coordinates": "asymmetric", "rounding": "floor"}, [ODD],
        resize((13, 5), "nearest")),
    Row("resize", {"mode": "nearest", "scale": 2, "coordinates": "asymmetric", "rounding": "floor"}, [GREY],
        resize((10, 16), "nearest")),
    Row("resize", {"mode": "nearest", "size": [13, 4], "coordinates": "half_pixel", "rounding": "half_up"}, [ODD],
        resize((13, 4), "nearest-exact")),
]  # fmt: skip

ROWS = CONVOLUTIONS + POOLINGS + NORMALIZATIONS + ACTIVATIONS + ARITHMETIC + ARRANGEMENTS + RESIZES
