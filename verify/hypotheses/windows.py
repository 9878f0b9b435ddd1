"""What is got wrong about kernels and windows as they walk over an image: padding, stride, dilation, rounding."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, List, Tuple

from spec.shapes import Padding, ShapeError
from verify.hypotheses.case import Case, Variant, say_pair, with_keys

Keys = Dict[str, Any]

WORDS = {"same": "SAME upper", "same_lower": "SAME lower", "valid": "VALID"}


def usual_paddings(case: Case) -> Iterator[Variant]:
    """SAME and VALID of TensorFlow, half the window on both sides as PyTorch's users have it."""
    return _other_paddings(case, _usual(case.layer), ())


def unusual_paddings(case: Case) -> Iterator[Variant]:
    """SAME lower, every number up to half the window on both sides, then one more on one.

    Where the stride leaves pixels over, several of them agree: frameworks pad on both sides alike or as SAME says.
    """
    return _other_paddings(case, _unusual(case.layer), _usual(case.layer))


def paddings_and_rounding(case: Case) -> Iterator[Variant]:
    """Who writes SAME or VALID takes his model from TensorFlow; who writes numbers, from where a size may round up."""
    ways = [usual_paddings, rounding_up] if isinstance(case.layer.padding, str) else [rounding_up, usual_paddings]
    for way in ways:
        yield from way(case)


def _other_paddings(case: Case, paddings: Iterable[Padding], tried: Iterable[Padding]) -> Iterator[Variant]:
    """Each that comes to other pixels than the layer's own and than those before it.

    An average that differs in nothing but in counting its padding is said by `counting`.
    """
    now = _pixels(case, {})
    seen = [now, *(_pixels(case, keys) for padding in tried for keys, _ in _with_padding(case.layer, padding))]
    for padding in paddings:
        for keys, words in _with_padding(case.layer, padding):
            pixels = _pixels(case, keys)
            if pixels is not None and pixels not in seen and not _same_sides(case.layer, pixels, now):
                seen.append(pixels)
                says = f"padding {_say(case.layer.padding, now)}, but {_say(padding, pixels)}{words}"
                yield with_keys(case, says, **keys)


def _same_sides(layer: Any, one: Any, other: Any) -> bool:
    return layer.type == "pooling" and other is not None and one[:2] == other[:2]


def _usual(layer: Any) -> List[Padding]:
    height, width = _halves(layer)
    return ["same", ((height, height), (width, width)), "valid"]


def _unusual(layer: Any) -> List[Padding]:
    sizes = range(max(_halves(layer)) + 2)
    symmetric = [((p, p), (p, p)) for p in sizes]
    uneven = [(sides, sides) for p in sizes for sides in ((p, p + 1), (p + 1, p))]
    return ["same_lower", *symmetric, *uneven]


def _halves(layer: Any) -> Tuple[int, int]:
    """Half of what the window spans, over height and width."""
    window = layer.window if layer.type == "pooling" else layer.kernel
    if window == "global":
        return 0, 0
    height, width = ((k - 1) * d // 2 for k, d in zip(window, getattr(layer, "dilation", (1, 1))))
    return height, width


def _with_padding(layer: Any, padding: Padding) -> List[Tuple[Keys, str]]:
    """The keys that go with another padding, each with words: how an average counts it, PyTorch's output_padding."""
    if layer.type == "pooling" and layer.function == "average":
        uncounted = ", not counted," if layer.count_padding else ""
        ways = [({"count_padding": False}, uncounted), ({"count_padding": True}, ", counted,")]
    elif layer.type == "deconvolution":
        without = " and output_padding 0" if any(layer.output_padding) else ""
        ways = [({"output_padding": (0, 0)}, without), ({"output_padding": (1, 1)}, " and output_padding 1")]
        ways = ways[:1] if isinstance(padding, str) else ways
    else:
        ways = [({}, "")]
    return [({"padding": padding, **keys}, words) for keys, words in ways]


def _pixels(case: Case, keys: Keys) -> Any:
    """What the padding of a layer with these keys comes to on the input's sizes; None where it cannot have it."""
    layer = case.layer.model_copy(update=keys)
    try:
        if layer.type == "deconvolution":
            return layer.crops()
        rows, columns = layer.windows(case.inputs[0].shape)
    except ShapeError:
        return None
    pixels = (rows.before, rows.after), (columns.before, columns.after)
    counted = getattr(layer, "count_padding", None) and pixels != ((0, 0), (0, 0))
    return (*pixels, bool(counted))


def _say(padding: Padding, pixels: Any) -> str:
    """`1 before and 2 after (SAME upper)`; of the same everywhere `3 symmetric`, else as a config has it."""
    if pixels is None:
        return WORDS[padding] if isinstance(padding, str) else str(padding)  # too wide to be resolved here
    word = f" ({WORDS[padding]})" if isinstance(padding, str) else ""
    if pixels[:2] == ((0, 0), (0, 0)):
        return "0" + (word if padding == "valid" else "")
    (top, bottom), (left, right) = (pixels if isinstance(padding, str) else padding)[:2]
    if (top, bottom) != (left, right):
        return f"[{say_pair((top, bottom))}, {say_pair((left, right))}]{word}"
    return (f"{top} symmetric" if top == bottom else f"{top} before and {bottom} after") + word


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
