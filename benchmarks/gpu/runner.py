"""The runner on a GPU, through each binding: right results, all memory given back, clear errors, latency, the inside.

    python3.10 -m benchmarks.gpu.runner --output runner.json [--cycles 200] [--tactic-sources=-CUBLAS,-CUBLAS_LT,-CUDNN]

The network takes uint8 images n h w c in a dynamic batch. Ends with 1 if a check fails, and says which.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Mapping

import numpy as np

from engine.build_options import PlanOptions
from engine.devices import BINDINGS, open_device
from engine.devices.device import MIB, Device
from engine.inspection import engine_document, engine_layers, join
from engine.interpreter import Interpreter
from engine.latency import LatencyOptions, measure
from engine.network import define
from engine.plan import Progress, build_plan
from engine.profiling import profile
from engine.runner import Runner
from engine.tensorrt_api import load
from spec.errors import DeviceError, TensorRTError, TransplantFailure, UsageError
from tests.small_models import load_text, random_arrays

NETWORK = """\
name: runner
architecture: plain
inputs:
  image: {shape: [1, 61, 83, 3], dtype: uint8, layout: NHWC}
batch: {min: 1, opt: 8, max: 32}
weights: {path: none.safetensors}
layers:
  - convolution: {name: conv1, filters: 32, kernel: 5, stride: 2, padding: same, bias: true}
  - batch_norm: {name: bn1, epsilon: 1.0e-3}
  - activation: {name: relu1, function: relu}
  - pooling: {name: pool1, function: max, window: 3, stride: 2, padding: valid}
  - convolution: {name: conv2, filters: 64, kernel: 3, stride: 1, padding: same, bias: true}
  - activation: {name: relu2, function: relu}
  - flatten: {name: flat, order: NCHW}
  - dense: {name: fc, units: 10, bias: true}
outputs: [fc]
"""
BATCHES = (1, 8, 5, 32, 1)
TOLERANCE = 1e-5
ALLOWED = 2 * MIB
"""What the driver may keep for itself between cycles; one cycle's buffers alone are less, two hundred are not."""


