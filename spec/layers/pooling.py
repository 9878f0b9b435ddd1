"""Pooling: max or average over a window, or over the whole image."""

from __future__ import annotations

from typing import ClassVar, Optional, Tuple

from pydantic import Field, model_validator
from typing_extensions import Literal

from spec.layers.fields import Flag, PaddingField, Pair, WindowField
from spec.layers.layer import Layer, image
from spec.shapes import Shape, ShapeError, Window, ceil_pooling, resolve_padding


class Pooling(Layer):
    """Max or average pooling: n c h w -> n c h' w'. `window: global` pools the whole image, whatever its size."""

    type: ClassVar[str] = "pooling"
    function: Literal["max", "average"]
    window: WindowField
    stride: Optional[Pair] = Field(None, description="the window's size where left out")
    padding: PaddingField = Field("valid")
    count_padding: Optional[Flag] = Field(
        None, description="average only: whether padded pixels count (PyTorch's default: yes; TensorFlow: never)"
    )
    ceil: Flag = Field(False, description="PyTorch's ceil_mode: a last, partial window also counts")

    @model_validator(mode="after")
    def _needs(self) -> "Pooling":
        if self.window == "global" and (self.stride or self.padding != "valid" or self.ceil):
            raise ValueError("a global window takes neither stride, padding nor ceil")
        padded = self.padding not in ("valid", ((0, 0), (0, 0)))
        if self.function == "average" and padded and self.count_padding is None:
            raise ValueError("an average over padding needs count_padding: true (PyTorch) or false (TensorFlow, Keras)")
        return self

    def windows(self, shape: Shape) -> Tuple[Window, Window]:
        """How the window walks over height and width; padding makes floor arithmetic give the output, ceil or not."""
        return self._axis(shape, 0), self._axis(shape, 1)

    def _axis(self, shape: Shape, axis: int) -> Window:
        size = image(shape)[2 + axis]
        if self.window == "global":
            return Window(size, 1, 1, 0, 0)
        kernel = self.window[axis]
        stride = self.stride[axis] if self.stride else kernel
        before, after = resolve_padding(self.padding, axis, size, kernel, stride, 1)
        if max(before, after) >= kernel:
            raise ShapeError(f"padding {before}, {after} holds the whole window of {kernel}, with no pixel to pool")
        if self.ceil:
            _, after = ceil_pooling(size, kernel, stride, before, after)
        return Window(kernel, stride, 1, before, after)

    def output_shape(self, shape: Shape) -> Shape:
        spatial = (window.output_size(size) for window, size in zip(self.windows(shape), shape[2:]))
        return tuple(shape[:2]) + tuple(spatial)
