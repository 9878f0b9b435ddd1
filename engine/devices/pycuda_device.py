"""Device on pycuda, in the primary context that TensorRT shares. It has no CUDA graphs (2026.1)."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Tuple, TypeVar

import numpy as np
import pycuda.driver as cuda

from engine.devices.device import Device, DeviceFacts, no_pinned_memory
from spec.errors import DeviceError

Value = TypeVar("Value")

_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING, for which pycuda has no name."""


class _OutOfMemory(DeviceError):
    """For whoever knows how much was wanted."""


def _checked(call: Callable[..., Value], *arguments: Any) -> Value:
    try:
        return call(*arguments)
    except cuda.MemoryError as error:
        raise _OutOfMemory(f"CUDA: {error}") from None
    except cuda.Error as error:
        raise DeviceError(f"CUDA: {error}") from None


class PycudaDevice(Device):
    """See `Device`."""

    binding, has_graphs = "pycuda", False

    def __init__(self, index: int) -> None:
        super().__init__()
        _checked(cuda.init)
        self._device = _checked(cuda.Device, index)
        self._context = _checked(self._device.retain_primary_context)
        self._context.push()
        self._streams: Dict[int, Any] = {}

    def facts(self) -> DeviceFacts:
        capability, driver = self._device.compute_capability(), cuda.get_driver_version()
        attributes = cuda.device_attribute
        clocks = (attributes.CLOCK_RATE, attributes.MEMORY_CLOCK_RATE)
        return DeviceFacts(self._device.name(), capability, driver, *self.memory(), *map(self._megahertz, clocks))

    def _megahertz(self, attribute: Any) -> Optional[int]:
        try:
            return self._device.get_attribute(attribute) // 1000 or None
        except cuda.Error:
            return None

    def memory(self) -> Tuple[int, int]:
        free, total = _checked(cuda.mem_get_info)
        return free, total

    def allocate(self, size: int) -> int:
        try:
            block = _checked(cuda.mem_alloc, max(size, 1))
        except _OutOfMemory:
            raise self._out_of_memory(size) from None
        return self._hold(int(block), lambda: _checked(block.free))

    def pinned(self, size: int) -> np.ndarray:
        try:
            array = _checked(cuda.pagelocked_empty, max(size, 1), np.dtype(np.uint8))
        except _OutOfMemory:
            raise no_pinned_memory(size) from None
        return self._hold(array, lambda: _checked(array.base.free))

    def copy_in(self, address: int, array: np.ndarray, stream: int) -> None:
        _checked(cuda.memcpy_htod_async, address, array, self._streams[stream])

    def copy_out(self, array: np.ndarray, address: int, stream: int) -> None:
        _checked(cuda.memcpy_dtoh_async, array, address, self._streams[stream])

    def stream(self) -> int:
        stream = _checked(cuda.Stream, _NON_BLOCKING)
        self._streams[stream.handle] = stream
        return self._hold(stream.handle, lambda: self._streams.pop(stream.handle))

    def synchronize(self, stream: int) -> None:
        _checked(self._streams[stream].synchronize)

    def event(self) -> Any:
        event = _checked(cuda.Event)
        return self._hold(event, lambda: None)  # pycuda destroys it with its last reference

    def record(self, event: Any, stream: int) -> None:
        _checked(event.record, self._streams[stream])

    def wait(self, event: Any) -> None:
        _checked(event.synchronize)

    def milliseconds(self, start: Any, end: Any) -> float:
        return float(_checked(start.time_till, end))

    def close(self) -> None:
        context, self._context = self._context, None
        try:
            super().close()
        finally:
            if context is not None:
                context.pop()


def open_device(index: int) -> Device:
    return PycudaDevice(index)
