"""What a search over precisions decides: which fused groups of layers are kept high, while all others are low.

graph, low, high --choice_of--> Choice(groups that differ, their costs) --spec(kept)--> PrecisionSpec
"""

from __future__ import annotations

import glob
from math import prod
from typing import AbstractSet, Container, Dict, FrozenSet, List, NamedTuple, Sequence, Tuple

from engine.fusion import fused_groups
from engine.quantization import quantized_reads
from spec.graph import Graph
from spec.layers import Layer
from spec.precision import PrecisionSpec


class Choice(NamedTuple):
    """Which groups there are to choose from.

    Attributes:
        low, high: fp32, fp16 or int8.
        groups: layers by the name of their group, its first layer; only those that differ between low and high.
        costs: multiplications of a group for one image.
    """

    low: str
    high: str
    groups: Dict[str, Tuple[str, ...]]
    costs: Dict[str, float]

    @property
    def every(self) -> FrozenSet[str]:
        return frozenset(self.groups)

    def layers(self, kept: FrozenSet[str]) -> List[str]:
        """The layers of the kept groups, in the network's order."""
        return [layer for name, group in self.groups.items() if name in kept for layer in group]

    def spec(self, kept: FrozenSet[str]) -> PrecisionSpec:
        """As a trial uses it: low by default, with exceptions."""
        names = tuple(glob.escape(name) for name in self.layers(kept))
        return PrecisionSpec.model_validate({"default": self.low, self.high: names})

    def result(self, kept: FrozenSet[str]) -> PrecisionSpec:
        """As it is written down: one word where everything is kept."""
        return PrecisionSpec.model_validate(self.high) if kept == self.every else self.spec(kept)


def choice_of(graph: Graph, low: str, high: str, spare_images: bool = False) -> Choice:
    """The groups of a graph that compute differently in both precisions.

    Args:
        spare_images: see engine.quantization.FEW_CHANNELS.
    """
    by_name = {layer.name: layer for layer in graph.layers}
    named = {group[0]: [by_name[name] for name in group] for group in fused_groups(graph)}
    quantized = quantized_reads(graph, dict.fromkeys(by_name, "int8"), spare_images)
    differing = {name: group for name, group in named.items() if _differs(graph, group, {low, high}, quantized)}
    return Choice(
        low,
        high,
        {name: tuple(layer.name for layer in group) for name, group in differing.items()},
        {name: float(sum(_multiplications(graph, layer) for layer in group)) for name, group in differing.items()},
    )


def _differs(graph: Graph, group: Sequence[Layer], words: AbstractSet[str], quantized: Container[str]) -> bool:
    """Whether two precisions are not the same here: int8 is fp16 where nothing is quantized."""
    if words == {"int8", "fp16"}:
        return any(layer.name in quantized for layer in group)
    tensors = {name for layer in group for name in (*layer.inputs, *layer.tensor_names)}
    return any(graph.tensors[name].dtype == "float32" for name in tensors)


def _multiplications(graph: Graph, layer: Layer) -> int:
    """The kernel at every output pixel; without a kernel one for each number."""
    shape = graph.tensors[layer.name].shape[1:]
    slots = layer.slots(*(graph.tensors[name].shape for name in layer.inputs))
    kernel = next((prod(slot.sizes.values()) for slot in slots if slot.role == "kernel"), None)
    return prod(shape) if kernel is None else kernel * prod(shape[1:])