class Subject:
    """The network, its plan, its inputs and the outputs the interpreter computes for them in float64."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.cycles, self.tensorrt = options.cycles, load("auto")
        with tempfile.TemporaryDirectory() as directory:
            _, self.graph = load_text(Path(directory), NETWORK)
        definition = define(self.graph, random_arrays(self.graph), self.tensorrt)
        self.images = np.random.default_rng(0).integers(0, 256, (32, 61, 83, 3), np.uint8)
        interpreter = Interpreter(definition.network, self.tensorrt.module, np.float64)
        self.reference = interpreter.run({"image": self.images})["fc"]
        plan_options = PlanOptions(tactic_sources=options.tactic_sources, profiling="detailed")
        self.plan = bytes(memoryview(build_plan(definition, plan_options, Progress())))

    def runner(self, device: Device) -> Runner:
        return Runner(self.tensorrt, self.plan, device)

    def inputs(self, batch: int) -> Dict[str, np.ndarray]:
        return {"image": self.images[:batch]}

    def cycle(self, device: Device) -> np.ndarray:
        """Opened, run, closed."""
        with self.runner(device) as runner:
            return runner.run(self.inputs(8))["fc"]


def results(subject: Subject, device: Device) -> Dict[str, Any]:
    """Every batch, up and down, against float64: max|d| / max|reference|."""
    errors = []
    with subject.runner(device) as runner:
        for batch in BATCHES:
            reference, found = subject.reference[:batch], runner.run(subject.inputs(batch))["fc"]
            errors.append(float(np.abs(found - reference).max() / np.abs(reference).max()))
        digits = runner.run(subject.inputs(32))["fc"]
    return {"ok": max(errors) <= TOLERANCE, "errors": errors, "sum": float(digits.astype(np.float64).sum())}


def memory(subject: Subject, device: Device) -> Dict[str, Any]:
    """Free bytes before and after one cycle, once the first has loaded what stays."""
    subject.cycle(device)
    before, held = device.memory()[0], device.held
    subject.cycle(device)
    lost = before - device.memory()[0]
    return {"ok": lost <= 0 and device.held == held, "lost_bytes": lost, "held": device.held}


def cycles(subject: Subject, device: Device) -> Dict[str, Any]:
    """Many devices and runners one after another, beside the one that is open."""
    free, resident = [], []
    for number in range(subject.cycles):
        with open_device(device.binding) as another:
            subject.cycle(another)
        if number in (9, subject.cycles - 1):
            free.append(device.memory()[0])
            resident.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    lost, grown = free[0] - free[-1], resident[-1] - resident[0]
    return {"ok": lost <= ALLOWED and grown <= 64 * MIB, "lost_bytes": lost, "host_grown_bytes": grown}


def out_of_memory(subject: Subject, device: Device) -> Dict[str, Any]:
    """The message of a block that no GPU has, and of a runner whose second block is refused: nothing stays."""
    held, (before, total) = device.held, device.memory()
    message = refused(lambda: device.allocate(2 * total))
    allocate, sizes = device.allocate, []

    def second_refused(size: int) -> int:
        sizes.append(size)
        return allocate(size if len(sizes) == 1 else 2 * total)

    device.allocate = second_refused  # type: ignore[method-assign]
    half_way = refused(lambda: subject.runner(device))
    device.allocate = allocate  # type: ignore[method-assign]
    lost = before - device.memory()[0]
    ok = all(" wanted, " in text for text in (message, half_way)) and device.held == held and lost <= ALLOWED
    return {"ok": ok and len(sizes) == 2, "message": message, "lost_bytes": lost}


def wrong_inputs(subject: Subject, device: Device) -> Dict[str, Any]:
    """Each refused in words, and the runner still works."""
    images = subject.images
    wrong: Dict[str, Mapping[str, np.ndarray]] = {
        "missing": {}, "unknown": {"image": images[:1], "imag": images}, "type": {"image": images[:1] / 2.0},
        "shape": {"image": images[:1, :60]}, "batch": {"image": np.concatenate([images, images])},
    }  # fmt: skip
    with subject.runner(device) as runner:
        messages = {name: refused(lambda inputs=inputs: runner.run(inputs)) for name, inputs in wrong.items()}
        found = runner.run(subject.inputs(8))["fc"]
    same = np.abs(found - subject.reference[:8]).max() <= TOLERANCE * np.abs(subject.reference[:8]).max()
    return {"ok": bool(same) and all(messages.values()), "messages": messages}


def capture(subject: Subject, device: Device) -> Dict[str, Any]:
    """Work that fails in a capture leaves the stream usable; a graph gives the numbers of its launches one by one."""
    if not device.has_graphs:
        return {"ok": True, "skipped": f"{device.binding} has no graphs"}
    with subject.runner(device) as runner:
        plain = runner.run(subject.inputs(8))["fc"]
        message = refused(lambda: device.capture(runner.stream, lambda: runner.synchronize()))
        again = runner.run(subject.inputs(8))["fc"]
        graph = device.capture(runner.stream, runner.enqueue)
        runner.copy_inputs()
        device.launch(graph, runner.stream)
        runner.copy_outputs()
        runner.synchronize()
        replayed = runner.host_outputs()["fc"].copy()
        device.release(graph)
    same = np.array_equal(plain, again) and np.array_equal(plain, replayed)
    return {"ok": bool(message) and same, "message": message}


def latency(subject: Subject, device: Device) -> Dict[str, Any]:
    """Medians and rates, with and without graph, copies and a second inference under way."""
    found: Dict[str, Any] = {}
    with subject.runner(device) as runner:
        for batch in (1, 32):
            for graph, transfers, in_flight in ((True, True, 2), (True, True, 1), (True, False, 2), (False, True, 2)):
                options = LatencyOptions(0.2, 0.5, 10, graph, transfers, in_flight)
                document = measure(runner, subject.inputs(batch), options).as_json()
                key = f"batch {batch}, graph {document['cuda_graph']}, copies {transfers}, in flight {in_flight}"
                found[key] = {"qps": document["qps"], "median_ms": document["latency"]["median"],
                              "compute_ms": document["compute"]["median"]}  # fmt: skip
    return {"ok": all(row["compute_ms"] > 0 for row in found.values()), "rows": found}


def inside(subject: Subject, device: Device) -> Dict[str, Any]:
    """The inspector and the profiler name the same layers, and the names lead back to ours."""
    names = [layer.name for layer in subject.graph.layers]
    with subject.runner(device) as runner:
        document = engine_document(subject.tensorrt, runner.engine)
        profiled = profile(runner, subject.inputs(8), LatencyOptions(0.1, 0.3))
        plain = measure(runner, subject.inputs(8), LatencyOptions(0.1, 0.2, graph=False))  # the profiler is off again
    layers = engine_layers(document)
    joined = join(layers, names)
    rows = {layer.name: {"kind": layer.kind, "ours": joined.ours[layer.name], "types": [t.dtype for t in layer.outputs],
                         "ms": profiled.mean(layer.name) if layer.name in profiled.times else None}
            for layer in layers}  # fmt: skip
    main = {"conv1", "conv2", "fc"} & set(joined.vanished)
    unnamed = sorted(set(profiled.times) - set(rows))
    return {"ok": not main and not unnamed, "layers": rows, "vanished": joined.vanished, "only_profiled": unnamed,
            "profiled_ms": profiled.total, "unprofiled_ms": float(np.median(plain.compute)),
            "document": document}  # fmt: skip


CHECKS: Dict[str, Callable[[Subject, Device], Dict[str, Any]]] = {
    "results": results,
    "memory": memory,
    "out of memory": out_of_memory,
    "wrong inputs": wrong_inputs,
    "capture": capture,
    "latency": latency,
    "inside": inside,
    "cycles": cycles,
}


def refused(call: Callable[[], Any]) -> str:
    """The words with which a call was refused; nothing if it was not."""
    try:
        call()
    except (DeviceError, TensorRTError) as error:
        return str(error)
    return ""


def checked(subject: Subject, binding: str) -> Dict[str, Any]:
    """Every check through one binding."""
    try:
        device = open_device(binding)
    except (UsageError, DeviceError) as error:
        return {"skipped": str(error)}
    with device:
        facts = device.facts()
        print(f"{binding}: {facts.line()}", flush=True)
        found: Dict[str, Any] = {"device": facts._asdict()}
        for name, check in CHECKS.items():
            try:
                found[name] = check(subject, device)
            except TransplantFailure as failure:
                found[name] = {"ok": False, "failed": str(failure)}
            short = {key: value for key, value in found[name].items() if key not in ("document", "layers")}
            print(f"{binding}: {name}: {json.dumps(short, default=str)}", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--tactic-sources", help="as run.py has it")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    subject = Subject(options)
    report: Dict[str, Any] = {"tensorrt": subject.tensorrt.title, "network": NETWORK}
    report["bindings"] = {binding: checked(subject, binding) for binding in BINDINGS}
    ran = {binding: found for binding, found in report["bindings"].items() if "skipped" not in found}
    sums = {found["results"].get("sum") for found in ran.values()}
    failed = [f"{binding}: {name}" for binding, found in ran.items() for name in CHECKS if not found[name]["ok"]]
    failed += ["the bindings differ"] if len(sums) > 1 else []
    report["failed"] = failed if ran else [found["skipped"] for found in report["bindings"].values()]
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    print("failed: " + ", ".join(report["failed"]) if report["failed"] else f"all passed through {', '.join(ran)}")
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
