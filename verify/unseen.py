"""What an input cannot show: relu and relu6 are the same function up to 6, so a mistaken one agrees until then.

    the usual input ─> quiet layers, which read nothing above 6 ─┐
    a louder input ──> the reference once more ──────────────────┴─> each of them by itself, on what it reads there
"""

from __future__ import annotations

from typing import Iterator, Mapping, Sequence, Tuple

import numpy as np

from spec.graph import Graph
from spec.layers import Activation

LOUDER = 32
"""A louder input's numbers beside the usual ones: a network with batch norm carries that to its last activation."""

ALIKE = ("relu", "relu6")
SHOWN = 5
"""Layers named; the others are counted."""


def quiet_layers(graph: Graph, arrays: Mapping[str, np.ndarray]) -> Tuple[str, ...]:
    """Layers where relu and relu6 cannot be told apart by what they read.

    Args:
        arrays: the reference's tensors and the inputs, by our names.
    """
    return tuple(
        layer.name
        for layer in graph.layers
        if isinstance(layer, Activation) and layer.function in ALIKE
        if layer.inputs[0] in arrays and (arrays[layer.inputs[0]] <= 6).all()
    )


def unseen(graph: Graph, quiet: Sequence[str], still: Sequence[str]) -> Iterator[str]:
    """A sentence where layers are told apart by a louder input alone, and one where not even so.

    Args:
        quiet: `quiet_layers` of the usual input.
        still: those of them that the louder input leaves quiet; all where there was none.
    """
    count = sum(isinstance(layer, Activation) and layer.function in ALIKE for layer in graph.layers)
    loud = len(quiet) - len(still)
    if loud:
        yield f"relu and relu6 are told apart in {loud} of {count} layers by an input {LOUDER} times as loud"
    if still:
        names = ", ".join(still[:SHOWN]) + (", ..." if still[SHOWN:] else "")
        counted = f"in {len(still)} of {count} layers this input reaches no value above 6"
        floats = any(spec.dtype != "uint8" for spec in graph.inputs.values())
        cure = "; an --input of larger numbers would" if floats else ""
        yield f"relu and relu6 not told apart: {counted} ({names}){cure}"
