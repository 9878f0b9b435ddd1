"""Layers that move numbers without changing them: concatenation, reshapes, padding, slices; and resize."""

from __future__ import annotations

from math import prod
from typing import ClassVar, List, Optional, Tuple

from pydantic import Field, model_validator
from typing_extensions import Literal

from spec.layers.fields import Axis, Integer, NotNegative, Number, Pair, Positive, SidesField
from spec.layers.layer import FLOATS, Layer, axis_number, axis_numbers, image
from spec.shapes import Shape, ShapeError, show

MOVABLE = FLOATS + ("int32",)
Order = Literal["NCHW", "NHWC"]
TO_NHWC, TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


class Concatenation(Layer):
    """Tensors side by side along one axis; all other axes equal."""

    type: ClassVar[str] = "concatenation"
    input_count: ClassVar[Tuple[int, Optional[int]]] = (2, None)
    accepts: ClassVar[Tuple[str, ...]] = MOVABLE
    axis: Axis = "c"

    def output_shape(self, *shapes: Shape) -> Shape:
        axis = axis_number(self.axis, len(shapes[0]))
        if len({len(shape) for shape in shapes}) > 1:
            raise ShapeError(f"{', '.join(show(shape) for shape in shapes)} have different numbers of axes")
        rest = {tuple(shape[:axis]) + tuple(shape[axis + 1 :]) for shape in shapes}
        if len(rest) > 1:
            raise ShapeError(f"{', '.join(show(shape) for shape in shapes)} differ beside axis '{self.axis}'")
        return tuple(shapes[0][:axis]) + (sum(shape[axis] for shape in shapes),) + tuple(shapes[0][axis + 1 :])


class Flatten(Layer):
    """n c h w -> n (c h w), or n (h w c) with `order: NHWC`, which is how TensorFlow and Keras flatten."""

    type: ClassVar[str] = "flatten"
    accepts: ClassVar[Tuple[str, ...]] = MOVABLE
    order: Optional[Order] = Field(
        None, description="NHWC: TensorFlow, Keras; NCHW: PyTorch. Needed for images above 1x1"
    )

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) == 4 and shape[2] * shape[3] > 1 and self.order is None:
            raise ShapeError(f"flattening {show(shape)} needs order: NHWC (TensorFlow, Keras) or NCHW (PyTorch)")
        return (shape[0], prod(shape[1:]))


