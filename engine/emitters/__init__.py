"""EMITTERS: layer type -> the function that adds it to a network definition.

An emitter gets the emission, our layer and the ITensors it reads; it leaves the ITensors it makes in
`emission.tensors`, under our names. A layer that becomes several calls its parts `name/part`.
"""

from __future__ import annotations

from typing import Any, Callable, Dict

from engine.emitters import activation, arithmetic, arrangement, convolution

EMITTERS: Dict[str, Callable[..., Any]] = {
    "convolution": convolution.convolution,
    "depthwise_convolution": convolution.depthwise_convolution,
    "deconvolution": convolution.deconvolution,
    "dense": convolution.dense,
    "pooling": convolution.pooling,
    "batch_norm": arithmetic.batch_norm,
    "scale": arithmetic.scale,
    "lrn": arithmetic.lrn,
    "activation": activation.activation,
    "prelu": activation.prelu,
    "softmax": activation.softmax,
    "elementwise": arithmetic.elementwise,
    "reduce": arithmetic.reduce,
    "argmax": arithmetic.argmax,
    "top_k": arithmetic.top_k,
    "constant": arithmetic.constant,
    "cast": arithmetic.cast,
    "concatenation": arrangement.concatenation,
    "flatten": arrangement.flatten,
    "reshape": arrangement.reshape,
    "transpose": arrangement.transpose,
    "squeeze": arrangement.squeeze,
    "padding": arrangement.padding,
    "slice": arrangement.slice_,
    "gather": arrangement.gather,
    "resize": arrangement.resize,
}
