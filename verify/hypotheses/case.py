"""Case and Variant: a layer that differs from its reference, and the same layer with one fact changed."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from spec.layers import Layer

Readings = Callable[[str], Iterator[Tuple[str, np.ndarray]]]
"""role -> other ways to read its stored tensor, each with words for it; see weights/readings.py."""


class Case(NamedTuple):
    """A layer that differs.

    Attributes:
        layer: as the config has it.
        inputs: what it reads, as the reference has it.
        arrays: its parameters by role.
        reference: what it should have made of the inputs.
        readings: other ways to read its parameters.
        candidate: what it made of the inputs; None where it does not take their shapes, or makes another shape.
        others: the reference's tensors by our names: what the layer might have read instead.
        stored: every layer's parameters by layer and role: what it might have got instead.
    """

    layer: Any
    inputs: Tuple[np.ndarray, ...]
    arrays: Mapping[str, np.ndarray]
    reference: np.ndarray
    readings: Readings
    candidate: Optional[np.ndarray] = None
    others: Mapping[str, np.ndarray] = {}
    stored: Mapping[Tuple[str, str], np.ndarray] = {}


class Variant(NamedTuple):
    """One changed fact.

    Attributes:
        says: the first half of a sentence that ends in `agrees to 2e-07`.
        asks: a question behind that sentence, or nothing.
        unless: what likelier variants say, of which any that agrees makes this one superfluous.
    """

    says: str
    layer: Layer
    arrays: Mapping[str, np.ndarray]
    inputs: Tuple[np.ndarray, ...]
    asks: str = ""
    unless: Tuple[str, ...] = ()


Hypothesis = Callable[[Case], Iterator[Variant]]


def with_keys(case: Case, says: str, **keys: Any) -> Variant:
    """The layer with other keys; diagnose.py checks them again, since a copy does not."""
    return Variant(says, case.layer.model_copy(update=keys), case.arrays, case.inputs)


def with_arrays(case: Case, says: str, **arrays: np.ndarray) -> Variant:
    return Variant(says, case.layer, {**case.arrays, **arrays}, case.inputs)


def with_inputs(case: Case, says: str, *inputs: np.ndarray) -> Variant:
    return Variant(says, case.layer, case.arrays, inputs)


def say_pair(pair: Tuple[int, int]) -> str:
    """`3` for (3, 3), `[3, 5]` for (3, 5): as a config has it."""
    return str(pair[0]) if pair[0] == pair[1] else f"[{pair[0]}, {pair[1]}]"


def say_numbers(numbers: Any) -> str:
    """One number where all are the same to 5 digits, else the first four."""
    shown = [f"{number:.5g}" for number in np.atleast_1d(numbers)]
    if len(set(shown)) == 1:
        return shown[0]
    return "[" + ", ".join(shown[:4]) + (", ...]" if len(shown) > 4 else "]")


def say_keys(keys: Dict[str, Any]) -> str:
    """`alpha 0.2, beta 0.5`, `approximate true`."""
    return ", ".join(f"{key} {_say_value(value)}" for key, value in keys.items())


def _say_value(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value).lower()
