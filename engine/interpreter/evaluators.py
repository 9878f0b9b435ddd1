"""EVALUATORS: TensorRT's name of a layer type -> the function that computes it.

    function(layer, *inputs) -> array, or a tuple of arrays for a layer of several outputs

Inputs come in TensorRT's order, None where one is not set. Functions named in IN_PLACE also take `out`, an input's
array that they may overwrite.
"""

from __future__ import annotations

from typing import Any, Callable, Dict

from engine.interpreter.convolution import convolution, deconvolution
from engine.interpreter.datatypes import convert, dequantize, quantize
from engine.interpreter.matrix import fully_connected, matrix_multiply
from engine.interpreter.normalization import lrn, normalization
from engine.interpreter.pointwise import activation, elementwise, parametric_relu, scale, select, unary
from engine.interpreter.pooling import pooling
from engine.interpreter.rearrange import (
    concatenation,
    constant,
    gather,
    padding,
    shape_of,
    shuffle,
    slice_,
    squeeze,
    unsqueeze,
)
from engine.interpreter.reduction import reduce, softmax, top_k
from engine.interpreter.resize import resize

EVALUATORS: Dict[str, Callable[..., Any]] = {
    "ACTIVATION": activation,
    "CAST": convert,
    "CONCATENATION": concatenation,
    "CONSTANT": constant,
    "CONVOLUTION": convolution,
    "DECONVOLUTION": deconvolution,
    "DEQUANTIZE": dequantize,
    "ELEMENTWISE": elementwise,
    "FULLY_CONNECTED": fully_connected,
    "GATHER": gather,
    "IDENTITY": convert,
    "LRN": lrn,
    "MATRIX_MULTIPLY": matrix_multiply,
    "NORMALIZATION": normalization,
    "PADDING": padding,
    "PARAMETRIC_RELU": parametric_relu,
    "POOLING": pooling,
    "QUANTIZE": quantize,
    "REDUCE": reduce,
    "RESIZE": resize,
    "SCALE": scale,
    "SELECT": select,
    "SHAPE": shape_of,
    "SHUFFLE": shuffle,
    "SLICE": slice_,
    "SOFTMAX": softmax,
    "SQUEEZE": squeeze,
    "TOPK": top_k,
    "UNARY": unary,
    "UNSQUEEZE": unsqueeze,
}

IN_PLACE = frozenset(["ACTIVATION", "ELEMENTWISE", "SCALE", "UNARY"])
