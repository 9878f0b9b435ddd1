"""The four models on a GPU with the real TensorRT: every layer's error by precision, and latency by batch.

    python3.10 -m benchmarks.gpu.models --weights DIR --onnx DIR --output models.json [--models model4]

Beside each latency: the same numbers through ONNX and the parser of the same TensorRT (benchmarks/gpu/onnx_model.py),
and for uint8 models our own network fed with float32. After --seconds nothing new is started; what is done is written.

The reference is the same definition run on the CPU in float64. Per-layer errors come from an engine with every layer's
tensor marked as an output; since marking changes what TensorRT fuses, the shipped engine's own output is reported too.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

import numpy as np

from commands.configs import load_graph
from engine import timing_cache
from engine.build_options import PlanOptions, apply_options
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

    def at_batch(self, batch: int, overrides: Sequence[str] = ()) -> Any:
        shapes = [f"inputs.{name}.shape={[batch, *spec.shape[1:]]}" for name, spec in self.graph.inputs.items()]
        return load_graph(self.name, [*self.overrides, *shapes, *overrides])[1]

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

    def latency(self, word: str, batch: int, dtype: str = "") -> Dict[str, Any]:
        """Median times of a plan for one batch; `dtype` feeds the network with another type than the config's."""
        overrides = [f"inputs.{name}.dtype={dtype}" for name in self.graph.inputs if dtype]
        graph = self.at_batch(batch, overrides)
        plan, seconds = self.build(word, graph)
        inputs = {name: np.repeat(array.astype(dtype or array.dtype), batch, 0) for name, array in self.inputs.items()}
        return {"build_seconds": seconds, **self.measured(plan, inputs)}

    def onnx_latency(self, path: Path, word: str, batch: int, dtype: str) -> Dict[str, Any]:
        """The parser's network of an ONNX file, built and measured the same way; or the parser's first error."""
        trt = self.tensorrt.module
        trt_builder = trt.Builder(self.tensorrt.logger)
        network = trt_builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
        parser = trt.OnnxParser(network, self.tensorrt.logger)
        if not path.is_file():
            return {"error": f"{path.name} is not there: not run"}
        if not parser.parse_from_file(str(path)):
            return {"error": str(parser.get_error(0).desc())}
        config = trt_builder.create_builder_config()
        apply_options(self.tensorrt, config, self.options)
        config.clear_flag(trt.BuilderFlag.TF32)
        if word == "fp16":
            config.set_flag(trt.BuilderFlag.FP16)
        profile = trt_builder.create_optimization_profile()
        inputs = {}
        for name, array in self.inputs.items():
            inputs[name] = np.repeat(array.astype(dtype or array.dtype), batch, 0)
            profile.set_shape(name, *[inputs[name].shape] * 3)
        config.add_optimization_profile(profile)
        start = time.perf_counter()
        plan = trt_builder.build_serialized_network(network, config)
        seconds = time.perf_counter() - start
        if plan is None:
            return {"error": self.tensorrt.log.take()}
        timing_cache.save(self.tensorrt, config, self.options.timing_cache)
        return {"build_seconds": seconds, **self.measured(plan, inputs)}

    def measured(self, plan: Any, inputs: Mapping[str, np.ndarray]) -> Dict[str, Any]:
        with Runner(self.tensorrt, plan, self.device) as runner:
            resident = measure(runner, inputs, LatencyOptions(duration=0.5, transfers=False)).as_json()
            whole = measure(runner, inputs, LatencyOptions(duration=0.5)).as_json()
        return {"compute": resident, "end_to_end": whole}


def jobs(bench: Bench, precisions: List[str], batches: List[int], onnx: Path) -> Iterator[Tuple[str, str, Any]]:
    """(section, key, what to run), in the order of interest."""
    is_uint8 = any(spec.dtype == "uint8" for spec in bench.graph.inputs.values())
    for word in precisions:
        yield "errors", word, lambda word=word: bench.errors(word)
    for batch in batches:
        for word in precisions:
            key = f"{word}@{batch}"
            yield "latency", key, lambda word=word, batch=batch: bench.latency(word, batch)
            if word not in ("fp32", "fp16"):
                continue
            if is_uint8:
                yield "latency of float input", key, lambda w=word, b=batch: bench.latency(w, b, "float32")
                if batch == batches[0]:
                    path = onnx / f"{bench.name}.onnx"
                    yield "onnx of uint8 input", key, lambda p=path, w=word, b=batch: bench.onnx_latency(p, w, b, "")
            path, dtype = (
                (onnx / f"{bench.name}.float.onnx", "float32") if is_uint8 else (onnx / f"{bench.name}.onnx", "")
            )
            yield "onnx", key, lambda p=path, w=word, b=batch, d=dtype: bench.onnx_latency(p, w, b, d)


def said(found: Mapping[str, Any]) -> str:
    """One figure or two of a result."""
    if "error" in found:
        return f"failed: {found['error']}"
    if "worst" in found:
        return f"worst {found['worst']}, shipped {found['shipped']}, build {found['build_seconds']:.1f} s"
    medians = [found[key]["latency"]["median"] for key in ("compute", "end_to_end")]
    return f"{medians[0]:.4f} ms, {medians[1]:.4f} ms with copies, build {found['build_seconds']:.1f} s"


def weights_of(directory: Path) -> Mapping[str, Path]:
    return {path.stem: path for path in sorted(directory.iterdir()) if path.suffix in (".safetensors", ".pth")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="model1.safetensors ... model4.pth")
    parser.add_argument("--onnx", type=Path, required=True, help="model1.onnx ..., of benchmarks.gpu.onnx_model")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=3600.0, help="start nothing new after so long")
    parser.add_argument("--models", default="model1,model2,model3,model4")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--batches", default="1,128,8,32")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    end = time.monotonic() + options.seconds
    device = open_device()
    result: Dict[str, Any] = {"device": device.facts()._asdict(), "tensorrt": load("tensorrt").version, "models": {}}
    paths = weights_of(options.weights)
    for name in options.models.split(","):
        bench = Bench(name, paths[name].resolve(), device, options.output.with_suffix(".cache"))
        batches = [int(batch) for batch in options.batches.split(",") if batch]
        sections = result["models"].setdefault(name, {})
        for section, key, run in jobs(bench, options.precisions.split(","), batches, options.onnx):
            if time.monotonic() > end:
                break
            found = sections.setdefault(section, {})[key] = run()
            print(f"{name} {section} {key}: {said(found)}", flush=True)
            options.output.write_text(json.dumps(result, indent=1) + "\n")
    device.close()


if __name__ == "__main__":
    main()
