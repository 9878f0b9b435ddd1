"""How fast a plan runs, with trtexec's figures: throughput, latency percentiles, and what copies and compute each take.

    per inference   host to device | compute | device to host      between CUDA events, one inference at a time
"""

from __future__ import annotations

import time
from typing import Any, Dict, List, Mapping, NamedTuple

import numpy as np

from engine.runner import Runner

PERCENTILES = (90, 95, 99)


class LatencyOptions(NamedTuple):
    """How to measure.

    Attributes:
        warm_up: seconds before the first figure counts.
        duration: seconds to measure at least.
        iterations: inferences to measure at least.
        graph: replay a CUDA graph, where the binding has them: no launch cost per kernel.
        transfers: copy inputs and outputs each time; without, the inputs lie on the GPU.
    """

    warm_up: float = 0.2
    duration: float = 2.0
    iterations: int = 10
    graph: bool = True
    transfers: bool = True


class Latency(NamedTuple):
    """Milliseconds of every measured inference, and what must be stated beside them."""

    host_to_device: np.ndarray
    compute: np.ndarray
    device_to_host: np.ndarray
    wall: float
    batch: int
    graph: bool
    transfers: bool

    @property
    def total(self) -> np.ndarray:
        return self.host_to_device + self.compute + self.device_to_host

    @property
    def queries_per_second(self) -> float:
        return len(self.compute) / self.wall

    def as_json(self) -> Dict[str, Any]:
        parts = {"latency": self.total, "h2d": self.host_to_device, "compute": self.compute, "d2h": self.device_to_host}
        figures = {name: summary(values) for name, values in parts.items()}
        images = self.batch * self.queries_per_second
        about = {"batch": self.batch, "cuda_graph": self.graph, "transfers": self.transfers, "count": len(self.compute)}
        return {**about, "qps": round(self.queries_per_second, 2), "images_per_second": round(images, 1), **figures}

    def lines(self) -> List[str]:
        """trtexec's block."""
        titles = {"Latency": self.total, "H2D": self.host_to_device, "GPU Compute Time": self.compute}
        titles["D2H"] = self.device_to_host
        images = self.batch * self.queries_per_second
        lines = [f"Throughput: {self.queries_per_second:.2f} qps, {images:,.1f} images/s at batch {self.batch}"]
        for title, values in titles.items():
            words = ", ".join(f"{name} = {value:.4g} ms" for name, value in summary(values).items())
            lines.append(f"{title}: {words}")
        return lines


def summary(values: np.ndarray) -> Dict[str, float]:
    """min, max, mean, median and the percentiles of PERCENTILES."""
    figures = {"min": values.min(), "max": values.max(), "mean": values.mean(), "median": np.median(values)}
    figures.update({f"percentile({p}%)": np.percentile(values, p) for p in PERCENTILES})
    return {name: round(float(value), 5) for name, value in figures.items()}


def measure(runner: Runner, inputs: Mapping[str, np.ndarray], options: LatencyOptions) -> Latency:
    """Runs one inference after another until both duration and iterations are reached.

    Raises:
        TensorRTError: the inputs do not fit the engine.
        DeviceError: CUDA reports an error.
    """
    runner.set_inputs(inputs)
    runner.copy_inputs()
    runner.enqueue()  # the first inference allocates; it must lie before a capture
    runner.device.synchronize(runner.stream)
    use_graph = options.graph and runner.device.has_graphs
    launch = _captured(runner) if use_graph else runner.enqueue
    _repeat(runner, launch, options.transfers, options.warm_up, 1)
    start = time.perf_counter()
    rows = _repeat(runner, launch, options.transfers, options.duration, options.iterations)
    wall = time.perf_counter() - start
    h2d, compute, d2h = np.array(rows, np.float64).T
    batch = next(iter(inputs.values())).shape[0]
    return Latency(h2d, compute, d2h, wall, batch, use_graph, options.transfers)


def _captured(runner: Runner) -> Any:
    """The inference as one CUDA graph."""
    runner.device.begin_capture(runner.stream)
    runner.enqueue()
    graph = runner.device.end_capture(runner.stream)
    return lambda: runner.device.launch(graph, runner.stream)


def _repeat(runner: Runner, launch: Any, transfers: bool, seconds: float, least: int) -> List[List[float]]:
    """Milliseconds (host to device, compute, device to host) of each inference."""
    device, stream = runner.device, runner.stream
    events = [device.event() for _ in range(4)]
    rows: List[List[float]] = []
    end = time.perf_counter() + seconds
    while len(rows) < least or time.perf_counter() < end:
        device.record(events[0], stream)
        if transfers:
            runner.copy_inputs()
        device.record(events[1], stream)
        launch()
        device.record(events[2], stream)
        if transfers:
            runner.copy_outputs()
        device.record(events[3], stream)
        device.synchronize(stream)
        rows.append([device.milliseconds(events[k], events[k + 1]) for k in range(3)])
    return rows
