"""A plan on the GPU: named arrays in, named arrays out, on every TensorRT from 8.5 on by the same calls.

arrays -> pinned host -> device -> execute_async_v3 -> device -> pinned host -> arrays      one stream, one context
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext, suppress
from types import TracebackType
from typing import Any, Dict, List, Mapping, Optional, Tuple, Type

import numpy as np

from engine.buffers import Buffers, IOTensor
from engine.devices.device import MIB, Device
from engine.tensorrt_api import TensorRT, dtype_name
from spec.errors import DeviceError, TensorRTError, UsageError, did_you_mean
from spec.shapes import Shape, show


def new_runtime(tensorrt: TensorRT, dla_core: Optional[int] = None) -> Any:
    """TensorRT's runtime, which runs the code that a version-compatible plan brings: to run a plan is to trust it.

    Args:
        dla_core: the DLA that the plan was built for, which a plan does not tell its runtime; None: without a DLA.

    Raises:
        UsageError: this machine has no such DLA.
    """
    runtime = tensorrt.module.Runtime(tensorrt.logger)
    if tensorrt.has("version compatibility"):
        runtime.engine_host_code_allowed = True
    if dla_core is not None:
        runtime.DLA_core = dla_core
        if runtime.DLA_core != dla_core:  # TensorRT keeps -1 without a word
            raise UsageError(f"--dla-core {dla_core}: this machine has no such DLA")
    return runtime


class Runner:
    """One engine with one execution context, its stream and its memory; a context manager.

    What it took is given back by `close`, and also when the constructor fails half way.

    Args:
        plan: the bytes of a plan.
        dla_core: the DLA that it was built for, if it was.

    Attributes:
        tensors: every input and output.

    Raises:
        TensorRTError: the plan does not fit this TensorRT or GPU.
        DeviceError: not enough memory, or CUDA reports an error.
        UsageError: this machine has no such DLA.
    """

    _runtime: Any = None
    engine: Any = None
    context: Any = None

    def __init__(self, tensorrt: TensorRT, plan: Any, device: Device, dla_core: Optional[int] = None) -> None:
        self.tensorrt, self.device = tensorrt, device
        self._arrays: Dict[str, np.ndarray] = {}
        self._stack = ExitStack()
        with ExitStack() as unfinished:
            unfinished.push(self)
            self._stack.callback(self._destroy)
            self._runtime = new_runtime(tensorrt, dla_core)
            self.engine = self._deserialize(plan)
            self.context = self._new_context()
            self.stream = device.kept(device.stream(), self._stack)
            self.tensors = self._describe()
            self._buffers = Buffers(device, self.tensors, self._stack)
            self._stack.callback(device.synchronize, self.stream)  # nothing may still run on what is given back
            for tensor in self.tensors:
                self.context.set_tensor_address(tensor.name, self._buffers.address(tensor.name))
            unfinished.pop_all()

    def _deserialize(self, plan: Any) -> Any:
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            title = self.tensorrt.title
            raise TensorRTError(f"{title} cannot load this plan: {self.tensorrt.log.take()}; plans serve the TensorRT "
                                "and the kind of GPU they were built with")  # fmt: skip
        return engine

    def _new_context(self) -> Any:
        context = self.engine.create_execution_context()
        if context is None:
            free, total = self.device.memory()
            words = f"{free / MIB:,.0f} of {total / MIB:,.0f} MiB are free on the GPU"
            reason = self.tensorrt.log.take()
            raise TensorRTError(f"{self.tensorrt.title} cannot make an execution context: {reason}; {words}")
        return context

    def _describe(self) -> Tuple[IOTensor, ...]:
        """Every tensor; how large outputs get is known once the inputs are at their largest."""
        engine, trt = self.engine, self.tensorrt.module
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        profiles = {name: [tuple(shape) for shape in engine.get_tensor_profile_shape(name, 0)] for name in inputs}
        optimum, most = ({name: profiles[name][k] for name in inputs} for k in (1, 2))
        optima, largest = self._shapes(names, optimum), self._shapes(names, most)
        return tuple(
            IOTensor(name, name in profiles, self._dtype(name), tuple(engine.get_tensor_shape(name)),
                     optima[name], largest[name])  # fmt: skip
            for name in names
        )

    def _shapes(self, names: List[str], inputs: Mapping[str, Shape]) -> Dict[str, Shape]:
        """The shapes of all tensors where the inputs have these."""
        for name, shape in inputs.items():
            self.context.set_input_shape(name, shape)
        shapes = {name: tuple(self.context.get_tensor_shape(name)) for name in names}
        for name, shape in shapes.items():
            if min(shape, default=1) < 0:
                raise TensorRTError(f"output '{name}': its shape {show(shape)} is known only after it ran; not served")
        return shapes

    def _dtype(self, name: str) -> str:
        dtype = dtype_name(self.engine.get_tensor_dtype(name))
        try:
            np.dtype(dtype)
        except TypeError:
            raise TensorRTError(f"tensor '{name}': is {dtype}, which numpy has not; cast it in the network") from None
        return dtype

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
        self.synchronize()
        return {name: array.copy() for name, array in self.host_outputs().items()}

    def set_inputs(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Fixes the shapes of this and later inferences and fills the pinned input buffers."""
        self._check_names(inputs)
        for tensor in self.inputs:
            array = np.asarray(inputs[tensor.name])
            if str(array.dtype) != tensor.dtype:
                raise TensorRTError(f"input '{tensor.name}': is {array.dtype}, the engine takes {tensor.dtype}")
            if not self.context.set_input_shape(tensor.name, array.shape):
                words = f"is {show(array.shape)}, the engine takes {show(tensor.shape)} up to {show(tensor.most)}"
                raise TensorRTError(f"input '{tensor.name}': {words}: {self.tensorrt.log.take()}")
            self._buffers.host(tensor.name, array.shape)[...] = array
        shapes = {tensor.name: tuple(self.context.get_tensor_shape(tensor.name)) for tensor in self.tensors}
        self._arrays = {name: self._buffers.host(name, shape) for name, shape in shapes.items()}

    def _check_names(self, inputs: Mapping[str, np.ndarray]) -> None:
        known = [tensor.name for tensor in self.inputs]
        missing = [name for name in known if name not in inputs]
        if missing:
            raise TensorRTError(f"inputs missing: {', '.join(missing)}")
        unknown = [f"'{name}'{did_you_mean(name, known)}" for name in inputs if name not in known]
        if unknown:
            raise TensorRTError(f"the engine has no input {', '.join(unknown)}; it has {', '.join(known)}")

    def copy_inputs(self) -> None:
        """Pinned host memory to the GPU, in stream order."""
        for tensor in self.inputs:
            self.device.copy_in(self._buffers.address(tensor.name), self._arrays[tensor.name], self.stream)

    def enqueue(self) -> None:
        """Starts the inference on the stream."""
        if not self.context.execute_async_v3(self.stream):
            raise DeviceError(f"the inference failed: {self.tensorrt.log.take()}")

    def copy_outputs(self) -> None:
        """The GPU to pinned host memory, in stream order."""
        for tensor in self.outputs:
            self.device.copy_out(self._arrays[tensor.name], self._buffers.address(tensor.name), self.stream)

    def host_outputs(self) -> Dict[str, np.ndarray]:
        """What `copy_outputs` brought, in pinned memory that the next inference overwrites."""
        return {tensor.name: self._arrays[tensor.name] for tensor in self.outputs}

    def synchronize(self) -> None:
        """Waits for all that was started."""
        self.device.synchronize(self.stream)

    def close(self) -> None:
        """Gives back memory, stream, context, engine and runtime."""
        self._arrays.clear()
        self._stack.close()

    def _destroy(self) -> None:
        """Context before engine, engine before runtime: another order is undefined behaviour in TensorRT."""
        self.context = None
        self.engine = None
        self._runtime = None

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        # an error that CUDA repeats at every call from now on must not take the place of the one that says why
        with suppress(DeviceError) if error else nullcontext():
            self.close()
