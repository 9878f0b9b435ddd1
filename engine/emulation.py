"""The precision of a weakly typed network, shown on the CPU: its layers rewritten as if its tensors were typed.

    conv1 fp32 --FLOAT--> (cast) --HALF--> conv2 fp16 --HALF--> fc fp32 --FLOAT-->

It rounds between any two layers, where TensorRT keeps what is inside a fused kernel in float, so it errs upwards. What
is int8 needs no emulation: that is quantize and dequantize layers, which stand in the network.
"""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any, Dict, Iterator, Mapping, Sequence

import numpy as np

from engine.interpreter import Interpreter, Layer, Tensor
from engine.interpreter.datatypes import represent
from engine.naming import owner_of
from engine.network import Definition

HALF_WORDS = ("fp16", "int8")


def interpreter_of(definition: Definition) -> Interpreter:
    """An interpreter that rounds as the definition's precision says, of whatever kind its network is."""
    network, module, precision = definition.network, definition.tensorrt.module, definition.precision
    if precision.typed or not set(HALF_WORDS).intersection(precision.layers.values()):
        return Interpreter(network, module)
    return Emulator(network, module, precision.layers)


class Emulator(Interpreter):
    """An interpreter of a weakly typed network that rounds the tensors and weights of some layers to half.

    Args:
        words: fp32, tf32, fp16 or int8 by the name of our layer; fp16 and int8 layers are half.
    """

    def __init__(self, network: Any, trt: ModuleType, words: Mapping[str, str]) -> None:
        super().__init__(network, trt)
        self._layers = tuple(_typed(self._layers, words))


def _typed(layers: Sequence[Layer], words: Mapping[str, str]) -> Iterator[Layer]:
    """The layers, sorted, with half tensors where their layer is half, and casts in front of those that are."""
    made: Dict[str, Tensor] = {}  # by the name a reader knows a tensor under, the tensor as it now is
    for layer in layers:
        half = words.get(owner_of(layer.name, words) or "") in HALF_WORDS
        inputs = tuple(None if tensor is None else made.get(tensor.name, tensor) for tensor in layer.inputs)
        for position, tensor in enumerate(inputs):
            if half and tensor is not None and tensor.dtype == "FLOAT":
                cast = Tensor(f"{tensor.name}/{layer.name}/half", "HALF", tensor.shape)
                yield Layer(cast.name, "CAST", (tensor,), (cast,), SimpleNamespace())
                inputs = inputs[:position] + (cast,) + inputs[position + 1 :]
        outputs = layer.outputs
        if half:
            outputs = tuple(each._replace(dtype="HALF") if each.dtype == "FLOAT" else each for each in outputs)
        made.update((tensor.name, tensor) for tensor in outputs)
        yield layer._replace(inputs=inputs, outputs=outputs, fields=_rounded(layer.fields) if half else layer.fields)


def _rounded(fields: SimpleNamespace) -> SimpleNamespace:
    """A layer's weights on the grid of half."""
    weights = {key: value for key, value in vars(fields).items() if isinstance(value, np.ndarray)}
    halves = {key: represent(array, "HALF", array.dtype) for key, array in weights.items() if array.dtype.kind == "f"}
    return SimpleNamespace(**{**vars(fields), **halves})
