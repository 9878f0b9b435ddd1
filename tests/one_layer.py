"""Networks of one layer, made with TensorRT-RTX, which needs no GPU for that, and run by the interpreter.

    outputs_of(lambda network, x: network.add_softmax(x), x=array)   ->   the layer's outputs, as arrays
"""

from __future__ import annotations

from typing import Any, Callable, List

import numpy as np
import pytest

trt = pytest.importorskip("tensorrt_rtx")

from engine.interpreter import Interpreter  # noqa: E402
from engine.tensorrt_api import load  # noqa: E402

BUILDER = trt.Builder(load("tensorrt_rtx").logger)  # TensorRT keeps one logger a process and warns of a second
DTYPES = {"float32": trt.float32, "float16": trt.float16, "int8": trt.int8, "int32": trt.int32, "int64": trt.int64,
          "uint8": trt.uint8, "bool": trt.bool}  # fmt: skip


def network_of(build: Callable[..., Any], **inputs: np.ndarray) -> Any:
    """A network of what `build(network, *tensors)` adds, its last layer's outputs marked; first axis dynamic."""
    network = BUILDER.create_network()
    tensors = [network.add_input(name, DTYPES[x.dtype.name], dynamic(x)) for name, x in inputs.items()]
    layer = build(network, *tensors)
    for index in range(layer.num_outputs):
        network.mark_output(layer.get_output(index))
    return network


def dynamic(x: np.ndarray) -> tuple:
    """The array's shape, -1 for the batch of an image."""
    return x.shape if x.ndim < 4 else (-1, *x.shape[1:])


def outputs_of(build: Callable[..., Any], dtype: Any = np.float32, **inputs: np.ndarray) -> List[np.ndarray]:
    """What the interpreter computes for the network of `build`."""
    results = Interpreter(network_of(build, **inputs), trt, dtype).run(inputs)
    return list(results.values())


def constant(network: Any, values: Any, dtype: Any = np.float32) -> Any:
    """A constant tensor."""
    array = np.ascontiguousarray(values, dtype)
    return network.add_constant(array.shape, array).get_output(0)


def configured(layer: Any, **attributes: Any) -> Any:
    """`layer` with attributes set and read back: TensorRT keeps the old value, and only logs, when it refuses one."""
    for name, value in attributes.items():
        setattr(layer, name, value)
        kept = getattr(layer, name)
        if isinstance(value, (tuple, list)):  # a permutation comes back with eight entries
            kept, value = tuple(kept)[: len(value)], tuple(value)
        assert kept == value, name
    return layer


def relative_error(y: np.ndarray, reference: np.ndarray) -> float:
    """max|y - reference| / max|reference|; infinite where the shapes differ."""
    if y.shape != reference.shape:
        return float("inf")
    return float(np.abs(y.astype(np.float64) - reference).max() / np.abs(reference).max())
