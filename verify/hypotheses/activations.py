"""What is got wrong about activations: another function, another alpha, one that the reference has and we lack."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np

from spec.layers import Activation
from spec.layers.activation import NEEDS
from verify.hypotheses.case import Case, Variant, say_keys, with_inputs, with_keys

Parameters = Dict[str, Any]

DEFAULTS: Dict[str, Tuple[Parameters, ...]] = {
    # what frameworks take for a function whose parameters nobody gives
    "leaky_relu": ({"alpha": 0.3}, {"alpha": 0.2}, {"alpha": 0.1}, {"alpha": 0.01}),  # Keras, tf.nn, darknet, PyTorch
    "elu": ({"alpha": 1.0},),
    "hard_sigmoid": ({"alpha": 0.2, "beta": 0.5}, {"alpha": 1 / 6, "beta": 0.5}),  # Keras 2; Keras 3 and PyTorch
    "gelu": ({"approximate": False}, {"approximate": True}),
    "clip": (),
}
BEFORE: Dict[str, Callable[[np.ndarray], np.ndarray]] = {
    # what a config forgets between two layers
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "sigmoid": lambda x: 0.5 + 0.5 * np.tanh(0.5 * x),  # the same as 1 / (1 + exp(-x)), and never overflows
    "swish": lambda x: x * (0.5 + 0.5 * np.tanh(0.5 * x)),
}
FREE = ("alpha", "beta", "minimum", "maximum", "approximate")


def functions(case: Case) -> Iterator[Variant]:
    """The layer's own function with other parameters, then every other function."""
    now = _parameters(case.layer)
    own = case.layer.function
    for function in sorted(NEEDS, key=lambda each: each != own):
        for parameters in _parameters_of(function, case):
            if (function, parameters) != (own, now):
                says = say_keys(parameters) if function == own else _say(function, parameters)
                before = say_keys(now) if function == own else _say(own, now)
                keys = {**dict.fromkeys(FREE), **parameters, "function": function}
                yield with_keys(case, f"{before}, but {says}", **keys)


def _parameters(layer: Any) -> Parameters:
    return {key: getattr(layer, key) for key in NEEDS[layer.function]}


def _say(function: str, parameters: Parameters) -> str:
    return f"function {function}" + (f" with {say_keys(parameters)}" if parameters else "")


def _parameters_of(function: str, case: Case) -> List[Parameters]:
    """The defaults of a function, then the parameters that the reference's own numbers give."""
    return [*DEFAULTS.get(function, ({},)), *_fitted(function, case.inputs[0], case.reference)]


def _fitted(function: str, x: np.ndarray, y: np.ndarray) -> List[Parameters]:
    if x.shape != y.shape:
        return []
    if function == "clip" and y.min() < y.max():
        return [{"minimum": float(y.min()), "maximum": float(y.max())}]
    negative = x < 0
    if function not in ("leaky_relu", "elu") or not negative.any():
        return []
    bent = x[negative].astype(np.float64)
    alpha = np.median(y[negative] / (np.expm1(bent) if function == "elu" else bent))
    return [{"alpha": float(f"{alpha:.4g}")}]


def activated(case: Case) -> Iterator[Variant]:
    """The reference's tensor lies behind an activation that belongs to the layer there, as in Keras' Dense."""
    if case.candidate is not None:
        for function in ("relu", "relu6", "sigmoid", "tanh", "swish"):
            layer = Activation(name=case.layer.name, function=function)
            says = f"{case.layer.type} alone, but the reference's tensor is behind a {function}: it"
            yield Variant(says, layer, {}, (case.candidate,))


def missing_before(case: Case) -> Iterator[Variant]:
    """The source activates what the layer reads, and the config has no layer for it."""
    for position, (name, array) in enumerate(zip(case.layer.inputs, case.inputs)):
        what = "its input" if len(case.inputs) == 1 else f"its input {name}"
        for function, activated_input in _told_apart(array):
            inputs = (*case.inputs[:position], activated_input, *case.inputs[position + 1 :])
            variant = with_inputs(case, f"{what} as it is, but {what} after {function}", *inputs)
            yield variant._replace(asks="is an activation missing before it?")


def _told_apart(array: np.ndarray) -> Iterator[Tuple[str, np.ndarray]]:
    """Activated, by function; without those that change nothing, or no more than one before: relu6 where all is < 6."""
    seen = [array]
    for function, activate in BEFORE.items() if array.dtype == np.float32 else ():
        found = activate(array)
        if not any(np.array_equal(found, each) for each in seen):
            seen.append(found)
            yield function, found
