"""The layer vocabulary: LAYERS maps the word of a YAML file to the class that knows its keys, shape rule and slots."""

from __future__ import annotations

from typing import Dict, Type

from spec.layers.activation import Activation, ParametricRelu, Softmax
from spec.layers.arithmetic import ArgMax, Cast, Constant, Elementwise, Reduce, TopK
from spec.layers.arrangement import (
    Concatenation,
    Flatten,
    Gather,
    Padding,
    Reshape,
    Resize,
    Slice,
    Squeeze,
    Transpose,
)
from spec.layers.convolution import Convolution, Deconvolution, Dense, DepthwiseConvolution
from spec.layers.layer import Layer, Slot, TensorType, WeightedLayer
from spec.layers.normalization import BatchNorm, LocalResponseNorm, Scale
from spec.layers.pooling import Pooling

LAYERS: Dict[str, Type[Layer]] = {
    "convolution": Convolution,
    "depthwise_convolution": DepthwiseConvolution,
    "deconvolution": Deconvolution,
    "dense": Dense,
    "pooling": Pooling,
    "batch_norm": BatchNorm,
    "scale": Scale,
    "lrn": LocalResponseNorm,
    "activation": Activation,
    "prelu": ParametricRelu,
    "softmax": Softmax,
    "elementwise": Elementwise,
    "reduce": Reduce,
    "argmax": ArgMax,
    "top_k": TopK,
    "constant": Constant,
    "cast": Cast,
    "concatenation": Concatenation,
    "flatten": Flatten,
    "reshape": Reshape,
    "transpose": Transpose,
    "squeeze": Squeeze,
    "padding": Padding,
    "slice": Slice,
    "gather": Gather,
    "resize": Resize,
}

__all__ = ["LAYERS", "Layer", "Slot", "TensorType", "WeightedLayer"] + [cls.__name__ for cls in LAYERS.values()]
