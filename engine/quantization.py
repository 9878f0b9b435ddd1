"""Which tensors an int8 network quantizes, and with what scales.

    convolution ── its input, and its kernel with a scale an output channel
    residual sum ─ its shortcut, so that TensorRT fuses the sum into the convolution before it
    average ────── its input where a convolution made it, so that the last sum ends in int8 as the others do
    image ──────── on request, only where the first convolution's result ends in int8; else it stays half
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, List, Mapping, NamedTuple, Tuple

import numpy as np

from engine.fusion import POINTWISE
from spec.graph import Graph
from spec.layers import Elementwise, Layer, Pooling, Reduce

KERNELS = ("convolution", "depthwise_convolution")
"""Layer types that become int8. TensorRT moves the int8 on into max pooling by itself. Dense layers stay half: 8.5.3.1
has no int8 kernel for them ("All of the candidates were removed, which points to the node being incorrectly marked as
an int8 node")."""

INT8_TYPES = (*KERNELS, "elementwise")
"""Layer types that compute in int8; an average reads int8 and computes in half."""

FOLDED = ("batch_norm", "scale")
"""Layer types that become the kernel's and the bias's of the convolution they read: IScaleLayers."""

FEW_CHANNELS = 4
"""TensorRT 8.5.3.1 has int8 kernels for images of so many channels only where their result is int8 too: for the first
convolution of model3, whose pooled result a concatenation reads, it says "Could not find any implementation"."""

INT8_MAX = 127


class _Neighbours(NamedTuple):
    """A graph with who makes and who reads a tensor, each layer's precision, and whether images are spared."""

    graph: Graph
    makers: Mapping[str, Layer]
    readers: Mapping[str, List[Layer]]
    words: Mapping[str, str]
    spare_images: bool


def quantized_reads(
    graph: Graph, words: Mapping[str, str], spare_images: bool = False
) -> Dict[str, Tuple[int, ...]]:
    """By layer name, which inputs an int8 layer reads quantized; layers that read none are absent.

    Args:
        words: fp32, tf32, fp16 or int8 by layer name.
        spare_images: see FEW_CHANNELS; for a TensorRT that chooses kernels by flags.
    """
    neighbours = _neighbours(graph, words, spare_images)
    found = {layer.name: _positions(neighbours, layer) for layer in graph.layers if words.get(layer.name) == "int8"}
    return {name: positions for name, positions in found.items() if positions}


def ends_in_int8(graph: Graph, words: Mapping[str, str], spare_images: bool = False) -> FrozenSet[str]:
    """The tensors of which no other form than int8 is wanted: every reader quantizes them, or what it makes of them."""
    neighbours = _neighbours(graph, words, spare_images)
    return frozenset(name for name in graph.made if _ends_in_int8(neighbours, name))


def _neighbours(graph: Graph, words: Mapping[str, str], spare_images: bool) -> _Neighbours:
    readers: Dict[str, List[Layer]] = {}
    for layer in graph.layers:
        for name in layer.inputs:
            readers.setdefault(name, []).append(layer)
    return _Neighbours(graph, {layer.name: layer for layer in graph.layers}, readers, words, spare_images)


def _positions(neighbours: _Neighbours, layer: Layer) -> Tuple[int, ...]:
    if isinstance(layer, Elementwise) and layer.function == "sum":
        return _shortcuts(neighbours, layer)
    if _is_average(layer):
        return (0,) if _from_int8_kernel(neighbours, layer.inputs[0]) else ()
    if layer.type not in KERNELS:
        return ()
    few = neighbours.graph.tensors[layer.inputs[0]].shape[1] <= FEW_CHANNELS
    return () if neighbours.spare_images and few and not _ends_in_int8(neighbours, layer.name) else (0,)


def _shortcuts(neighbours: _Neighbours, layer: Layer) -> Tuple[int, ...]:
    """The inputs of a sum but the first straight from an int8 convolution: into that one the sum is fused."""

    def from_convolution(name: str) -> bool:
        maker = neighbours.makers.get(name)
        while maker is not None and maker.type in FOLDED:
            maker = neighbours.makers.get(maker.inputs[0])
        return maker is not None and maker.type in KERNELS and neighbours.words.get(maker.name) == "int8"

    fused = next((k for k, name in enumerate(layer.inputs) if from_convolution(name)), None)
    return tuple(k for k in range(len(layer.inputs)) if k != fused) if fused is not None else ()


def _is_average(layer: Layer) -> bool:
    pooled = isinstance(layer, Pooling) and layer.function == "average"
    return pooled or isinstance(layer, Reduce) and layer.function == "mean"


def _from_int8_kernel(neighbours: _Neighbours, name: str) -> bool:
    """Whether an int8 convolution made a tensor, at once or with what is fused into it."""
    maker = neighbours.makers.get(name)
    if maker is None or neighbours.words.get(maker.name) != "int8":
        return False
    fused = maker.type in POINTWISE and any(_from_int8_kernel(neighbours, source) for source in maker.inputs)
    return maker.type in KERNELS or fused


def _ends_in_int8(neighbours: _Neighbours, name: str) -> bool:
    """Whether every reader of a tensor quantizes it, at once or behind layers that int8 is moved over."""
    readers = neighbours.readers.get(name, [])
    if not readers or name in neighbours.graph.outputs:
        return False
    return all(_ends_in(neighbours, reader, name) for reader in readers)


def _ends_in(neighbours: _Neighbours, reader: Layer, name: str) -> bool:
    if neighbours.words.get(reader.name) != "int8":
        return False
    quantized = name in [reader.inputs[position] for position in _positions(neighbours, reader)]
    return quantized or _lets_int8_pass(reader) and _ends_in_int8(neighbours, reader.name)


def _lets_int8_pass(layer: Layer) -> bool:
    """Fused into the convolution, or moved behind the quantization by TensorRT."""
    if isinstance(layer, Pooling):
        return layer.function == "max"
    return layer.type in (*FOLDED, "activation", "padding")


def quantized_tensors(graph: Graph, words: Mapping[str, str], spare_images: bool = False) -> Tuple[str, ...]:
    """Every tensor that is read quantized, once, in the order it is made."""
    reads = quantized_reads(graph, words, spare_images)
    names = (layer.inputs[position] for layer in graph.layers for position in reads.get(layer.name, ()))
    return tuple(dict.fromkeys(names))


def kernel_scales(kernel: np.ndarray) -> np.ndarray:
    """One scale an output channel (axis 0)."""
    return scales_of(np.abs(kernel.reshape(kernel.shape[0], -1)).max(1))


def scales_of(largest: Any) -> np.ndarray:
    """Largest magnitudes over 127, 1 for those that are 0; normal float32s, since kernels flush the others to 0."""
    scales = np.maximum(np.asarray(largest, np.float64) / INT8_MAX, np.finfo(np.float32).tiny)
    return np.where(np.asarray(largest) > 0, scales, 1.0).astype(np.float32)
