"""The network in the precision of its config: one step of the main job, of comparisons and of a build on a device.

    graph, arrays, ModelSpec ─> the precision of every layer, with the ranges of int8 ─> network definition
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Mapping, Tuple


def define_in_precision(
    graph: Any,
    arrays: Mapping[Tuple[str, str], Any],
    model: Any,
    tensorrt: Any,
    names: Mapping[Tuple[str, str], str] = MappingProxyType({}),
) -> Any:
    """The network defined anew in the precision of a ModelSpec, to be changed and built at will.

    Args:
        names: what its weights are to be called, by (layer, role); `layer:role` where left out.

    Raises:
        ConfigError: ranges of int8 are missing.
        TensorRTError: TensorRT refuses a layer.
    """
    from engine.network import define
    from engine.precision import FP32

    is_fp32 = model.precision.words == ("fp32",)
    return define(graph, arrays, tensorrt, FP32 if is_fp32 else precision_of(model, graph, tensorrt), names)


def precision_of(model: Any, graph: Any, tensorrt: Any) -> Any:
    """The engine.precision.Precision that the config asks for; raises ConfigError where ranges are missing."""
    from engine.calibration import read_ranges
    from engine.precision import plan_precision

    place = model.place("precision")
    layers = model.precision.of_layers([layer.name for layer in graph.layers], place)
    uses_int8 = "int8" in model.precision.words
    ranges = read_ranges(model.ranges_path) if model.ranges_path and uses_int8 else {}
    return plan_precision(graph, layers, model.precision.default, ranges, tensorrt, place)
