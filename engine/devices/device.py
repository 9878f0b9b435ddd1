"""Device: what the runner asks of a GPU. Pointers and stream handles are integers, so every binding can give them."""

from __future__ import annotations

from types import TracebackType
from typing import Any, NamedTuple, Optional, Tuple, Type, TypeVar

import numpy as np

Self = TypeVar("Self", bound="Device")


class DeviceFacts(NamedTuple):
    """What a measurement must state."""

    name: str
    compute_capability: Tuple[int, int]
    driver: int
    free_bytes: int
    total_bytes: int


class Device:
    """One GPU, a context manager. Every call raises DeviceError with CUDA's own name for what went wrong."""

    binding = ""
    has_graphs = False

    def facts(self) -> DeviceFacts:
        raise NotImplementedError

    def allocate(self, size: int) -> int:
        """Address of `size` bytes on the GPU."""
        raise NotImplementedError

    def free(self, address: int) -> None:
        raise NotImplementedError

    def pinned(self, shape: Tuple[int, ...], dtype: Any) -> np.ndarray:
        """A page-locked host array, which the GPU copies without the CPU; lives until `close`."""
        raise NotImplementedError

    def copy_in(self, address: int, array: np.ndarray, stream: int) -> None:
        """Host to device, in stream order."""
        raise NotImplementedError

    def copy_out(self, array: np.ndarray, address: int, stream: int) -> None:
        """Device to host, in stream order."""
        raise NotImplementedError

    def stream(self) -> int:
        """A new stream's handle."""
        raise NotImplementedError

    def synchronize(self, stream: int) -> None:
        raise NotImplementedError

    def event(self) -> Any:
        """A new timing event."""
        raise NotImplementedError

    def record(self, event: Any, stream: int) -> None:
        raise NotImplementedError

    def milliseconds(self, start: Any, end: Any) -> float:
        """Time between two recorded events, after the second was reached."""
        raise NotImplementedError

    def begin_capture(self, stream: int) -> None:
        """From here on the stream's work is recorded instead of done; only where `has_graphs`."""
        raise NotImplementedError

    def end_capture(self, stream: int) -> Any:
        """The recorded work, ready for `launch`."""
        raise NotImplementedError

    def launch(self, graph: Any, stream: int) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Releases pinned memory, streams and the context."""
        raise NotImplementedError

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()
