"""What a DLA can run of the layers whose kernel or window walks over an image; sources as in rules.py."""

from __future__ import annotations

from typing import Sequence, Tuple

from engine.dla.case import Case, outside
from spec.shapes import Window, show


def _paddings(windows: Sequence[Window]) -> Tuple[int, ...]:
    return tuple(side for window in windows for side in (window.before, window.after))


def convolution(case: Case) -> str:
    """Guide, convolution and fully connected layers."""
    layer = case.layer
    windows = layer.windows(case.shape)
    return (
        outside("kernel", layer.kernel, 1, 32)
        or outside("stride", layer.stride, 1, 8)
        or outside("dilation", layer.dilation, 1, 32)
        or outside("padding", _paddings(windows), 0, 31)
        or _wide_padding(windows)
        or _buffer(case)
    )


def _wide_padding(windows: Sequence[Window]) -> str:
    wide = [window for window in windows if max(window.before, window.after) >= window.kernel]
    return f"padding as wide as the kernel of {wide[0].kernel}: a DLA pads less" if wide else ""


def _buffer(case: Case) -> str:
    """Whether a kernel and the rows under it fit into the 16 banks of the convolution buffer; the guide's formula."""
    _, channels, _, width = case.shape
    height, breadth = case.layer.kernel
    kernel_bytes = _up(channels * height * breadth * 2, 128) * 128
    row_entries = _up(_up(channels * 2, 32) * width, 4)
    rows = (height - 1) * case.layer.dilation[0] + 1
    banks = _up(kernel_bytes, 32768) + _up(row_entries * rows, 256)
    return f"needs {banks} banks of the convolution buffer, which has 16" if banks > 16 else ""


def _up(number: int, divisor: int) -> int:
    return -(-number // divisor)


def deconvolution(case: Case) -> str:
    """Guide, deconvolution layer."""
    layer = case.layer
    kernel, square = tuple(layer.kernel), layer.kernel[0] == layer.kernel[1]
    long = 1 in kernel and max(kernel) in (64, 96, 128)  # 1 x [64, 96, 128] is an exception
    if any(side for pair in layer.crops() for side in pair):
        return f"padding {layer.padding}: a DLA's deconvolution has none"
    if layer.groups != 1 or tuple(layer.dilation) != (1, 1):
        return "groups or dilation: a DLA's deconvolution has neither"
    if square and 23 <= kernel[0] <= 32:
        return f"kernel {show(kernel)}: TensorRT turns square ones from 23 to 32 off, they compile too slowly"
    return ("" if long else outside("kernel", kernel, 1, 32)) or outside("stride", layer.stride, 1, 32)


def pooling(case: Case) -> str:
    """Guide, pooling layer; header, setAverageCountExcludesPadding."""
    layer, windows = case.layer, case.layer.windows(case.shape)
    average = layer.function == "average"
    if average and case.accelerator.generation == "xavier" and not layer.count_padding:
        hint = "" if any(_paddings(windows)) else "; there is none, so count_padding: true is the same and runs"
        return f"the average leaves padding out: the DLA of a Xavier counts it{hint}"
    if average and layer.ceil and layer.count_padding:
        return "its padding becomes a layer of its own (ceil), which no DLA is said to have"  # assumed
    return (
        outside("window", [window.kernel for window in windows], 1, 8)
        or outside("stride", [window.stride for window in windows], 1, 16)
        or outside("padding", _paddings(windows), 0, 7)
    )
