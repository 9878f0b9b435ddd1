"""A network definition read back into plain values: its layers with their tensors, attributes and weights.

    network.get_layer(i) --type, then cast by the type's name--> typed layer --FIELDS--> Layer

Everything is copied: TensorRT only borrows the memory of weights, and arrays assigned through a setter are freed with
the Python wrapper they were assigned through.
"""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from engine.interpreter.datatypes import FLOATING, INTEGRAL
from engine.interpreter.layer import Layer, Tensor
from spec.errors import TensorRTError

_WINDOW = ("stride_nd", "padding_mode", "pre_padding", "post_padding")
_CONVOLUTION = ("kernel", "bias", "num_output_maps", "kernel_size_nd", "dilation_nd", "num_groups") + _WINDOW

# LayerType name -> class to cast to, attributes to read. The names are the same from TensorRT 8.5 to 11 and in
# TensorRT-RTX; the numbers behind LayerType are not.
FIELDS: Dict[str, Tuple[str, Tuple[str, ...]]] = {
    "ACTIVATION": ("IActivationLayer", ("type", "alpha", "beta")),
    "CAST": ("ICastLayer", ()),
    "CONCATENATION": ("IConcatenationLayer", ("axis",)),
    "CONSTANT": ("IConstantLayer", ("weights", "shape")),
    "CONVOLUTION": ("IConvolutionLayer", _CONVOLUTION),
    "DECONVOLUTION": ("IDeconvolutionLayer", _CONVOLUTION),
    "DEQUANTIZE": ("IDequantizeLayer", ("axis",)),
    "ELEMENTWISE": ("IElementWiseLayer", ("op",)),
    "FULLY_CONNECTED": ("IFullyConnectedLayer", ("kernel", "bias", "num_output_channels")),
    "GATHER": ("IGatherLayer", ("axis", "mode", "num_elementwise_dims")),
    "IDENTITY": ("IIdentityLayer", ()),
    "LRN": ("ILRNLayer", ("window_size", "alpha", "beta", "k")),
    "MATRIX_MULTIPLY": ("IMatrixMultiplyLayer", ("op0", "op1")),
    "NORMALIZATION": ("INormalizationLayer", ("axes", "epsilon", "num_groups")),
    "PADDING": ("IPaddingLayer", ("pre_padding_nd", "post_padding_nd")),
    "PARAMETRIC_RELU": ("IParametricReLULayer", ()),
    "POOLING": (
        "IPoolingLayer",
        ("type", "window_size_nd", "blend_factor", "average_count_excludes_padding") + _WINDOW,
    ),
    "QUANTIZE": ("IQuantizeLayer", ("axis",)),
    "REDUCE": ("IReduceLayer", ("op", "axes", "keep_dims")),
    "RESIZE": (
        "IResizeLayer",
        ("resize_mode", "shape", "scales", "coordinate_transformation", "nearest_rounding", "selector_for_single_pixel",
         "cubic_coeff", "exclude_outside"),
    ),
    "SCALE": ("IScaleLayer", ("mode", "scale", "shift", "power", "channel_axis")),
    "SELECT": ("ISelectLayer", ()),
    "SHAPE": ("IShapeLayer", ()),
    "SHUFFLE": ("IShuffleLayer", ("first_transpose", "reshape_dims", "second_transpose", "zero_is_placeholder")),
    "SLICE": ("ISliceLayer", ("start", "shape", "stride", "mode", "axes")),
    "SOFTMAX": ("ISoftMaxLayer", ("axes",)),
    "SQUEEZE": ("ISqueezeLayer", ()),
    "TOPK": ("ITopKLayer", ("op", "k", "axes")),
    "UNARY": ("IUnaryLayer", ("op",)),
    "UNSQUEEZE": ("IUnsqueezeLayer", ()),
}

# Fields that an input replaces, by its index: reading one where the input is set only logs a warning.
REPLACED_BY_INPUT: Dict[str, Dict[str, int]] = {
    "RESIZE": {"shape": 1, "scales": 1},
    "SHUFFLE": {"reshape_dims": 1},
    "SLICE": {"start": 1, "shape": 2, "stride": 3, "axes": 5},
    "TOPK": {"k": 1},
}

# Fields that older bindings lack, with what holds there: slice axes came with TensorRT 10.3.
ABSENT_BEFORE: Dict[Tuple[str, str], Any] = {
    ("RESIZE", "cubic_coeff"): -0.75,
    ("RESIZE", "exclude_outside"): 0,
    ("SLICE", "axes"): None,
}


