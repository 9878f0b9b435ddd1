"""What a DLA can run: one row of RULES a layer type, a function that gives the reason against it, or "".

    reason(Case(layer, inputs, output, accelerator))  ->  "" or "window 16 x 16: a DLA takes 1 to 8"

Sources, by the word in the comments:
  guide    TensorRT Developer Guide, "DLA Supported Layers and Restrictions", 8.5 and, where named, the newest
           (docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/dla-layer-restrictions.html)
  header   NvInfer.h and the Python API's documentation of the layer, TensorRT 8.5
  assumed  neither says so: the GPU is assumed

Where TensorRT itself can be asked (a machine with a DLA), its answer replaces these; see asking.py.
"""

from __future__ import annotations

from typing import Callable, Dict, Sequence, Tuple

from engine.dla import windows
from engine.dla.case import Case, outside
from spec.layers import TensorType
from spec.layers.layer import axis_number, axis_numbers
from spec.shapes import show

LARGEST_BATCH, LARGEST_SIZE = 4096, 8192
"""Guide, general restrictions: the batch, and each of the other dimensions."""


def reason(case: Case) -> str:
    """Why the layer stays on the GPU; "" where the DLA takes it."""
    return _tensors(case.inputs) or RULES[case.layer.type](case) or _tensors((case.output,))


def _tensors(tensors: Sequence[TensorType]) -> str:
    """What holds for every layer. Guide, general restrictions; the operations have two spatial dimensions."""
    for shape, dtype in tensors:
        if dtype not in ("float32", "float16"):
            return f"a tensor is {dtype}: a DLA computes in fp16 and int8"
        if len(shape) != 4:
            return f"a tensor has {len(shape)} axes, {show(shape)}: a DLA works on n c h w"
        if shape[0] > LARGEST_BATCH or max(shape[1:]) > LARGEST_SIZE:
            return f"{show(shape)}: a DLA takes batches to {LARGEST_BATCH} and other sizes to {LARGEST_SIZE}"
    return ""


FUNCTIONS: Dict[str, str] = {
    # function of an activation: the reason against it. Guide, activation layer: ReLU, sigmoid, tanh, clipped, leaky
    "relu": "",
    "relu6": "",
    "clip": "",  # in a range, see _activation
    "leaky_relu": "",
    "sigmoid": "",
    "tanh": "",
    "swish": "",  # sigmoid and a product
    "elu": "a DLA has no ELU",
    "selu": "a DLA has no SELU",
    "hard_sigmoid": "a DLA has no hard sigmoid",
    "hard_swish": "a DLA has no hard sigmoid, which it is made of",
    "softplus": "a DLA has no softplus",
    "softsign": "a DLA has no softsign",
    "gelu": "a DLA has no GELU, nor the erf that it is made of",
}


def _activation(case: Case) -> str:
    """Guide: a clipped ReLU starts at 0 and ends at 1 to 127."""
    layer = case.layer
    if layer.function == "clip" and not (layer.minimum == 0 and 1 <= layer.maximum <= 127):
        return f"clips to {layer.minimum:g}..{layer.maximum:g}: a DLA to 0..1 up to 0..127"
    return FUNCTIONS[layer.function]


ELEMENTWISE: Dict[str, Tuple[int, ...]] = {
    # function: the first TensorRT whose guide has it for the DLA. 8.5 has Sum, Sub, Product, Max, Min; the newest has
    # Div too, since when is not said: 10 is assumed
    "sum": (8, 5),
    "sub": (8, 5),
    "product": (8, 5),
    "max": (8, 5),
    "min": (8, 5),
    "div": (10,),
}


def _elementwise(case: Case) -> str:
    """Guide, ElementWise layer: an operand is n c h w, n c 1 1 or n 1 1 1."""
    if case.accelerator.tensorrt < ELEMENTWISE[case.layer.function]:
        return f"the DLA of this TensorRT has no {case.layer.function}"
    batch, channels = case.output.shape[:2]
    fitting = (tuple(case.output.shape), (batch, channels, 1, 1), (batch, 1, 1, 1))
    odd = [tensor.shape for tensor in case.inputs if tuple(tensor.shape) not in fitting]
    return f"{show(odd[0])} is spread over {show(case.output.shape)}: a DLA spreads n c 1 1 and n 1 1 1" if odd else ""


