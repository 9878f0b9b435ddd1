"""ResNet-50 at 224x224 in int8 on a GPU, one change after another: what each gives in images per second.

    python3.10 -m benchmarks.gpu.resnet50_int8 --weights model4.pth --output resnet50_int8.json

The published figure to read it beside: MLPerf Inference v4.1, 8x H200, offline, 94,620 images/s a GPU, with a plugin
that fuses a whole stage, hand-picked tactics, int8 input and no softmax. Images lie on the GPU there as here.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Tuple

import numpy as np

from commands.configs import load_graph
from engine import network
from engine.build_options import PlanOptions
from engine.calibration import calibrate
from engine.devices import open_device
from engine.emission import Emission
from engine.emitters import EMITTERS
from engine.inspection import engine_document
from engine.interpreter import Interpreter
from engine.latency import LatencyOptions, measure
from engine.network import Definition, define
from engine.pinning import pin_layers
from engine.plan import Progress, build_plan
from engine.precision import plan_precision
from engine.profiling import profile
from engine.quantization import INT8_MAX, quantized_tensors
from engine.runner import Runner
from engine.tensorrt_api import load
from spec.errors import TransplantFailure
from spec.graph import Graph
from verify.inputs import make_inputs
from weights import convention_of, open_checkpoint
from weights.transplant import transplant

Arrays = Mapping[Tuple[str, str], np.ndarray]


class Network(NamedTuple):
    """A graph with its weights and its int8 ranges."""

    graph: Graph
    arrays: Arrays
    ranges: Mapping[str, float]


def at_batch(weights: Path, batch: int) -> Tuple[Graph, Arrays]:
    model, graph = load_graph("model4", [f"weights.path={weights}", f"inputs.image.shape=[{batch}, 3, 224, 224]"])
    checkpoint = open_checkpoint(model.weights_path, None)
    return graph, transplant(graph, checkpoint, model.weights, convention_of(checkpoint, None)).arrays


def ranges_of(graph: Graph, arrays: Arrays, tensorrt: Any) -> Dict[str, float]:
    """Largest magnitudes over four random images, on the CPU."""
    interpreter = Interpreter(define(graph, arrays, tensorrt).network, tensorrt.module)
    tensors = quantized_tensors(graph, {layer.name: "int8" for layer in graph.layers})
    batches = (make_inputs(graph, f"random:{seed}")[0] for seed in range(4))
    return calibrate(interpreter.run, batches, tensors, "min_max")


def folded(graph: Graph, arrays: Arrays) -> Tuple[Graph, Arrays]:
    """Every batch norm behind a convolution absorbed into its kernel and bias, in float64."""
    result, renamed, layers = dict(arrays), {}, []
    position: Dict[str, int] = {}
    for layer in graph.layers:
        layer = layer.model_copy(update={"inputs": tuple(renamed.get(name, name) for name in layer.inputs)})
        maker = layer.inputs[0]
        if layer.type != "batch_norm" or maker not in position:
            if layer.type == "convolution":
                position[layer.name] = len(layers)
            layers.append(layer)
            continue
        gamma, beta, mean, variance = (
            arrays[layer.name, role].astype(np.float64) for role in ("gamma", "beta", "mean", "variance")
        )
        scale = gamma / np.sqrt(variance + layer.epsilon)
        result[maker, "kernel"] = arrays[maker, "kernel"] * scale[:, None, None, None]
        result[maker, "bias"] = beta - mean * scale
        layers[position[maker]] = layers[position[maker]].model_copy(update={"bias": True})
        renamed[layer.name] = maker
    return graph._replace(layers=tuple(layers)), result


def with_int8_input(net: Network, tensorrt: Any, precision: Any) -> Definition:
    """As engine.network.define, but the images come quantized: int8 -> dequantize -> the first convolution."""
    trt, graph = tensorrt.module, net.graph
    trt_builder = network.create_builder(tensorrt)
    definition = trt_builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    emission = Emission(tensorrt, definition, graph, net.arrays, precision)
    image = definition.add_input("image", trt.int8, graph.tensors["image"].shape)
    scale = trt.Weights(np.array([net.ranges["image"] / INT8_MAX], np.float32))
    factor = definition.add_constant((), scale).get_output(0)
    emission.tensors["image/dequantized"] = definition.add_dequantize(image, factor).get_output(0)
    for layer in graph.layers:
        emission.begin(layer)
        EMITTERS[layer.type](emission, layer, *emission.inputs())
    emission.mark_outputs()
    pin_layers(emission)
    return Definition(tensorrt, trt_builder, definition, graph, emission.tensors, net.arrays, precision)


class Bench:
    """Builds and measures; keeps a line for each variant."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.tensorrt, self.device, self.options = load("tensorrt"), open_device(), options
        cache = options.output.with_suffix(".cache")
        self.plan_options = PlanOptions(tactic_sources="-CUBLAS,-CUBLAS_LT,-CUDNN", timing_cache=cache)
        self.detailed = self.plan_options._replace(profiling="detailed")
        self.lines: List[Dict[str, Any]] = []
        graph, arrays = at_batch(options.weights.resolve(), 1)
        self.ranges = ranges_of(graph, arrays, self.tensorrt)

    def network(self, batch: int, fold: bool) -> Network:
        graph, arrays = at_batch(self.options.weights.resolve(), batch)
        if not fold:
            return Network(graph, arrays, self.ranges)
        names = {layer.inputs[0]: layer.name for layer in graph.layers if layer.type == "batch_norm"}
        ranges = {**self.ranges, **{maker: self.ranges[bn] for maker, bn in names.items() if bn in self.ranges}}
        return Network(*folded(graph, arrays), ranges)

    def precision(self, net: Network, shortcuts: bool = True) -> Any:
        words = {layer.name: "int8" for layer in net.graph.layers if shortcuts or layer.type != "elementwise"}
        return plan_precision(net.graph, words, "int8", net.ranges, self.tensorrt)

    def plan(self, definition: Definition) -> Any:
        start = time.perf_counter()
        plan = build_plan(definition, self.detailed, Progress())
        self.build_seconds = time.perf_counter() - start
        return plan

    def say(self, title: str, batch: int, images: float, **more: Any) -> None:
        line = {"variant": title, "batch": batch, "images_per_second": round(images), **more}
        self.lines.append({**line, "build_seconds": round(self.build_seconds, 1)})
        print(json.dumps(self.lines[-1]), flush=True)
        content = {"device": self.device.facts()._asdict(), "tensorrt": self.tensorrt.version, "variants": self.lines}
        self.options.output.write_text(json.dumps(content, indent=1) + "\n")

    def measured(self, title: str, batch: int, plan: Any, dtype: Any = np.float32) -> None:
        inputs = {"image": np.random.default_rng(0).integers(-100, 100, (batch, 3, 224, 224)).astype(dtype)}
        with Runner(self.tensorrt, plan, self.device) as runner:
            latency = measure(runner, inputs, LatencyOptions(duration=1.0, transfers=False, in_flight=1))
        median = float(np.median(latency.compute))
        self.say(title, batch, batch / median * 1e3, median_ms=round(median, 4))

    def two_streams(self, title: str, batch: int, plan: Any, dtype: Any = np.float32) -> None:
        """Two contexts that take turns, so that one's tail overlaps the other's head."""
        inputs = {"image": np.zeros((batch, 3, 224, 224), dtype)}
        with Runner(self.tensorrt, plan, self.device) as one, Runner(self.tensorrt, plan, self.device) as other:
            for runner in (one, other):
                runner.set_inputs(inputs)
                runner.copy_inputs()
                runner.enqueue()
                runner.synchronize()
            rounds, start = 30, time.perf_counter()
            for _ in range(rounds):
                one.enqueue()
                other.enqueue()
            for runner in (one, other):
                runner.synchronize()
            seconds = time.perf_counter() - start
        self.say(title, batch, 2 * rounds * batch / seconds)

    def layers(self, plan: Any, name: str) -> None:
        """The engine inspector's account, and the time of each engine layer, as JSON beside the output."""
        with Runner(self.tensorrt, plan, self.device) as runner:
            document = engine_document(self.tensorrt, runner.engine)
            inputs = {each.name: np.zeros(each.most, each.dtype) for each in runner.inputs}
            times = profile(runner, inputs, LatencyOptions(duration=0.2, warm_up=0.1)).as_json()
        path = self.options.output.with_name(f"{self.options.output.stem}.{name}.layers.json")
        path.write_text(json.dumps({"profile": times, "inspector": document}, indent=1))


