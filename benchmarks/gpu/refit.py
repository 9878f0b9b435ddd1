"""Refit on a GPU: a second checkpoint into refittable plans of model4, beside building them again.

    python3.10 -m benchmarks.gpu.refit --weights resnet50.pth --output refit.json [--precisions fp32,fp16,int8]

The second checkpoint is the first with every tensor moved, written as safetensors. The refitted engine's output stands
beside the fp32 definition of the new weights, run on the CPU in float64, and beside that of an engine built from them;
the old engine's error shows that the new weights are other ones. Latency: what the REFIT flag costs.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np

from benchmarks.gpu.subject import WITHOUT_CUBLAS, Subject, relative_l2
from engine.build_options import PlanOptions
from engine.devices import open_device
from engine.latency import LatencyOptions, measure
from engine.network import Definition
from engine.plan import Progress, build_plan
from engine.refit import refit_plan
from engine.runner import Runner
from engine.tolerance import output_rtol
from spec.errors import TransplantFailure
from weights import open_checkpoint


def moved_checkpoint(path: Path, directory: Path) -> Path:
    """Every tensor of a checkpoint times 0.9 to 1.1, element by element, as safetensors under the same names."""
    from safetensors.numpy import save_file

    rng, source = np.random.default_rng(1), open_checkpoint(path)
    moved = {}
    for name, array in source.items():
        is_float = array.dtype.kind == "f"
        factor = rng.uniform(0.9, 1.1, array.shape).astype(array.dtype) if is_float else np.ones_like(array)
        moved[name] = np.ascontiguousarray(array * factor)
    save_file(moved, directory / "moved.safetensors")
    return directory / "moved.safetensors"


class Bench:
    """Both checkpoints, on one device."""

    def __init__(self, old: Subject, new: Subject, device: Any) -> None:
        self.old, self.new, self.device, self.tensorrt = old, new, device, old.tensorrt
        self.inputs, (self.output,) = old.inputs_at(1, kind="structured"), old.graph.outputs
        self.reference = new.reference(1, "structured")[self.output]

    def define(self, subject: Subject, word: str) -> Definition:
        """With the ranges of the old weights: a refit leaves them unless they are calibrated again."""
        return subject.definition(word, subject.graph, self.old.ranges if word == "int8" else None)

    def build(self, subject: Subject, word: str, refit: bool) -> Tuple[Any, float]:
        """(plan, seconds); the timing cache is warm for all but the first of a kind."""
        definition = self.define(subject, word)
        start = time.perf_counter()
        plan = build_plan(definition, subject.options._replace(refit=refit), Progress())
        return plan, time.perf_counter() - start

    def run(self, plan: Any) -> Dict[str, Any]:
        """What an engine computes beside the new weights' reference, and how fast, at batch 1."""
        with Runner(self.tensorrt, plan, self.device) as runner:
            found = runner.run(self.inputs)[self.output]
            latency = measure(runner, self.inputs, LatencyOptions(duration=0.5, transfers=False)).as_json()
        worst = np.abs(found.astype(np.float64) - self.reference).max() / np.abs(self.reference).max()
        return {"relative_l2": relative_l2(found, self.reference), "worst_of_max": float(worst),
                "plan_bytes": memoryview(plan).nbytes, "latency": latency["latency"]}  # fmt: skip

    def report(self, word: str) -> Dict[str, Any]:
        """All figures of one precision."""
        start = time.perf_counter()
        new = self.define(self.new, word)
        define_seconds = time.perf_counter() - start
        refittable, seconds = self.build(self.old, word, refit=True)
        start = time.perf_counter()
        refitted = refit_plan(self.tensorrt, refittable, new.named)
        refit_seconds = time.perf_counter() - start
        fixed, fixed_seconds = self.build(self.new, word, refit=False)
        plans = {"old weights, refittable": refittable, "refitted": refitted.plan, "new weights, not refittable": fixed}
        rows = {name: self.run(plan) for name, plan in plans.items()}
        return {"build_seconds": {"refittable, cold cache": seconds, "not refittable, warm cache": fixed_seconds},
                "define_seconds": define_seconds, "refit_seconds": refit_seconds, "weights_set": refitted.count,
                "weights": len(new.named), "allowed": output_rtol([word]),
                "passed": rows["refitted"]["worst_of_max"] <= output_rtol([word]), "engines": rows}  # fmt: skip


def said(word: str, found: Dict[str, Any]) -> str:
    if "failed" in found:
        return f"{word}: failed: {found['failed']}"
    rows = found["engines"].items()
    engines = ", ".join(f"{name} {row['worst_of_max']:.1e} {row['latency']['median']:.3f} ms" for name, row in rows)
    times = f"refit {found['refit_seconds']:.2f} s, builds {found['build_seconds']}"
    return f"{word}: {'PASSED' if found['passed'] else 'FAILED'}: {found['weights_set']} weights, {times}; {engines}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="resnet50.pth of model4")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--precisions", default="fp32,fp16")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch, open_device() as device:
        directory = Path(scratch)
        plan_options = PlanOptions(tactic_sources=WITHOUT_CUBLAS, timing_cache=directory / "timing.cache")
        checkpoints = options.weights, moved_checkpoint(options.weights, directory)
        bench = Bench(*(Subject("model4", path, plan_options) for path in checkpoints), device)
        result: Dict[str, Any] = {"device": device.facts()._asdict(), "tensorrt": bench.tensorrt.version}
        for word in options.precisions.split(","):
            try:
                result[word] = bench.report(word)
            except TransplantFailure as failure:
                result[word] = {"failed": list(failure.problems)}
            print(said(word, result[word]), flush=True)
            options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
