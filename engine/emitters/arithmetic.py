"""Emitters of the layers that compute element by element, by channel or along axes."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from engine.emission import Emission
from spec.layers import (
    ArgMax,
    BatchNorm,
    Cast,
    Constant,
    Elementwise,
    Layer,
    LocalResponseNorm,
    Reduce,
    Scale,
    TopK,
)
from spec.layers.layer import axis_number, axis_numbers


def batch_norm(emission: Emission, layer: BatchNorm, source: Any) -> None:
    """x * s + b with s = gamma / sqrt(variance + epsilon) and b = beta - mean * s, folded in float64."""
    mean, variance = emission.parameter("mean", np.float64), emission.parameter("variance", np.float64)
    gamma = emission.parameter("gamma", np.float64) if layer.gamma else 1.0
    beta = emission.parameter("beta", np.float64) if layer.beta else 0.0
    factor = gamma / np.sqrt(variance + layer.epsilon)
    _scaled(emission, layer, source, factor, beta - mean * factor)


def scale(emission: Emission, layer: Scale, source: Any) -> None:
    channels = source.shape[1]

    def numbers(role: str, neutral: float) -> np.ndarray:
        if role in layer.learned:
            return emission.parameter(role, np.float64)
        written = getattr(layer, role)
        return np.broadcast_to(np.array(neutral if written is None else written, np.float64), (channels,))

    _scaled(emission, layer, source, numbers("scale", 1.0), numbers("shift", 0.0), layer.power)


def _scaled(
    emission: Emission, layer: Layer, source: Any, scale: np.ndarray, shift: np.ndarray, power: Optional[float] = None
) -> None:
    """An IScaleLayer over channels; n c goes through n c 1 1, since TensorRT 8 scales images only."""
    flat = len(source.shape) == 2
    if flat:
        source = emission.part("image", emission.reshape(source, (0, source.shape[1], 1, 1)))
    parts = (("scale", scale), ("shift", shift))
    weights = [emission.weights(part, emission.typed(numbers, source)) for part, numbers in parts]
    powers = None if power is None else emission.typed(np.full(scale.shape, power), source)
    added = add_channel_scale(emission, source, *weights, powers)
    if flat:
        added = emission.reshape(emission.part("scale", added), (0, source.shape[1]))
    emission.tensors[layer.name] = emission.whole(added)


def lrn(emission: Emission, layer: LocalResponseNorm, source: Any) -> None:
    """TensorRT divides alpha by the window, as PyTorch does; TensorFlow's alpha is of the sum."""
    alpha = layer.alpha * layer.window if layer.alpha_of == "sum" else layer.alpha
    added = emission.network.add_lrn(source, layer.window, alpha, layer.beta, layer.k)
    emission.tensors[layer.name] = emission.whole(added)


ELEMENTWISE = {"sum": "SUM", "product": "PROD", "max": "MAX", "min": "MIN", "sub": "SUB", "div": "DIV"}


def elementwise(emission: Emission, layer: Elementwise, *sources: Any) -> None:
    word = ELEMENTWISE[layer.function]
    result = sources[0]
    for position, source in enumerate(sources[1:-1], 1):
        result = emission.part(str(position), add_elementwise(emission, result, source, word))
    emission.tensors[layer.name] = emission.whole(add_elementwise(emission, result, sources[-1], word))


def add_elementwise(emission: Emission, first: Any, second: Any, word: str) -> Any:
    return emission.network.add_elementwise(first, second, getattr(emission.trt.ElementWiseOperation, word))


REDUCE = {"mean": "AVG", "sum": "SUM", "product": "PROD", "max": "MAX", "min": "MIN"}


def reduce(emission: Emission, layer: Reduce, source: Any) -> None:
    axes = sum(1 << axis for axis in axis_numbers(layer.axes, len(source.shape)))
    operation = getattr(emission.trt.ReduceOperation, REDUCE[layer.function])
    added = emission.network.add_reduce(source, operation, axes, layer.keep_dims)
    emission.tensors[layer.name] = emission.whole(added)


def top_k(emission: Emission, layer: TopK, source: Any) -> None:
    added = _top_k(emission, source, layer.k, layer.axis, layer.largest)
    emission.tensors[layer.name] = emission.whole(added)
    indices = f"{layer.name}/indices"
    emission.tensors[indices] = emission.output(added.get_output(1), indices)


def argmax(emission: Emission, layer: ArgMax, source: Any) -> None:
    added = _top_k(emission, source, 1, layer.axis, True)
    if layer.keep_dims:
        emission.part("value", added)
        added.name = layer.name
        emission.tensors[layer.name] = emission.output(added.get_output(1), layer.name)
        return
    emission.part("top_k", added)
    indices = emission.output(added.get_output(1), f"{layer.name}/indices")
    axis = axis_number(layer.axis, len(source.shape))
    kept = (0,) + tuple(size for position, size in enumerate(source.shape) if position not in (0, axis))
    emission.tensors[layer.name] = emission.whole(emission.reshape(indices, kept))


def _top_k(emission: Emission, source: Any, k: int, axis: Any, largest: bool) -> Any:
    operation = emission.trt.TopKOperation.MAX if largest else emission.trt.TopKOperation.MIN
    return emission.network.add_topk(source, operation, k, 1 << axis_number(axis, len(source.shape)))


def constant(emission: Emission, layer: Constant) -> None:
    if layer.value is None:
        array = emission.parameter("value", np.float32)
    else:
        array = np.broadcast_to(np.array(layer.value, np.float32), (int(np.prod(layer.shape)),))
    weights = emission.weights("value", emission.own(array).reshape(layer.shape))
    emission.tensors[layer.name] = emission.whole(emission.network.add_constant(layer.shape, weights))


def cast(emission: Emission, layer: Cast, source: Any) -> None:
    """An ICastLayer; TensorRT 8.5 has none, there an identity with an output type does the same."""
    wanted = emission.float_type(layer.dtype)
    if emission.tensorrt.has("cast layer"):
        added = emission.network.add_cast(source, wanted)
    else:
        added = emission.network.add_identity(source)
        added.set_output_type(0, wanted)
    emission.tensors[layer.name] = emission.whole(added)


def add_channel_scale(emission: Emission, source: Any, scale: Any, shift: Any, power: Any = None) -> Any:
    """An IScaleLayer, (x * scale + shift) ^ power with one number a channel; not yet named.

    Scale and shift are Weights, the power an array: TensorRT has no role for powers, so they can neither be named nor
    refitted. Absent weights have a type too, which TensorRT compares with that of the others.
    """
    trt = emission.trt
    powers = trt.Weights(scale.dtype if power is None else power)
    return emission.network.add_scale_nd(source, trt.ScaleMode.CHANNEL, shift, scale, powers, 1)
