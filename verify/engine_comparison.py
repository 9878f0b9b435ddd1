"""An engine on the GPU against the reference: what is seen inside one, and the outputs of the one that is shipped.

    reference activations ──────────────────────────┬─> LayerRow(accumulated, shipped) ─> Comparison with notes
    an engine opened to be looked into ─ inside ────┤
    the engine as it is deployed ─ shipped ─────────┘   both outputs ─> whether looking changed the engine

Marking a tensor keeps TensorRT from fusing over it, so the two engines are not the same: the shipped one is judged.
"""

from __future__ import annotations

from typing import Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from engine.inside import WAYS
from engine.interpreter import Interpreter
from engine.network import Definition
from engine.tolerance import OUTPUT_TOLERANCES, coarsest
from spec.graph import Graph
from spec.layers import Layer
from verify.choices import choice_notes, with_choice
from verify.compare import Comparison, Difference, LayerRow, Tolerance, difference
from verify.verification import Activations, Verification, worst_arrays

Arrays = Mapping[str, np.ndarray]

SHOWN_NAMES = 8
"""Fused layers named in a note."""


class Seen(NamedTuple):
    """What the engines gave.

    Attributes:
        inside: by tensor name, the tensors and outputs of the engine that was looked into.
        shipped: by name, the outputs of the engine that is deployed.
        way: a row of engine.inside.WAYS.
        title: what the engines are, for people.
        instead: where no engine could be looked into, what `inside` is of instead, for people.
    """

    inside: Arrays
    shipped: Arrays
    way: str
    title: str
    instead: str = ""


def interpreted_activations(definition: Definition, inputs: Arrays, input_title: str) -> Activations:
    """Our own fp32 definition run on the CPU in float64, where the source framework cannot be asked.

    It shares every mistake of the config, so it proves the engine, not the model; its title says so.
    """
    names = definition.graph.made
    arrays = Interpreter(definition.network, definition.tensorrt.module, np.float64).run(inputs, names)
    title = "our own network definition, run on the CPU in float64: this proves the engine, not the model"
    return Activations(arrays, {name: name for name in names}, inputs, title, input_title)


def compare_engine(
    graph: Graph, activations: Activations, seen: Seen, words: Sequence[str], tolerance: Tolerance
) -> Verification:
    """A row for every tensor that the engine has; outputs are judged in every precision, layers in fp32 alone.

    A tensor that is missing fails, unless the way of looking leaves TensorRT to fuse: then a note lists it.

    Args:
        words: the precisions in the engine.
    """
    layers_judged = tuple(words) == ("fp32",)
    rows, fused = [], []
    for layer in graph.layers:
        for name in layer.tensor_names:
            if name not in seen.inside and WAYS[seen.way].keeps_fusion:
                fused.append(name)
            else:
                judged = ("accumulated",) * layers_judged + ("shipped",) * (name in graph.outputs)
                rows.append(_row(graph, layer, name, activations, seen, tolerance)._replace(judged=judged))
    notes = [*choice_notes(rows), *_disagreements(graph, seen, tolerance)]
    notes += [*_fused_note(fused, len(rows)), *_judged_note(words)]
    sources = (f"{seen.title}, {seen.instead or WAYS[seen.way].says}", activations.title, activations.input_title)
    comparison = Comparison(graph.name, *sources, tolerance, tuple(rows), tuple(notes))
    return Verification(comparison, worst_arrays(comparison, seen.inside, activations))


def _row(
    graph: Graph, layer: Layer, name: str, activations: Activations, seen: Seen, tolerance: Tolerance
) -> LayerRow:
    reference = activations.arrays.get(name)
    shape = tuple(reference.shape) if reference is not None else tuple(graph.tensors[name].shape)
    row = LayerRow(name, layer.type, shape, activations.names.get(name, ""), None, None)
    if reference is None:
        return row._replace(problem="the reference has no tensor of this name")
    accumulated, problem = _against(reference, seen.inside, name, "the engine", tolerance)
    accumulated = with_choice(accumulated, layer, name, seen.inside.get(name), activations.tensors, tolerance)
    shipped, missing = None, ""
    if name in graph.outputs:
        shipped, missing = _against(reference, seen.shipped, name, "the shipped engine", tolerance)
        shipped = with_choice(shipped, layer, name, seen.shipped.get(name), activations.tensors, tolerance)
    return row._replace(accumulated=accumulated, shipped=shipped, problem=problem or missing)


def _against(
    reference: np.ndarray, arrays: Arrays, name: str, whose: str, tolerance: Tolerance
) -> Tuple[Optional[Difference], str]:
    if name not in arrays:
        return None, f"{whose} has no tensor of this name"
    try:
        return difference(arrays[name], reference, tolerance), ""
    except ValueError as error:
        return None, f"{whose}: {error}"


def _disagreements(graph: Graph, seen: Seen, tolerance: Tolerance) -> Iterator[str]:
    """For each output whether looking into the engine changed it, and by how much."""
    verb = "marking" if seen.way == "marked" else "looking"
    for name in graph.outputs:
        if name not in seen.inside or name not in seen.shipped:
            continue
        found, problem = _against(seen.shipped[name], seen.inside, name, "the engine looked into", tolerance)
        if seen.instead:
            by = problem if found is None else f"{found.error:.1e} of its largest"
            yield f"layers are of {seen.instead}; its {name} and the shipped engine's differ by {by}"
        elif found is None:
            yield f"{verb} changes the engine: {name}: {problem}"
        elif found.passed:
            yield f"{verb} changes little: {name} differs by {found.error:.1e} of its largest from the shipped engine's"
        else:
            yield (
                f"{verb} changes fusion: {name} differs by {found.error:.1e} of its largest between the {seen.way} and "
                f"the shipped engine; trust the shipped one; the layers' errors are of the {seen.way} one"
            )


def _fused_note(fused: List[str], present: int) -> Iterator[str]:
    if fused:
        more = f" and {len(fused) - SHOWN_NAMES} more" if len(fused) > SHOWN_NAMES else ""
        names = f"{', '.join(fused[:SHOWN_NAMES])}{more}"
        yield f"{present} of {present + len(fused)} tensors are in the engine; TensorRT fused away {names}"


def _judged_note(words: Sequence[str]) -> Iterator[str]:
    """Why outputs may differ as they may, where layers are not judged."""
    if tuple(words) != ("fp32",):
        word = coarsest(words)
        rtol, why = OUTPUT_TOLERANCES[word]
        yield f"outputs are judged, layers only measured; the default rtol of {word} is {rtol:g}: {why}"
