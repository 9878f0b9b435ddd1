"""Every layer of a definition against the source framework's own activations, isolated and accumulated.

inputs -> reference activations, by our names ─┬─> isolated: our layer on the reference's inputs
inputs -> interpreter, all layers ─────────────┴─> accumulated: our layer on ours
"""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from engine.interpreter import Interpreter
from engine.network import Definition
from spec.errors import TransplantFailure
from spec.graph import Graph
from spec.layers import Layer
from verify.choices import choice_notes, with_choice
from verify.compare import Comparison, Difference, LayerRow, Tolerance, difference
from verify.diagnose import diagnose
from verify.hypotheses import Case, Readings
from verify.rounding import rounding_notes, with_rounding
from verify.unseen import louder_layers, other_function, quiet_layers, reads_zeros, unseen

DIAGNOSED = 3
"""Layers failing by themselves that are diagnosed, the first ones: what comes later is often their echo."""


class Activations(NamedTuple):
    """What the reference computed.

    Attributes:
        arrays: by our tensor names, images as n c h w.
        names: our layer -> the reference's own tensor name.
        inputs: what it was fed, by input name, as the engine takes it.
        title: what the reference is, for people.
        input_title: where the input came from, for people.
        functions: `relu` or `relu6` by our tensor name, where the reference says that it is that.
    """

    arrays: Mapping[str, np.ndarray]
    names: Mapping[str, str]
    inputs: Mapping[str, np.ndarray]
    title: str
    input_title: str
    functions: Mapping[str, str] = MappingProxyType({})

    @property
    def tensors(self) -> Dict[str, np.ndarray]:
        """The inputs and the arrays: all that a layer may read."""
        return {**self.inputs, **self.arrays}


class Verification(NamedTuple):
    """A comparison, and the arrays of its worst layers: layer -> (candidate, reference)."""

    comparison: Comparison
    arrays: Dict[str, Tuple[np.ndarray, np.ndarray]]


class _Alone(NamedTuple):
    """A layer's tensors from the reference's own inputs, or why there are none."""

    arrays: Mapping[str, np.ndarray]
    problem: str = ""


def verify(
    definition: Definition,
    activations: Activations,
    tolerance: Tolerance,
    readings: Callable[[str], Readings],
    loud: Optional[Activations] = None,
) -> Verification:
    """Compares every layer of the definition, run on the CPU, with the reference.

    Args:
        readings: layer name -> other ways to read its stored tensors, for the diagnosis.
        loud: the reference on a louder input, of the quiet layers at least (see unseen.py): they are judged by
            themselves on it where it shows more.

    Raises:
        TensorRTError: the interpreter cannot run a layer.
    """
    graph, tensorrt = definition.graph, definition.tensorrt
    interpreter = Interpreter(definition.network, tensorrt.module)
    ours = interpreter.run(activations.inputs, fetch=graph.made)
    rows: List[LayerRow] = []
    diagnosed = 0
    quiet = quiet_of(graph, activations)
    told = louder_layers(graph, quiet, loud.tensors) if loud is not None else ()
    for layer in graph.layers:
        given = loud if loud is not None and layer.name in told else activations
        alone = _isolated(interpreter, layer, given)
        found = list(_rows(layer, ours, alone, activations, given, tolerance))
        if diagnosed < DIAGNOSED and _diagnosable(definition, layer, found[0], given):
            case = _case(definition, layer, alone, given, readings)
            found[0] = found[0]._replace(diagnosis=diagnose(case, tensorrt, tolerance))
            diagnosed += 1
        rows += found
    rows = with_rounding(rows, ours, activations.arrays, partial(_exact, definition, activations.inputs))
    candidate = f"the network definition of {tensorrt.title}, run on the CPU in float32"
    sources = (candidate, activations.title, activations.input_title)
    hidden = unseen(graph, quiet, activations.tensors, None if loud is None else loud.tensors, activations.functions)
    notes = (*_inner_outputs(graph, activations), *choice_notes(rows), *rounding_notes(rows), *hidden)
    comparison = Comparison(graph.name, *sources, tolerance, tuple(rows), notes)
    return Verification(comparison, worst_arrays(comparison, ours, activations))


def _exact(
    definition: Definition, inputs: Mapping[str, np.ndarray], names: Sequence[str]
) -> Mapping[str, np.ndarray]:
    """Tensors of the definition in float64."""
    return Interpreter(definition.network, definition.tensorrt.module, np.float64).run(inputs, names)