def steps(bench: Bench, batch: int) -> List[Tuple[str, Callable[[], None]]]:
    """The variants in order, each on top of the one before."""

    def plain(title: str, fold: bool, shortcuts: bool, name: str, size: int = batch) -> Callable[[], None]:
        def run() -> None:
            net = bench.network(size, fold)
            plan = bench.plan(define(net.graph, net.arrays, bench.tensorrt, bench.precision(net, shortcuts)))
            bench.measured(title, size, plan)
            if name:
                bench.layers(plan, name)

        return run

    def int8_input(size: int, name: str) -> Callable[[], None]:
        def run() -> None:
            net = bench.network(size, True)
            plan = bench.plan(with_int8_input(net, bench.tensorrt, bench.precision(net)))
            bench.measured("and int8 images", size, plan, np.int8)
            bench.two_streams("and two streams", size, plan, np.int8)
            if name:
                bench.layers(plan, name)

        return run

    return [
        ("bare", plain("convolutions only", False, False, "bare")),
        ("shortcuts", plain("and shortcuts of sums", False, True, "shortcuts")),
        ("folded", plain("and batch norm folded by us", True, True, "folded")),
        ("int8", int8_input(batch, "int8")),
        ("int8@256", int8_input(256, "")),
        ("int8@2048", int8_input(2048, "")),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--steps", help="some of bare,shortcuts,folded,int8,int8@256,int8@2048; default all")
    parser.add_argument("--seconds", type=float, default=600.0, help="start nothing new after so long")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    end = time.monotonic() + options.seconds
    bench = Bench(options)
    for name, run in steps(bench, options.batch):
        if options.steps and name not in options.steps.split(","):
            continue
        if time.monotonic() > end:
            print(f"{name}: no time left")
            break
        try:
            run()
        except (TransplantFailure, RuntimeError, TypeError, ValueError) as error:
            print(f"{name}: failed: {type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main()
