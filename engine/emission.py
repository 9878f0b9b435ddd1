"""Emission: a network definition being written, one of our layers at a time, each TensorRT layer checked at once.

TensorRT reports a bad layer in several ways: add_* returns None, a setter keeps the old value, or the layer looks fine
until its output shape is read. So each layer is named, the name read back and the shape read at once.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Tuple

import numpy as np

from engine.tensorrt_api import TensorRT, dtype_name
from spec.errors import TensorRTError
from spec.graph import Graph
from spec.layers import Layer
from spec.shapes import Shape, show


class Emission:
    """What an emitter works with: the network, the layer's arrays, and the calls that name and check.

    Attributes:
        trt: the TensorRT module.
        network: its INetworkDefinition.
        tensors: ITensors by our tensor names.
    """

    def __init__(self, tensorrt: TensorRT, network: Any, arrays: Mapping[Tuple[str, str], np.ndarray]) -> None:
        self.tensorrt, self.trt, self.network = tensorrt, tensorrt.module, network
        self.tensors: Dict[str, Any] = {}
        self._arrays = arrays
        self._layer: Layer = None  # type: ignore[assignment]

    def begin(self, layer: Layer) -> None:
        """From here on everything belongs to this layer."""
        self._layer = layer

    def parameter(self, role: str, dtype: Any) -> np.ndarray:
        """A parameter of the layer, to compute with."""
        return self._arrays[self._layer.name, role].astype(dtype)

    def array(self, role: str, like: Any) -> np.ndarray:
        """A parameter of the layer, in the floating type of the tensor it meets."""
        return self.typed(self._arrays[self._layer.name, role], like)

    def typed(self, array: Any, like: Any) -> np.ndarray:
        """Contiguous numbers in the floating type of a tensor; the one place where weights are cast."""
        dtype = np.dtype(np.float16 if dtype_name(like.dtype) == "float16" else np.float32)
        with np.errstate(over="ignore"):
            cast = np.ascontiguousarray(array, dtype=dtype)
        if cast.dtype != np.asarray(array).dtype and not np.isfinite(cast).all():
            raise TensorRTError(
                f"{self._place(self._layer.name)}: numbers up to {np.abs(array).max():.3g} do not fit {dtype.name}"
            )
        return cast

    def part(self, name: str, added: Any) -> Any:
        """Names and checks a TensorRT layer that is one of several behind our layer; returns its first output."""
        return self._named(f"{self._layer.name}/{name}", added)

    def whole(self, added: Any) -> Any:
        """Names and checks the TensorRT layer that makes our layer's tensor; returns its first output."""
        return self._named(self._layer.name, added)

    def output(self, tensor: Any, name: str) -> Any:
        """Names a further output, for example the indices of a top-k."""
        tensor.name = name
        if tensor.name != name:
            raise self.refusal(name)
        return tensor

    def setting(self, added: Any, **values: Any) -> Any:
        """Sets properties and reads each back, since a refused value is only logged and the old one stays."""
        if added is None:
            raise self.refusal(self._layer.name)
        for key, value in values.items():
            setattr(added, key, value)
            kept = getattr(added, key)
            same = tuple(kept) == tuple(value) if isinstance(value, (tuple, list)) else kept == value
            if not same and not (isinstance(value, float) and abs(kept - value) <= 1e-6 * abs(value)):
                raise TensorRTError(
                    f"{self._place(self._layer.name)}: {key} = {value} was not taken: {self.tensorrt.log.take()}"
                )
        return added

    def reshape(self, source: Any, shape: Shape) -> Any:
        """An IShuffleLayer to a new shape, 0 keeping the axis of the source; not yet named."""
        return self.setting(self.network.add_shuffle(source), reshape_dims=shape)

    def constant(self, name: str, array: np.ndarray) -> Any:
        """A constant of the layer, as a tensor."""
        return self.part(name, self.network.add_constant(array.shape, self.trt.Weights(array)))

    def runtime_shape(self, tensor: Any, shape: Shape) -> Any:
        """A shape tensor: the given shape with the batch of `tensor` in front, for layers that need it spelled out.

        shape(tensor) * [1, 0, 0, ...] + [0, c, h, w]; the integers have the type that this TensorRT's shapes have.
        """
        current = self.part("shape", self.network.add_shape(tensor))
        integers = np.int32 if dtype_name(current.dtype) == "int32" else np.int64
        mask = np.array([1] + [0] * (len(shape) - 1), integers)
        rest = np.array((0,) + tuple(shape[1:]), integers)
        operation = self.trt.ElementWiseOperation
        batch = self.network.add_elementwise(current, self.constant("batch_mask", mask), operation.PROD)
        total = self.network.add_elementwise(self.part("batch", batch), self.constant("sizes", rest), operation.SUM)
        return self.part("runtime_shape", total)

    def check_outputs(self, graph: Graph) -> None:
        """Compares what TensorRT inferred for the layer's tensors with what the graph did."""
        for name in self._layer.outputs([graph.tensors[source] for source in self._layer.inputs]):
            wanted, tensor = graph.tensors[name], self.tensors[name]
            shape, dtype = self._shape(name, tensor), dtype_name(tensor.dtype)
            if shape != tuple(wanted.shape):
                raise TensorRTError(
                    f"{self._place(name)}: TensorRT infers {show(shape)}, the graph {show(wanted.shape)}"
                )
            if dtype != wanted.dtype:
                raise TensorRTError(f"{self._place(name)}: TensorRT infers {dtype}, the graph {wanted.dtype}")

    def refusal(self, name: str) -> TensorRTError:
        return TensorRTError(f"{self._place(name)}: {self.tensorrt.title} refused it: {self.tensorrt.log.take()}")

    def _named(self, name: str, added: Any) -> Any:
        if added is None:
            raise self.refusal(name)
        added.name = name
        tensor = added.get_output(0)
        tensor.name = name
        if added.name != name or tensor.name != name:
            raise self.refusal(name)
        self._shape(name, tensor)
        return tensor

    def _shape(self, name: str, tensor: Any) -> Shape:
        try:
            return tuple(tensor.shape)
        except (RuntimeError, ValueError):  # RuntimeError in TensorRT-RTX 1.6 and newer, ValueError before
            raise self.refusal(name) from None

    def _place(self, name: str) -> str:
        return f"{self._layer.place}: layer '{name}'"
