"""Device: what the runner asks of a GPU; it owns all it hands out and gives back on `close` what is still held.

    allocate, pinned, stream, event, capture ──> a handle ──> release(handle), or close()

Addresses, streams and graphs are integers, so every binding can give them.
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext, suppress
from types import TracebackType
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple, Type, TypeVar

import numpy as np

from spec.errors import DeviceError

Self = TypeVar("Self", bound="Device")
Handle = TypeVar("Handle")

MIB = 1 << 20


class DeviceFacts(NamedTuple):
    """What a measurement must state.

    Attributes:
        driver: the newest CUDA that the driver serves, 13000 for 13.0.
        sm_clock_mhz, memory_clock_mhz: the peak rates; None where the driver does not tell.
    """

    name: str
    compute_capability: Tuple[int, int]
    driver: int
    free_bytes: int
    total_bytes: int
    sm_clock_mhz: Optional[int] = None
    memory_clock_mhz: Optional[int] = None

    def line(self) -> str:
        """The facts in one line."""
        capability = "{}.{}".format(*self.compute_capability)
        driver = f"{self.driver // 1000}.{self.driver % 1000 // 10}"
        memory = f"{self.free_bytes / MIB:,.0f} of {self.total_bytes / MIB:,.0f} MiB free"
        clocks = [
            f"{name} up to {rate} MHz"
            for name, rate in (("SM clock", self.sm_clock_mhz), ("memory clock", self.memory_clock_mhz))
            if rate
        ]
        return ", ".join(
            [f"{self.name}, compute capability {capability}, driver for CUDA {driver}, {memory}", *clocks]
        )


class Device:
    """One GPU, a context manager. Every call raises DeviceError with CUDA's own name for what went wrong.

    A binding implements the calls and passes every handle through `_hold`, with what undoes it.
    """

    binding = ""
    has_graphs = False

    def __init__(self) -> None:
        self._held: Dict[Any, Callable[[], Any]] = {}

    @property
    def held(self) -> int:
        """How many handles are not released yet."""
        return len(self._held)

    def facts(self) -> DeviceFacts:
        raise NotImplementedError

    def memory(self) -> Tuple[int, int]:
        """(free, total) bytes on the GPU."""
        raise NotImplementedError

    def allocate(self, size: int) -> int:
        """Address of `size` bytes on the GPU; where they are not there, DeviceError says how much is free."""
        raise NotImplementedError

    def pinned(self, size: int) -> np.ndarray:
        """`size` bytes (uint8) of page-locked host memory, which the GPU copies without the CPU; gone on release."""
        raise NotImplementedError

    def copy_in(self, address: int, array: np.ndarray, stream: int) -> None:
        """Host to device, in stream order."""
        raise NotImplementedError

    def copy_out(self, array: np.ndarray, address: int, stream: int) -> None:
        """Device to host, in stream order."""
        raise NotImplementedError

    def stream(self) -> int:
        """A new stream's handle; it does not wait for the default stream."""
        raise NotImplementedError

    def synchronize(self, stream: int) -> None:
        """Waits for everything on a stream."""
        raise NotImplementedError

    def event(self) -> Any:
        """A new timing event."""
        raise NotImplementedError

    def record(self, event: Any, stream: int) -> None:
        raise NotImplementedError

    def wait(self, event: Any) -> None:
        """Waits until the stream has reached a recorded event."""
        raise NotImplementedError

    def milliseconds(self, start: Any, end: Any) -> float:
        """Time between two recorded events, after the second was reached."""
        raise NotImplementedError

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """What `work` puts on the stream, recorded instead of done, as a graph for `launch`; only where `has_graphs`.

        A stream that stays in capture refuses everything, so it leaves that state when `work` fails too.
        """
        with ExitStack() as stack:
            self._begin_capture(stream)
            stack.callback(self._abandon_capture, stream)
            work()
            stack.pop_all()
        return self._end_capture(stream)

    def launch(self, graph: int, stream: int) -> None:
        raise NotImplementedError

    def _begin_capture(self, stream: int) -> None:
        raise NotImplementedError

    def _abandon_capture(self, stream: int) -> None:
        """Ends a capture and forgets it; the error that led here is the one to be told."""
        raise NotImplementedError

    def _end_capture(self, stream: int) -> int:
        raise NotImplementedError

    def release(self, *handles: Any) -> None:
        """Gives back what `allocate`, `pinned`, `stream`, `event` or `capture` returned."""
        for handle in handles:
            self._held.pop(_key(handle))()

    def kept(self, handle: Handle, stack: ExitStack) -> Handle:
        """The handle, which is released when the stack closes: how whoever asked for it owns it."""
        stack.callback(self.release, handle)
        return handle

    def close(self) -> None:
        """Gives back all that is still held, the newest first, even where one of them fails."""
        with ExitStack() as stack:
            for undo in self._held.values():
                stack.callback(undo)
            self._held.clear()

    def _hold(self, handle: Handle, undo: Callable[[], Any]) -> Handle:
        self._held[_key(handle)] = undo
        return handle

    def _out_of_memory(self, size: int) -> DeviceError:
        free, total = self.memory()
        return DeviceError(
            f"GPU out of memory: {size / MIB:,.1f} MiB wanted, {free / MIB:,.1f} of {total / MIB:,.1f} MiB free; "
            "take a smaller batch, or end other programs on this GPU"
        )

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        # an error that CUDA repeats at every call from now on must not take the place of the one that says why
        with suppress(DeviceError) if error else nullcontext():
            self.close()


def no_pinned_memory(size: int) -> DeviceError:
    """The error of a host that cannot lock so many bytes."""
    return DeviceError(f"the host has no {size / MIB:,.1f} MiB of page-locked memory to give; take a smaller batch")


def _key(handle: Any) -> Any:
    """An array cannot be a key; its address can, and in CUDA's one address space no other live thing has the same."""
    return handle.ctypes.data if isinstance(handle, np.ndarray) else handle
