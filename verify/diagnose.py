"""Why a layer differs: each classic mistake is tried on it, through the real emitters, and what agrees is said.

Case --HYPOTHESES[type]--> Variant --define, interpret--> agrees with the reference? -> "padding 3 symmetric, but ..."
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np

from engine.interpreter import Interpreter
from engine.network import define
from engine.tensorrt_api import TensorRT
from spec.errors import TransplantFailure
from spec.graph import Graph
from spec.layers import Layer, TensorType
from spec.model import InputSpec
from spec.shapes import ShapeError
from verify.compare import Difference, Tolerance, difference
from verify.hypotheses import HYPOTHESES, Case, Variant

SHOWN = 3
"""Agreeing variants named per layer; more would mean that the input tells them apart too little."""


def diagnose(case: Case, tensorrt: TensorRT, tolerance: Tolerance) -> Tuple[str, ...]:
    """The changed facts that bring the layer under the tolerance, in the words of hypotheses.py; empty when none does."""
    found: List[str] = []
    for variant in variants(case):
        agreement = try_variant(variant, case.reference, tensorrt, tolerance)
        if agreement is not None and agreement.passed:
            found.append(f"{variant.says} agrees to {agreement.error:.1g}")
        if len(found) == SHOWN:
            break
    return tuple(found)


def variants(case: Case) -> Iterator[Variant]:
    for hypothesis in HYPOTHESES[case.layer.type]:
        yield from hypothesis(case)


def try_variant(
    variant: Variant, reference: np.ndarray, tensorrt: TensorRT, tolerance: Tolerance
) -> Optional[Difference]:
    """What a changed layer makes of the reference's inputs, compared; None where it does not even fit."""
    try:
        return difference(run_alone(variant, tensorrt), reference, tolerance)
    except (TransplantFailure, ShapeError, ValueError):  # other shapes: this variant is not the explanation
        return None


def run_alone(variant: Variant, tensorrt: TensorRT) -> np.ndarray:
    """A network of this one layer, defined by TensorRT and run on the CPU."""
    names = [f"input{position}" for position in range(len(variant.inputs))]
    layer = validated(variant.layer).model_copy(update={"inputs": tuple(names)})
    graph = one_layer_graph(layer, dict(zip(names, variant.inputs)))
    arrays = {(layer.name, role): array for role, array in variant.arrays.items()}
    interpreter = Interpreter(define(graph, arrays, tensorrt).network, tensorrt.module)
    return interpreter.run(dict(zip(names, variant.inputs)))[layer.name]


def validated(layer: Layer) -> Layer:
    """The layer with its keys checked again, since copies are not; ValueError where they contradict each other."""
    return type(layer).model_validate(layer.model_dump(by_alias=False)).at(layer.place)


def one_layer_graph(layer: Layer, inputs: Mapping[str, np.ndarray]) -> Graph:
    """A graph that reads arrays of these shapes and holds one layer."""
    specs: Dict[str, Any] = {}
    tensors: Dict[str, TensorType] = {}
    for name, array in inputs.items():
        layout = "NCHW" if array.ndim == 4 else None
        specs[name] = InputSpec.model_construct(shape=array.shape, dtype=str(array.dtype), layout=layout)
        tensors[name] = TensorType(array.shape, str(array.dtype))
    tensors.update(layer.outputs([tensors[name] for name in inputs]))
    return Graph(layer.name, specs, (layer,), (layer.name,), tensors, None)
