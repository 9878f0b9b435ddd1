"""Arithmetic between tensors and along axes: elementwise, reduce, argmax, top-k; constants and casts."""

from __future__ import annotations

from typing import ClassVar, Dict, Optional, Sequence, Tuple

from pydantic import Field, model_validator
from typing_extensions import Literal

from spec.layers.fields import Axis, Flag, Numbers, Positive
from spec.layers.layer import FLOATS, DataType, Layer, Slot, TensorType, WeightedLayer, axis_number, axis_numbers
from spec.shapes import Shape, ShapeError, broadcast, show

AXIS_LETTERS = "abcdefgh"


class Elementwise(Layer):
    """Two or more tensors, combined element by element from left to right; axes of length 1 broadcast."""

    type: ClassVar[str] = "elementwise"
    input_count: ClassVar[Tuple[int, Optional[int]]] = (2, None)
    accepts: ClassVar[Tuple[str, ...]] = FLOATS + ("int32",)
    function: Literal["sum", "product", "max", "min", "sub", "div"]

    def output_shape(self, *shapes: Shape) -> Shape:
        result = shapes[0]
        for shape in shapes[1:]:
            result = broadcast(result, shape)
        return result


class Reduce(Layer):
    """Mean, sum, product, max or min over axes."""

    type: ClassVar[str] = "reduce"
    function: Literal["mean", "sum", "product", "max", "min"]
    axes: Tuple[Axis, ...] = Field(min_length=1)
    keep_dims: Flag = Field(False, description="whether the reduced axes stay, with length 1")

    def output_shape(self, shape: Shape) -> Shape:
        axes = axis_numbers(self.axes, len(shape))
        if self.keep_dims:
            return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
        return tuple(size for axis, size in enumerate(shape) if axis not in axes)


class ArgMax(Layer):
    """Index of the largest element along an axis, the lower one of equals; int32."""

    type: ClassVar[str] = "argmax"
    axis: Axis = "c"
    keep_dims: Flag = False

    def output_shape(self, shape: Shape) -> Shape:
        axis = axis_number(self.axis, len(shape))
        return tuple(shape[:axis]) + ((1,) if self.keep_dims else ()) + tuple(shape[axis + 1 :])

    def output_dtype(self, *dtypes: str) -> str:
        return "int32"


class TopK(Layer):
    """The k largest (or smallest) elements along an axis, best first: tensor NAME, their int32 indices NAME/indices."""

    type: ClassVar[str] = "top_k"
    k: Positive
    axis: Axis = "c"
    largest: Flag = True

    def output_shape(self, shape: Shape) -> Shape:
        axis = axis_number(self.axis, len(shape))
        if self.k > shape[axis]:
            raise ShapeError(f"k = {self.k} of the {shape[axis]} elements along axis '{self.axis}'")
        return tuple(shape[:axis]) + (self.k,) + tuple(shape[axis + 1 :])

    @property
    def tensor_names(self) -> Tuple[str, ...]:
        return (self.name, f"{self.name}/indices")

    def outputs(self, inputs: Sequence[TensorType]) -> Dict[str, TensorType]:
        values = super().outputs(inputs)
        return dict(values, **{f"{self.name}/indices": TensorType(values[self.name].shape, "int32")})


class Constant(WeightedLayer):
    """A tensor that does not depend on the input: written out, or taken from the checkpoint where `value` is left out.

    Its shape starts with a 1 for the batch, so that it broadcasts: [1, 3, 1, 1] for one number a channel.
    """

    type: ClassVar[str] = "constant"
    input_count: ClassVar[Tuple[int, Optional[int]]] = (0, 0)
    shape: Tuple[Positive, ...] = Field(min_length=1, max_length=8)
    value: Optional[Numbers] = Field(None, description="one number, or all of them in row-major order")

    @model_validator(mode="after")
    def _batch_and_count(self) -> "Constant":
        if self.shape[0] != 1:
            raise ValueError(f"shape {list(self.shape)} must start with 1, the batch it broadcasts over")
        count = 1
        for size in self.shape:
            count *= size
        if self.value is not None and len(self.value) not in (1, count):
            raise ValueError(f"value has {len(self.value)} numbers, shape {show(self.shape)} has {count}")
        return self

    def output_shape(self, *shapes: Shape) -> Shape:
        return tuple(self.shape)

    def output_dtype(self, *dtypes: str) -> str:
        return "float32"

    def slots(self, *shapes: Shape) -> Tuple[Slot, ...]:
        if self.value is not None:
            return ()
        sizes = dict(zip(AXIS_LETTERS, self.shape))
        return (Slot("value", " ".join(sizes), sizes),)


class Cast(Layer):
    """The same numbers as another data type; the only layer that takes uint8."""

    type: ClassVar[str] = "cast"
    accepts: ClassVar[Tuple[str, ...]] = ("float32", "float16", "uint8", "int8", "int32", "bool")
    dtype: DataType

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def output_dtype(self, *dtypes: str) -> str:
        return self.dtype
