"""Layers told their precision one by one, where tensors have no types of their own (TensorRT 8.5 to 10.16).

The FP16 flag lets TensorRT take half kernels for every layer, so whatever stays fp32 beside it has to say so and must
be obeyed. In an int8 network what does not compute in int8 is told to be half: left to itself, TensorRT 8.5.3.1 marks a
layer of ResNet-50 as int8 that it has no kernel for ("All of the candidates were removed").
"""

from __future__ import annotations

from engine.emission import Emission
from engine.fusion import spread_over_groups
from engine.quantization import INT8_TYPES
from engine.tensorrt_api import dtype_name


def pin_layers(emission: Emission) -> None:
    """Sets precision and output type of every float layer whose precision is not the network's own."""
    precision, trt = emission.precision, emission.trt
    lacking = precision.typed or not emission.tensorrt.has("layer precision")
    if lacking or not precision.needs_half(emission.graph):
        return
    words = spread_over_groups(emission.graph, precision.layers, precision.default)
    for layer in emission.graph.layers:
        word = words[layer.name]
        if word == "fp16" == precision.default or layer.name in precision.quantized and layer.type in INT8_TYPES:
            continue
        wanted = trt.float16 if word in ("fp16", "int8") else trt.float32
        for added in emission.added.get(layer.name, []):
            if not isinstance(added, trt.IConstantLayer) and dtype_name(added.get_output(0).dtype) == "float32":
                added.precision = wanted
                added.set_output_type(0, wanted)
