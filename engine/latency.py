"""How fast a plan runs, with trtexec's figures: throughput, latency percentiles, and what copies and compute each take.

    stream   H2D | compute | D2H   H2D | compute | D2H   ...    between CUDA events; the next inference is already
    host     enqueue, enqueue,     wait 1, enqueue,     ...    enqueued while one runs, so the GPU never waits for it
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence

import numpy as np

from engine.runner import Runner
from spec.errors import DeviceError

PERCENTILES = (90, 95, 99)


class LatencyOptions(NamedTuple):
    """How to measure.

    Attributes:
        warm_up: seconds before the first figure counts.
        duration: seconds to measure at least.
        iterations: inferences to measure at least.
        graph: replay a CUDA graph, where the binding has them: no launch cost per kernel.
        transfers: copy inputs and outputs each time; without, the inputs lie on the GPU.
        in_flight: inferences on the stream at once; 1 waits for each before it starts the next.
    """

    warm_up: float = 0.2
    duration: float = 2.0
    iterations: int = 10
    graph: bool = True
    transfers: bool = True
    in_flight: int = 2


class Sample(NamedTuple):
    """Milliseconds of one inference; `enqueue` is the host's, to put it on the stream."""

    h2d: float
    compute: float
    d2h: float
    enqueue: float


class Latency(NamedTuple):
    """Milliseconds of every measured inference, and what must be stated beside them.

    Attributes:
        wall: seconds from the first inference to the end of the last.
        graph: whether a CUDA graph was replayed, asked for or not.
    """

    host_to_device: np.ndarray
    compute: np.ndarray
    device_to_host: np.ndarray
    enqueue: np.ndarray
    wall: float
    batch: int
    graph: bool
    transfers: bool
    in_flight: int

    @property
    def total(self) -> np.ndarray:
        return self.host_to_device + self.compute + self.device_to_host

    @property
    def median(self) -> float:
        """Milliseconds of an inference, copies included."""
        return float(np.median(self.total))

    @property
    def queries_per_second(self) -> float:
        return len(self.compute) / self.wall

    @property
    def images_per_second(self) -> float:
        return self.batch * self.queries_per_second

    def as_json(self) -> Dict[str, Any]:
        parts = {"latency": self.total, "h2d": self.host_to_device, "compute": self.compute, "d2h": self.device_to_host,
                 "enqueue": self.enqueue}  # fmt: skip
        figures = {name: summary(values) for name, values in parts.items()}
        about = {"batch": self.batch, "cuda_graph": self.graph, "transfers": self.transfers,
                 "in_flight": self.in_flight, "count": len(self.compute), "seconds": round(self.wall, 3)}  # fmt: skip
        rates = {"qps": round(self.queries_per_second, 2), "images_per_second": round(self.images_per_second, 1)}
        return {**about, **rates, **figures}

    def conditions(self) -> List[str]:
        """What changes the figures, in words."""
        return [
            f"batch {self.batch}",
            "CUDA graph" if self.graph else "no CUDA graph",
            "copies in and out from pinned memory" if self.transfers else "no copies",
            f"{self.in_flight} in flight",
        ]

    def lines(self) -> List[str]:
        """trtexec's block, with its titles."""
        titles = {"Latency": self.total, "Enqueue Time": self.enqueue, "H2D Latency": self.host_to_device,
                  "GPU Compute Time": self.compute, "D2H Latency": self.device_to_host}  # fmt: skip
        images = f"{self.images_per_second:,.1f} images/s at batch {self.batch}"
        lines = [f"Throughput: {self.queries_per_second:.2f} qps, {images}"]
        for title, values in titles.items():
            words = ", ".join(f"{name} = {value:.4g} ms" for name, value in summary(values).items())
            lines.append(f"{title}: {words}")
        lines.append(f"Total Host Walltime: {self.wall:.4g} s")
        lines.append(f"Total GPU Compute Time: {self.compute.sum() / 1e3:.4g} s")
        return lines


