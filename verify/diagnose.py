"""Why a layer differs: each classic mistake is tried on it, through the real emitters, and what agrees is said.

Case --HYPOTHESES[type]--> Variant --define, interpret--> agrees with the reference? -> "padding 3 symmetric, but ..."
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from engine.interpreter import Interpreter
from engine.network import define
from engine.tensorrt_api import TensorRT
from spec.errors import TransplantFailure
from spec.graph import Graph
from spec.layers import TensorType
from spec.model import InputSpec
from spec.shapes import ShapeError
from verify.compare import Difference, Tolerance, difference
from verify.hypotheses import AT_FIRST, AT_LAST, HYPOTHESES, Case, Hypothesis, Variant

SHOWN = 3
"""Agreeing variants named per layer; more would mean that the input tells them apart too little."""

ROUNDING = 1e-6
"""Errors up to this, or to twice the least, are the order of additions in float32: they rank no explanation."""


class Explanation(NamedTuple):
    """A variant that agrees with the reference."""

    says: str
    error: float
    asks: str = ""

    def __str__(self) -> str:
        agrees = f"{self.says} agrees {f'to {self.error:.1g}' if self.error else 'exactly'}"
        return f"{agrees}: {self.asks}" if self.asks else agrees


def diagnose(case: Case, tensorrt: TensorRT, tolerance: Tolerance) -> Tuple[str, ...]:
    """The changed facts that bring the layer under the tolerance, in the words of hypotheses/; empty when none does."""
    own, last = (AT_FIRST, *HYPOTHESES[case.layer.type]), AT_LAST
    found = _agreeing(own, case, tensorrt, tolerance) or _agreeing(last, case, tensorrt, tolerance)
    return tuple(dict.fromkeys(str(each) for each in ranked(found)))[:SHOWN]


def ranked(found: List[Explanation]) -> List[Explanation]:
    """Best first; among those that differ by rounding only, the likely before the unlikely, as they were tried."""
    least = min((each.error for each in found), default=0.0)
    return sorted(found, key=lambda each: max(each.error, 2 * least, ROUNDING))


def _agreeing(
    hypotheses: Iterable[Hypothesis], case: Case, tensorrt: TensorRT, tolerance: Tolerance
) -> List[Explanation]:
    variants = (variant for hypothesis in hypotheses for variant in hypothesis(case))
    tried = ((variant, try_variant(variant, case.reference, tensorrt, tolerance)) for variant in variants)
    passed = [(variant, each.error) for variant, each in tried if each is not None and each.passed]
    said = {variant.says for variant, _ in passed}
    return [Explanation(each.says, error, each.asks) for each, error in passed if not said.intersection(each.unless)]


def try_variant(
    variant: Variant, reference: np.ndarray, tensorrt: TensorRT, tolerance: Tolerance
) -> Optional[Difference]:
    """What a changed layer makes of the reference's inputs, compared; None where it does not even fit."""
    try:
        graph = one_layer_graph(variant)
        if graph.tensors[variant.layer.name].shape != reference.shape:
            return None
        return difference(run_alone(graph, variant, tensorrt), reference, tolerance)
    except (TransplantFailure, ShapeError, ValueError):  # keys that contradict each other, or numbers that overflow
        tensorrt.log.take()
        return None


def one_layer_graph(variant: Variant) -> Graph:
    """A graph of this one layer, its keys checked again, that reads arrays of these shapes.

    Raises:
        ValueError: the keys contradict each other, or do not fit the inputs.
    """
    layer = type(variant.layer).model_validate(variant.layer.model_dump(by_alias=False))
    layer = layer.model_copy(update={"inputs": tuple(_feeds(variant))}).at(variant.layer.place)
    specs: Dict[str, Any] = {}
    tensors: Dict[str, TensorType] = {}
    for name, array in _feeds(variant).items():
        layout = "NCHW" if array.ndim == 4 else None
        specs[name] = InputSpec.model_construct(shape=array.shape, dtype=str(array.dtype), layout=layout)
        tensors[name] = TensorType(array.shape, str(array.dtype))
    tensors.update(layer.outputs([tensors[name] for name in layer.inputs]))
    return Graph(layer.name, specs, (layer,), (layer.name,), tensors, None)


def run_alone(graph: Graph, variant: Variant, tensorrt: TensorRT) -> np.ndarray:
    """The layer's tensor, from a network of this one layer, defined by TensorRT and run on the CPU."""
    arrays = {(variant.layer.name, role): array for role, array in variant.arrays.items()}
    with np.errstate(all="ignore"):  # a mean in the variance's place: NaN, which the comparison refuses
        interpreter = Interpreter(define(graph, arrays, tensorrt).network, tensorrt.module)
    return interpreter.run(_feeds(variant))[variant.layer.name]


def _feeds(variant: Variant) -> Mapping[str, np.ndarray]:
    return {f"{variant.layer.name}/input{position}": array for position, array in enumerate(variant.inputs)}
