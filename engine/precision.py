"""How a network computes in fp16 and int8 on each TensorRT: as flags where it has them, as types of tensors elsewhere.

    weakly typed (8.5 to 10.16)    tensors stay float, builder flags FP16 and INT8, layers that differ are pinned
    strongly typed (11, RTX)       tensors are half between casts of ours; what is written is what runs

int8 is explicit on both: quantize and dequantize layers of ours around convolutions, per-channel scales for
kernels, one scale for an activation. A residual add reads its shortcut quantized, so that TensorRT fuses the add into
the convolution before it.
"""

from __future__ import annotations

from typing import Dict, Mapping, NamedTuple, Tuple

import numpy as np

from engine.tensorrt_api import TensorRT
from spec.errors import ConfigError
from spec.graph import Graph
from spec.layers import BatchNorm, Elementwise, Layer

QUANTIZED: Dict[str, Tuple[int, ...]] = {
    # layer type: which of its inputs are quantized. TensorRT moves the int8 on into pooling by itself. Dense layers
    # stay fp16: 8.5.3.1 has no int8 kernel for them ("All of the candidates were removed, which points to the node
    # being incorrectly marked as an int8 node")
    "convolution": (0,),
    "depthwise_convolution": (0,),
}
KERNELS = ("convolution", "depthwise_convolution")
INT8_MAX = 127


class Precision(NamedTuple):
    """What every layer computes in.

    Attributes:
        layers: fp32, tf32, fp16 or int8 by layer name.
        default: that of most layers.
        ranges: largest magnitude of each tensor that is quantized, by tensor name.
        typed: whether the network is strongly typed.
    """

    layers: Mapping[str, str]
    default: str
    ranges: Mapping[str, float]
    typed: bool

    def is_half(self, layer: str) -> bool:
        """Whether the layer's tensors are half: only where types are what runs."""
        return self.typed and self.layers.get(layer) in ("fp16", "int8")

    def uses(self, word: str) -> bool:
        return word == self.default or word in self.layers.values()

    def needs_half(self, graph: Graph) -> bool:
        """Whether anything at all computes in half, a tensor that the graph itself casts included."""
        explicit = any(tensor.dtype == "float16" for tensor in graph.tensors.values())
        return explicit or self.uses("fp16") or self.uses("int8")


FP32 = Precision({}, "fp32", {}, typed=False)


def plan_precision(
    graph: Graph,
    layers: Mapping[str, str],
    default: str,
    ranges: Mapping[str, float],
    tensorrt: TensorRT,
    place: str = "precision",
) -> Precision:
    """The precision of a graph on a TensorRT.

    Raises:
        ConfigError: int8 is asked for and ranges of tensors are missing; names them.
    """
    wanted = quantized_tensors(graph, layers)
    missing = [name for name in wanted if name not in ranges]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise ConfigError(
            f"{place}: int8 needs the ranges of {len(missing)} tensors: {shown}; write them with `run.py calibrate` "
            "and name the file with `ranges:`"
        )
    return Precision(
        dict(layers), default, {name: float(ranges[name]) for name in wanted}, not tensorrt.has("fp16 flag")
    )


def quantized_tensors(graph: Graph, layers: Mapping[str, str]) -> Tuple[str, ...]:
    """Every tensor that an int8 layer reads quantized, in the order it is made."""
    names = (
        name
        for layer in graph.layers
        if layers.get(layer.name) == "int8"
        for position, name in enumerate(layer.inputs)
        if position in quantized_inputs(graph, layer)
    )
    return tuple(dict.fromkeys(names))


def quantized_inputs(graph: Graph, layer: Layer) -> Tuple[int, ...]:
    """Which inputs of an int8 layer are read quantized."""
    if isinstance(layer, Elementwise) and layer.function == "sum":
        return _shortcuts(graph, layer)
    return QUANTIZED.get(layer.type, ())


def _shortcuts(graph: Graph, layer: Layer) -> Tuple[int, ...]:
    """The inputs of a sum but the first that comes straight from a convolution: into that one the sum is fused."""
    makers = {each.name: each for each in graph.layers}

    def from_convolution(name: str) -> bool:
        maker = makers.get(name)
        if isinstance(maker, BatchNorm):
            maker = makers.get(maker.inputs[0])
        return maker is not None and maker.type in KERNELS

    fused = next((k for k, name in enumerate(layer.inputs) if from_convolution(name)), None)
    return tuple(k for k in range(len(layer.inputs)) if k != fused) if fused is not None else ()


def kernel_scales(kernel: np.ndarray) -> np.ndarray:
    """One scale an output channel (axis 0): its largest magnitude over 127; 1 for a channel of zeros."""
    largest = np.abs(kernel.reshape(kernel.shape[0], -1)).max(1)
    return np.where(largest > 0, largest / INT8_MAX, 1.0).astype(np.float32)
