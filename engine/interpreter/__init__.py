"""Runs a real INetworkDefinition on the CPU: reads TensorRT's layers back and evaluates each with NumPy.

    network --read back--> layers --sort--> in order of evaluation
    feeds   --run--> only the layers between what is fed and what is fetched --> arrays by tensor name

Any tensor may be fed, so a layer can be run by itself on trusted inputs: `run({"conv1": a}, fetch=["relu1"])`.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple, Union

import numpy as np

from engine.interpreter.datatypes import feedable, represent
from engine.interpreter.evaluators import EVALUATORS, IN_PLACE
from engine.interpreter.layer import Layer, Tensor
from engine.interpreter.live import LiveTensors
from engine.interpreter.order import constant_tensors, needed, sort
from engine.interpreter.readback import read_layers, read_tensor
from spec.errors import TensorRTError, did_you_mean

__all__ = ["Interpreter", "Layer", "Tensor"]


class Interpreter:
    """A network definition that can be run without a GPU.

    Args:
        network: an INetworkDefinition; its weights are copied, so it may change or go afterwards.
        trt: the module it was made with, tensorrt (8.5 to 11) or tensorrt_rtx.
        dtype: float32, or float64 to do all floating-point arithmetic in float64 from the stored weights.

    Raises:
        TensorRTError: every layer that the interpreter cannot run, at once; or the bindings corrupt weights.
    """

    def __init__(self, network: Any, trt: ModuleType, dtype: Any = np.float32) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise TensorRTError(f"interpreter: dtype {self.dtype}, wanted float32 or float64")
        if getattr(network, "has_implicit_batch_dimension", False):
            raise TensorRTError("interpreter: the network has an implicit batch; create it with EXPLICIT_BATCH")
        layers = read_layers(network, trt, self.dtype)
        self.inputs = tuple(read_tensor(network.get_input(index)) for index in range(network.num_inputs))
        self.outputs = tuple(read_tensor(network.get_output(index)) for index in range(network.num_outputs))
        self._layers = sort(layers, (tensor.name for tensor in self.inputs))
        self._constant = constant_tensors(self._layers)
        made = (tensor for layer in self._layers for tensor in layer.outputs)
        self.tensors: Dict[str, Tensor] = {tensor.name: tensor for tensor in (*self.inputs, *made)}

    @property
    def layers(self) -> Tuple[Layer, ...]:
        """Every layer in order of evaluation: name, type, inputs, outputs, fields."""
        return self._layers

    def run(
        self, feeds: Mapping[str, np.ndarray], fetch: Union[None, str, Iterable[str]] = None
    ) -> Dict[str, np.ndarray]:
        """Evaluates what is needed and returns arrays by tensor name; floating-point ones in the interpreter's dtype.

        Args:
            feeds: arrays by tensor name. A tensor behind the inputs may be fed too; its layer is then not evaluated.
            fetch: tensor names; None for the network's outputs, the string "all" for every tensor.

        Raises:
            TensorRTError: unknown names, wrong shapes or dtypes, missing feeds, or a layer that fails on these values.
        """
        given = self._checked_feeds(feeds)
        wanted = self._wanted(fetch)
        plan = needed(self._layers, given, wanted)
        live = LiveTensors(given, plan, wanted)
        with np.errstate(all="ignore"):  # as on the GPU: overflow gives inf, 0 / 0 gives NaN, and both are returned
            for layer in plan:
                live.store(layer, self._evaluate(layer, live))
        return {name: live.arrays[name] for name in wanted}

    def run_layer(self, name: str, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Evaluates one layer by itself.

        Args:
            name: the layer's name.
            inputs: arrays by tensor name for each of its inputs that depends on a network input.

        Raises:
            TensorRTError: no such layer, or inputs missing.
        """
        layer = self._layer(name)
        missing = [
            f"layer '{name}' ({layer.type}): input '{tensor.name}' {tensor.shape} is not fed; feed it"
            for tensor in layer.inputs
            if tensor is not None and tensor.name not in inputs and tensor.name not in self._constant
        ]
        if missing:
            raise TensorRTError(missing)
        return self.run(inputs, [tensor.name for tensor in layer.outputs])

    def _layer(self, name: str) -> Layer:
        found = [layer for layer in self._layers if layer.name == name]
        if len(found) != 1:
            hint = did_you_mean(name, [layer.name for layer in self._layers]) if not found else ""
            raise TensorRTError(f"interpreter: {len(found)} layers named '{name}', wanted one{hint}")
        return found[0]

    def _wanted(self, fetch: Union[None, str, Iterable[str]]) -> List[str]:
        if fetch is None:
            return [tensor.name for tensor in self.outputs]
        if fetch == "all":
            return list(self.tensors)
        if isinstance(fetch, str):
            raise TensorRTError(f"interpreter: fetch '{fetch}', wanted a list of tensor names or the word 'all'")
        wanted = list(dict.fromkeys(fetch))
        self._check_names(wanted, "fetch")
        return wanted

    def _check_names(self, names: Iterable[str], what: str) -> None:
        problems = [
            f"interpreter: {what} '{name}': the network has no such tensor{did_you_mean(name, self.tensors)}"
            for name in names
            if name not in self.tensors
        ]
        if problems:
            raise TensorRTError(problems)

    def _checked_feeds(self, feeds: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        self._check_names(feeds, "feed")
        problems = []
        for name, array in feeds.items():
            tensor, accepted = self.tensors[name], feedable(self.tensors[name].dtype, self.dtype)
            if not _fits(np.shape(array), tensor.shape):
                problems.append(f"interpreter: feed '{name}': shape {np.shape(array)}, wanted {tensor.shape}")
            if np.asarray(array).dtype.name not in accepted:
                found = np.asarray(array).dtype.name
                problems.append(f"interpreter: feed '{name}': {found}, wanted {' or '.join(accepted)} ({tensor.dtype})")
        if problems:
            raise TensorRTError(problems)
        return {name: represent(array, self.tensors[name].dtype, self.dtype) for name, array in feeds.items()}

    def _evaluate(self, layer: Layer, live: LiveTensors) -> Sequence[np.ndarray]:
        """The layer's outputs, each as TensorRT's data type has it and of the shape TensorRT inferred."""
        lent = {"out": live.spare(layer)} if layer.type in IN_PLACE else {}
        try:
            results = EVALUATORS[layer.type](layer, *live.inputs(layer), **lent)
        except (ValueError, IndexError) as error:  # NumPy on shapes that only the fed lengths made wrong
            raise TensorRTError(f"layer '{layer.name}' ({layer.type}): cannot be evaluated: {error}") from error
        results = results if isinstance(results, tuple) else (results,)
        arrays = [represent(array, tensor.dtype, self.dtype) for tensor, array in zip(layer.outputs, results)]
        for tensor, array in zip(layer.outputs, arrays):
            if not _fits(array.shape, tensor.shape):
                raise TensorRTError(
                    f"layer '{layer.name}' ({layer.type}): the interpreter computed shape {array.shape}, TensorRT"
                    f" inferred {tensor.shape}: a rule differs; please report this network"
                )
        return arrays


def _fits(shape: Sequence[int], declared: Sequence[int]) -> bool:
    """Whether a shape is one that a declared shape, -1 where dynamic, allows."""
    return len(shape) == len(declared) and all(want in (-1, length) for length, want in zip(shape, declared))
