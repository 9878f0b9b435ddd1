"""Layers with a kernel: convolution, depthwise convolution, deconvolution, dense."""

from __future__ import annotations

from typing import ClassVar, Dict, Tuple

from pydantic import Field, model_validator

from spec.layers.fields import Flag, NotNegativePair, PaddingField, Pair, Positive
from spec.layers.layer import Slot, WeightedLayer, image
from spec.shapes import Shape, ShapeError, Window, deconvolution_crop, resolve_padding, show


class _Convolving(WeightedLayer):
    """Keys that every convolution shares."""

    kernel: Pair = Field(description="kernel size")
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: PaddingField
    bias: Flag = Field(description="whether the checkpoint holds a bias")

    def windows(self, shape: Shape) -> Tuple[Window, Window]:
        """How the kernel walks over height and width of an image n c h w."""
        sizes = image(shape)[2:]

        def window(axis: int) -> Window:
            walk = (self.kernel[axis], self.stride[axis], self.dilation[axis])
            return Window(*walk, *resolve_padding(self.padding, axis, sizes[axis], *walk))

        return window(0), window(1)

    def _spatial(self, shape: Shape) -> Tuple[int, ...]:
        return tuple(window.output_size(size) for window, size in zip(self.windows(shape), shape[2:]))

    def _slots(self, layout: str, sizes: Dict[str, int], filters: int) -> Tuple[Slot, ...]:
        kernel = Slot("kernel", layout, dict(sizes, h=self.kernel[0], w=self.kernel[1]))
        return (kernel, Slot("bias", "o", {"o": filters})) if self.bias else (kernel,)


class Convolution(_Convolving):
    """2-D convolution: n i h w -> n o h' w', kernel o i/groups h w."""

    type: ClassVar[str] = "convolution"
    filters: Positive = Field(description="output channels")
    groups: Positive = 1

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], self.filters) + self._spatial(shape)

    def slots(self, shape: Shape) -> Tuple[Slot, ...]:
        channels = shape[1]
        if channels % self.groups or self.filters % self.groups:
            raise ShapeError(f"{self.groups} groups do not divide {channels} channels into {self.filters} filters")
        return self._slots("o i h w", {"o": self.filters, "i": channels // self.groups}, self.filters)


class DepthwiseConvolution(_Convolving):
    """A convolution of each channel by itself: n c h w -> n (c m) h' w', kernel (c m) 1 h w."""

    type: ClassVar[str] = "depthwise_convolution"
    multiplier: Positive = Field(1, description="output channels per input channel")

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], image(shape)[1] * self.multiplier) + self._spatial(shape)

    def slots(self, shape: Shape) -> Tuple[Slot, ...]:
        sizes = {"c": shape[1], "m": self.multiplier}
        return self._slots("(c m) 1 h w", sizes, shape[1] * self.multiplier)


class Deconvolution(_Convolving):
    """Transposed convolution: n i h w -> n o h' w', kernel i o/groups h w."""

    type: ClassVar[str] = "deconvolution"
    filters: Positive = Field(description="output channels")
    groups: Positive = 1
    output_padding: NotNegativePair = Field((0, 0), description="PyTorch's: rows and columns cropped less, behind")

    @model_validator(mode="after")
    def _output_padding(self) -> "Deconvolution":
        if any(self.output_padding) and self.padding in ("same", "same_lower"):
            raise ValueError("output_padding is PyTorch's and needs PyTorch's padding, in pixels")
        return self

    def crops(self) -> Tuple[Tuple[int, int], Tuple[int, int]]:
        """What is cut off the full output: ((top, bottom), (left, right)); negative: zeros appended before the bias."""
        pairs = []
        for axis in (0, 1):
            before, after = deconvolution_crop(
                self.padding, axis, self.kernel[axis], self.stride[axis], self.dilation[axis]
            )
            pairs.append((before, after - self.output_padding[axis]))
        return pairs[0], pairs[1]

    def output_shape(self, shape: Shape) -> Shape:
        spatial = []
        for axis, (size, (before, after)) in enumerate(zip(image(shape)[2:], self.crops())):
            extent = self.dilation[axis] * (self.kernel[axis] - 1) + 1
            spatial.append((size - 1) * self.stride[axis] + extent - before - after)
        if min(spatial) < 1:
            raise ShapeError(f"padding {self.padding} crops all of the output: {show(tuple(spatial))}")
        return (shape[0], self.filters) + tuple(spatial)

    def slots(self, shape: Shape) -> Tuple[Slot, ...]:
        if shape[1] % self.groups or self.filters % self.groups:
            raise ShapeError(f"{self.groups} groups do not divide {shape[1]} channels into {self.filters} filters")
        return self._slots("i o h w", {"i": shape[1], "o": self.filters // self.groups}, self.filters)


class Dense(WeightedLayer):
    """Fully connected: n i -> n o, kernel o i."""

    type: ClassVar[str] = "dense"
    units: Positive = Field(description="outputs")
    bias: Flag = Field(description="whether the checkpoint holds a bias")

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 2:
            raise ShapeError(f"takes n i, its input is {show(shape)}; put a flatten before it")
        return (shape[0], self.units)

    def slots(self, shape: Shape) -> Tuple[Slot, ...]:
        kernel = Slot("kernel", "o i", {"o": self.units, "i": shape[1]})
        return (kernel, Slot("bias", "o", {"o": self.units})) if self.bias else (kernel,)
