"""Layers that move, select or convert values: the interpreter gives exactly what NumPy's indexing gives."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Callable, Dict, NamedTuple, Tuple

import numpy as np
import pytest

from engine.interpreter import Layer, Tensor
from engine.interpreter.evaluators import EVALUATORS
from spec.errors import TensorRTError
from tests.one_layer import configured, constant, outputs_of, trt

IMAGE = np.arange(2 * 3 * 5 * 7, dtype=np.float32).reshape(2, 3, 5, 7) - 40
LINE = np.array([[3, 1, 4, 1, 5]], np.float32)


class Row(NamedTuple):
    inputs: Tuple[np.ndarray, ...]
    build: Callable[..., Any]
    expected: Tuple[np.ndarray, ...]


def shuffle(expected, **attributes) -> Row:
    return Row((IMAGE,), lambda network, x: configured(network.add_shuffle(x), **attributes), (expected,))


def slice_of(x, expected, start, size, stride, mode="STRICT_BOUNDS", fill=None) -> Row:
    def build(network, t):
        layer = configured(network.add_slice(t, start, size, stride), mode=getattr(trt.SampleMode, mode))
        if fill is not None:
            layer.set_input(4, constant(network, fill))
        return layer

    return Row((x,), build, (np.asarray(expected, x.dtype),))


def slice_by_tensors() -> Row:
    def build(network, x):
        layer = network.add_slice(x, (0, 1, 0, 0), (), (1, 1, 2, 3))
        layer.set_input(2, constant(network, [2, 2, 3, 2], np.int64))
        return layer

    return Row((IMAGE,), build, (IMAGE[:, 1:3, ::2, 0:4:3],))


def slice_along_axes() -> Row:
    def build(network, x):
        layer = network.add_slice(x, (1, 2), (3, 4), (1, 1))
        layer.axes = (2, 3)
        return layer

    return Row((IMAGE,), build, (IMAGE[:, :, 1:4, 2:6],))


def slice_of_dynamic_batch() -> Row:
    """The size of a slice of a dynamic tensor is itself computed from the tensor's shape."""

    def build(network, x):
        layer = network.add_slice(x, (0, 0, 0, 0), (), (1, 1, 1, 1))
        size = network.add_elementwise(
            network.add_shape(x).get_output(0),
            constant(network, [0, 1, 0, 2], np.int64),
            trt.ElementWiseOperation.SUB,
        )
        layer.set_input(2, size.get_output(0))
        return layer

    return Row((IMAGE,), build, (IMAGE[:, :2, :, :5],))


def gather(indices, expected, axis=1, mode="DEFAULT", elementwise_dims=0) -> Row:
    def build(network, x):
        layer = network.add_gather_v2(x, constant(network, indices, np.int32), getattr(trt.GatherMode, mode))
        configured(layer, axis=axis) if mode != "ND" else None
        return configured(layer, num_elementwise_dims=elementwise_dims)

    return Row((IMAGE[0],), build, (expected,))


def top_k(name, k, x, order) -> Row:
    def build(network, t):
        return network.add_topk(t, getattr(trt.TopKOperation, name), k, 0b10)

    return Row((x,), build, (x[:, order], np.array([order], np.int32)))


def cast(x, kind, expected) -> Row:
    def build(network, t):
        return network.add_cast(t, getattr(trt, kind))

    return Row((x,), build, (expected,))


def uint8_out(x, expected) -> Row:
    return cast(x, "uint8", np.array(expected, np.uint8))


def elementwise(name, a, b, expected) -> Row:
    def build(network, x, y):
        return network.add_elementwise(x, y, getattr(trt.ElementWiseOperation, name))

    return Row((a, b), build, (expected,))


def quantize(scale, axis, expected) -> Row:
    def build(network, x):
        layer = network.add_quantize(x, constant(network, scale), trt.int8)
        return layer if axis is None else configured(layer, axis=axis)

    return Row((IMAGE,), build, (expected,))


