"""A plan on the GPU: named arrays in, named arrays out, on every TensorRT from 8.5 on by the same calls.

arrays -> pinned host -> device -> execute_async_v3 -> device -> pinned host -> arrays      one stream, one context
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple, Type

import numpy as np

from engine.devices.device import Device
from engine.tensorrt_api import TensorRT, dtype_name
from spec.errors import DeviceError, TensorRTError
from spec.shapes import Shape, show


class IOTensor(NamedTuple):
    """An input or output of an engine; `most` is its shape at the largest batch of the profile."""

    name: str
    is_input: bool
    dtype: str
    shape: Shape
    most: Shape


class Runner:
    """One engine with one execution context. Use it as a context manager: the order of destruction matters.

    Args:
        plan: the bytes of a plan.

    Raises:
        TensorRTError: the plan does not fit this TensorRT or GPU.
    """

    def __init__(self, tensorrt: TensorRT, plan: Any, device: Device) -> None:
        self.tensorrt, self.device = tensorrt, device
        self._runtime = tensorrt.module.Runtime(tensorrt.logger)
        self.engine = self._runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise TensorRTError(f"{tensorrt.title} cannot load this plan: {tensorrt.log.take()}")
        self.context = self.engine.create_execution_context()
        if self.context is None:
            raise TensorRTError(f"{tensorrt.title} cannot make an execution context: {tensorrt.log.take()}")
        self.stream = device.stream()
        self.tensors = tuple(self._describe(index) for index in range(self.engine.num_io_tensors))
        self._address = {tensor.name: device.allocate(_bytes(tensor)) for tensor in self.tensors}
        self._host: Dict[Tuple[str, Shape], np.ndarray] = {}
        for name, address in self._address.items():
            self.context.set_tensor_address(name, address)

    def _describe(self, index: int) -> IOTensor:
        engine, trt = self.engine, self.tensorrt.module
        name = engine.get_tensor_name(index)
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        shape = tuple(engine.get_tensor_shape(name))
        most = tuple(engine.get_tensor_profile_shape(name, 0)[2]) if is_input else shape
        return IOTensor(name, is_input, dtype_name(engine.get_tensor_dtype(name)), shape, most)

    @property
    def inputs(self) -> List[IOTensor]:
        return [tensor for tensor in self.tensors if tensor.is_input]

    @property
    def outputs(self) -> List[IOTensor]:
        return [tensor for tensor in self.tensors if not tensor.is_input]

    def run(self, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """One inference, copies included; returns arrays of its own.

        Raises:
            TensorRTError: names, shapes or dtypes do not fit, or the execution failed.
            DeviceError: CUDA reports an error.
        """
        self.set_inputs(inputs)
        self.copy_inputs()
        self.enqueue()
        self.copy_outputs()
        self.device.synchronize(self.stream)
        return {name: array.copy() for name, array in self._output_arrays().items()}

    def set_inputs(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Fixes the shapes of this and later inferences and fills the pinned input buffers."""
        missing = [tensor.name for tensor in self.inputs if tensor.name not in inputs]
        if missing:
            raise TensorRTError(f"inputs missing: {', '.join(missing)}")
        for tensor in self.inputs:
            array = np.ascontiguousarray(inputs[tensor.name])
            if str(array.dtype) != tensor.dtype:
                raise TensorRTError(f"input '{tensor.name}': is {array.dtype}, the engine takes {tensor.dtype}")
            if not self.context.set_input_shape(tensor.name, array.shape):
                words = f"is {show(array.shape)}, the engine takes {show(tensor.shape)} up to {show(tensor.most)}"
                raise TensorRTError(f"input '{tensor.name}': {words}: {self.tensorrt.log.take()}")
            self._pinned(tensor.name, array.shape, tensor.dtype)[...] = array
        self._grow_outputs()

    def _grow_outputs(self) -> None:
        """Outputs of a dynamic batch have a size only once the inputs do."""
        for position, tensor in enumerate(self.tensors):
            shape = tuple(self.context.get_tensor_shape(tensor.name))
            grown = tensor._replace(most=shape)
            if not tensor.is_input and _bytes(grown) > _bytes(tensor):
                self.device.free(self._address[tensor.name])
                self._address[tensor.name] = self.device.allocate(_bytes(grown))
                self.context.set_tensor_address(tensor.name, self._address[tensor.name])
                self.tensors = self.tensors[:position] + (grown,) + self.tensors[position + 1 :]

    def copy_inputs(self) -> None:
        for tensor in self.inputs:
            array = self._pinned(tensor.name, tuple(self.context.get_tensor_shape(tensor.name)), tensor.dtype)
            self.device.copy_in(self._address[tensor.name], array, self.stream)

    def enqueue(self) -> None:
        """Starts the inference on the stream."""
        if not self.context.execute_async_v3(self.stream):
            raise DeviceError(f"the inference failed: {self.tensorrt.log.take()}")

    def copy_outputs(self) -> None:
        for name, array in self._output_arrays().items():
            self.device.copy_out(array, self._address[name], self.stream)

    def _output_arrays(self) -> Dict[str, np.ndarray]:
        shapes = {tensor.name: tuple(self.context.get_tensor_shape(tensor.name)) for tensor in self.outputs}
        return {tensor.name: self._pinned(tensor.name, shapes[tensor.name], tensor.dtype) for tensor in self.outputs}

    def _pinned(self, name: str, shape: Shape, dtype: str) -> np.ndarray:
        key = (name, tuple(shape))
        if key not in self._host:
            self._host[key] = self.device.pinned(tuple(shape), dtype)
        return self._host[key]

    def close(self) -> None:
        """Context before engine, engine before runtime: another order is undefined behaviour in TensorRT."""
        self.context = None
        self.engine = None
        self._runtime = None
        for address in self._address.values():
            self.device.free(address)
        self._address.clear()

    def __enter__(self) -> "Runner":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


def _bytes(tensor: IOTensor) -> int:
    """Bytes at the largest batch; 0 for an output whose batch is not known yet."""
    count = int(np.prod(tensor.most)) if min(tensor.most, default=1) >= 0 else 0
    return count * np.dtype(tensor.dtype).itemsize
