"""Device on NVIDIA's cuda-python: CUDA runtime calls that return (error, values...)."""

from __future__ import annotations

import ctypes
from math import prod
from typing import Any, List, Tuple

import numpy as np

from engine.devices.device import Device, DeviceFacts
from spec.errors import DeviceError

try:
    from cuda.bindings import runtime as cudart  # cuda-python 12.6 and newer
except ImportError:
    from cuda import cudart  # cuda-python up to 12.5, as JetPack has it


def _checked(result: Tuple[Any, ...]) -> Any:
    """The values of a call, or its error as an exception."""
    error, values = result[0], result[1:]
    if error != cudart.cudaError_t.cudaSuccess:
        _, text = cudart.cudaGetErrorString(error)
        words = text.decode() if isinstance(text, bytes) else str(text)
        raise DeviceError(f"CUDA: {error.name}: {words}")
    return values[0] if len(values) == 1 else values


class CudaPythonDevice(Device):
    """See `Device`."""

    binding, has_graphs = "cuda-python", True

    def __init__(self, index: int) -> None:
        self._index = index
        _checked(cudart.cudaSetDevice(index))
        self._pinned: List[int] = []
        self._streams: List[Any] = []

    def facts(self) -> DeviceFacts:
        properties = _checked(cudart.cudaGetDeviceProperties(self._index))
        free, total = _checked(cudart.cudaMemGetInfo())
        name = properties.name.decode() if isinstance(properties.name, bytes) else properties.name
        driver = _checked(cudart.cudaDriverGetVersion())
        return DeviceFacts(name, (properties.major, properties.minor), driver, free, total)

    def allocate(self, size: int) -> int:
        return int(_checked(cudart.cudaMalloc(max(size, 1))))

    def free(self, address: int) -> None:
        _checked(cudart.cudaFree(address))

    def pinned(self, shape: Tuple[int, ...], dtype: Any) -> np.ndarray:
        size = max(prod(shape) * np.dtype(dtype).itemsize, 1)
        address = int(_checked(cudart.cudaMallocHost(size)))
        self._pinned.append(address)
        memory = (ctypes.c_uint8 * size).from_address(address)
        return np.frombuffer(memory, dtype, prod(shape)).reshape(shape)

    def copy_in(self, address: int, array: np.ndarray, stream: int) -> None:
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        _checked(cudart.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, kind, stream))

    def copy_out(self, array: np.ndarray, address: int, stream: int) -> None:
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        _checked(cudart.cudaMemcpyAsync(array.ctypes.data, address, array.nbytes, kind, stream))

    def stream(self) -> int:
        self._streams.append(_checked(cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking)))
        return int(self._streams[-1])

    def synchronize(self, stream: int) -> None:
        _checked(cudart.cudaStreamSynchronize(stream))

    def event(self) -> Any:
        return _checked(cudart.cudaEventCreate())

    def record(self, event: Any, stream: int) -> None:
        _checked(cudart.cudaEventRecord(event, stream))

    def milliseconds(self, start: Any, end: Any) -> float:
        return float(_checked(cudart.cudaEventElapsedTime(start, end)))

    def begin_capture(self, stream: int) -> None:
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _checked(cudart.cudaStreamBeginCapture(stream, mode))

    def end_capture(self, stream: int) -> Any:
        graph = _checked(cudart.cudaStreamEndCapture(stream))
        executable = _checked(cudart.cudaGraphInstantiate(graph, 0))
        _checked(cudart.cudaGraphDestroy(graph))
        return executable

    def launch(self, graph: Any, stream: int) -> None:
        _checked(cudart.cudaGraphLaunch(graph, stream))

    def close(self) -> None:
        for stream in self._streams:
            _checked(cudart.cudaStreamDestroy(stream))
        for address in self._pinned:
            _checked(cudart.cudaFreeHost(address))
        self._streams.clear()
        self._pinned.clear()


def open_device(index: int) -> Device:
    return CudaPythonDevice(index)
