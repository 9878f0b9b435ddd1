"""Pooling: max or average over a window, or over the whole image."""

from __future__ import annotations

from typing import Any, ClassVar, Optional, Tuple, Union

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from typing_extensions import Annotated, Literal

from spec.layers.layer import Layer, PaddingField, Pair, Positive, image
from spec.shapes import Shape, Window, ceil_pooling, resolve_padding


def _window(value: Any) -> Any:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


WindowField = Annotated[
    Union[Literal["global"], Tuple[Positive, Positive]],
    BeforeValidator(_window),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": "global"},
                {"type": "integer", "minimum": 1},
                {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2, "maxItems": 2},
            ]
        }
    ),
]


class Pooling(Layer):
    """Max or average pooling: n c h w -> n c h' w'. `window: global` pools the whole image, whatever its size."""

    type: ClassVar[str] = "pooling"
    function: Literal["max", "average"]
    window: WindowField
    stride: Optional[Pair] = Field(None, description="the window's size where left out")
    padding: PaddingField = Field("valid")
    count_padding: Optional[bool] = Field(
        None, description="average only: whether padded pixels count (PyTorch's default: yes; TensorFlow: never)"
    )
    ceil: bool = Field(False, description="PyTorch's ceil_mode: a last, partial window also counts")

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
        if self.ceil:
            _, after = ceil_pooling(size, kernel, stride, before, after)
        return Window(kernel, stride, 1, before, after)

    def output_shape(self, shape: Shape) -> Shape:
        spatial = (window.output_size(size) for window, size in zip(self.windows(shape), shape[2:]))
        return tuple(shape[:2]) + tuple(spatial)
