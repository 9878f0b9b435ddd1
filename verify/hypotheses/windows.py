"""What is got wrong about kernels and windows as they walk over an image: padding, stride, dilation, rounding."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Tuple

from spec.shapes import Padding, ShapeError
from verify.hypotheses.case import Case, Variant, say_pair, with_keys

Sides = Tuple[Tuple[int, int], Tuple[int, int]]

WORDS = {"same": "SAME upper", "same_lower": "SAME lower", "valid": "VALID"}


def paddings(case: Case) -> Iterator[Variant]:
    """SAME upper and lower, VALID, and every number up to half the window, on both sides or one more on one.

    Spellings of the same pixels are tried once, the word before the number.
    """
    seen = [_pixels(case, case.layer.padding)]
    for padding in [*WORDS, *_numbers(case.layer)]:
        pixels = _pixels(case, padding)
        if pixels is None or pixels in seen:
            continue
        seen.append(pixels)
        says = f"padding {_say(case.layer.padding, seen[0])}, but {_say(padding, pixels)}"
        for more in _with_padding(case.layer):
            yield with_keys(case, says + more.pop("says", ""), padding=padding, **more)


def _numbers(layer: Any) -> List[Sides]:
    """((top, bottom), (left, right)) worth trying."""
    window = layer.window if layer.type == "pooling" else layer.kernel
    if window == "global":
        return []
    dilation = getattr(layer, "dilation", (1, 1))
    height, width = ((k - 1) * d // 2 for k, d in zip(window, dilation))
    numbers: List[Sides] = [((height, height), (width, width))]
    for p in range(max(height, width) + 2):
        numbers += [((p, p), (p, p)), ((p, p + 1), (p, p + 1)), ((p + 1, p), (p + 1, p))]
    return numbers


def _pixels(case: Case, padding: Padding) -> Optional[Sides]:
    """What a padding comes to on the input's sizes; None where the layer cannot have it."""
    layer = case.layer.model_copy(update={"padding": padding})
    try:
        if layer.type == "deconvolution":
            return layer.crops()
        rows, columns = layer.windows(case.inputs[0].shape)
    except ShapeError:
        return None
    return (rows.before, rows.after), (columns.before, columns.after)


def _say(padding: Padding, pixels: Optional[Sides]) -> str:
    if isinstance(padding, str):
        sides = "" if pixels is None or padding == "valid" else f" [{say_pair(pixels[0])}, {say_pair(pixels[1])}]"
        return WORDS[padding] + sides
    (top, bottom), (left, right) = padding
    if top == bottom and left == right:
        return f"{say_pair((top, left))} symmetric"
    if (top, bottom) == (left, right):
        return f"{top} before and {bottom} after"
    return f"[{say_pair(padding[0])}, {say_pair(padding[1])}]"


def _with_padding(layer: Any) -> List[Dict[str, Any]]:
    """Keys that go with another padding: how an average counts it, PyTorch's output_padding."""
    if layer.type == "pooling" and layer.function == "average":
        return [{"count_padding": False}, {"count_padding": True, "says": " that counts"}]
    if layer.type == "deconvolution":
        plain = {"output_padding": (0, 0)}
        return [plain, {"output_padding": (1, 1), "says": " and output_padding 1"}]
    return [{}]


def strides(case: Case) -> Iterator[Variant]:
    """ResNet v1 strides in the first 1x1 convolution, v1.5 in the 3x3: both give the same shape at the block's end."""
    now = case.layer.stride or case.layer.window
    for stride in ((1, 1), (2, 2), (3, 3), (1, 2), (2, 1)):
        if now not in (stride, "global"):
            says = f"stride {say_pair(now)}, but stride {say_pair(stride)} (is it on another layer of the block?)"
            yield with_keys(case, says, stride=stride)


def dilations(case: Case) -> Iterator[Variant]:
    for size in (1, 2, 3, 4):
        if (size, size) != case.layer.dilation:
            says = f"dilation {say_pair(case.layer.dilation)}, but dilation {size}"
            yield with_keys(case, says, dilation=(size, size))


def counting(case: Case) -> Iterator[Variant]:
    """PyTorch's average counts its padding unless told not to, TensorFlow's and Keras' never does."""
    if case.layer.function == "average":
        now = bool(case.layer.count_padding)
        words = ("leaves padding out", "counts padding")
        yield with_keys(case, f"an average that {words[now]}, but one that {words[not now]}", count_padding=not now)


def rounding_up(case: Case) -> Iterator[Variant]:
    """Caffe rounds the size of a pooled image up, PyTorch down unless told `ceil_mode=True`."""
    if case.layer.window != "global":
        words = ("rounded down", "rounded up (ceil)")
        says = f"output size {words[case.layer.ceil]}, but {words[not case.layer.ceil]}"
        yield with_keys(case, says, ceil=not case.layer.ceil)


def window_sizes(case: Case) -> Iterator[Variant]:
    if case.layer.window == "global":
        return
    for size in (2, 3, 4, 5):
        if (size, size) != case.layer.window:
            stride = case.layer.stride or case.layer.window
            says = f"window {say_pair(case.layer.window)}, but window {size}"
            yield with_keys(case, says, window=(size, size), stride=stride)


def pooling_functions(case: Case) -> Iterator[Variant]:
    if case.layer.function == "average":
        yield with_keys(case, "function average, but max", function="max", count_padding=None)
        return
    for counted, words in ((False, "average"), (True, "average that counts padding")):
        yield with_keys(case, f"function max, but {words}", function="average", count_padding=counted)
