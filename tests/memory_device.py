"""A Device in the memory of this process: no GPU, but every call does what the interface says, and all is counted;
and a runner on it that computes nothing, for what stands around an inference.

Copies move bytes at once, a stream keeps the order because nothing waits, events are times, a graph is what was called.
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from engine.buffers import IOTensor
from engine.devices.device import Device, DeviceFacts, no_pinned_memory
from spec.errors import DeviceError

FIRST_ADDRESS = 0x1000


class Event:
    """A time, once it is recorded."""

    def __init__(self) -> None:
        self.seconds: Optional[float] = None


class MemoryDevice(Device):
    """A device of `total` bytes.

    Attributes:
        calls: what was done on the stream since it began, one word a call.
        capturing: whether a stream is in capture.
    """

    binding, has_graphs = "memory", True

    def __init__(self, total: int = 1 << 20, pinned_total: int = 1 << 20) -> None:
        super().__init__()
        self.total, self.pinned_left = total, pinned_total
        self.blocks: Dict[int, np.ndarray] = {}
        self.graphs: Dict[int, List[str]] = {}
        self.calls: List[str] = []
        self.recorded: Optional[List[str]] = None
        self._next = FIRST_ADDRESS

    @property
    def capturing(self) -> bool:
        return self.recorded is not None

    def facts(self) -> DeviceFacts:
        return DeviceFacts("memory", (0, 0), 0, *self.memory())

    def memory(self) -> Tuple[int, int]:
        return self.total - sum(block.nbytes for block in self.blocks.values()), self.total

    def allocate(self, size: int) -> int:
        if size > self.memory()[0]:
            raise self._out_of_memory(size)
        address = self._new()
        self.blocks[address] = np.zeros(size, np.uint8)
        return self._hold(address, lambda: self.blocks.pop(address))

    def pinned(self, size: int) -> np.ndarray:
        if size > self.pinned_left:
            raise no_pinned_memory(size)
        self.pinned_left -= size
        return self._hold(np.zeros(max(size, 1), np.uint8), lambda: self._unpin(size))

    def copy_in(self, address: int, array: np.ndarray, stream: int) -> None:
        self.blocks[address][: array.nbytes] = array.reshape(-1).view(np.uint8)
        self._do("copy_in")

    def copy_out(self, array: np.ndarray, address: int, stream: int) -> None:
        array.reshape(-1).view(np.uint8)[...] = self.blocks[address][: array.nbytes]
        self._do("copy_out")

    def stream(self) -> int:
        return self._hold(self._new(), lambda: None)

    def synchronize(self, stream: int) -> None:
        if self.capturing:
            raise DeviceError("CUDA: cudaErrorStreamCaptureUnsupported")

    def event(self) -> Event:
        return self._hold(Event(), lambda: None)

    def record(self, event: Any, stream: int) -> None:
        event.seconds = time.perf_counter()

    def wait(self, event: Any) -> None:
        assert event.seconds is not None

    def milliseconds(self, start: Any, end: Any) -> float:
        return (end.seconds - start.seconds) * 1e3

    def launch(self, graph: int, stream: int) -> None:
        self.calls += self.graphs[graph]

    def _begin_capture(self, stream: int) -> None:
        self.recorded = []

    def _abandon_capture(self, stream: int) -> None:
        self.recorded = None

    def _end_capture(self, stream: int) -> int:
        graph, self.graphs[self._next], self.recorded = self._next, self.recorded or [], None
        return self._hold(self._new(), lambda: self.graphs.pop(graph))

    def do(self, word: str) -> Callable[[], None]:
        """Work for a stream."""
        return lambda: self._do(word)

    def _do(self, word: str) -> None:
        (self.calls if self.recorded is None else self.recorded).append(word)

    def _new(self) -> int:
        self._next += 1
        return self._next - 1

    def _unpin(self, size: int) -> None:
        self.pinned_left += size


class MemoryRunner:
    """What a measurement asks of a Runner; its inference is a word on the stream, told to the profiler by layer.

    Args:
        milliseconds: what the profiler is told, by layer of the engine.
        document: the inspector's text.
    """

    def __init__(
        self,
        device: MemoryDevice,
        inputs: Sequence[IOTensor] = (),
        milliseconds: Optional[Mapping[str, float]] = None,
        document: str = "",
        tensorrt: Any = None,
    ) -> None:
        self.device, self.stream, self.inputs, self.tensorrt = device, device.stream(), list(inputs), tensorrt
        self.context = SimpleNamespace(profiler=None)
        inspector = SimpleNamespace(get_engine_information=lambda form: document)
        self.engine = SimpleNamespace(create_engine_inspector=lambda: inspector)
        self._milliseconds = milliseconds or {}

    def set_inputs(self, inputs: Mapping[str, np.ndarray]) -> None:
        self.fed = dict(inputs)

    def copy_inputs(self) -> None:
        self.device.do("in")()

    def enqueue(self) -> None:
        self.device.do("run")()
        if self.context.profiler is not None:
            for name, milliseconds in self._milliseconds.items():
                self.context.profiler.report_layer_time(name, milliseconds)

    def copy_outputs(self) -> None:
        self.device.do("out")()

    def synchronize(self) -> None:
        self.device.synchronize(self.stream)

    def __enter__(self) -> MemoryRunner:
        return self

    def __exit__(self, *error: Any) -> None:
        self.device.release(self.stream)
