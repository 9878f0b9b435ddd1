"""TensorRT's own answer, where there is a DLA: can_run_on_DLA for each of its layers."""

from __future__ import annotations

from typing import Any, Dict, List

from engine.naming import owner_of
from engine.network import Definition

NEUTRAL = ("CONSTANT", "CAST", "QUANTIZE", "DEQUANTIZE")
"""TensorRT's layers that are folded or fused away where we add them to a layer, so that their device says nothing of
its device. A constant or a cast that is a layer of the graph says what that layer's is."""


def ask(definition: Definition, config: Any) -> Dict[str, str]:
    """What TensorRT says of each of our layers: "", or which of its own layers it refuses.

    Args:
        config: a builder configuration with the precision's flags and the DLA set.
    """
    refused: Dict[str, List[str]] = {layer.name: [] for layer in definition.graph.layers}
    for added in asked_layers(definition):
        owner = owner_of(added.name, refused)
        if owner is not None and not config.can_run_on_DLA(added):
            refused[owner].append(added.name)
    return {name: f"TensorRT refuses {', '.join(parts)}" if parts else "" for name, parts in refused.items()}


def asked_layers(definition: Definition) -> List[Any]:
    """TensorRT's layers but those that are NEUTRAL."""
    ours = {layer.name for layer in definition.graph.layers}
    return [added for added in definition.network if added.name in ours or added.type.name not in NEUTRAL]
