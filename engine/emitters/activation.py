"""Emitters of the activations: TensorRT's own where it has them, composed of its layers elsewhere."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, Tuple

import numpy as np

from engine.emission import Emission
from engine.emitters.arithmetic import add_elementwise
from spec.layers import Activation, ParametricRelu, Softmax
from spec.layers.layer import axis_number

Parameters = Callable[[Activation], Tuple[Any, Any]]

ACTIVATIONS: Dict[str, Tuple[str, Parameters]] = {
    # function: TensorRT's activation, and the alpha and beta it takes
    "relu": ("RELU", lambda layer: (None, None)),
    "relu6": ("CLIP", lambda layer: (0.0, 6.0)),
    "clip": ("CLIP", lambda layer: (layer.minimum, layer.maximum)),
    "leaky_relu": ("LEAKY_RELU", lambda layer: (layer.alpha, None)),
    "elu": ("ELU", lambda layer: (layer.alpha, None)),
    # Klambauer et al., 2017, arXiv:1706.02515, equation 14
    "selu": ("SELU", lambda layer: (1.6732632423543772, 1.0507009873554805)),
    "sigmoid": ("SIGMOID", lambda layer: (None, None)),
    "hard_sigmoid": ("HARD_SIGMOID", lambda layer: (layer.alpha, layer.beta)),
    "tanh": ("TANH", lambda layer: (None, None)),
    "softplus": ("SOFTPLUS", lambda layer: (1.0, 1.0)),
    "softsign": ("SOFTSIGN", lambda layer: (None, None)),
}


def activation(emission: Emission, layer: Activation, source: Any) -> None:
    if layer.function in COMPOSED:
        added = COMPOSED[layer.function](emission, layer, source)
    else:
        word, parameters = ACTIVATIONS[layer.function]
        added = _activated(emission, source, word, *parameters(layer))
    emission.tensors[layer.name] = emission.whole(added)


def _activated(emission: Emission, source: Any, word: str, alpha: Any = None, beta: Any = None) -> Any:
    added = emission.network.add_activation(source, getattr(emission.trt.ActivationType, word))
    given = {key: value for key, value in (("alpha", alpha), ("beta", beta)) if value is not None}
    return emission.setting(added, **given)


def _swish(emission: Emission, layer: Activation, source: Any) -> Any:
    """x * sigmoid(x)."""
    gate = emission.part("sigmoid", _activated(emission, source, "SIGMOID"))
    return add_elementwise(emission, source, gate, "PROD")


def _hard_swish(emission: Emission, layer: Activation, source: Any) -> Any:
    """x * clip(x / 6 + 1 / 2, 0, 1). Howard et al., 2019, arXiv:1905.02244, section 5.2."""
    gate = emission.part("hard_sigmoid", _activated(emission, source, "HARD_SIGMOID", 1 / 6, 0.5))
    return add_elementwise(emission, source, gate, "PROD")


def _gelu(emission: Emission, layer: Activation, source: Any) -> Any:
    """x / 2 * (1 + erf(x / sqrt 2)), or its tanh form. Hendrycks and Gimpel, 2016, arXiv:1606.08415, section 2."""
    if emission.tensorrt.has("gelu activation"):
        return _activated(emission, source, "GELU_TANH" if layer.approximate else "GELU_ERF")
    if layer.approximate:
        square = emission.part("square", add_elementwise(emission, source, source, "PROD"))
        bend = _linear(emission, "bend", square, 0.044715, 1.0)
        inner = emission.part("inner", add_elementwise(emission, source, bend, "PROD"))
        scaled = _linear(emission, "scaled", inner, math.sqrt(2 / math.pi))
        bounded = emission.part("tanh", _activated(emission, scaled, "TANH"))
    else:
        scaled = _linear(emission, "scaled", source, math.sqrt(0.5))
        bounded = emission.part("erf", emission.network.add_unary(scaled, emission.trt.UnaryOperation.ERF))
    return add_elementwise(emission, source, _linear(emission, "gate", bounded, 0.5, 0.5), "PROD")


COMPOSED: Dict[str, Callable[[Emission, Activation, Any], Any]] = {
    # functions that TensorRT has no layer for, or not in every version
    "swish": _swish,
    "hard_swish": _hard_swish,
    "gelu": _gelu,
}


def _linear(emission: Emission, name: str, source: Any, scale: float, shift: float = 0.0) -> Any:
    """x * scale + shift as part `name`, with one number for all elements, whatever the rank."""

    def number(part: str, value: float) -> Any:
        return emission.constant(f"{name}/{part}", emission.typed(np.full((1,) * len(source.shape), value), source))

    product = add_elementwise(emission, source, number("scale", scale), "PROD")
    if not shift:
        return emission.part(name, product)
    product = emission.part(f"{name}/product", product)
    return emission.part(name, add_elementwise(emission, product, number("shift", shift), "SUM"))


def prelu(emission: Emission, layer: ParametricRelu, source: Any) -> None:
    slope = emission.constant("alpha", emission.array("alpha", source)[np.newaxis])
    emission.tensors[layer.name] = emission.whole(emission.network.add_parametric_relu(source, slope))


def softmax(emission: Emission, layer: Softmax, source: Any) -> None:
    axes = 1 << axis_number(layer.axis, len(source.shape))
    emission.tensors[layer.name] = emission.whole(emission.setting(emission.network.add_softmax(source), axes=axes))
