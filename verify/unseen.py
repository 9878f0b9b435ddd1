"""What an input cannot show: relu and relu6 are the same function up to 6, so a mistaken one agrees until then."""

from __future__ import annotations

from typing import Mapping, Tuple

import numpy as np

from spec.graph import Graph
from spec.layers import Activation

SHOWN = 5
"""Layers named; the others are counted."""


def unseen_by(graph: Graph, arrays: Mapping[str, np.ndarray]) -> Tuple[str, ...]:
    """A sentence where relu and relu6 cannot be told apart by what the layers read; none where all can.

    Args:
        arrays: the reference's tensors and the inputs, by our names.
    """
    alike = ("relu", "relu6")
    layers = [each for each in graph.layers if isinstance(each, Activation) and each.function in alike]
    low = [each.name for each in layers if each.inputs[0] in arrays and (arrays[each.inputs[0]] <= 6).all()]
    if not low:
        return ()
    names = ", ".join(low[:SHOWN]) + (", ..." if low[SHOWN:] else "")
    counted = f"in {len(low)} of {len(layers)} layers this input reaches no value above 6"
    return (f"relu and relu6 not told apart: {counted} ({names}); an --input of larger numbers would",)
