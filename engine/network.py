"""Graph + weights -> a real INetworkDefinition, checked layer by layer.

define(graph, arrays, tensorrt) --> Definition(network, trt_builder, tensors)
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Dict, Mapping, NamedTuple, Tuple

import numpy as np

from engine.emission import Emission
from engine.emitters import EMITTERS
from engine.fusion import spread_over_groups
from engine.precision import FP32, KERNELS, Precision
from engine.tensorrt_api import TensorRT, dtype_name, trt_dtype
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


def pin_layers(emission: Emission) -> None:
    """On a weakly typed network: layers are told their precision one by one, and must obey.

    The FP16 flag lets TensorRT take half kernels for every layer, so whatever stays fp32 beside it has to say so. In
    an int8 network whatever has no int8 kernel of ours is half: left to itself, TensorRT 8.5.3.1 marks a layer of
    ResNet-50 as int8 that it has no kernel for ("All of the candidates were removed").
    """
    precision, trt = emission.precision, emission.trt
    lacking = precision.typed or not emission.tensorrt.has("layer precision")
    if lacking or not precision.needs_half(emission.graph):
        return
    words = spread_over_groups(emission.graph, precision.layers, precision.default)
    for layer in emission.graph.layers:
        word = words[layer.name]
        if word == "fp16" == precision.default or word == "int8" and layer.type in KERNELS:
            continue
        wanted = trt.float16 if word in ("fp16", "int8") else trt.float32
        for added in emission.added.get(layer.name, []):
            if dtype_name(added.get_output(0).dtype) == "float32":
                added.precision = wanted
                added.set_output_type(0, wanted)


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


def mark_every_tensor(definition: Definition) -> None:
    """Makes the tensor of each of our layers an output, to see inside an engine. It changes what TensorRT fuses."""
    marked = {definition.network.get_output(index).name for index in range(definition.network.num_outputs)}
    for layer in definition.graph.layers:
        for name in layer.tensor_names:
            tensor = definition.tensors[name]
            if tensor.name not in marked and not tensor.is_network_output:
                definition.network.mark_output(tensor)
                marked.add(tensor.name)