def _inner_outputs(graph: Graph, activations: Activations) -> Iterator[str]:
    """A sentence on outputs that are the first half of the reference's layer: an activation may be missing."""
    for name in graph.outputs:
        theirs = activations.names.get(name, "")
        if theirs.startswith(f"{name}:"):
            words = "is a layer missing, such as an activation?"
            yield f"output '{name}' is compared with the reference's '{theirs}', from which its own goes on: {words}"


def quiet_of(graph: Graph, activations: Activations) -> Dict[str, Tuple[str, ...]]:
    """Layers that read too small numbers to show all that they do, and what each lacks."""
    return quiet_layers(graph, activations.tensors)


def _isolated(interpreter: Interpreter, layer: Layer, activations: Activations) -> _Alone:
    lacking = [name for name in layer.inputs if _reference(name, activations) is None]
    if lacking:
        return _Alone({}, f"the reference has no tensor for its input {', '.join(lacking)}")
    feeds = {name: _reference(name, activations) for name in layer.inputs}
    try:
        return _Alone(interpreter.run(feeds, layer.tensor_names))
    except TransplantFailure as error:
        return _Alone({}, f"cannot be run on the reference's inputs: {error}")


def _reference(name: str, activations: Activations) -> Optional[np.ndarray]:
    """A tensor that a layer reads, as the reference has it."""
    return activations.arrays.get(name, activations.inputs.get(name))


def _rows(
    layer: Layer,
    ours: Mapping[str, np.ndarray],
    alone: _Alone,
    activations: Activations,
    given: Activations,
    tolerance: Tolerance,
) -> Iterator[LayerRow]:
    """A row for each tensor of a layer, normally one; `given` is what the layer alone was run on.

    Alone a layer reads the reference's own scores, so its indices are equal or wrong; accumulated they may be ties.
    """
    for name in layer.tensor_names:
        row = LayerRow(name, layer.type, ours[name].shape, activations.names.get(name, ""), None, None)
        if name not in activations.arrays:
            absent = "the reference has no tensor of this name; say which with reference: {tensors: ...}"
            yield row._replace(problem=absent)
            continue
        reference = activations.arrays[name]
        accumulated, problem = _difference(ours[name], reference, tolerance)
        accumulated = with_choice(accumulated, layer, name, ours[name], activations.tensors, tolerance)
        unfed = not alone.problem and reads_zeros(layer, given.tensors)
        isolated, isolated_problem = None, alone.problem
        if not alone.problem:
            isolated, isolated_problem = _difference(alone.arrays[name], given.arrays[name], tolerance)
        problem = isolated_problem or problem or other_function(layer, activations.functions)
        yield row._replace(isolated=isolated, accumulated=accumulated, problem=problem, unfed=unfed)


def _difference(candidate: np.ndarray, reference: np.ndarray, tolerance: Tolerance) -> Tuple[Optional[Difference], str]:
    try:
        return difference(candidate, reference, tolerance), ""
    except ValueError as error:
        return None, str(error)


def _diagnosable(definition: Definition, layer: Layer, row: LayerRow, activations: Activations) -> bool:
    """Whether a layer is itself wrong, has a reference, and reads tensors whose references have the ranks of ours."""
    if layer.name not in activations.arrays or row.isolated is not None and row.isolated.passed:
        return False
    inputs = [(_reference(name, activations), definition.graph.tensors[name].shape) for name in layer.inputs]
    if not all(array is not None and array.ndim == len(shape) for array, shape in inputs):
        return False
    return all(np.isfinite(array).all() for array in (activations.arrays[layer.name], *(each for each, _ in inputs)))


def _case(
    definition: Definition,
    layer: Layer,
    alone: _Alone,
    activations: Activations,
    readings: Callable[[str], Readings],
) -> Case:
    """What there is to know about a layer that differs."""
    others = {**activations.inputs, **activations.arrays}
    arrays = {role: array for (name, role), array in definition.arrays.items() if name == layer.name}
    candidate = alone.arrays.get(layer.name)
    if candidate is not None and candidate.shape != others[layer.name].shape:
        candidate = None
    inputs = tuple(others[name] for name in layer.inputs)
    reference, stored = others[layer.name], readings(layer.name)
    return Case(layer, inputs, arrays, reference, stored, candidate, others, definition.arrays)


def worst_arrays(
    comparison: Comparison, ours: Mapping[str, np.ndarray], activations: Activations
) -> Dict[str, Tuple[np.ndarray, np.ndarray]]:
    """Both arrays of the worst layer that has both, for a histogram."""
    ranked = sorted(comparison.rows, key=lambda row: row.worst_error, reverse=True)
    for row in ranked:
        if row.accumulated is not None:
            return {row.layer: (ours[row.layer], activations.arrays[row.layer])}
    return {}
