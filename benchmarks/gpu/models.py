"""The four models on a GPU with the real TensorRT, in four steps that separate processes can take.

    python3.10 -m benchmarks.gpu.models build   --models model4 --weights DIR --onnx DIR --plans DIR --output b.jsonl
    python3.10 -m benchmarks.gpu.models errors  --models model4 --weights DIR --plans DIR --output e.jsonl
    python3.10 -m benchmarks.gpu.models measure --plans DIR --output m.jsonl
    python3.10 -m benchmarks.gpu.models profile --plans DIR --output p.jsonl

errors: every layer's relative L2 by precision, against the same definition in float64 on the CPU. Per-layer tensors
come from an engine with every layer's tensor marked as an output (in int8: of what lies between the fused kernels);
since marking changes what TensorRT fuses, the shipped engine's own outputs are reported too.

build: plans of ours, of the same numbers through ONNX and the parser of the same TensorRT (onnx_model.py), and for
uint8 models of our network fed with float32. All share one timing cache, so both roads choose among the same tactics.

measure: alone on the GPU, each plan's latency with CUDA graphs, its images resident and with the copies, in several
loads, since the same plan at batch 1 is up to 6 % faster or slower from load to load (where its memory comes to lie, it
seems). The plans of a row take turns, so that they see the same clocks.

profile: what each layer of a plan takes, by TensorRT's own profiler, and which kernel it is.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

import numpy as np

from benchmarks.gpu.subject import PRECISIONS, WITHOUT_CUBLAS, Subject, relative_l2, weights_of, words_of
from engine import timing_cache
from engine.build_options import PlanOptions, apply_options
from engine.devices import open_device
from engine.execution import run_definition, run_plan
from engine.inside import dequantized, expose, way_of
from engine.inspection import engine_document
from engine.latency import LatencyOptions, measure
from engine.plan import TRTEXECS_AVERAGE_TIMING, Progress, build_plan
from engine.profiling import profile
from engine.runner import Runner
from engine.tensorrt_api import load
from spec.errors import TransplantFailure


class Job(NamedTuple):
    """One plan: which road, precision, batch, and the input's type where it is not the config's."""

    model: str
    road: str
    precision: str
    batch: int
    dtype: str = ""

    @property
    def name(self) -> str:
        return ".".join(filter(None, (self.model, self.road, self.precision, str(self.batch), self.dtype)))


def errors_of(subject: Subject, word: str, batch: int, plans: Path) -> Dict[str, Any]:
    """Relative L2 error of every layer, and of the outputs of the shipped engine, if its plan is in `plans`."""
    kind = "structured" if word == "int8" else "random"  # noise is louder than the images that ranges are of
    graph, inputs = subject.graph_at(batch), subject.inputs_at(batch, kind=kind)
    reference = subject.reference(batch, kind)
    definition = subject.definition(word, graph)
    way = way_of(subject.tensorrt, "auto", [word], "errors")
    expose(definition, way, subject.layers)
    result: Dict[str, Any] = {"model": subject.name, "precision": word, "batch": batch, "way": way, "images": kind}
    try:
        found = dequantized(definition, run_definition(definition, inputs, subject.options, Progress()))
        names = [name for name in subject.layers if name in found]
        with ThreadPoolExecutor() as pool:  # at batch 128 a ResNet's tensors are 23 GB
            errors = pool.map(lambda name: relative_l2(found[name], reference[name]), names)
            layers = dict(zip(names, errors))
        worst = max(layers, key=lambda name: layers[name])
        result.update(worst=[worst, layers[worst]], layers=layers)
    except TransplantFailure as error:
        result["refused"] = str(error)
    path = plans / f"{Job(subject.name, 'ours', word, batch).name}.plan"
    if path.is_file():
        shipped = run_plan(subject.tensorrt, path.read_bytes(), inputs)
        result["shipped"] = {name: relative_l2(array, reference[name]) for name, array in shipped.items()}
    return result


def jobs(subject: Subject, precisions: List[str], batches: List[int]) -> Iterator[Job]:
    """In the order of interest."""
    name = subject.name
    for batch in batches:
        for word in precisions:
            yield Job(name, "ours", word, batch)
            if word == "tf32":
                continue
            yield Job(name, "onnx", word, batch, "float32" if subject.takes_uint8 else "")
            if subject.takes_uint8:
                yield Job(name, "ours", word, batch, "float32")
            if subject.takes_uint8 and batch == batches[0] and word == "fp32":
                yield Job(name, "onnx", word, batch)


def built(subject: Subject, job: Job, onnx: Path) -> Any:
    """The plan of a job."""
    if job.road == "ours":
        definition = subject.definition(job.precision, subject.graph_at(job.batch, job.dtype))
        return build_plan(definition, subject.options, Progress())
    return parsed_plan(subject, job, onnx)


def parsed_plan(subject: Subject, job: Job, onnx: Path) -> Any:
    """The parser's network of an ONNX file; RuntimeError with the parser's first error."""
    tensorrt, trt = subject.tensorrt, subject.tensorrt.module
    trt_builder = trt.Builder(tensorrt.logger)
    network = trt_builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, tensorrt.logger)
    kind = ".int8" if job.precision == "int8" else ".float" if job.dtype else ""
    path = onnx / f"{job.model}{kind}.onnx"
    if not parser.parse_from_file(str(path)):
        raise RuntimeError(f"the parser refuses {path.name}: {parser.get_error(0).desc()}")
    config = trt_builder.create_builder_config()
    config.avg_timing_iterations = TRTEXECS_AVERAGE_TIMING
    apply_options(tensorrt, config, subject.options)
    config.clear_flag(trt.BuilderFlag.TF32)
    for flag in {"fp16": ("FP16",), "int8": ("FP16", "INT8")}.get(job.precision, ()):
        config.set_flag(getattr(trt.BuilderFlag, flag))
    profile = trt_builder.create_optimization_profile()
    for name, array in subject.inputs_at(job.batch).items():
        profile.set_shape(name, *[array.shape] * 3)
    config.add_optimization_profile(profile)
    plan = trt_builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError(tensorrt.log.take())
    timing_cache.save(tensorrt, config, subject.options.timing_cache)
    return plan


def write_line(path: Path, line: Dict[str, Any]) -> None:
    """Appends one JSON line and shows it without its long parts."""
    with path.open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    print(json.dumps({key: value for key, value in line.items() if key not in ("layers", "inspector")}), flush=True)


def do_errors(options: argparse.Namespace, within: Callable[[], bool]) -> None:
    for subject in subjects(options):
        for batch in options.batches:
            for word in options.precisions:
                if within():
                    attempt(options.output, {"model": subject.name, "precision": word, "batch": batch},
                            lambda s=subject, w=word, b=batch: errors_of(s, w, b, options.plans))  # fmt: skip


def do_build(options: argparse.Namespace, within: Callable[[], bool]) -> None:
    options.plans.mkdir(parents=True, exist_ok=True)
    for subject in subjects(options):
        for job in jobs(subject, options.precisions, options.batches):
            if job.road in options.roads and within():
                attempt(options.output, job._asdict(), lambda s=subject, j=job: _kept_plan(s, j, options))


def _kept_plan(subject: Subject, job: Job, options: argparse.Namespace) -> Dict[str, Any]:
    start = time.perf_counter()
    plan = memoryview(built(subject, job, options.onnx))
    seconds = time.perf_counter() - start
    (options.plans / f"{job.name}.plan").write_bytes(plan)
    return {**job._asdict(), "build_seconds": round(seconds, 2), "plan_bytes": plan.nbytes}


def attempt(output: Path, about: Dict[str, Any], run: Callable[[], Dict[str, Any]]) -> None:
    """A line of what was found, or of why not: one failure must not cost the other figures."""
    try:
        write_line(output, run())
    except (TransplantFailure, RuntimeError, ValueError, TypeError, AttributeError, OSError) as error:
        write_line(output, {**about, "error": f"{type(error).__name__}: {error}"})


def subjects(options: argparse.Namespace) -> Iterator[Subject]:
    paths = weights_of(options.weights)
    for name in options.models:
        yield Subject(name, paths[name], PlanOptions(
            tactic_sources=WITHOUT_CUBLAS, timing_cache=options.cache, profiling="detailed"))  # fmt: skip


def do_measure(options: argparse.Namespace, within: Callable[[], bool]) -> None:
    tensorrt, device = load("tensorrt"), open_device()
    write_line(options.output, {"device": device.facts()._asdict(), "tensorrt": tensorrt.version})
    for row in kept_plans(options):
        for number in range(options.loads if within() else 0):
            for job, path in row:
                about = {**job._asdict(), "load": number}
                attempt(options.output, about, lambda a=about, p=path: {**a, **latencies(tensorrt, device, p)})
    device.close()


def do_profile(options: argparse.Namespace, within: Callable[[], bool]) -> None:
    tensorrt, device = load("tensorrt"), open_device()
    for job, path in chain.from_iterable(kept_plans(options)):
        if within():
            about = job._asdict()
            attempt(options.output, about, lambda a=about, p=path: {**a, **layers(tensorrt, device, p)})
    device.close()


def kept_plans(options: argparse.Namespace) -> List[List[Tuple[Job, Path]]]:
    """The plans of the chosen models, precisions and batches, in rows of those to be compared."""
    rows: Dict[Tuple[str, str, int], List[Tuple[Job, Path]]] = {}
    for path in sorted(options.plans.glob("*.plan")):
        model, road, precision, batch, *dtype = path.name.split(".")[:-1]
        job = Job(model, road, precision, int(batch), *dtype)
        rows.setdefault((job.model, job.precision, job.batch), []).append((job, path))
    return [
        row
        for (model, precision, batch), row in sorted(rows.items())
        if model in options.models and precision in options.precisions and batch in options.batches
    ]


def latencies(tensorrt: Any, device: Any, path: Path) -> Dict[str, Any]:
    """Medians and percentiles in ms: images resident, and with the copies."""
    with Runner(tensorrt, path.read_bytes(), device) as runner:
        rng = np.random.default_rng(0)
        inputs = {each.name: rng.integers(0, 256, each.most).astype(each.dtype) for each in runner.inputs}
        options = LatencyOptions(duration=0.25, warm_up=0.05, in_flight=1)
        resident = measure(runner, inputs, options._replace(transfers=False)).as_json()
        whole = measure(runner, inputs, options).as_json()
    return {"compute": resident["compute"], "end_to_end": whole["latency"], "cuda_graph": resident["cuda_graph"]}


def layers(tensorrt: Any, device: Any, path: Path) -> Dict[str, Any]:
    """Engine layers with their milliseconds, and what the engine inspector knows of them."""
    with Runner(tensorrt, path.read_bytes(), device) as runner:
        inputs = {each.name: np.zeros(each.most, each.dtype) for each in runner.inputs}
        times = profile(runner, inputs, LatencyOptions(duration=0.2, warm_up=0.1)).as_json()
        return {"layers": times, "inspector": engine_document(tensorrt, runner.engine)}


STEPS = {"errors": do_errors, "build": do_build, "measure": do_measure, "profile": do_profile}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--weights", type=Path, help="model1.safetensors ... model4.pth")
    parser.add_argument("--onnx", type=Path, help="model1.onnx ..., of benchmarks.gpu.onnx_model")
    parser.add_argument("--plans", type=Path, help="where plans are kept between build and measure")
    parser.add_argument("--cache", type=Path, default=Path("timing.cache"))
    parser.add_argument("--loads", type=int, default=5, help="measure each plan in so many loads")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended")
    parser.add_argument("--seconds", type=float, default=3600.0, help="start nothing new after so long")
    parser.add_argument("--models", type=words_of, default="model1,model2,model3,model4")
    parser.add_argument("--precisions", type=words_of, default=",".join(PRECISIONS))
    parser.add_argument("--roads", type=words_of, default="ours,onnx", help="of build")
    parser.add_argument("--batches", type=lambda text: [int(word) for word in words_of(text)], default="1,128,8,32")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    end = time.monotonic() + options.seconds
    STEPS[options.step](options, lambda: time.monotonic() < end)


if __name__ == "__main__":
    main()