def _scale(case: Case) -> str:
    """Guide, scale layer: scale and shift only."""
    return "" if case.layer.power in (None, 1.0) else "a power: a DLA only scales and shifts"


def _lrn(case: Case) -> str:
    """Guide, LRN layer; in int8 it becomes fp16."""
    window = case.layer.window
    return "" if window in (3, 5, 7, 9) else f"window {window}: a DLA has 3, 5, 7 and 9"


def _softmax(case: Case) -> str:
    """Header, ISoftMaxLayer; in int8 it becomes fp16."""
    if case.accelerator.generation == "xavier":
        return "the DLA of a Xavier has no softmax"
    axis = axis_number(case.layer.axis, 4)
    alone = all(size == 1 for position, size in enumerate(case.shape) if position not in (0, axis))
    most = 8192 if alone else 1024
    return outside("an axis of", case.shape[axis : axis + 1], 1, most)


def _concatenation(case: Case) -> str:
    """Guide, concatenation layer."""
    return "" if axis_number(case.layer.axis, 4) == 1 else "a DLA joins channels only"


def _shuffle(case: Case) -> str:
    """Newest guide, shuffle layer: four axes, the batch untouched. 8.5's has none: the GPU is assumed there."""
    return "" if case.accelerator.tensorrt >= (8, 6) else "the DLA of this TensorRT is not said to reshape or transpose"


def _slice(case: Case) -> str:
    """Guide, slice layer: static, four axes, all but the batch; in int8 it becomes fp16."""
    return ""


RESIZES = {("nearest", "asymmetric", "floor"), ("nearest", "half_pixel", "half_down"),
           ("nearest", "half_pixel", "half_up"), ("bilinear", "half_pixel", None)}  # fmt: skip
"""(mode, coordinates, rounding) that a DLA has: header, IResizeLayer."""


def _resize(case: Case) -> str:
    """Guide, resize layer: whole factors."""
    layer = case.layer
    if (layer.mode, layer.coordinates, layer.rounding) not in RESIZES:
        return f"{layer.mode}, {layer.coordinates}, {layer.rounding or 'no rounding'}: a DLA has no such resize"
    source, target = case.shape[2:], case.output.shape[2:]
    if any(after % before for before, after in zip(source, target)):
        return f"{show(source)} to {show(target)}: a DLA takes whole factors"
    factors = [after // before for before, after in zip(source, target)]
    return outside("factors", factors, 1, 32 if layer.mode == "nearest" else 4)


def _reduce(case: Case) -> str:
    """Newest guide, reduce layer: the maximum only, over any of c h w. 8.5's has none; since 10 is assumed."""
    layer = case.layer
    if layer.function == "max" and case.accelerator.tensorrt >= (10,):
        return ""
    pooled = layer.function == "mean" and set(axis_numbers(layer.axes, 4)) == {2, 3}
    hint = "; pooling: {function: average, window: global} is the same" if pooled else ""
    return f"the DLA of this TensorRT is not said to have a {layer.function} over axes{hint}"


def _never(what: str) -> Callable[[Case], str]:
    """Assumed: the guide does not list the layer."""
    return lambda case: f"{what} is not among the layers of a DLA"


RULES: Dict[str, Callable[[Case], str]] = {
    "convolution": windows.convolution,
    "depthwise_convolution": windows.convolution,  # guide: groups 1 to 8192, as many as channels
    "deconvolution": windows.deconvolution,
    "dense": _never("a matrix"),  # never reached: its tensors have two axes
    "pooling": windows.pooling,
    "batch_norm": lambda case: "",  # an IScaleLayer of scale and shift
    "scale": _scale,
    "lrn": _lrn,
    "activation": _activation,
    "prelu": lambda case: "",  # guide: the slope is a constant of the same rank, as ours is
    "softmax": _softmax,
    "elementwise": _elementwise,
    "reduce": _reduce,
    "argmax": _never("a top-k"),
    "top_k": _never("a top-k"),
    "constant": _never("a constant"),  # TensorRT folds it into what reads it
    "cast": _never("a cast"),
    "concatenation": _concatenation,
    "flatten": _shuffle,
    "reshape": _shuffle,
    "transpose": _shuffle,
    "squeeze": _shuffle,
    "padding": _never("a padding"),
    "slice": _slice,
    "gather": _never("a gather"),
    "resize": _resize,
}
