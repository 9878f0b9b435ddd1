"""The same network and the same numbers as an ONNX file, for the road users take today: the ONNX parser.

    python3 -m benchmarks.gpu.onnx_model --weights DIR --output DIR       (needs the package onnx; opset 13, IR 8)

Written as an exporter would: BatchNormalization, Concat, Flatten, Cast and Gemm nodes, a symbolic batch. A uint8 input
stays uint8 in NAME.onnx; NAME.float.onnx has a float32 input instead, for parsers that take no other. NAME.int8.onnx
has QuantizeLinear and DequantizeLinear nodes where our int8 network has them, with the same scales.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Tuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.gpu.subject import Subject, weights_of
from engine.build_options import PlanOptions
from engine.quantization import kernel_scales, quantized_reads, scales_of
from spec.graph import Graph
from spec.layers.arrangement import TO_NHWC
from spec.layers.layer import axis_number, axis_numbers

TYPES = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "float16": TensorProto.FLOAT16}
Arrays = Mapping[Tuple[str, str], np.ndarray]


class Writer:
    """Nodes and initializers of one model; quantized where `ranges` are given."""

    def __init__(self, graph: Graph, arrays: Arrays, ranges: Mapping[str, float]) -> None:
        self.graph, self.arrays, self.ranges = graph, arrays, ranges
        self.nodes: List[Any] = []
        self.initializers: List[Any] = []
        self.quantized: Dict[str, str] = {}
        words = {layer.name: "int8" for layer in graph.layers if ranges}
        self.reads = quantized_reads(graph, words, spare_images=True)

    def inputs_of(self, layer: Any) -> List[str]:
        """What a layer reads, quantized and back where our int8 network has it so."""
        places = self.reads.get(layer.name, ())
        return [self._quantized(name) if k in places else name for k, name in enumerate(layer.inputs)]

    def _quantized(self, name: str) -> str:
        if name not in self.quantized:
            scale = scales_of(self.ranges[name])
            self.quantized[name] = self._and_back(name, name, scale, np.int8(0))
        return self.quantized[name]

    def _and_back(self, name: str, source: str, scale: Any, zero: Any, **axis: int) -> str:
        ends = [self.constant(f"{name}:step", scale), self.constant(f"{name}:zero", zero)]
        self.node("QuantizeLinear", [source, *ends], f"{name}/quantized", **axis)
        self.node("DequantizeLinear", [f"{name}/quantized", *ends], f"{name}/dequantized", **axis)
        return f"{name}/dequantized"

    def kernel(self, layer: Any) -> str:
        """The kernel of a convolution; quantized with one scale an output channel."""
        kernel = self.parameter(layer, "kernel")
        if layer.name not in self.reads:
            return kernel
        scales = kernel_scales(self.arrays[layer.name, "kernel"])
        return self._and_back(kernel, kernel, scales, np.zeros(scales.shape, np.int8), axis=0)

    def constant(self, name: str, array: Any) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def parameter(self, layer: Any, role: str) -> str:
        return self.constant(f"{layer.name}:{role}", self.arrays[layer.name, role].astype(np.float32))

    def node(self, kind: str, inputs: List[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))


def _pads(windows: Any) -> List[int]:
    height, width = windows
    return [height.before, width.before, height.after, width.after]


def _convolution(writer: Writer, layer: Any, x: str) -> None:
    windows = layer.windows(writer.graph.tensors[layer.inputs[0]].shape)
    bias = [writer.parameter(layer, "bias")] if layer.bias else []
    writer.node("Conv", [x, writer.kernel(layer), *bias], layer.name, kernel_shape=list(layer.kernel),
                strides=list(layer.stride), dilations=list(layer.dilation), pads=_pads(windows),
                group=layer.groups)  # fmt: skip


def _batch_norm(writer: Writer, layer: Any, x: str) -> None:
    roles = [writer.parameter(layer, role) for role in ("gamma", "beta", "mean", "variance")]
    writer.node("BatchNormalization", [x, *roles], layer.name, epsilon=layer.epsilon)


def _pooling(writer: Writer, layer: Any, x: str) -> None:
    if layer.window == "global":
        writer.node("GlobalAveragePool" if layer.function == "average" else "GlobalMaxPool", [x], layer.name)
        return
    windows = layer.windows(writer.graph.tensors[layer.inputs[0]].shape)
    keys: Dict[str, Any] = {"kernel_shape": [w.kernel for w in windows], "strides": [w.stride for w in windows]}
    if layer.function == "average":
        keys["count_include_pad"] = int(bool(layer.count_padding))
    writer.node("MaxPool" if layer.function == "max" else "AveragePool", [x], layer.name, pads=_pads(windows), **keys)


def _scale(writer: Writer, layer: Any, x: str) -> None:
    def number(part: str, values: Any) -> str:
        return writer.constant(f"{layer.name}:{part}", np.array(values, np.float32).reshape(1, -1, 1, 1))

    tensor = x
    if layer.scale is not None:
        target = layer.name if layer.shift is None else f"{layer.name}/scaled"
        writer.node("Mul", [tensor, number("scale", layer.scale)], target)
        tensor = target
    if layer.shift is not None:
        writer.node("Add", [tensor, number("shift", layer.shift)], layer.name)


def _lrn(writer: Writer, layer: Any, x: str) -> None:
    alpha = layer.alpha * layer.window if layer.alpha_of == "sum" else layer.alpha
    writer.node("LRN", [x], layer.name, size=layer.window, alpha=alpha, beta=layer.beta, bias=layer.k)


def _flatten(writer: Writer, layer: Any, x: str) -> None:
    if layer.order == "NHWC":
        writer.node("Transpose", [x], f"{layer.name}/nhwc", perm=list(TO_NHWC))
        x = f"{layer.name}/nhwc"
    writer.node("Flatten", [x], layer.name, axis=1)


def _dense(writer: Writer, layer: Any, x: str) -> None:
    bias = [writer.parameter(layer, "bias")] if layer.bias else []
    writer.node("Gemm", [x, writer.parameter(layer, "kernel"), *bias], layer.name, transB=1)


def _reduce(writer: Writer, layer: Any, x: str) -> None:
    axes = axis_numbers(layer.axes, len(writer.graph.tensors[layer.inputs[0]].shape))
    writer.node("ReduceMean", [x], layer.name, axes=axes, keepdims=int(layer.keep_dims))


def _padding(writer: Writer, layer: Any, x: str) -> None:
    (top, bottom), (left, right) = layer.pad
    pads = writer.constant(f"{layer.name}:pads", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
    writer.node("Pad", [x, pads], layer.name)


NODES: Dict[str, Callable[..., None]] = {
    # what the four models are made of
    "convolution": _convolution,
    "batch_norm": _batch_norm,
    "pooling": _pooling,
    "scale": _scale,
    "lrn": _lrn,
    "flatten": _flatten,
    "dense": _dense,
    "reduce": _reduce,
    "padding": _padding,
    "activation": lambda writer, layer, x: writer.node("Relu", [x], layer.name),
    "softmax": lambda writer, layer, x: writer.node("Softmax", [x], layer.name, axis=1),
    "elementwise": lambda writer, layer, *xs: writer.node("Add", list(xs), layer.name),
    "concatenation": lambda writer, layer, *xs: writer.node(
        "Concat", list(xs), layer.name, axis=axis_number(layer.axis, 4)
    ),
    "transpose": lambda writer, layer, x: writer.node("Transpose", [x], layer.name, perm=list(layer.axes)),
    "cast": lambda writer, layer, x: writer.node("Cast", [x], layer.name, to=TYPES[layer.dtype]),
}


def onnx_model(graph: Graph, arrays: Arrays, float_input: bool, ranges: Mapping[str, float]) -> Any:
    """The ModelProto; with `float_input` every input is float32, whatever the config says."""
    writer = Writer(graph, arrays, ranges)
    for layer in graph.layers:
        NODES[layer.type](writer, layer, *writer.inputs_of(layer))

    def info(name: str, dtype: str) -> Any:
        return helper.make_tensor_value_info(name, TYPES[dtype], ["N", *graph.tensors[name].shape[1:]])

    inputs = [info(name, "float32" if float_input else spec.dtype) for name, spec in graph.inputs.items()]
    outputs = [info(name, "float32") for name in graph.outputs]
    body = helper.make_graph(writer.nodes, graph.name, inputs, outputs, writer.initializers)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--backend", default="tensorrt", help="whose network definition is read for the int8 ranges")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name, path in weights_of(options.weights).items():
        subject = Subject(name, path, PlanOptions(), options.backend)
        kinds = {"": (False, {}), ".int8": (subject.takes_uint8, subject.ranges)}
        if subject.takes_uint8:
            kinds[".float"] = (True, {})
        for kind, (float_input, ranges) in kinds.items():
            model = onnx_model(subject.graph, subject.arrays, float_input, ranges)
            onnx.save(model, options.output / f"{name}{kind}.onnx")
        print(name, flush=True)


if __name__ == "__main__":
    main()
