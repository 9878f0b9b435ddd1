"""What an input cannot show: relu6 is relu up to 6, clip has no bound until it is passed, zeros fit any kernel.

    the usual input ─> quiet layers, and what each of them lacks ─┐
    a louder input ──> the reference once more ───────────────────┴─> where it lacks less: judged by itself on that
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from spec.graph import Graph
from spec.layers import Activation, Layer

LOUDER = 32
"""A louder input's numbers beside the usual ones: a network with batch norm carries that to its last activation."""

ALIKE = ("relu", "relu6")
SHOWN = 5
"""Layers named; the others are counted."""

ABOVE_6 = "a value above 6"
ZEROS = "anything but zeros"

Arrays = Mapping[str, np.ndarray]
Lacking = Mapping[str, Sequence[str]]


def quiet_layers(graph: Graph, arrays: Arrays) -> Dict[str, Tuple[str, ...]]:
    """What layers would have to read to show all that they do: `anything but zeros`, `a value above 6`.

    Args:
        arrays: the reference's tensors and the inputs, by our names; layers whose inputs are not there are left out.
    """
    known = (layer for layer in graph.layers if layer.inputs and all(name in arrays for name in layer.inputs))
    found = {layer.name: tuple(_lacking(layer, arrays)) for layer in known}
    return {name: lacking for name, lacking in found.items() if lacking}


def tensors_of(graph: Graph, names: Sequence[str]) -> List[str]:
    """What these layers read and make: all that is fetched of a louder input."""
    chosen = [layer for layer in graph.layers if layer.name in names]
    return list(dict.fromkeys(name for layer in chosen for name in (*layer.inputs, *layer.tensor_names)))


def louder_layers(graph: Graph, quiet: Lacking, loud: Arrays) -> Tuple[str, ...]:
    """Quiet layers that lack less on a louder input, as long as its numbers are finite there."""
    still = quiet_layers(graph, loud)
    better = [layer for layer in graph.layers if len(still.get(layer.name, ())) < len(quiet.get(layer.name, ()))]
    tensors = {layer.name: [*layer.inputs, *layer.tensor_names] for layer in better}
    return tuple(
        name for name, read in tensors.items() if all(each in loud and np.isfinite(loud[each]).all() for each in read)
    )


def reads_zeros(layer: Layer, arrays: Arrays) -> bool:
    """Whether all that a layer reads is zero."""
    return bool(layer.inputs) and not any(arrays[name].any() for name in layer.inputs)


def _lacking(layer: Layer, arrays: Arrays) -> Iterator[str]:
    made = [arrays[name] for name in layer.tensor_names if name in arrays]
    floats = [array for array in made if array.dtype.kind == "f"]  # an index may be 0
    if reads_zeros(layer, arrays) or (floats and not any(array.any() for array in floats)):
        yield ZEROS
    if isinstance(layer, Activation):
        read, (low, high) = arrays[layer.inputs[0]], _bounds(layer)
        if high is not None and not read.max() > high:
            yield f"a value above {high:g}"
        if low is not None and not read.min() < low:
            yield f"a value below {low:g}"


def _bounds(layer: Activation) -> Tuple[Optional[float], Optional[float]]:
    """What an input must pass on either side; relu's own zero needs no watching, since all networks pass it."""
    if layer.function == "clip":
        return layer.minimum, layer.maximum
    return None, 6.0 if layer.function in ALIKE else None


def other_function(layer: Layer, functions: Mapping[str, str]) -> str:
    """A sentence where the reference has relu6 for our relu, or relu for relu6, whatever the numbers; else nothing."""
    theirs = functions.get(layer.name)
    if not isinstance(layer, Activation) or layer.function not in ALIKE or theirs in (None, layer.function):
        return ""
    return f"the function is {layer.function}, the reference's is {theirs}"


