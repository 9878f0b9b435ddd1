"""Matrix products: MATRIX_MULTIPLY, and TensorRT 8's FULLY_CONNECTED."""

from __future__ import annotations

import numpy as np

from engine.interpreter.layer import Layer


def matrix_multiply(layer: Layer, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """op0(a) @ op1(b), leading axes broadcast; VECTOR takes the last axis as a vector."""
    op0, op1 = layer.fields.op0, layer.fields.op1
    a = a[..., None, :] if op0 == "VECTOR" else _transposed(a, op0)
    b = b[..., :, None] if op1 == "VECTOR" else _transposed(b, op1)
    y = np.matmul(a, b)
    y = y[..., 0] if op1 == "VECTOR" else y
    if op0 != "VECTOR":
        return y
    return y[..., 0] if op1 == "VECTOR" else y[..., 0, :]


def _transposed(x: np.ndarray, operation: str) -> np.ndarray:
    return np.swapaxes(x, -1, -2) if operation == "TRANSPOSE" else x


def fully_connected(layer: Layer, x: np.ndarray) -> np.ndarray:
    """x (..., c, h, w) -> (..., units, 1, 1); kernel (units, c h w). TensorRT 8.x only."""
    fields = layer.fields
    rows = x.reshape((-1, x.shape[-3] * x.shape[-2] * x.shape[-1]))
    y = np.matmul(rows, fields.kernel.reshape(fields.num_output_channels, -1).T)
    if fields.bias is not None:
        y += fields.bias
    return y.reshape(x.shape[:-3] + (fields.num_output_channels, 1, 1))
