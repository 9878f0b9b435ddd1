"""How a network computes in fp16 and int8 on each TensorRT: as flags where it has them, as types of tensors elsewhere.

    weakly typed (8.5 to 10.16)    tensors stay float, builder flags FP16 and INT8, layers that differ are pinned
    strongly typed (11, RTX)       tensors are half between casts of ours; what is written is what runs

int8 is explicit on both: quantize and dequantize layers of ours, see quantization.py.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import List, Mapping, NamedTuple, Tuple

from engine.quantization import quantized_reads, quantized_tensors
from engine.tensorrt_api import TensorRT
from spec.errors import ConfigError
from spec.graph import Graph
from spec.layers import Cast
from spec.wording import counted


class Precision(NamedTuple):
    """What every layer computes in.

    Attributes:
        layers: fp32, tf32, fp16 or int8 by layer name.
        default: that of most layers.
        ranges: largest magnitude of each tensor that is quantized, by tensor name.
        typed: whether the network is strongly typed.
        quantized: by layer name, which inputs are read quantized.
    """

    layers: Mapping[str, str]
    default: str
    ranges: Mapping[str, float]
    typed: bool
    quantized: Mapping[str, Tuple[int, ...]] = MappingProxyType({})

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
    typed = not tensorrt.has("fp16 flag")
    layers = {**layers, **dict.fromkeys(_casts_of_integers(graph), "fp32")}
    wanted = quantized_tensors(graph, layers, spare_images=not typed)
    missing = [name for name in wanted if name not in ranges]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise ConfigError(
            f"{place}: int8 needs the ranges of {counted(len(missing), 'tensor')}: {shown}; write them with "
            "`run.py calibrate` and name the file with `ranges:`"
        )
    kept = {name: float(ranges[name]) for name in wanted}
    return Precision(layers, default, kept, typed, quantized_reads(graph, layers, spare_images=not typed))


def _casts_of_integers(graph: Graph) -> List[str]:
    """Casts of int32: half tells whole numbers apart only up to 2,048, and an index may be larger."""
    casts = (layer for layer in graph.layers if isinstance(layer, Cast) and layer.dtype == "float32")
    return [cast.name for cast in casts if graph.tensors[cast.inputs[0]].dtype == "int32"]
