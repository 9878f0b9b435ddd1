"""The classic mistakes, by layer type: HYPOTHESES lists what a failing layer might have meant instead.

Each function yields variants of a case: the same layer with one fact changed, or its parameters or inputs exchanged.
Trying them is the job of diagnose.py; here is only what people get wrong.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any, Callable, Dict, Iterator, Mapping, NamedTuple, Tuple

import numpy as np

from spec.layers import Layer

Readings = Callable[[str], Iterator[Tuple[str, np.ndarray]]]


class Case(NamedTuple):
    """A layer that differs: what it read (the reference's tensors), its parameters, and what it should have made.

    `readings(role)` gives other ways to read the stored tensor of a role, with words for each.
    """

    layer: Any
    inputs: Tuple[np.ndarray, ...]
    arrays: Mapping[str, np.ndarray]
    reference: np.ndarray
    readings: Readings


class Variant(NamedTuple):
    """One changed fact and the words for it."""

    says: str
    layer: Layer
    arrays: Mapping[str, np.ndarray]
    inputs: Tuple[np.ndarray, ...]


Hypothesis = Callable[[Case], Iterator[Variant]]


def with_keys(case: Case, says: str, **keys: Any) -> Variant:
    return Variant(says, case.layer.model_copy(update=keys), case.arrays, case.inputs)


def with_arrays(case: Case, says: str, **arrays: np.ndarray) -> Variant:
    return Variant(says, case.layer, {**case.arrays, **arrays}, case.inputs)


def unchanged(case: Case) -> Iterator[Variant]:
    yield with_keys(case, "the layer agrees once its input has the reference's shape: look at the layers before it")


def paddings(case: Case) -> Iterator[Variant]:
    """SAME upper and lower, valid, and every symmetric or one-sided number up to the kernel's half."""
    kernel = getattr(case.layer, "kernel", None) or case.layer.window
    if kernel == "global":
        return
    words = ["same", "same_lower", "valid"]
    pixels = [((p, p), (p, p)) for p in range(1, max(kernel) // 2 + 1)]
    pixels += [((p, p + 1), (p, p + 1)) for p in range(max(kernel) // 2 + 1)]
    pixels += [((p + 1, p), (p + 1, p)) for p in range(max(kernel) // 2 + 1)]
    counting = {"count_padding": False} if getattr(case.layer, "function", "") == "average" else {}
    for padding in words + pixels:
        if padding != case.layer.padding:
            yield with_keys(case, f"padding {_say_padding(case.layer.padding)}, but {_say_padding(padding)}",
                            padding=padding, **counting)  # fmt: skip


def _say_padding(padding: Any) -> str:
    if isinstance(padding, str):
        return {"same": "SAME upper", "same_lower": "SAME lower", "valid": "VALID"}[padding]
    (top, bottom), _ = padding
    return f"{top} symmetric" if top == bottom else f"{top} before and {bottom} after"


def kernel_readings(case: Case) -> Iterator[Variant]:
    """The kernel's stored axes named in another order, or turned."""
    for says, array in case.readings("kernel"):
        yield with_arrays(case, f"kernel {says}", kernel=array)


def strides(case: Case) -> Iterator[Variant]:
    """ResNet v1 strides in the first 1x1 convolution, v1.5 in the 3x3: both give the same shape at the block's end."""
    for stride in ((1, 1), (2, 2)):
        if stride != case.layer.stride:
            says = f"stride {case.layer.stride[0]}, but stride {stride[0]} (the stride sits on the other convolution)"
            yield with_keys(case, says, stride=stride)


def dilations(case: Case) -> Iterator[Variant]:
    for dilation in ((1, 1), (2, 2)):
        if dilation != case.layer.dilation:
            yield with_keys(case, f"dilation {case.layer.dilation[0]}, but {dilation[0]}", dilation=dilation)


def reversed_channels(case: Case) -> Iterator[Variant]:
    """RGB for BGR: the input's channels in the other order."""
    if case.inputs[0].ndim == 4 and case.inputs[0].shape[1] == 3:
        image = np.ascontiguousarray(case.inputs[0][:, ::-1])
        yield Variant("channel order as given, but reversed (RGB and BGR)", case.layer, case.arrays, (image,))


def without_bias(case: Case) -> Iterator[Variant]:
    if case.layer.bias:
        arrays = {role: array for role, array in case.arrays.items() if role != "bias"}
        yield Variant("a bias, but none", case.layer.model_copy(update={"bias": False}), arrays, case.inputs)


EPSILONS = (1e-3, 1e-4, 2e-5, 1.001e-5, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12)


def epsilons(case: Case) -> Iterator[Variant]:
    """The frameworks' defaults, then the one that the reference's own numbers give."""
    fitted = _fitted_epsilon(case)
    for epsilon in EPSILONS + ((fitted,) if fitted else ()):
        if epsilon != case.layer.epsilon:
            yield with_keys(case, f"epsilon {case.layer.epsilon:g}, but {epsilon:.4g}", epsilon=epsilon)


def _fitted_epsilon(case: Case) -> float:
    """epsilon = (gamma / slope)^2 - variance, the slope of output over input per channel by least squares."""
    slope, _ = fitted_line(case.inputs[0], case.reference)
    gamma = np.asarray(case.arrays.get("gamma", np.ones_like(slope)), np.float64)
    with np.errstate(all="ignore"):
        found = np.square(gamma / slope) - np.asarray(case.arrays["variance"], np.float64)
    median = float(np.median(found[np.isfinite(found)])) if np.isfinite(found).any() else 0.0
    return float(f"{median:.3g}") if median > 0 else 0.0


def exchanged_statistics(case: Case) -> Iterator[Variant]:
    """gamma, beta, mean and variance in each other's place: pairs first."""
    roles = list(case.arrays)
    orders = sorted(permutations(roles), key=lambda order: sum(a != b for a, b in zip(order, roles)))
    for order in orders[1:]:
        moved = [role for role, source in zip(roles, order) if role != source]
        says = f"{' and '.join(moved)} as named, but {'swapped' if len(moved) == 2 else 'in the order ' + ', '.join(order)}"
        yield with_arrays(case, says, **{role: case.arrays[source] for role, source in zip(roles, order)})


def counting(case: Case) -> Iterator[Variant]:
    if case.layer.function == "average":
        now = bool(case.layer.count_padding)
        words = ("leaves padding out", "counts padding")
        yield with_keys(case, f"the average {words[now]}, but one that {words[not now]}", count_padding=not now)


def other_functions(case: Case) -> Iterator[Variant]:
    """Every other function of the layer that takes the same keys."""
    known = type(case.layer).model_fields["function"].annotation.__args__
    for function in known:
        if function != case.layer.function:
            keys = {"function": function}
            if case.layer.type == "pooling" and function == "average":
                keys["count_padding"] = False
            yield with_keys(case, f"function {case.layer.function}, but {function}", **keys)


def slopes(case: Case) -> Iterator[Variant]:
    """Keras has 0.3 for leaky ReLU, tf.nn 0.2, PyTorch 0.01; hard sigmoid is 0.2 or 1/6."""
    if case.layer.function in ("leaky_relu", "elu"):
        for alpha in (0.3, 0.2, 0.1, 0.01, 1.0):
            if alpha != case.layer.alpha:
                yield with_keys(case, f"alpha {case.layer.alpha:g}, but {alpha:g}", alpha=alpha)
    if case.layer.function == "hard_sigmoid":
        for alpha in (0.2, 1 / 6):
            yield with_keys(case, f"alpha {case.layer.alpha:.4g}, but {alpha:.4g}", alpha=alpha, beta=0.5)
    if case.layer.function == "gelu":
        yield with_keys(case, f"approximate {case.layer.approximate}, but {not case.layer.approximate}",
                        approximate=not case.layer.approximate)  # fmt: skip


def lrn_alphas(case: Case) -> Iterator[Variant]:
    """alpha of the sum or of the mean; a depth radius taken for a window."""
    other = "mean" if case.layer.alpha_of == "sum" else "sum"
    yield with_keys(case, f"alpha of the {case.layer.alpha_of}, but of the {other}", alpha_of=other)
    wide = 2 * case.layer.window + 1
    for alpha_of in (case.layer.alpha_of, other):
        says = (
            f"window {case.layer.window}, but {wide} ({case.layer.window} was a depth radius), alpha of the {alpha_of}"
        )
        yield with_keys(case, says, window=wide, alpha_of=alpha_of)


def orders(case: Case) -> Iterator[Variant]:
    now = case.layer.order or "NCHW"
    other = "NCHW" if now == "NHWC" else "NHWC"
    yield with_keys(case, f"flattened in order {now}, but {other}", order=other)


def input_orders(case: Case) -> Iterator[Variant]:
    for order in list(permutations(range(len(case.inputs))))[1:25]:
        names = ", ".join(case.layer.inputs[position] for position in order)
        inputs = tuple(case.inputs[position] for position in order)
        yield Variant(f"inputs as listed, but in the order {names}", case.layer, case.arrays, inputs)


def axes(case: Case) -> Iterator[Variant]:
    for axis in range(1, case.inputs[0].ndim):
        if axis != case.layer.axis:
            yield with_keys(case, f"axis {case.layer.axis}, but axis {axis}", axis=axis)


def fitted_scale(case: Case) -> Iterator[Variant]:
    """Mean, std or factor of the input: the line that the reference's own numbers lie on."""
    slope, offset = fitted_line(case.inputs[0], case.reference)
    keys = {"scale": tuple(slope), "shift": tuple(offset), "power": None, "learned": ()}
    yield with_keys(case, f"{_say_line(case)}, but x * {_say(slope)} + {_say(offset)}", **keys)


def _say_line(case: Case) -> str:
    return f"x * {_say(np.array(case.layer.scale or [1.0]))} + {_say(np.array(case.layer.shift or [0.0]))}"


def _say(numbers: np.ndarray) -> str:
    if np.ptp(numbers) <= 1e-5 * np.abs(numbers).max():
        return f"{numbers[0]:.5g}"
    return "[" + ", ".join(f"{number:.5g}" for number in numbers[:4]) + (", ...]" if len(numbers) > 4 else "]")


def fitted_line(source: np.ndarray, target: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """(slope, offset) per channel (axis 1) of target over source, by least squares in float64."""
    x = np.moveaxis(source.astype(np.float64), 1, 0).reshape(source.shape[1], -1)
    y = np.moveaxis(target.astype(np.float64), 1, 0).reshape(target.shape[1], -1)
    centred = x - x.mean(1, keepdims=True)
    power = np.square(centred).sum(1)
    slope = (centred * y).sum(1) / np.where(power > 0, power, 1.0)
    return slope, y.mean(1) - slope * x.mean(1)


def sampling(case: Case) -> Iterator[Variant]:
    """Coordinates and rounding of a resize."""
    roundings = ("floor", "ceil", "half_down", "half_up") if case.layer.mode == "nearest" else (None,)
    for coordinates in ("half_pixel", "asymmetric", "align_corners"):
        for rounding in roundings:
            if (coordinates, rounding) != (case.layer.coordinates, case.layer.rounding):
                says = f"coordinates {case.layer.coordinates}, but {coordinates}" + (f" {rounding}" if rounding else "")
                yield with_keys(case, says, coordinates=coordinates, rounding=rounding)


def rounding_up(case: Case) -> Iterator[Variant]:
    if case.layer.window != "global":
        yield with_keys(case, f"ceil {case.layer.ceil}, but {not case.layer.ceil}", ceil=not case.layer.ceil)


def modes(case: Case) -> Iterator[Variant]:
    for mode in ("constant", "reflect", "edge"):
        if mode != case.layer.mode:
            yield with_keys(case, f"mode {case.layer.mode}, but {mode}", mode=mode, value=0.0)


_KERNELS = (unchanged, kernel_readings, paddings, strides, dilations, reversed_channels, without_bias)

HYPOTHESES: Dict[str, Tuple[Hypothesis, ...]] = {
    "convolution": _KERNELS,
    "depthwise_convolution": _KERNELS,
    "deconvolution": _KERNELS,
    "dense": (kernel_readings, without_bias),
    "pooling": (unchanged, counting, paddings, strides, rounding_up, other_functions),
    "batch_norm": (unchanged, epsilons, exchanged_statistics),
    "scale": (unchanged, fitted_scale, reversed_channels),
    "lrn": (unchanged, lrn_alphas),
    "activation": (unchanged, slopes, other_functions),
    "prelu": (unchanged,),
    "softmax": (axes,),
    "elementwise": (unchanged, input_orders, other_functions),
    "reduce": (unchanged, other_functions),
    "argmax": (axes,),
    "top_k": (axes,),
    "constant": (),
    "cast": (unchanged,),
    "concatenation": (unchanged, input_orders, axes),
    "flatten": (unchanged, orders),
    "reshape": (orders,),
    "transpose": (),
    "squeeze": (unchanged,),
    "padding": (unchanged, modes),
    "slice": (unchanged,),
    "gather": (reversed_channels,),
    "resize": (unchanged, sampling),
}