class Reshape(Layer):
    """The same numbers in another shape; the batch stays. Row-major in `order`, for images on either side."""

    type: ClassVar[str] = "reshape"
    accepts: ClassVar[Tuple[str, ...]] = MOVABLE
    shape: Tuple[Integer, ...] = Field(
        min_length=1, max_length=7, description="without the batch, in `order`; one may be -1"
    )
    order: Optional[Order] = Field(None, description="NHWC: TensorFlow, Keras; NCHW: PyTorch. Needed for images")

    def target(self, shape: Shape) -> Shape:
        """The new shape in the source's own axis order, -1 resolved."""
        count, known = prod(shape[1:]), prod(size for size in self.shape if size != -1)
        free = self.shape.count(-1)
        if min(self.shape) < -1 or 0 in self.shape or free > 1 or count % known or (not free and count != known):
            wanted = " x ".join("?" if size == -1 else str(size) for size in self.shape)
            raise ShapeError(f"{show(shape)} does not reshape to N x {wanted}")
        return (shape[0],) + tuple(count // known if size == -1 else size for size in self.shape)

    def output_shape(self, shape: Shape) -> Shape:
        target = self.target(shape)
        if 4 in (len(shape), len(target)) and self.order is None:
            raise ShapeError("reshaping images needs order: NHWC (TensorFlow, Keras) or NCHW (PyTorch)")
        if len(target) == 4 and self.order == "NHWC":
            return tuple(target[axis] for axis in TO_NCHW)
        return target


class Transpose(Layer):
    """Axes in another order: output axis k is input axis axes[k]; the batch stays first."""

    type: ClassVar[str] = "transpose"
    accepts: ClassVar[Tuple[str, ...]] = MOVABLE
    axes: Tuple[NotNegative, ...]

    def output_shape(self, shape: Shape) -> Shape:
        if sorted(self.axes) != list(range(len(shape))) or self.axes[0] != 0:
            raise ShapeError(f"axes {list(self.axes)} are no permutation of the {len(shape)} axes with the batch first")
        return tuple(shape[axis] for axis in self.axes)


class Squeeze(Layer):
    """Drops axes of length 1."""

    type: ClassVar[str] = "squeeze"
    accepts: ClassVar[Tuple[str, ...]] = MOVABLE
    axes: Tuple[Axis, ...] = Field(min_length=1)

    def output_shape(self, shape: Shape) -> Shape:
        axes = axis_numbers(self.axes, len(shape))
        if any(shape[axis] != 1 for axis in axes):
            raise ShapeError(f"axes {list(self.axes)} of {show(shape)} are not all 1")
        return tuple(size for axis, size in enumerate(shape) if axis not in axes)


class Padding(Layer):
    """Rows and columns added around an image: a constant, the image mirrored, or its edge repeated."""

    type: ClassVar[str] = "padding"
    pad: SidesField = Field(description="pixels on every side, [height, width], or [[top, bottom], [left, right]]")
    mode: Literal["constant", "reflect", "edge"] = "constant"
    value: Number = Field(0.0, description="of the added pixels, in mode constant")

    @model_validator(mode="after")
    def _value(self) -> "Padding":
        if self.value and self.mode != "constant":
            raise ValueError(f"mode {self.mode} takes no value")
        return self

    def output_shape(self, shape: Shape) -> Shape:
        batch, channels, height, width = image(shape)
        if self.mode == "reflect" and (max(self.pad[0]) >= height or max(self.pad[1]) >= width):
            raise ShapeError(f"reflecting {self.pad} needs more than {height} x {width} pixels")
        return (batch, channels, height + sum(self.pad[0]), width + sum(self.pad[1]))


class Slice(Layer):
    """Every stride-th element from start on, along some axes; the other axes whole."""

    type: ClassVar[str] = "slice"
    accepts: ClassVar[Tuple[str, ...]] = MOVABLE
    axes: Tuple[Axis, ...] = Field(min_length=1)
    start: Tuple[NotNegative, ...]
    size: Tuple[Positive, ...] = Field(description="length of the result along each axis")
    stride: Optional[Tuple[Positive, ...]] = None

    @model_validator(mode="after")
    def _lengths(self) -> "Slice":
        if not len(self.axes) == len(self.start) == len(self.size) == len(self.stride or self.axes):
            raise ValueError("axes, start, size and stride differ in length")
        return self

    def bounds(self, shape: Shape) -> Tuple[List[int], List[int], List[int]]:
        """(start, size, stride) over all axes, as TensorRT takes them."""
        start, size, stride = [0] * len(shape), list(shape), [1] * len(shape)
        for position, axis in enumerate(axis_numbers(self.axes, len(shape))):
            start[axis], size[axis] = self.start[position], self.size[position]
            stride[axis] = self.stride[position] if self.stride else 1
        return start, size, stride

    def output_shape(self, shape: Shape) -> Shape:
        start, size, stride = self.bounds(shape)
        for axis in axis_numbers(self.axes, len(shape)):
            last = start[axis] + (size[axis] - 1) * stride[axis]
            if last >= shape[axis]:
                raise ShapeError(f"element {last} of axis {axis} is outside {show(shape)}")
        return tuple(size)


class Gather(Layer):
    """Elements of one axis by index, in the order given: [2, 1, 0] along c swaps RGB and BGR."""

    type: ClassVar[str] = "gather"
    accepts: ClassVar[Tuple[str, ...]] = MOVABLE
    axis: Axis
    indices: Tuple[NotNegative, ...] = Field(min_length=1)

    def output_shape(self, shape: Shape) -> Shape:
        axis = axis_number(self.axis, len(shape))
        if max(self.indices) >= shape[axis]:
            raise ShapeError(f"index {max(self.indices)} is outside the {shape[axis]} elements of axis '{self.axis}'")
        return tuple(shape[:axis]) + (len(self.indices),) + tuple(shape[axis + 1 :])


class Resize(Layer):
    """An image at another size. Coordinates and rounding follow ONNX's words and have no default: frameworks disagree.

    Keras UpSampling2D and tf.image.resize (TF 2) are half_pixel, tf.compat.v1 asymmetric, PyTorch bilinear half_pixel
    or align_corners; PyTorch nearest is asymmetric with rounding floor.
    """

    type: ClassVar[str] = "resize"
    mode: Literal["nearest", "bilinear"]
    size: Optional[Pair] = Field(None, description="target [height, width]")
    scale: Optional[Pair] = Field(None, description="whole factor of height and width")
    coordinates: Literal["half_pixel", "asymmetric", "align_corners"]
    rounding: Optional[Literal["floor", "ceil", "half_down", "half_up"]] = Field(None, description="nearest only")

    @model_validator(mode="after")
    def _one_target(self) -> "Resize":
        if (self.size is None) == (self.scale is None):
            raise ValueError("needs either size or scale")
        if (self.mode == "nearest") != (self.rounding is not None):
            raise ValueError("mode nearest needs rounding, mode bilinear takes none")
        return self

    def output_shape(self, shape: Shape) -> Shape:
        batch, channels, height, width = image(shape)
        if self.size is not None:
            return (batch, channels) + tuple(self.size)
        return (batch, channels, height * self.scale[0], width * self.scale[1])
