"""Convolution, pooling and SAME-padding arithmetic on integers, one spatial axis at a time.

|<- before ->|<------ size ------>|<- after ->|     padded input of one axis
[ window ]   [ window ]   ...   [ window ]          windows start `stride` apart and span `extent`
"""

from __future__ import annotations

from typing import NamedTuple, Tuple, Union

Shape = Tuple[int, ...]
"""Axis lengths with the batch first; -1 stands for a dynamic batch and for nothing else."""

Padding = Union[str, Tuple[Tuple[int, int], Tuple[int, int]]]
"""`same`, `same_lower`, `valid`, or ((top, bottom), (left, right))."""


class ShapeError(ValueError):
    """A layer cannot be applied to its inputs; the message prints the arithmetic."""


class Window(NamedTuple):
    """How a kernel walks along one spatial axis: its length, stride, dilation and the padding at both ends."""

    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def extent(self) -> int:
        """Pixels from the first to the last tap: dilation * (kernel - 1) + 1."""
        return self.dilation * (self.kernel - 1) + 1

    def output_size(self, size: int) -> int:
        """floor((before + size + after - extent) / stride) + 1; raises ShapeError where no window fits."""
        padded = self.before + size + self.after
        if padded < self.extent:
            raise ShapeError(
                f"a window of {self.extent} does not fit into {self.before} + {size} + {self.after} = {padded} pixels"
            )
        return (padded - self.extent) // self.stride + 1


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1, lower: bool = False) -> Tuple[int, int]:
    """TensorFlow's SAME padding of one axis, (before, after); the odd pixel goes after, or before if `lower`.

    The total is max((ceil(size / stride) - 1) * stride + extent - size, 0), see tensorflow/core/framework/
    common_shape_fns.cc; clamped at 0, since a stride above the kernel would make it negative.
    """
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def resolve_padding(padding: Padding, axis: int, size: int, kernel: int, stride: int, dilation: int) -> Tuple[int, int]:
    """Padding (before, after) of spatial axis 0 (height) or 1 (width), whichever way it was spelled."""
    if padding == "valid":
        return (0, 0)
    if padding in ("same", "same_lower"):
        return same_padding(size, kernel, stride, dilation, lower=padding == "same_lower")
    return padding[axis]  # type: ignore[return-value]


def ceil_pooling(size: int, kernel: int, stride: int, before: int, after: int) -> Tuple[int, int]:
    """Output size and padding-after of a pooling axis with PyTorch's `ceil_mode=True`.

    The output is ceil((before + size + after - kernel) / stride) + 1, less a last window that would start in the
    padding behind the input (aten/src/ATen/native/Pool.h, pooling_output_shape_pad_lr). The padding returned makes
    floor arithmetic give the same output, since TensorRT's own rounding up keeps that last window.
    """
    outputs = -(-(before + size + after - kernel) // stride) + 1
    if (outputs - 1) * stride >= size + before:
        outputs -= 1
    return outputs, max((outputs - 1) * stride + kernel - size - before, 0)


def deconvolution_crop(padding: Padding, axis: int, kernel: int, stride: int, dilation: int) -> Tuple[int, int]:
    """What a transposed convolution drops of its full output, (before, after), along one spatial axis.

    The full output has (size - 1) * stride + extent pixels. SAME keeps size * stride of them and VALID at least that
    many, as the gradient of a convolution must (tensorflow/core/kernels/conv_grad_shape_utils.cc); a negative number
    is zeros appended instead, needed where the kernel is shorter than the stride.
    """
    surplus = dilation * (kernel - 1) + 1 - stride
    if padding == "valid":
        return (0, min(surplus, 0))
    if padding in ("same", "same_lower"):
        total = max(surplus, 0)
        before = total // 2 if padding == "same" else total - total // 2
        return (before, surplus - before)
    return padding[axis]  # type: ignore[return-value]


def broadcast(first: Shape, second: Shape) -> Shape:
    """NumPy's broadcast of two shapes of equal rank; raises ShapeError where axes differ and neither is 1."""
    if len(first) != len(second) or any(a != b and 1 not in (a, b) for a, b in zip(first, second)):
        raise ShapeError(
            f"{show(first)} and {show(second)} do not broadcast: ranks and axes must be equal, or the axis 1"
        )
    return tuple(b if a == 1 else a for a, b in zip(first, second))


def show(shape: Shape) -> str:
    """`N x 3 x 256 x 256` for people, `N` standing for a dynamic batch."""
    return " x ".join("N" if size < 0 else str(size) for size in shape) or "scalar"
