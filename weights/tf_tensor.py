"""A TensorProto, TensorFlow's tensor inside a message, as an array.

    tensor_content  raw little-endian bytes, or
    float_val, int_val, ...  one number each; when fewer than the shape has, the last one repeats

Source: tensorflow/core/framework/tensor.proto.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Optional, Tuple

import numpy as np

from spec.errors import CheckpointError

from .mapped_file import byte_count, numpy_dtype
from .tf_protos import DTYPES, UNREADABLE_DTYPES, shape_of

# dtype -> field of a TensorProto, dtype of its elements (tensorflow/core/framework/tensor.proto)
FIELDS: Dict[str, Tuple[str, str]] = {
    "float32": ("float_val", "float32"),
    "float64": ("double_val", "float64"),
    "complex64": ("scomplex_val", "complex64"),
    "complex128": ("dcomplex_val", "complex128"),
    "float16": ("half_val", "uint16"),
    "bfloat16": ("half_val", "uint16"),
    "int8": ("int_val", "int8"),
    "int16": ("int_val", "int16"),
    "int32": ("int_val", "int32"),
    "int64": ("int64_val", "int64"),
    "uint8": ("int_val", "uint8"),
    "uint16": ("int_val", "uint16"),
    "uint32": ("uint32_val", "uint32"),
    "uint64": ("uint64_val", "uint64"),
    "bool": ("bool_val", "bool"),
}


def tensor_value(proto: Any, place: str, shape: Optional[Tuple[int, ...]] = None) -> np.ndarray:
    """The array of a TensorProto; `shape` overrides its own, which V1 checkpoints leave out.

    Raises:
        CheckpointError: a dtype without an array, or fewer or more elements than the shape has.
    """
    if proto.dtype not in DTYPES:
        name = UNREADABLE_DTYPES.get(proto.dtype, f"number {proto.dtype}")
        raise CheckpointError(f"{place}: dtype {name} has no numeric array")
    shape = shape_of(proto.tensor_shape) if shape is None else shape
    dtype = numpy_dtype(DTYPES[proto.dtype])
    values = _content(proto, dtype, place) if proto.tensor_content else _elements(proto, dtype)
    count = math.prod(shape)
    if 0 < len(values) < count and not proto.tensor_content:
        values = np.concatenate([values, np.broadcast_to(values[-1], count - len(values))])
    # A tensor of zeros only may be written without any element.
    values = values if len(values) else np.zeros(count, dtype)
    if len(values) != count:
        wanted = f"the shape {shape} takes {byte_count(shape, dtype)} bytes"
        raise CheckpointError(f"{place}: damaged: {len(values)} elements of {dtype}, {wanted}")
    return values.reshape(shape)


def _content(proto: Any, dtype: np.dtype, place: str) -> np.ndarray:
    if len(proto.tensor_content) % dtype.itemsize:
        raise CheckpointError(f"{place}: damaged: {len(proto.tensor_content)} bytes are no whole number of {dtype}")
    return np.frombuffer(proto.tensor_content, dtype)


def _elements(proto: Any, dtype: np.dtype) -> np.ndarray:
    field, stored = FIELDS[dtype.name]
    values = getattr(proto, field)
    if isinstance(values, bytes):
        return np.frombuffer(values, numpy_dtype(stored))
    return np.fromiter(values, np.int64 if stored != "uint64" else stored).astype(stored).view(dtype)