def unseen(
    graph: Graph,
    quiet: Lacking,
    usual: Arrays,
    loud: Optional[Arrays] = None,
    functions: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[str]:
    """Sentences on what is shown by a louder input alone, and on what not even so.

    Args:
        quiet: `quiet_layers` of the usual input.
        usual: the reference's tensors and the inputs, by our names.
        loud: the same on a louder input, of the quiet layers at least.
        functions: relu or relu6 by layer, where the reference says which.
    """
    told = louder_layers(graph, quiet, loud) if loud is not None else ()
    better = quiet_layers(graph, loud) if loud is not None else {}
    still = {**quiet, **{name: better.get(name, ()) for name in told}}
    floats = any(spec.dtype != "uint8" for spec in graph.inputs.values())
    cure = "; an --input of larger numbers would" if floats and loud is None else ""
    clamp = _shown_clamp(graph, usual, {} if loud is None else dict.fromkeys(told, loud))
    tried = "this input reaches no value"
    if loud is not None:
        tried = f"neither this input nor one {LOUDER} times as loud reaches a value"
    alike = _activations(graph, ALIKE)
    named = [name for name in alike if name in functions and ABOVE_6 in still.get(name, ())]
    if named:
        yield f"relu and relu6 are told apart in {len(named)} of {len(alike)} layers by the reference's own word alone"
    quiet, still = (_without(named, facts) for facts in (quiet, still))
    yield from _alike(graph, quiet, still, clamp, f"{tried} above 6", cure)
    yield from _clipped(graph, quiet, still, cure)
    silent = [name for name, lacking in still.items() if ZEROS in lacking]
    if silent:
        louder = f" and on one {LOUDER} times as loud" if loud is not None else ""
        verb = "reads or gives" if len(silent) == 1 else "read or give"
        yield f"{_listed(silent)} {verb} only zeros on this input{louder}: that proves no kernel; another --input may"


def _without(named: Sequence[str], facts: Lacking) -> Lacking:
    """What is lacking but values above 6 in layers whose function the reference names."""
    return {name: [each for each in found if name not in named or each != ABOVE_6] for name, found in facts.items()}


def _alike(graph: Graph, quiet: Lacking, still: Lacking, clamp: str, tried: str, cure: str) -> Iterator[str]:
    """relu and relu6: told apart by values above 6."""
    names = _activations(graph, ALIKE)
    before, left = ([name for name in names if ABOVE_6 in facts.get(name, ())] for facts in (quiet, still))
    if len(before) > len(left):
        loud = f"in {len(before) - len(left)} of {len(names)} layers"
        yield f"relu and relu6 are told apart {loud} by an input {LOUDER} times as loud{clamp}"
    if left:
        where = f"in {len(left)} of {len(names)} layers {tried}"
        yield f"relu and relu6 not told apart: {where} ({_listed(left)}){cure}"


def _clipped(graph: Graph, quiet: Lacking, still: Lacking, cure: str) -> Iterator[str]:
    """clip: a bound is shown by values beyond it."""
    names = _activations(graph, ("clip",))
    lacking = {name: [each for each in still.get(name, ()) if each != ZEROS] for name in names}
    shown = [name for name in names if name in quiet and not lacking[name]]
    if shown:
        yield f"both bounds of clip are shown in {len(shown)} of {len(names)} layers by an input {LOUDER} times as loud"
    left = {name: " and no ".join(each[2:] for each in found) for name, found in lacking.items() if found}
    if left:
        yield f"bounds of clip not shown: {_listed([f'{name} reads no {what}' for name, what in left.items()])}{cure}"


def _shown_clamp(graph: Graph, usual: Arrays, loud: Mapping[str, Arrays]) -> str:
    """Up to where a relu that the source clamps would have shown: Hardtanh(0, 20) is no relu6."""
    read = {layer.name: layer.inputs[0] for layer in graph.layers if layer.name in _activations(graph, ("relu",))}
    known = ((loud.get(name, usual), source) for name, source in read.items())
    largest = [float(arrays[source].max()) for arrays, source in known if source in arrays]
    return f", and so would be a clamp up to {min(largest):.3g}" if largest and min(largest) > 6 else ""


def _activations(graph: Graph, functions: Sequence[str]) -> List[str]:
    return [layer.name for layer in graph.layers if isinstance(layer, Activation) and layer.function in functions]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if names[SHOWN:] else "")
