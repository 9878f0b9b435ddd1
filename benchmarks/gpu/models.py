"""The four models on a GPU with the real TensorRT: every layer's error by precision, and latency by batch.

    python3.10 -m benchmarks.gpu.models --weights DIR --output models.json [--models model4] [--batches 1,8,32,128]

The reference is the same definition run on the CPU in float64. Per-layer errors come from an engine with every layer's
tensor marked as an output; since marking changes what TensorRT fuses, the shipped engine's own output is reported too.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping

import numpy as np

from commands.configs import load_graph
from engine.build_options import PlanOptions
from engine.calibration import calibrate
from engine.devices import open_device
from engine.interpreter import Interpreter
from engine.latency import LatencyOptions, measure
from engine.network import define, mark_every_tensor
from engine.plan import Progress, build_plan
from engine.precision import FP32, plan_precision, quantized_tensors
from engine.runner import Runner
from engine.tensorrt_api import load
from verify.inputs import make_inputs
from weights import convention_of, open_checkpoint
from weights.transplant import transplant

WITHOUT_CUBLAS = "-CUBLAS,-CUBLAS_LT,-CUDNN"
PRECISIONS = ("fp32", "tf32", "fp16", "int8")


def relative_l2(found: np.ndarray, reference: np.ndarray) -> float:
    found, reference = found.astype(np.float64), reference.astype(np.float64)
    return float(np.linalg.norm(found - reference) / (np.linalg.norm(reference) or 1.0))


class Bench:
    """One model with its weights, on one device."""

    def __init__(self, name: str, weights: Path, device: Any, cache: Path) -> None:
        self.name, self.device, self.tensorrt = name, device, load("tensorrt")
        self.options = PlanOptions(tactic_sources=WITHOUT_CUBLAS, timing_cache=cache)
        self.overrides = [f"weights.path={weights}"]
        if weights.suffix == ".safetensors":
            self.overrides += ["weights.convention=tensorflow"]
        self.model, self.graph = load_graph(name, self.overrides)
        checkpoint = open_checkpoint(self.model.weights_path, self.model.weights.key)
        convention = convention_of(checkpoint, self.model.weights.convention)
        self.arrays = transplant(self.graph, checkpoint, self.model.weights, convention).arrays
        self.layers = [layer.name for layer in self.graph.layers]
        self.inputs, _ = make_inputs(self.graph, "random:0")
        definition = define(self.graph, self.arrays, self.tensorrt)
        self.reference = Interpreter(definition.network, self.tensorrt.module, np.float64).run(self.inputs, self.layers)
        self.ranges = self._ranges(definition)

    def _ranges(self, definition: Any) -> Dict[str, float]:
        """From eight random images, largest magnitudes."""
        tensors = quantized_tensors(self.graph, dict.fromkeys(self.layers, "int8"))
        interpreter = Interpreter(definition.network, self.tensorrt.module)
        batches = (make_inputs(self.graph, f"random:{seed}")[0] for seed in range(8))
        return calibrate(interpreter.run, batches, tensors, "min_max")

    def precision(self, word: str, graph: Any) -> Any:
        if word == "fp32":
            return FP32
        return plan_precision(graph, dict.fromkeys(self.layers, word), word, self.ranges, self.tensorrt)

    def at_batch(self, batch: int) -> Any:
        shapes = [f"inputs.{name}.shape={[batch, *spec.shape[1:]]}" for name, spec in self.graph.inputs.items()]
        return load_graph(self.name, self.overrides + shapes)[1]

    def build(self, word: str, graph: Any, marked: bool = False) -> Any:
        """(plan, seconds)"""
        definition = define(graph, self.arrays, self.tensorrt, self.precision(word, graph))
        if marked:
            mark_every_tensor(definition)
        start = time.perf_counter()
        plan = build_plan(definition, self.options, Progress())
        return plan, time.perf_counter() - start

    def errors(self, word: str) -> Dict[str, Any]:
        """Relative L2 error of every layer, and of the shipped engine's outputs."""
        plan, _ = self.build(word, self.graph, marked=True)
        with Runner(self.tensorrt, plan, self.device) as runner:
            found = runner.run(self.inputs)
        layers = {name: relative_l2(found[name], self.reference[name]) for name in self.layers}
        plan, seconds = self.build(word, self.graph)
        with Runner(self.tensorrt, plan, self.device) as runner:
            shipped = runner.run(self.inputs)
        outputs = {name: relative_l2(array, self.reference[name]) for name, array in shipped.items()}
        worst = max(layers, key=lambda name: layers[name])
        size = memoryview(plan).nbytes
        return {"worst": [worst, layers[worst]], "shipped": outputs, "plan_bytes": size, "build_seconds": seconds,
                "layers": layers}  # fmt: skip

    def latency(self, word: str, batch: int) -> Dict[str, Any]:
        graph = self.at_batch(batch)
        plan, seconds = self.build(word, graph)
        inputs = {name: np.repeat(array, batch, 0) for name, array in self.inputs.items()}
        with Runner(self.tensorrt, plan, self.device) as runner:
            resident = measure(runner, inputs, LatencyOptions(duration=0.5, transfers=False)).as_json()
            whole = measure(runner, inputs, LatencyOptions(duration=0.5)).as_json()
        return {"build_seconds": seconds, "compute": resident, "end_to_end": whole}


def report(bench: Bench, precisions: List[str], batches: List[int]) -> Dict[str, Any]:
    found: Dict[str, Any] = {"errors": {}, "latency": {}}
    for word in precisions:
        found["errors"][word] = bench.errors(word)
        print(bench.name, word, "worst", found["errors"][word]["worst"], "shipped", found["errors"][word]["shipped"], flush=True)
        for batch in batches:
            figures = bench.latency(word, batch)
            found["latency"][f"{word}@{batch}"] = figures
            compute, whole = (figures[key]["latency"]["median"] for key in ("compute", "end_to_end"))
            print(f"{bench.name} {word} batch {batch}: {compute:.4f} ms, {whole:.4f} ms with copies, "
                  f"build {figures['build_seconds']:.1f} s", flush=True)  # fmt: skip
    return found


def weights_of(directory: Path) -> Mapping[str, Path]:
    return {path.stem: path for path in sorted(directory.iterdir()) if path.suffix in (".safetensors", ".pth")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="model1.safetensors ... model4.pth")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--models", default="model1,model2,model3,model4")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--batches", default="1,8,32,128")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    device = open_device()
    result: Dict[str, Any] = {"device": device.facts()._asdict(), "tensorrt": load("tensorrt").version, "models": {}}
    paths = weights_of(options.weights)
    for name in options.models.split(","):
        bench = Bench(name, paths[name].resolve(), device, options.output.with_suffix(".cache"))
        batches = [int(batch) for batch in options.batches.split(",") if batch]
        result["models"][name] = report(bench, options.precisions.split(","), batches)
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    device.close()


if __name__ == "__main__":
    main()
