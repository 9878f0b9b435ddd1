"""Graph + weights -> a real INetworkDefinition, checked layer by layer.

define(graph, arrays, tensorrt) --> Definition(network, trt_builder, tensors)
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Dict, Mapping, NamedTuple, Tuple

import numpy as np

from engine.emission import Emission
from engine.emitters import EMITTERS
from engine.pinning import pin_layers
from engine.precision import FP32, Precision
from engine.tensorrt_api import TensorRT, trt_dtype
from spec.errors import TensorRTError
from spec.graph import Graph


class Definition(NamedTuple):
    """A network definition and what must live as long as it does.

    TensorRT reads the numpy memory of the weights when it builds, so all of it is held on to here.

    Attributes:
        tensors: ITensors by our tensor names.
        arrays: the parameters by (layer name, role), as they came.
        named: every array that TensorRT was given, as it was given, by the name it was told for a refit.
    """

    tensorrt: TensorRT
    trt_builder: Any
    network: Any
    graph: Graph
    tensors: Dict[str, Any]
    arrays: Mapping[Tuple[str, str], np.ndarray]
    precision: Precision
    named: Mapping[str, np.ndarray] = MappingProxyType({})


def define(
    graph: Graph,
    arrays: Mapping[Tuple[str, str], np.ndarray],
    tensorrt: TensorRT,
    precision: Precision = FP32,
    tensor_names: Mapping[Tuple[str, str], str] = MappingProxyType({}),
) -> Definition:
    """Adds every layer of the graph to a new network definition.

    Args:
        arrays: the parameters by (layer name, role), in the axis orders of the graph's slots.
        precision: what each layer computes in.
        tensor_names: by (layer name, role), what TensorRT shall call the weights; `layer:role` where left out.

    Raises:
        TensorRTError: TensorRT refuses a layer, or infers another shape or dtype than the graph; names our layer.
    """
    trt_builder = create_builder(tensorrt)
    network = trt_builder.create_network(_creation_flags(tensorrt))
    network.name = graph.name
    emission = Emission(tensorrt, network, graph, arrays, precision, tensor_names)
    for name, spec in graph.inputs.items():
        tensor = network.add_input(name, trt_dtype(tensorrt.module, spec.dtype), graph.tensors[name].shape)
        if tensor is None:
            raise TensorRTError(f"input '{name}': {tensorrt.title} refused it: {tensorrt.log.take()}")
        emission.tensors[name] = tensor
    for layer in graph.layers:
        emission.begin(layer)
        EMITTERS[layer.type](emission, layer, *emission.inputs())
        emission.check_outputs(graph)
    emission.mark_outputs()
    emission.named.tell()
    pin_layers(emission)
    return Definition(tensorrt, trt_builder, network, graph, emission.tensors, arrays, precision, emission.named.arrays)


def create_builder(tensorrt: TensorRT) -> Any:
    """TensorRT's builder; raises TensorRTError where it needs a GPU and finds none."""
    try:
        return tensorrt.module.Builder(tensorrt.logger)
    except TypeError:
        raise TensorRTError(
            f"{tensorrt.title} cannot build here: {tensorrt.log.take()}; it needs a GPU and its driver. "
            "Without one use --backend tensorrt_rtx"
        ) from None


def _creation_flags(tensorrt: TensorRT) -> int:
    """Explicit batch where it is a choice: TensorRT 8 would else drop the batch, 10 ignores the flag, 11 has none."""
    if not tensorrt.has("explicit batch flag"):
        return 0
    return 1 << int(tensorrt.module.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
