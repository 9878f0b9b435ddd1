"""Layers that compute each element by itself: activation, unary, elementwise, scale, parametric ReLU, select.

`out` is an input's array that may be overwritten, or None. NaN passes through maximum and minimum, as in NumPy and
PyTorch, so that it is seen; TensorRT's kernels may drop it.
"""

from __future__ import annotations

import math
from typing import Callable, Dict, Optional

import numpy as np

from engine.interpreter.layer import Layer

_SQRT_HALF = math.sqrt(0.5)
_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


def activation(layer: Layer, x: np.ndarray, out: Optional[np.ndarray] = None) -> np.ndarray:
    """The layer's function with its alpha and beta, float32-rounded by TensorRT."""
    fields = layer.fields
    if fields.type == "RELU":
        return np.maximum(x, 0, out=out)
    if fields.type == "CLIP":
        return np.clip(x, fields.alpha, fields.beta, out=out)
    return ACTIVATIONS[fields.type](x, fields.alpha, fields.beta)


def erf(x: np.ndarray) -> np.ndarray:
    """The error function, exact to float64, which NumPy lacks; about 0.1 s for a million elements."""
    return np.fromiter(map(math.erf, x.ravel().tolist()), x.dtype, x.size).reshape(x.shape)


def _elu(x: np.ndarray, alpha: float) -> np.ndarray:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(_SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)))


# Formulas: NvInfer.h, ActivationType; the meaning of alpha (a) and beta (b) measured on TensorRT 8.5.3.1.
ACTIVATIONS: Dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "RELU": lambda x, a, b: np.maximum(x, 0),
    "SIGMOID": lambda x, a, b: 1 / (1 + np.exp(-x)),
    "TANH": lambda x, a, b: np.tanh(x),
    "LEAKY_RELU": lambda x, a, b: np.where(x < 0, a * x, x),
    "ELU": lambda x, a, b: _elu(x, a),
    "SELU": lambda x, a, b: b * _elu(x, a),
    "SOFTSIGN": lambda x, a, b: x / (1 + np.abs(x)),
    "SOFTPLUS": lambda x, a, b: a * np.logaddexp(0, b * x, dtype=x.dtype),
    "CLIP": np.clip,
    "HARD_SIGMOID": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "SCALED_TANH": lambda x, a, b: a * np.tanh(b * x),
    "THRESHOLDED_RELU": lambda x, a, b: np.where(x > a, x, x.dtype.type(0)),
    "GELU_ERF": lambda x, a, b: 0.5 * x * (1 + erf(_SQRT_HALF * x)),
    "GELU_TANH": lambda x, a, b: _gelu_tanh(x),
}


def unary(layer: Layer, x: np.ndarray, out: Optional[np.ndarray] = None) -> np.ndarray:
    """One operation on every element."""
    if layer.fields.op == "ERF":
        return erf(x)
    operation = UNARY[layer.fields.op]
    return operation(x) if layer.fields.op in ("NOT", "ISINF", "ISNAN") else operation(x, out=out)


UNARY = {
    "EXP": np.exp, "LOG": np.log, "SQRT": np.sqrt, "RECIP": np.reciprocal, "ABS": np.abs, "NEG": np.negative,
    "SIN": np.sin, "COS": np.cos, "TAN": np.tan, "SINH": np.sinh, "COSH": np.cosh, "ASIN": np.arcsin,
    "ACOS": np.arccos, "ATAN": np.arctan, "ASINH": np.arcsinh, "ACOSH": np.arccosh, "ATANH": np.arctanh,
    "CEIL": np.ceil, "FLOOR": np.floor, "ERF": erf, "NOT": np.logical_not, "SIGN": np.sign,
    "ROUND": np.rint,  # half to even: NvInfer.h, UnaryOperation::kROUND
    "ISINF": np.isinf, "ISNAN": np.isnan,
}  # fmt: skip


def elementwise(layer: Layer, a: np.ndarray, b: np.ndarray, out: Optional[np.ndarray] = None) -> np.ndarray:
    """One operation on pairs of elements, axes of length 1 broadcast."""
    operation = layer.fields.op
    if operation == "DIV" and a.dtype.kind != "f":
        return _truncated_division(a, b)
    same = out is not None and out.shape == a.shape == b.shape
    if not same or operation in TESTS:
        return ELEMENTWISE[operation](a, b)
    return ELEMENTWISE[operation](a, b, out=out)


def _truncated_division(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b towards zero, as C++ divides integers; NumPy rounds down."""
    down = a // b
    return down + ((a % b != 0) & ((a < 0) != (b < 0))).astype(a.dtype)


ELEMENTWISE = {
    "SUM": np.add, "PROD": np.multiply, "MAX": np.maximum, "MIN": np.minimum, "SUB": np.subtract, "DIV": np.divide,
    "POW": np.power, "FLOOR_DIV": np.floor_divide, "AND": np.logical_and, "OR": np.logical_or, "XOR": np.logical_xor,
    "EQUAL": np.equal, "GREATER": np.greater, "LESS": np.less,
}  # fmt: skip
TESTS = ("AND", "OR", "XOR", "EQUAL", "GREATER", "LESS")  # their result is BOOL


def scale(layer: Layer, x: np.ndarray, out: Optional[np.ndarray] = None) -> np.ndarray:
    """(x * scale + shift) ^ power; each part absent, or one value, one per channel, or one per element."""
    fields, y = layer.fields, x
    for operation, weights in ((np.multiply, fields.scale), (np.add, fields.shift), (np.power, fields.power)):
        if weights is not None and not (operation is np.power and np.all(weights == 1)):
            y = operation(y, _spread(layer, weights, x), out=out)
            out = y
    return y


def _spread(layer: Layer, weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Flat scale weights in a shape that broadcasts over x; ELEMENTWISE covers the axes from the channels on."""
    mode, axis = layer.fields.mode, layer.fields.channel_axis
    if mode == "UNIFORM":
        return weights.reshape(())
    if mode == "CHANNEL":
        return weights.reshape((-1,) + (1,) * (x.ndim - 1 - axis))
    return weights.reshape(x.shape[axis:])


def parametric_relu(layer: Layer, x: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """x where it is not negative, slopes * x elsewhere; slopes broadcast to x."""
    return np.where(x < 0, slopes * x, x)


def select(layer: Layer, condition: np.ndarray, then: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """`then` where the condition holds, `otherwise` elsewhere, all broadcast."""
    return np.where(condition, then, otherwise)