def summary(values: np.ndarray) -> Dict[str, float]:
    """min, max, mean, median and the percentiles of PERCENTILES."""
    figures = {"min": values.min(), "max": values.max(), "mean": values.mean(), "median": np.median(values)}
    figures.update({f"percentile({p}%)": np.percentile(values, p) for p in PERCENTILES})
    return {name: round(float(value), 5) for name, value in figures.items()}


def middle(latencies: Sequence[Latency]) -> Latency:
    """The one whose median is in the middle, of an even number the slower one."""
    return sorted(latencies, key=lambda each: each.median)[len(latencies) // 2]


def measure(runner: Runner, inputs: Mapping[str, np.ndarray], options: LatencyOptions) -> Latency:
    """Runs inferences until both duration and iterations are reached.

    Raises:
        TensorRTError: the inputs do not fit the engine.
        DeviceError: CUDA reports an error.
    """
    prepare(runner, inputs)
    use_graph = options.graph and runner.device.has_graphs
    with ExitStack() as stack:
        launch = _captured(runner, stack) if use_graph else runner.enqueue
        queue = _Queue(runner, launch, options, stack)
        queue.run(options.warm_up, 1)
        start = time.perf_counter()
        samples = queue.run(options.duration, options.iterations)
        wall = time.perf_counter() - start
    columns = np.array(samples, np.float64).T
    batch = next(iter(inputs.values())).shape[0]
    return Latency(*columns, wall, batch, use_graph, options.transfers, options.in_flight)


def prepare(runner: Runner, inputs: Mapping[str, np.ndarray]) -> None:
    """Inputs onto the GPU and one inference: the first one allocates, which must not happen in a measurement."""
    runner.set_inputs(inputs)
    runner.copy_inputs()
    runner.enqueue()
    runner.synchronize()


def _captured(runner: Runner, stack: ExitStack) -> Callable[[], None]:
    """Replays the inference as one CUDA graph."""
    try:
        graph = runner.device.kept(runner.device.capture(runner.stream, runner.enqueue), stack)
    except DeviceError as error:
        problems = [f"CUDA graph: {problem}; measure without one: --no-graph" for problem in error.problems]
        raise DeviceError(problems) from None
    return lambda: runner.device.launch(graph, runner.stream)


class _Queue:
    """Inferences on the stream, `in_flight` of them at once, each between four events of its own."""

    def __init__(
        self, runner: Runner, launch: Callable[[], None], options: LatencyOptions, stack: ExitStack
    ) -> None:
        self._runner, self._launch, self._transfers = runner, launch, options.transfers
        device = runner.device
        self._events = [[device.kept(device.event(), stack) for _ in range(4)] for _ in range(options.in_flight)]

    def run(self, seconds: float, least: int) -> List[Sample]:
        """Inferences until `seconds` have passed and there are `least`; all are done on return."""
        enqueued: List[float] = []
        samples: List[Sample] = []
        end = time.perf_counter() + seconds
        while len(enqueued) < least or time.perf_counter() < end:
            if len(enqueued) - len(samples) == len(self._events):
                samples.append(self._finished(len(samples), enqueued))
            enqueued.append(self._start(self._events[len(enqueued) % len(self._events)]))
        while len(samples) < len(enqueued):
            samples.append(self._finished(len(samples), enqueued))
        return samples

    def _start(self, events: List[Any]) -> float:
        """Puts one inference on the stream; the milliseconds its launch took."""
        runner = self._runner
        record, stream = runner.device.record, runner.stream
        record(events[0], stream)
        if self._transfers:
            runner.copy_inputs()
        record(events[1], stream)
        start = time.perf_counter()
        self._launch()
        enqueue = time.perf_counter() - start
        record(events[2], stream)
        if self._transfers:
            runner.copy_outputs()
        record(events[3], stream)
        return enqueue * 1e3

    def _finished(self, number: int, enqueued: List[float]) -> Sample:
        """Waits for an inference; what it took."""
        device, events = self._runner.device, self._events[number % len(self._events)]
        device.wait(events[3])
        h2d, compute, d2h = (device.milliseconds(events[k], events[k + 1]) for k in range(3))
        return Sample(h2d, compute, d2h, enqueued[number])
