"""What each layer of an engine takes, told by TensorRT itself through its IProfiler.

    context.profiler = ours     enqueue -> report_layer_time("conv1 + relu1", 0.031) ...    once a layer, each inference

TensorRT times layers one by one, so their sum is more than the inference takes; the shares are what to read.
"""

from __future__ import annotations

import time
from typing import Any, Dict, List, Mapping, NamedTuple

import numpy as np

from engine.latency import LatencyOptions, prepare
from engine.runner import Runner
from spec.errors import TensorRTError


class Profile(NamedTuple):
    """Milliseconds by the name of the engine's layer, in the engine's order, over so many inferences."""

    times: Dict[str, np.ndarray]
    runs: int

    def mean(self, name: str) -> float:
        """Milliseconds of an inference in this layer."""
        return float(self.times[name].sum() / self.runs)

    @property
    def total(self) -> float:
        """Milliseconds of an inference, the sum of its layers."""
        return sum(self.mean(name) for name in self.times)

    def share(self, name: str) -> float:
        """Percent of the time."""
        return 100 * self.mean(name) / self.total if self.total else 0.0

    def slowest_first(self) -> List[str]:
        return sorted(self.times, key=lambda name: -self.mean(name))

    def as_json(self) -> List[Dict[str, Any]]:
        """The document of trtexec's --exportProfile, which NVIDIA's tools read."""
        rows: List[Dict[str, Any]] = [{"count": self.runs}]
        for name, values in self.times.items():
            figures = {"timeMs": values.sum(), "averageMs": self.mean(name), "medianMs": np.median(values),
                       "percentage": self.share(name)}  # fmt: skip
            rows.append({"name": name, **{key: round(float(value), 6) for key, value in figures.items()}})
        return rows


def profile(runner: Runner, inputs: Mapping[str, np.ndarray], options: LatencyOptions) -> Profile:
    """Runs inferences with the profiler attached: no graph, no copies, each waited for.

    Raises:
        TensorRTError: the inputs do not fit the engine, or TensorRT reported nothing.
        DeviceError: CUDA reports an error.
    """
    prepare(runner, inputs)
    profiler = make_profiler(runner.tensorrt.module)
    runner.context.profiler = profiler
    try:
        _repeat(runner, options.warm_up, 1)
        profiler.times.clear()
        runs = _repeat(runner, options.duration, options.iterations)
    finally:
        runner.context.profiler = None
    if not profiler.times:
        raise TensorRTError(f"{runner.tensorrt.title} reported no layer times for this plan")
    return Profile({name: np.array(values) for name, values in profiler.times.items()}, runs)


def _repeat(runner: Runner, seconds: float, least: int) -> int:
    """Inferences one by one until `seconds` have passed and there are `least`; how many."""
    end, count = time.perf_counter() + seconds, 0
    while count < least or time.perf_counter() < end:
        runner.enqueue()
        runner.synchronize()
        count += 1
    return count


def make_profiler(trt: Any) -> Any:
    """A trt.IProfiler that collects `times`: milliseconds by layer, one after each inference."""

    class Profiler(trt.IProfiler):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times: Dict[str, List[float]] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times.setdefault(layer_name, []).append(ms)

    return Profiler()