def read_layers(network: Any, trt: ModuleType, dtype: np.dtype) -> Tuple[Layer, ...]:
    """The network's layers in insertion order, floating-point weights as `dtype`.

    Raises:
        TensorRTError: every layer that cannot be read, at once; or read-back of weights is broken in these bindings.
    """
    layers: List[Layer] = []
    problems: List[str] = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        kind = trt.ILayer.type.__get__(layer).name  # `layer.type` is the pooling or activation type once cast
        try:
            layers.append(_read_layer(layer, kind, trt, dtype))
        except UnreadableLayer as error:
            problems.extend(f"layer '{layer.name}' ({kind}): {problem}" for problem in error.problems)
    if problems:
        raise TensorRTError(problems)
    return tuple(layers)


def read_tensor(tensor: Any) -> Tensor:
    """Name, data type and shape; raises UnreadableLayer where TensorRT refused the layer that makes the tensor."""
    try:
        shape = tuple(int(length) for length in tensor.shape)
    except (RuntimeError, ValueError) as error:  # RTX 1.6+ raises RuntimeError, older ones a Dims of negative length
        raise UnreadableLayer(
            f"TensorRT could not infer the shape of '{tensor.name}' ({error}), so it refused this layer or one before"
            " it; see TensorRT's log"
        ) from None
    dtype = tensor.dtype.name
    if dtype not in FLOATING and dtype not in INTEGRAL:
        raise UnreadableLayer(f"tensor '{tensor.name}' is {dtype}; the interpreter has no arithmetic for it")
    return Tensor(tensor.name, dtype, shape)


class UnreadableLayer(TensorRTError):
    """One layer cannot be read back; `read_layers` adds which."""


def _read_layer(layer: Any, kind: str, trt: ModuleType, dtype: np.dtype) -> Layer:
    if kind not in FIELDS:
        raise UnreadableLayer(f"the interpreter does not run this type; it runs {', '.join(sorted(FIELDS))}")
    inputs = tuple(layer.get_input(index) for index in range(layer.num_inputs))
    return Layer(
        name=layer.name,
        type=kind,
        inputs=tuple(None if tensor is None else read_tensor(tensor) for tensor in inputs),
        outputs=tuple(read_tensor(layer.get_output(index)) for index in range(layer.num_outputs)),
        fields=_read_fields(layer, kind, inputs, trt, dtype),
    )


def _read_fields(layer: Any, kind: str, inputs: Tuple[Any, ...], trt: ModuleType, dtype: np.dtype) -> SimpleNamespace:
    class_name, names = FIELDS[kind]
    layer.__class__ = getattr(trt, class_name)  # to another type's class this would segfault
    fields = SimpleNamespace()
    for name in names:
        index = REPLACED_BY_INPUT.get(kind, {}).get(name)
        replaced = index is not None and index < len(inputs) and inputs[index] is not None
        setattr(fields, name, None if replaced else _plain(_attribute(layer, kind, name), name, dtype))
    return fields


def _attribute(layer: Any, kind: str, name: str) -> Any:
    if (kind, name) in ABSENT_BEFORE:
        return getattr(layer, name, ABSENT_BEFORE[kind, name])
    return getattr(layer, name)


def _plain(value: Any, name: str, dtype: np.dtype) -> Any:
    """Enum -> its name, Dims and Permutation -> tuple, weights -> own array (None when absent)."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, np.ndarray):
        return plain_weights(value, name, dtype)
    if hasattr(value, "nbytes"):  # trt.Weights itself comes back where NumPy lacks the type, as for BF16
        raise UnreadableLayer(f"{name}: {value.dtype.name} weights cannot be read back through the Python bindings")
    if hasattr(value, "name"):
        return value.name
    try:
        return tuple(value)
    except ValueError:  # TensorRT 8: a Dims that was never set has a negative length
        return None


def plain_weights(array: np.ndarray, name: str, dtype: np.dtype) -> Optional[np.ndarray]:
    """A copy of flat weights, floating point as `dtype`; None when there are none.

    Raises:
        TensorRTError: the bindings hand out a broken view. TensorRT's bindings up to 10.14 on NumPy 2 return strides
            (0,): every element reads as the first.
    """
    if array.size > 1 and array.strides != (array.itemsize,):
        raise TensorRTError(
            f"reading back '{name}': the bindings return {array.size} weights with strides {array.strides}, wanted"
            f" ({array.itemsize},), so every weight reads as the first: TensorRT's bindings up to 10.14 do this on"
            f" NumPy 2 (here {np.__version__}); install 'numpy<2', or TensorRT 10.16 or newer"
        )
    if array.size == 0:
        return None
    return np.array(array, dtype=dtype if array.dtype.kind == "f" else array.dtype)
