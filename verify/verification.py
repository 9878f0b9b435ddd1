"""Every layer of a definition against the source framework's own activations, isolated and accumulated.

inputs -> reference activations, by our names ─┬─> isolated: our layer on the reference's inputs
inputs -> interpreter, all layers ─────────────┴─> accumulated: our layer on ours
"""

from __future__ import annotations

from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from engine.interpreter import Interpreter
from engine.network import Definition
from spec.errors import TransplantFailure
from spec.layers import Layer
from verify.compare import Comparison, Difference, LayerRow, Tolerance, difference
from verify.diagnose import diagnose
from verify.hypotheses import Case, Readings

DIAGNOSED = 3
"""Failing layers that are diagnosed, the first ones: what comes later is often their echo."""


class Activations(NamedTuple):
    """What the reference computed.

    Attributes:
        arrays: by our tensor names, images as n c h w.
        names: our layer -> the reference's own tensor name.
        inputs: what it was fed, by input name, as the engine takes it.
        title: what the reference is, for people.
        input_title: where the input came from, for people.
    """

    arrays: Mapping[str, np.ndarray]
    names: Mapping[str, str]
    inputs: Mapping[str, np.ndarray]
    title: str
    input_title: str


class Verification(NamedTuple):
    """A comparison, and the arrays of its worst layers: layer -> (candidate, reference)."""

    comparison: Comparison
    arrays: Dict[str, Tuple[np.ndarray, np.ndarray]]


def verify(
    definition: Definition,
    activations: Activations,
    tolerance: Tolerance,
    readings: Callable[[str], Readings],
) -> Verification:
    """Compares every layer of the definition, run on the CPU, with the reference.

    Args:
        readings: layer name -> other ways to read its stored tensors, for the diagnosis.

    Raises:
        TensorRTError: the interpreter cannot run a layer.
    """
    graph, tensorrt = definition.graph, definition.tensorrt
    interpreter = Interpreter(definition.network, tensorrt.module)
    wanted = [name for layer in graph.layers for name in _tensors(definition, layer)]
    ours = interpreter.run(activations.inputs, fetch=wanted)
    rows: List[LayerRow] = []
    for layer in graph.layers:
        alone, problem = _isolated(definition, interpreter, layer, activations)
        rows += _rows(definition, layer, ours, alone, problem, activations, tolerance)
    rows = list(_diagnosed(definition, rows, activations, tolerance, readings))
    candidate = f"the network definition of {tensorrt.title}, run on the CPU in float32"
    comparison = Comparison(graph.name, candidate, activations.title, activations.input_title, tolerance, tuple(rows))
    return Verification(comparison, _worst_arrays(comparison, ours, activations))


def _tensors(definition: Definition, layer: Layer) -> List[str]:
    """The tensors a layer makes, by name."""
    graph = definition.graph
    return list(layer.outputs([graph.tensors[name] for name in layer.inputs]))


def reference_inputs(layer: Layer, activations: Activations) -> Optional[Tuple[np.ndarray, ...]]:
    """What the layer reads, as the reference has it; None where the reference lacks one."""
    available = {**activations.inputs, **activations.arrays}
    if any(name not in available for name in layer.inputs):
        return None
    return tuple(available[name] for name in layer.inputs)


def _isolated(
    definition: Definition, interpreter: Interpreter, layer: Layer, activations: Activations
) -> Tuple[Dict[str, np.ndarray], str]:
    """The layer's tensors from the reference's own inputs, or why that cannot be."""
    inputs = reference_inputs(layer, activations)
    if inputs is None:
        return {}, "an input of this layer has no reference"
    try:
        return interpreter.run(dict(zip(layer.inputs, inputs)), _tensors(definition, layer)), ""
    except TransplantFailure as error:
        return {}, f"cannot be run on the reference's inputs: {error}"


def _rows(
    definition: Definition,
    layer: Layer,
    ours: Mapping[str, np.ndarray],
    alone: Mapping[str, np.ndarray],
    problem: str,
    activations: Activations,
    tolerance: Tolerance,
) -> Iterator[LayerRow]:
    """A row for each tensor of a layer, normally one."""
    for name in _tensors(definition, layer):
        source = activations.names.get(name, "")
        row = LayerRow(name, layer.type, ours[name].shape, source, None, None, problem)
        if name not in activations.arrays:
            yield row._replace(
                problem="the reference has no tensor of this name; say which with reference: {tensors: ...}"
            )
            continue
        reference = activations.arrays[name]
        accumulated, accumulated_problem = _difference(ours[name], reference, tolerance)
        isolated, isolated_problem = (None, problem) if problem else _difference(alone[name], reference, tolerance)
        problem_found = isolated_problem or accumulated_problem
        yield row._replace(isolated=isolated, accumulated=accumulated, problem=problem_found)


def _difference(candidate: np.ndarray, reference: np.ndarray, tolerance: Tolerance) -> Tuple[Optional[Difference], str]:
    try:
        return difference(candidate, reference, tolerance), ""
    except ValueError as error:
        return None, str(error)


def _diagnosed(
    definition: Definition,
    rows: List[LayerRow],
    activations: Activations,
    tolerance: Tolerance,
    readings: Callable[[str], Readings],
) -> Iterator[LayerRow]:
    """The rows, the first few that fail by themselves with a diagnosis."""
    layers = {layer.name: layer for layer in definition.graph.layers}
    left = DIAGNOSED
    for row in rows:
        fails_alone = row.isolated is None or not row.isolated.passed
        if left and fails_alone and row.layer in layers and row.layer in activations.arrays:
            left -= 1
            row = row._replace(diagnosis=_diagnosis(definition, layers[row.layer], activations, tolerance, readings))
        yield row


def _diagnosis(
    definition: Definition,
    layer: Layer,
    activations: Activations,
    tolerance: Tolerance,
    readings: Callable[[str], Readings],
) -> Tuple[str, ...]:
    inputs = reference_inputs(layer, activations)
    if inputs is None:
        return ()
    arrays = {role: array for (name, role), array in definition.arrays.items() if name == layer.name}
    case = Case(layer, inputs, arrays, activations.arrays[layer.name], readings(layer.name))
    return diagnose(case, definition.tensorrt, tolerance)


def _worst_arrays(
    comparison: Comparison, ours: Mapping[str, np.ndarray], activations: Activations
) -> Dict[str, Tuple[np.ndarray, np.ndarray]]:
    """Both arrays of the worst layer that has both, for a histogram."""
    ranked = sorted(comparison.rows, key=lambda row: row.worst_error, reverse=True)
    for row in ranked:
        if row.accumulated is not None:
            return {row.layer: (ours[row.layer], activations.arrays[row.layer])}
    return {}
