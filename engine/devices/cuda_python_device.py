"""Device on NVIDIA's cuda-python: CUDA runtime calls that return (error, values...)."""

from __future__ import annotations

import ctypes
from typing import Any, Optional, Tuple

import numpy as np

from engine.devices.device import Device, DeviceFacts, no_pinned_memory
from spec.errors import DeviceError

try:
    from cuda.bindings import runtime as cudart  # cuda-python 12.6 and newer
except ImportError:
    from cuda import cudart  # cuda-python up to 12.5, as JetPack has it

_OUT_OF_MEMORY = cudart.cudaError_t.cudaErrorMemoryAllocation


def _checked(result: Tuple[Any, ...]) -> Any:
    """The values of a call, or its error as an exception."""
    error, values = result[0], result[1:]
    if error != cudart.cudaError_t.cudaSuccess:
        cudart.cudaGetLastError()  # else the next one who asks CUDA takes this error for their own
        _, text = cudart.cudaGetErrorString(error)
        words = text.decode() if isinstance(text, bytes) else str(text)
        raise DeviceError(f"CUDA: {error.name}: {words}")
    return values[0] if len(values) == 1 else values


class CudaPythonDevice(Device):
    """See `Device`."""

    binding, has_graphs = "cuda-python", True

    def __init__(self, index: int) -> None:
        super().__init__()
        self._index = index
        _checked(cudart.cudaSetDevice(index))

    def facts(self) -> DeviceFacts:
        properties = _checked(cudart.cudaGetDeviceProperties(self._index))
        name = properties.name.decode() if isinstance(properties.name, bytes) else properties.name
        driver = _checked(cudart.cudaDriverGetVersion())
        capability = (properties.major, properties.minor)
        attributes = cudart.cudaDeviceAttr  # the fields of these names are gone from CUDA 13's properties
        clocks = (attributes.cudaDevAttrClockRate, attributes.cudaDevAttrMemoryClockRate)
        return DeviceFacts(name, capability, driver, *self.memory(), *map(self._megahertz, clocks))

    def _megahertz(self, attribute: Any) -> Optional[int]:
        error, kilohertz = cudart.cudaDeviceGetAttribute(attribute, self._index)
        return kilohertz // 1000 if error == cudart.cudaError_t.cudaSuccess and kilohertz else None

    def memory(self) -> Tuple[int, int]:
        free, total = _checked(cudart.cudaMemGetInfo())
        return free, total

    def allocate(self, size: int) -> int:
        result = cudart.cudaMalloc(max(size, 1))
        if result[0] == _OUT_OF_MEMORY:
            cudart.cudaGetLastError()
            raise self._out_of_memory(size)
        address = int(_checked(result))
        return self._hold(address, lambda: _checked(cudart.cudaFree(address)))

    def pinned(self, size: int) -> np.ndarray:
        result = cudart.cudaMallocHost(max(size, 1))
        if result[0] == _OUT_OF_MEMORY:
            cudart.cudaGetLastError()
            raise no_pinned_memory(size)
        address = int(_checked(result))
        array = np.frombuffer((ctypes.c_uint8 * max(size, 1)).from_address(address), np.uint8)
        return self._hold(array, lambda: _checked(cudart.cudaFreeHost(address)))

    def copy_in(self, address: int, array: np.ndarray, stream: int) -> None:
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        _checked(cudart.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, kind, stream))

    def copy_out(self, array: np.ndarray, address: int, stream: int) -> None:
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        _checked(cudart.cudaMemcpyAsync(array.ctypes.data, address, array.nbytes, kind, stream))

    def stream(self) -> int:
        stream = int(_checked(cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking)))
        return self._hold(stream, lambda: _checked(cudart.cudaStreamDestroy(stream)))

    def synchronize(self, stream: int) -> None:
        _checked(cudart.cudaStreamSynchronize(stream))

    def event(self) -> int:
        event = int(_checked(cudart.cudaEventCreate()))
        return self._hold(event, lambda: _checked(cudart.cudaEventDestroy(event)))

    def record(self, event: Any, stream: int) -> None:
        _checked(cudart.cudaEventRecord(event, stream))

    def wait(self, event: Any) -> None:
        _checked(cudart.cudaEventSynchronize(event))

    def milliseconds(self, start: Any, end: Any) -> float:
        return float(_checked(cudart.cudaEventElapsedTime(start, end)))

    def _begin_capture(self, stream: int) -> None:
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _checked(cudart.cudaStreamBeginCapture(stream, mode))

    def _abandon_capture(self, stream: int) -> None:
        error, graph = cudart.cudaStreamEndCapture(stream)
        if error == cudart.cudaError_t.cudaSuccess:
            _checked(cudart.cudaGraphDestroy(graph))
        cudart.cudaGetLastError()

    def _end_capture(self, stream: int) -> int:
        recorded = _checked(cudart.cudaStreamEndCapture(stream))
        try:
            # not cudaGraphInstantiate, which takes other arguments in cuda-python 11
            graph = int(_checked(cudart.cudaGraphInstantiateWithFlags(recorded, 0)))
        finally:
            _checked(cudart.cudaGraphDestroy(recorded))
        return self._hold(graph, lambda: _checked(cudart.cudaGraphExecDestroy(graph)))

    def launch(self, graph: int, stream: int) -> None:
        _checked(cudart.cudaGraphLaunch(graph, stream))


def open_device(index: int) -> Device:
    return CudaPythonDevice(index)