def padding(pre, post, expected) -> Row:
    return Row((IMAGE,), lambda network, x: network.add_padding_nd(x, pre, post), (expected,))


def rounded(x, scale) -> np.ndarray:
    return np.clip(np.rint(x / scale), -128, 127).astype(np.int8)


def concatenated(network, a, b):
    return configured(network.add_concatenation([a, b]), axis=2)


def dequantized(network, x):
    return configured(network.add_dequantize(x, constant(network, [0.5, 0.25, 2.0]), trt.float32), axis=1)


A, B = np.array([7, -7, 7, -7, 6], np.int32), np.array([2, 2, -2, -2, -3], np.int32)
YES, NO = np.array([True, True, False]), np.array([True, False, False])
SCALES = np.array([0.5, 2.0, 0.25], np.float32)
INT8 = np.arange(-12, 12, dtype=np.int8).reshape(1, 3, 2, 4)
PADDED = np.pad(IMAGE, ((0, 0), (0, 0), (1, 3), (2, 0)))

ROWS: Dict[str, Row] = {
    "transpose": shuffle(IMAGE.transpose(0, 2, 3, 1), first_transpose=(0, 2, 3, 1)),
    "reshape 0 and -1": shuffle(IMAGE.reshape(2, 105), reshape_dims=(0, -1)),
    "transpose, reshape, transpose": shuffle(IMAGE.transpose(0, 2, 3, 1).reshape(2, 35, 3).transpose(0, 2, 1),
                                             first_transpose=(0, 2, 3, 1), reshape_dims=(0, 35, -1),
                                             second_transpose=(0, 2, 1)),
    "zero is a length": Row((np.zeros((0, 3), np.float32),),
                            lambda network, x: configured(network.add_shuffle(x), zero_is_placeholder=False,
                                                          reshape_dims=(3, 0)), (np.zeros((3, 0), np.float32),)),
    "squeeze": Row((IMAGE[:1, :, :1],), lambda network, x: network.add_squeeze(x, constant(network, [2], np.int32)),
                   (IMAGE[:1, :, 0],)),
    "squeeze every axis of length one": Row((IMAGE[:1, :, 0],), lambda network, x: network.add_squeeze(x),
                                            (IMAGE[0, :, 0],)),
    "unsqueeze": Row((IMAGE,), lambda network, x: network.add_unsqueeze(x, constant(network, [1, 5], np.int64)),
                     (IMAGE[:, None, :, :, :, None],)),
    "concatenation": Row((IMAGE, IMAGE[:, :, :2]), concatenated, (np.concatenate([IMAGE, IMAGE[:, :, :2]], 2),)),
    "padding": padding((1, 2), (3, 0), PADDED),
    "padding negative": padding((-1, 2), (0, -3), np.pad(IMAGE[:, :, 1:, :4], ((0, 0), (0, 0), (0, 0), (2, 0)))),
    "slice strided": slice_of(IMAGE[0], IMAGE[0][1:, 0:5:2, 6:7], (1, 0, 6), (2, 3, 1), (1, 2, 1)),
    "slice backwards": slice_of(LINE, [[5, 1, 4, 1, 3]], (0, 4), (1, 5), (1, -1)),
    "slice fill": slice_of(LINE, [[9, 9, 3, 4, 5, 9]], (0, -4), (1, 6), (1, 2), "FILL", 9.0),
    "slice fill zero": slice_of(LINE, [[0, 3, 1], [0, 0, 0]], (0, -1), (2, 3), (1, 1), "FILL"),
    "slice clamp": slice_of(LINE, [[3, 3, 3, 1, 4, 1, 5, 5]], (0, -2), (1, 8), (1, 1), "CLAMP"),
    "slice wrap": slice_of(LINE, [[1, 5, 3, 1, 4, 1, 5, 3]], (0, -2), (1, 8), (1, 1), "WRAP"),
    "slice reflect": slice_of(LINE, [[4, 1, 3, 1, 4, 1, 5, 1]], (0, -2), (1, 8), (1, 1), "REFLECT"),
    "slice broadcast": slice_of(LINE, [[3, 1, 4, 1, 5]] * 3, (0, 0), (3, 5), (0, 1)),
    "slice size as tensor": slice_by_tensors(),
    "slice along axes": slice_along_axes(),
    "slice of a dynamic batch": slice_of_dynamic_batch(),
    "gather": gather([[4, 0], [1, -1]], IMAGE[0][:, [[4, 0], [1, 4]]]),
    "gather elementwise": gather([[1, 0], [2, 2], [4, 3]],
                                 np.stack([IMAGE[0][i, row] for i, row in enumerate([[1, 0], [2, 2], [4, 3]])]),
                                 axis=1, elementwise_dims=1),
    "gather elements": gather(np.full((3, 1, 7), 4), IMAGE[0][:, 4:5], mode="ELEMENT"),
    "gather by coordinates": gather([[0, 4], [2, 1]], IMAGE[0][[0, 2], [4, 1]], mode="ND"),
    "gather by coordinates in a batch": gather([[0], [2], [4]], IMAGE[0][[0, 1, 2], [0, 2, 4]], mode="ND",
                                               elementwise_dims=1),
    "top-k ties": top_k("MAX", 4, LINE, [4, 2, 0, 1]),
    "top-k smallest": top_k("MIN", 3, LINE, [1, 3, 0]),
    "top-k integers": top_k("MAX", 2, np.array([[-(2**31), 5, 5]], np.int32), [1, 2]),
    "select": Row((YES, np.arange(3, dtype=np.float32), np.full(1, 9, np.float32)),
                  lambda network, c, a, b: network.add_select(c, a, b), (np.array([0, 1, 9], np.float32),)),
    "shape": Row((IMAGE,), lambda network, x: network.add_shape(x), (np.array([2, 3, 5, 7]),)),
    "cast truncates": cast(np.array([1.9, -1.9, 0.5, 3e9, np.nan], np.float32), "int32",
                           np.array([1, -1, 0, 2**31 - 1, 0], np.int32)),
    "cast to uint8": uint8_out(np.array([0.0, 0.99, 200.7, 255.99], np.float32), [0, 0, 200, 255]),
    "cast to bool": cast(np.array([0.0, 0.25, -3], np.float32), "bool", np.array([False, True, True])),
    "cast uint8 to float": cast(np.array([0, 255], np.uint8), "float32", np.array([0, 255], np.float32)),
    "cast to half": cast(np.array([1 / 3, 65520], np.float32), "float16",
                         np.array([np.float16(1 / 3), np.inf], np.float32)),
    "cast to bfloat16": cast(np.array([1 + 2**-8, 1 + 3 * 2**-8, -(2.0**-130)], np.float32), "bfloat16",
                             np.array([1, 1 + 2**-6, -(2.0**-130)], np.float32)),
    "identity": Row((A,), lambda network, x: network.add_identity(x), (A,)),
    "integers divide towards zero": elementwise("DIV", A, B, np.array([3, -3, -3, 3, -2], np.int32)),
    "integers floor": elementwise("FLOOR_DIV", A, B, np.array([3, -4, -4, 3, -2], np.int32)),
    "and": elementwise("AND", YES, NO, YES & NO), "or": elementwise("OR", YES, NO, YES | NO),
    "xor": elementwise("XOR", YES, NO, YES ^ NO),
    "equal": elementwise("EQUAL", LINE, np.ones((1, 1), np.float32), LINE == 1),
    "greater": elementwise("GREATER", LINE, LINE[:, ::-1].copy(), LINE > LINE[:, ::-1]),
    "less": elementwise("LESS", LINE, np.full((1, 5), 3, np.float32), LINE < 3),
    "not": Row((YES,), lambda network, x: network.add_unary(x, trt.UnaryOperation.NOT), (~YES,)),
    "isnan": Row((np.array([1, np.nan], np.float32),),
                 lambda network, x: network.add_unary(x, trt.UnaryOperation.ISNAN), (np.array([False, True]),)),
    "isinf": Row((np.array([-np.inf, np.nan], np.float32),),
                 lambda network, x: network.add_unary(x, trt.UnaryOperation.ISINF), (np.array([True, False]),)),
    "integers averaged towards zero": Row((A[None],), lambda network, x: network.add_reduce(
        x, trt.ReduceOperation.AVG, 0b10, False), (np.array([1], np.int32),)),
    "quantize": quantize(0.5, None, rounded(IMAGE, 0.5)),
    "quantize by channel": quantize(SCALES, 1, rounded(IMAGE, SCALES[:, None, None])),
    "dequantize by channel": Row((INT8,), dequantized, (INT8 * np.float32([0.5, 0.25, 2.0])[:, None, None],)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name", ROWS)
def test_moves_values_exactly(name, dtype):
    row = ROWS[name]
    outputs = outputs_of(row.build, dtype, **{f"input{index}": x for index, x in enumerate(row.inputs)})
    assert len(outputs) == len(row.expected)
    for y, expected in zip(outputs, row.expected):
        np.testing.assert_array_equal(y, expected, strict=False)
        assert y.dtype == (dtype if expected.dtype.kind == "f" else expected.dtype)


def test_a_slice_beyond_the_tensor_is_refused():
    row = slice_of(LINE, [], (0, 3), (1, 4), (1, 1))
    with pytest.raises(TensorRTError, match=r"\(SLICE\): indices 3 to 6 of an axis of length 5, mode STRICT_BOUNDS"):
        outputs_of(row.build, x=LINE)


def test_a_gather_beyond_the_tensor_is_refused():
    with pytest.raises(TensorRTError, match=r"\(GATHER\): indices from 1 to 5, wanted -5 to 4"):
        outputs_of(gather([1, 5], IMAGE).build, x=IMAGE[0])


def test_a_resize_by_scales_that_do_not_divide_is_refused():
    def build(network, x):
        return configured(network.add_resize(x), scales=[1, 1, 0.5, 1])

    with pytest.raises(TensorRTError, match=r"\(RESIZE\).* is not whole.*set the layer's shape instead"):
        outputs_of(build, x=IMAGE)


def test_a_resize_by_scales():
    def build(network, x):
        return configured(network.add_resize(x), scales=[1, 1, 2, 1])

    (y,) = outputs_of(build, x=IMAGE)
    assert np.array_equal(y, IMAGE.repeat(2, axis=2))


def layer_of(kind: str, **fields: Any) -> Layer:
    """A layer as read back from TensorRT 8, whose layer types TensorRT-RTX no longer has."""
    tensor = Tensor("t", "FLOAT", (-1,))
    return Layer("layer", kind, (tensor,), (tensor,), SimpleNamespace(**fields))


def test_fully_connected():
    kernel, bias = np.arange(4 * 105, dtype=np.float32), np.arange(4, dtype=np.float32)
    layer = layer_of("FULLY_CONNECTED", kernel=kernel, bias=bias, num_output_channels=4)
    y = EVALUATORS["FULLY_CONNECTED"](layer, IMAGE)
    assert np.array_equal(y, (IMAGE.reshape(2, 105) @ kernel.reshape(4, 105).T + bias).reshape(2, 4, 1, 1))


@pytest.mark.parametrize("mode, length", [("CAFFE_ROUND_DOWN", 2), ("CAFFE_ROUND_UP", 2), ("EXPLICIT_ROUND_UP", 3)])
def test_caffe_drops_a_window_that_starts_behind_the_data(mode, length):
    """Window 2, stride 3, padding 1 on 4 values: a third window would start at -1 + 6, behind the last, 3."""
    window = {"window_size_nd": (2,), "stride_nd": (3,), "pre_padding": (1,), "post_padding": (1,)}
    layer = layer_of("POOLING", type="MAX", padding_mode=mode, **window)
    y = EVALUATORS["POOLING"](layer, np.arange(4, dtype=np.float32)[None, None])
    assert y.shape == (1, 1, length)
    assert y[0, 0, :2].tolist() == [0, 3]
