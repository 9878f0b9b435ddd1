"""How TensorRT's data types are held in NumPy, and the layers that change them: cast, identity, quantize, dequantize.

    FLOAT HALF BF16   -> the interpreter's float32 or float64; HALF and BF16 values rounded to their grid
    INT32 INT64 INT8 UINT8 BOOL -> the same type in NumPy
"""

from __future__ import annotations

from typing import Dict, Tuple

import numpy as np

from engine.interpreter.layer import Layer
from spec.errors import TensorRTError

# Data type -> NumPy names of the arrays that hold exactly its values and may be fed.
FLOATING: Dict[str, Tuple[str, ...]] = {
    "FLOAT": ("float32",),
    "HALF": ("float16",),
    "BF16": ("bfloat16", "float32"),
}

INTEGRAL: Dict[str, type] = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
}


def feedable(dtype: str, arithmetic: np.dtype) -> Tuple[str, ...]:
    """NumPy dtypes a tensor may be fed with: its own, or what this interpreter itself returns for it."""
    if dtype in INTEGRAL:
        return (np.dtype(INTEGRAL[dtype]).name,)
    return tuple(dict.fromkeys(FLOATING[dtype] + (arithmetic.name,)))


def represent(array: np.ndarray, dtype: str, arithmetic: np.dtype) -> np.ndarray:
    """`array` as the interpreter holds a tensor of TensorRT's `dtype`; the array itself where nothing changes."""
    if dtype in INTEGRAL:
        return np.asarray(array, INTEGRAL[dtype])
    array = np.asarray(array, arithmetic)
    if dtype == "HALF":
        return array.astype(np.float16).astype(arithmetic)
    return round_to_bfloat16(array).astype(arithmetic) if dtype == "BF16" else array


def round_to_bfloat16(array: np.ndarray) -> np.ndarray:
    """The nearest bfloat16 values, half to even, as float32: keep the upper 16 bits after adding half of the lower."""
    bits = np.atleast_1d(np.asarray(array, np.float32)).view(np.uint32)
    half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded = ((bits + half) & np.uint32(0xFFFF0000)).view(np.float32).reshape(np.shape(array))
    return np.where(np.isnan(array), np.float32(np.nan), rounded)


def convert(layer: Layer, x: np.ndarray) -> np.ndarray:
    """CAST, and IDENTITY with an output type (TensorRT 8.5 has no cast).

    Floating point to integer truncates towards zero (NvInfer.h, DataType::kUINT8). Beyond the range of the target
    TensorRT leaves the value undefined; here it saturates as CUDA's conversion instructions do, NaN gives 0.
    """
    target = layer.outputs[0].dtype
    if target not in INTEGRAL or x.dtype.kind != "f":
        return x if target not in INTEGRAL else x.astype(INTEGRAL[target])
    if target == "BOOL":
        return x != 0
    limits = np.iinfo(INTEGRAL[target])
    highest = np.nextafter(float(int(limits.max) + 1), 0.0)
    return np.nan_to_num(np.clip(x.astype(np.float64), limits.min, highest), nan=0.0).astype(INTEGRAL[target])


def quantize(layer: Layer, x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """clip(round(x / scale), -128, 127), half to even: bit-equal to TensorRT 8.5.3.1."""
    return np.clip(np.rint(x / _along_axis(layer, scale, x.ndim)), -128, 127)


def dequantize(layer: Layer, x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """x * scale."""
    return x.astype(scale.dtype) * _along_axis(layer, scale, x.ndim)


def _along_axis(layer: Layer, scale: np.ndarray, rank: int) -> np.ndarray:
    """`scale`, one value or one per index of the layer's axis, shaped to broadcast over `rank` axes."""
    if scale.size == 1:
        return scale.reshape(())
    if scale.ndim != 1:
        raise TensorRTError(
            f"layer '{layer.name}' ({layer.type}): scale of shape {scale.shape}; the interpreter runs one scale per"
            " tensor or per index of one axis, not per block"
        )
    shape = [1] * rank
    shape[layer.fields.axis] = scale.size
    return scale.reshape(shape)
