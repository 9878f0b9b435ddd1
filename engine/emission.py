"""Emission: a network definition being written, one of our layers at a time, each TensorRT layer checked at once.

TensorRT reports a bad layer in several ways: add_* returns None, a setter keeps the old value, or the layer looks fine
until its output shape is read. So each layer is named, the name read back and the shape read at once.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from engine.named_weights import NamedWeights
from engine.naming import dequantized_name, quantized_name, step_name
from engine.precision import Precision
from engine.quantization import KERNELS, kernel_scales, scales_of
from engine.tensorrt_api import TensorRT, dtype_name, trt_dtype
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
        added: TensorRT's layers by the name of our layer they belong to, but those that quantize.
        named: the weights that TensorRT was given, under the names that a refit finds them by.
    """

    def __init__(
        self,
        tensorrt: TensorRT,
        network: Any,
        graph: Graph,
        arrays: Mapping[Tuple[str, str], np.ndarray],
        precision: Precision,
        tensor_names: Mapping[Tuple[str, str], str] = MappingProxyType({}),
    ) -> None:
        self.tensorrt, self.trt, self.network = tensorrt, tensorrt.module, network
        self.graph, self.precision = graph, precision
        self.tensors: Dict[str, Any] = {}
        self.added: Dict[str, List[Any]] = {}
        self.named = NamedWeights(tensorrt, network)
        self._arrays, self._tensor_names = arrays, tensor_names
        self._layer: Layer = None  # type: ignore[assignment]

    def begin(self, layer: Layer) -> None:
        """From here on everything belongs to this layer."""
        self._layer = layer

    def inputs(self) -> List[Any]:
        """The ITensors that the layer reads, quantized and cast as its precision wants."""
        quantized = self.precision.quantized.get(self._layer.name, ())
        names = enumerate(self._layer.inputs)
        return [self._cast(self._quantized(name) if k in quantized else self.tensors[name]) for k, name in names]

    def float_type(self, dtype: str) -> Any:
        """TensorRT's type for one of ours; float32 is half in a layer whose tensors are half."""
        half = dtype == "float32" and self.precision.is_half(self._layer.name)
        return trt_dtype(self.trt, "float16" if half else dtype)

    def _cast(self, tensor: Any) -> Any:
        """The tensor in the floating type of the layer; a cast is made once and shared."""
        wanted = self.float_type("float32")
        if not self.precision.typed or tensor.dtype == wanted or dtype_name(tensor.dtype) not in ("float32", "float16"):
            return tensor
        name = f"{tensor.name}/{dtype_name(wanted)}"
        if name not in self.tensors:
            self.tensors[name] = self._named(name, self.network.add_cast(tensor, wanted))
        return self.tensors[name]

    def _quantized(self, source: str) -> Any:
        """The tensor quantized to int8 and back, once for all that read it."""
        name = dequantized_name(source)
        if name not in self.tensors:
            scale = scales_of(self.precision.ranges[source])
            self.tensors[name] = self._quantize_and_back(source, self._cast(self.tensors[source]), scale, axis=None)
        return self.tensors[name]

    def kernel(self, source: Any) -> Tuple[Any, Any]:
        """(weights, tensor): the kernel as weights; in an int8 layer, empty weights and a dequantized tensor."""
        kernel = self.array("kernel", source)
        name = self._layer.name
        if name not in self.precision.quantized or self._layer.type not in KERNELS:
            return self.weights("kernel", kernel), None
        constant, scales = self.constant("kernel", kernel), kernel_scales(self._arrays[name, "kernel"])
        return self.trt.Weights(), self._quantize_and_back(f"{name}/kernel", constant, scales, axis=0)

    def _quantize_and_back(self, name: str, source: Any, scale: np.ndarray, axis: Any) -> Any:
        """source -> int8 -> the type of source: layers NAME/quantized and NAME/dequantized."""
        weights = self.named.keep(step_name(name), self._rounded_up(scale, source), self._layer.name)
        factor = self._checked(step_name(name), self.network.add_constant(scale.shape, weights))
        typed = self.tensorrt.has("quantize with a type")
        whole, floating = ([trt_dtype(self.trt, "int8")], [source.dtype]) if typed else ([], [])
        quantize = self.network.add_quantize(source, factor, *whole)
        if axis is not None:
            self.setting(quantize, axis=axis)
        dequantize = self.network.add_dequantize(self._checked(quantized_name(name), quantize), factor, *floating)
        if axis is not None:
            self.setting(dequantize, axis=axis)
        return self._checked(dequantized_name(name), dequantize)

    def _rounded_up(self, scale: np.ndarray, like: Any) -> np.ndarray:
        """Scales in the floating type of a tensor: rounded down, a tiny one would be 0 in half, and others saturate."""
        cast = self.typed(scale, like)
        return np.where(cast < scale, np.nextafter(cast, cast.dtype.type(np.inf)), cast)

    def parameter(self, role: str, dtype: Any) -> np.ndarray:
        """A parameter of the layer, to compute with."""
        return self._arrays[self._layer.name, role].astype(dtype)

    def array(self, role: str, like: Any) -> np.ndarray:
        """A parameter of the layer, in the floating type of the tensor it meets."""
        return self.typed(self._arrays[self._layer.name, role], like)

    def typed(self, array: Any, like: Any) -> np.ndarray:
        """Contiguous numbers in the floating type of a tensor."""
        return self._typed(array, np.float16 if dtype_name(like.dtype) == "float16" else np.float32)

    def own(self, array: Any) -> np.ndarray:
        """Contiguous numbers in the floating type of the layer, which reads no tensor."""
        return self._typed(array, np.float16 if self.precision.is_half(self._layer.name) else np.float32)

    def _typed(self, array: Any, kind: Any) -> np.ndarray:
        """The one place where weights are cast."""
        dtype = np.dtype(kind)
        with np.errstate(over="ignore"):
            cast = np.ascontiguousarray(array, dtype=dtype)
        if cast.dtype != np.asarray(array).dtype and not np.isfinite(cast).all():
            raise TensorRTError(
                f"{self._place(self._layer.name)}: numbers up to {np.abs(array).max():.3g} do not fit {dtype.name}"
            )
        return cast

    def weights(self, part: str, array: np.ndarray) -> Any:
        """Numbers for TensorRT, under the name of the checkpoint's tensor where the part is a role of the layer.

        `conv1.weight` for a tensor, `conv1.weight/float16` for its half copy, `conv1:kernel` for one without a name,
        `bn1/scale` for what is computed from several.
        """
        slot = (self._layer.name, part)
        name = "/".join(slot)
        if slot in self._arrays:
            name = self._tensor_names.get(slot, ":".join(slot)) + "/float16" * (array.dtype == np.float16)
        return self.named.keep(name, array, self._layer.name)

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
        return self.part(name, self.network.add_constant(array.shape, self.weights(name, array)))

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
            expected = dtype_name(self.float_type(wanted.dtype))
            if shape != tuple(wanted.shape):
                raise TensorRTError(
                    f"{self._place(name)}: TensorRT infers {show(shape)}, the graph {show(wanted.shape)}"
                )
            if dtype != expected:
                raise TensorRTError(f"{self._place(name)}: TensorRT infers {dtype}, the graph {expected}")

    def mark_outputs(self) -> None:
        """Marks the graph's outputs; a half one is renamed NAME/float16 and cast, so that NAME stays float32."""
        makers = {name: layer for layer in self.graph.layers for name in layer.tensor_names}
        for name in self.graph.outputs:
            tensor = self.tensors[name]
            if dtype_name(tensor.dtype) == "float16" and self.graph.tensors[name].dtype == "float32":
                self.begin(makers[name])
                tensor = self._float_output(name, tensor)
            self.network.mark_output(tensor)

    def _float_output(self, name: str, half: Any) -> Any:
        """A half tensor cast to be an output, by the cast that a float reader of it has, if there is one."""
        cast = self.tensors.get(f"{name}/float32")
        half.name = f"{name}/float16"
        if cast is None:
            added = self.network.add_cast(half, trt_dtype(self.trt, "float32"))
            return self._named(name, added, f"{name}/float32")
        return self.output(cast, name)

    def refusal(self, name: str) -> TensorRTError:
        return TensorRTError(f"{self._place(name)}: {self.tensorrt.title} refused it: {self.tensorrt.log.take()}")

    def _named(self, name: str, added: Any, layer_name: str = "") -> Any:
        """Names, checks and notes a TensorRT layer of our layer; returns its first output."""
        tensor = self._checked(name, added, layer_name)
        self.added.setdefault(self._layer.name, []).append(added)
        return tensor

    def _checked(self, name: str, added: Any, layer_name: str = "") -> Any:
        """Names a TensorRT layer and its tensor alike, unless the layer's name is taken; returns its first output."""
        if added is None:
            raise self.refusal(name)
        added.name = layer_name or name
        tensor = added.get_output(0)
        tensor.name = name
        if added.name != (layer_name or name) or tensor.name != name:
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
