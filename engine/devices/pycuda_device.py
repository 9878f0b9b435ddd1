"""Device on pycuda, in the primary context that TensorRT shares. It has no CUDA graphs (2026.1)."""

from __future__ import annotations

from typing import Any, Callable, Dict, Tuple, TypeVar

import numpy as np
import pycuda.driver as cuda

from engine.devices.device import Device, DeviceFacts
from spec.errors import DeviceError

Value = TypeVar("Value")


def _checked(call: Callable[..., Value], *arguments: Any) -> Value:
    try:
        return call(*arguments)
    except cuda.Error as error:
        raise DeviceError(f"CUDA: {error}") from None


class PycudaDevice(Device):
    """See `Device`."""

    binding, has_graphs = "pycuda", False

    def __init__(self, index: int) -> None:
        _checked(cuda.init)
        self._device = _checked(cuda.Device, index)
        self._context = _checked(self._device.retain_primary_context)
        self._context.push()
        self._memory: Dict[int, Any] = {}
        self._streams: Dict[int, Any] = {}

    def facts(self) -> DeviceFacts:
        free, total = _checked(cuda.mem_get_info)
        capability = self._device.compute_capability()
        return DeviceFacts(self._device.name(), capability, cuda.get_driver_version(), free, total)

    def allocate(self, size: int) -> int:
        block = _checked(cuda.mem_alloc, max(size, 1))
        self._memory[int(block)] = block
        return int(block)

    def free(self, address: int) -> None:
        self._memory.pop(address).free()

    def pinned(self, shape: Tuple[int, ...], dtype: Any) -> np.ndarray:
        return _checked(cuda.pagelocked_empty, shape, np.dtype(dtype))

    def copy_in(self, address: int, array: np.ndarray, stream: int) -> None:
        _checked(cuda.memcpy_htod_async, address, array, self._streams[stream])

    def copy_out(self, array: np.ndarray, address: int, stream: int) -> None:
        _checked(cuda.memcpy_dtoh_async, array, address, self._streams[stream])

    def stream(self) -> int:
        stream = _checked(cuda.Stream)
        self._streams[stream.handle] = stream
        return stream.handle

    def synchronize(self, stream: int) -> None:
        _checked(self._streams[stream].synchronize)

    def event(self) -> Any:
        return _checked(cuda.Event)

    def record(self, event: Any, stream: int) -> None:
        _checked(event.record, self._streams[stream])

    def milliseconds(self, start: Any, end: Any) -> float:
        return float(_checked(start.time_till, end))

    def close(self) -> None:
        self._streams.clear()
        self._memory.clear()
        self._context.pop()


def open_device(index: int) -> Device:
    return PycudaDevice(index)
