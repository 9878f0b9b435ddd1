"""Which layers TensorRT fuses into one kernel, so that one precision must hold for all of them.

    conv1 -> bn1 -> relu1              one group, named after its first layer
    conv3 -> bn3 -> add -> relu3       the sum of a residual block is fused into a convolution before it
      shortcut -> bn ---^              a group of its own
"""

from __future__ import annotations

from collections import Counter
from typing import Dict, List, Mapping, Tuple

from spec.graph import Graph
from spec.layers import Layer

CONVOLUTIONS = ("convolution", "depthwise_convolution", "deconvolution", "dense")
POINTWISE = ("batch_norm", "scale", "activation", "prelu", "elementwise")
"""Fused into the convolution they follow, and into each other: "Types of Fusions" of TensorRT's developer guide."""

EXACT = ("fp32", "fp16")
"""Words of exceptions, the most exact first."""


def fused_groups(graph: Graph) -> Tuple[Tuple[str, ...], ...]:
    """Every layer's name once, in groups that share a kernel, each in layer order.

    A tensor that two layers read, or that is an output, must exist, so nothing is fused across it.
    """
    types = {layer.name: layer.type for layer in graph.layers}
    readers = Counter(name for layer in graph.layers for name in layer.inputs)
    inner = {name for name, count in readers.items() if count == 1 and name not in graph.outputs}
    group_of: Dict[str, List[str]] = {}
    groups: List[List[str]] = []
    for layer in graph.layers:
        sources = [group_of[name] for name in layer.inputs if name in inner and name in group_of]
        group = _host(layer, sources, types)
        if not group:
            groups.append(group)
        group.append(layer.name)
        group_of[layer.name] = group
    return tuple(map(tuple, groups))


def _host(layer: Layer, sources: List[List[str]], types: Mapping[str, str]) -> List[str]:
    """The group that a layer joins, that of a convolution before another; an empty list where it begins one."""
    if layer.type not in POINTWISE:
        return []
    convolved = [group for group in sources if types[group[0]] in CONVOLUTIONS]
    pointwise = [group for group in sources if types[group[0]] in POINTWISE]
    return next(iter(convolved + pointwise), [])


def spread_over_groups(graph: Graph, layers: Mapping[str, str], default: str) -> Dict[str, str]:
    """Precision by layer name with each exception spread over its group; int8 layers keep theirs.

    TensorRT 8.5.3.1 refuses a group of several precisions: with conv1 fp16 and relu1 fp32 it says "Could not find any
    implementation for node conv1 + relu1". Of two exceptions in one group the more exact holds.
    """
    spread = {layer.name: layers.get(layer.name, default) for layer in graph.layers}
    for group in fused_groups(graph):
        exceptions = {spread[name] for name in group} - {default, "int8"}
        word = next((word for word in EXACT if word in exceptions), None)
        if word is not None:
            spread.update((name, word) for name in group if spread[name] != "int8")
    return spread
