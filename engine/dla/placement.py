"""Graph -> DlaPlan: every layer on the DLA or the GPU, and the tensors that go from one to the other.

    conv bn relu | flatten fc          one hop: relu, 1 x 64 x 7 x 7, 6,272 bytes
       DLA             GPU
"""

from __future__ import annotations

from math import prod
from typing import Container, Dict, List, Mapping, NamedTuple, Optional, Set, Tuple

from engine.dla.case import Accelerator, Case
from engine.dla.rules import reason
from engine.quantization import quantized_reads
from spec.graph import Graph
from spec.layers import Layer, TensorType
from spec.shapes import Shape

DLA, GPU = "DLA", "GPU"
RULE, ASKED = "rule", "asked"
MOST_SUBNETWORKS = 16
"""Guide: only so many loadables can be loaded at once on a core."""

QUANTIZED = "int8 here is layers that quantize; a DLA takes it as ranges of tensors only. In fp16 it runs"
"""NVIDIA/TensorRT issue 2222 and NVIDIA/Model-Optimizer pull 1661: explicit quantization is not supported on a DLA."""


class Placement(NamedTuple):
    """Where a layer runs, why not on the DLA, and whether TensorRT was asked or a rule says so."""

    layer: Layer
    device: str
    reason: str
    source: str


class Hop(NamedTuple):
    """A tensor that one device makes and the other reads; counted once, however many layers read it.

    Attributes:
        bytes: its size in fp16 for the batch of the plan, what has to be converted and moved.
    """

    tensor: str
    source: str
    target: str
    shape: Shape
    bytes: int


class DlaPlan(NamedTuple):
    """What runs where."""

    placements: Tuple[Placement, ...]
    hops: Tuple[Hop, ...]
    subnetworks: int

    def on(self, device: str) -> List[Placement]:
        return [placement for placement in self.placements if placement.device == device]


def plan_dla(
    graph: Graph,
    accelerator: Accelerator,
    precisions: Mapping[str, str],
    asked: Optional[Mapping[str, str]] = None,
) -> DlaPlan:
    """Places every layer.

    Args:
        precisions: fp32, tf32, fp16 or int8 by layer name.
        asked: TensorRT's own answer, a reason or "", by layer name; it replaces the rule.
    """
    placements, quantized = [], quantized_reads(graph, precisions)
    for layer in graph.layers:
        known = asked is not None and layer.name in asked
        why = asked[layer.name] if known else _rule(graph, layer, accelerator, precisions, quantized)  # type: ignore[index]
        placements.append(Placement(layer, GPU if why else DLA, why, ASKED if known else RULE))
    devices = {placement.layer.name: placement.device for placement in placements}
    return DlaPlan(tuple(placements), find_hops(graph, devices), count_subnetworks(graph, devices))


def _rule(
    graph: Graph, layer: Layer, accelerator: Accelerator, precisions: Mapping[str, str], quantized: Container[str]
) -> str:
    batch = graph.batch
    if batch is not None and not batch.min == batch.opt == batch.max:
        return "the batch is dynamic: a DLA has fixed sizes"
    word = precisions[layer.name]
    if word in ("fp32", "tf32"):
        return f"computes in {word}: a DLA has fp16 and int8"
    if layer.name in quantized:
        return QUANTIZED
    inputs = tuple(_sized(graph, name) for name in layer.inputs)
    return reason(Case(layer, inputs, _sized(graph, layer.name), accelerator))


def _sized(graph: Graph, name: str) -> TensorType:
    """A tensor with the batch that it is planned for."""
    tensor = graph.tensors[name]
    batch = graph.batch.opt if graph.batch is not None else tensor.shape[0]
    return tensor._replace(shape=(batch,) + tuple(tensor.shape[1:])) if tensor.shape[0] < 0 else tensor


def makers(graph: Graph) -> Dict[str, Layer]:
    """The layer behind each tensor that moves at run time; constants are folded into what reads them."""
    return {name: layer for layer in graph.layers if layer.type != "constant" for name in layer.tensor_names}


def find_hops(graph: Graph, devices: Mapping[str, str]) -> Tuple[Hop, ...]:
    """Every tensor that crosses. Inputs and outputs of the network are not counted: they are converted in any case."""
    made = makers(graph)
    hops: Dict[Tuple[str, str], Hop] = {}
    for layer in graph.layers:
        target = devices[layer.name]
        for name in layer.inputs:
            source = devices[made[name].name] if name in made else target
            if source != target:
                shape = _sized(graph, name).shape
                hops[name, target] = Hop(name, source, target, shape, 2 * prod(shape))
    return tuple(hops.values())


def count_subnetworks(graph: Graph, devices: Mapping[str, str]) -> int:
    """How many pieces the DLA's part falls into: layers that touch, and that no path through the GPU parts."""
    made = makers(graph)
    stage: Dict[str, int] = {}
    piece: Dict[str, Set[str]] = {}
    for layer in graph.layers:
        device = devices[layer.name]
        before = [made[name].name for name in layer.inputs if name in made]
        stage[layer.name] = max((stage[name] + (devices[name] != device) for name in before), default=0)
        near = [name for name in before if (stage[name], devices[name]) == (stage[layer.name], device)]
        joined = {layer.name}.union(*(piece[name] for name in near))
        piece.update(dict.fromkeys(joined, joined))
    return len({id(piece[layer.name]) for layer in graph.layers if devices[layer.name] == DLA})
