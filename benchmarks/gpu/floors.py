"""Two floors under a latency, arithmetic and bytes: what the chip could do at best, by model, precision and batch.

    arithmetic   2 x multiply-adds / peak operations a second of the precision
    bytes        what groups that share a kernel read and write, and the weights once / peak memory bandwidth

Each group of fused layers reads its inputs and writes its output once; a reshape moves nothing. Every tensor counts in
the precision's own size, inputs in their own. Peaks: NVIDIA H200 SXM datasheet, dense.
"""

from __future__ import annotations

from math import prod
from typing import Dict, Iterator, NamedTuple, Tuple

import numpy as np

from engine.fusion import fused_groups
from spec.graph import Graph
from spec.layers import Layer

TERA = 1e12
OPERATIONS: Dict[str, float] = {"fp32": 67 * TERA, "tf32": 494.5 * TERA, "fp16": 989 * TERA, "int8": 1979 * TERA}
BANDWIDTH = 4.8 * TERA
SIZE: Dict[str, int] = {"fp32": 4, "tf32": 4, "fp16": 2, "int8": 1}
FREE = ("flatten", "reshape", "squeeze")


class Floor(NamedTuple):
    """Milliseconds that no engine can beat, and what they come from."""

    operations: float
    bytes: float
    arithmetic_ms: float
    bytes_ms: float

    @property
    def milliseconds(self) -> float:
        return max(self.arithmetic_ms, self.bytes_ms)


def floor_of(graph: Graph, word: str) -> Floor:
    """The floors of a graph of fixed batch in one precision."""
    operations = 2.0 * sum(_multiply_adds(graph, layer) for layer in graph.layers)
    moved = float(sum(_bytes(graph, word)))
    return Floor(operations, moved, operations / OPERATIONS[word] * 1e3, moved / BANDWIDTH * 1e3)


def _multiply_adds(graph: Graph, layer: Layer) -> int:
    """One a weight and output position: n h w x (o i j k) for a convolution, n x (o i) for a dense layer."""
    slots = {slot.role: slot.sizes for owner, slot in graph.slots() if owner is layer}
    if "kernel" not in slots:
        return 0
    shape = graph.tensors[layer.name].shape
    positions = shape[0] * prod(shape[2:])
    return positions * prod(slots["kernel"].values())


def _bytes(graph: Graph, word: str) -> Iterator[int]:
    """Bytes moved by each group, then by the weights."""
    types = {layer.name: layer.type for layer in graph.layers}
    readers: Dict[str, Tuple[str, ...]] = {layer.name: tuple(layer.inputs) for layer in graph.layers}
    for group in fused_groups(graph):
        if all(types[name] in FREE for name in group):
            continue
        outside = {source for name in group for source in readers[name] if source not in group}
        yield sum(_size(graph, name, word) for name in {*outside, group[-1]})
    yield sum(prod(slot.sizes.values()) for _, slot in graph.slots() if slot.role == "kernel") * SIZE[word]


def _size(graph: Graph, name: str, word: str) -> int:
    shape, dtype = graph.tensors[name]
    itemsize = np.dtype(dtype).itemsize if name in graph.inputs or dtype != "float32" else SIZE[word]
    return prod(shape) * itemsize
