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
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from benchmarks.gpu.subject import WITHOUT_CUBLAS, Subject, words_of
from commands.configs import load_graph
from engine import network
from engine.build_options import PlanOptions
from engine.devices import open_device
from engine.emission import Emission
from engine.emitters import EMITTERS
from engine.inspection import engine_document
from engine.latency import LatencyOptions, measure, prepare
from engine.network import Definition, define
from engine.pinning import pin_layers
from engine.plan import Progress, build_plan
from engine.precision import plan_precision
from engine.profiling import profile
from engine.quantization import scales_of
from engine.runner import Runner
from spec.errors import TransplantFailure
from spec.graph import Graph

VECTOR = 4
"""Channels that lie together in TensorFormat.CHW4, which TensorRT's kernels for a first convolution read."""

IMAGES = "inputs.image.shape=[1, 3, 224, 224]"
Arrays = Mapping[Tuple[str, str], np.ndarray]


class Network(NamedTuple):
    """A graph with its weights and its int8 ranges."""

    graph: Graph
    arrays: Arrays
    ranges: Mapping[str, float]


def with_channels(net: Network, channels: int) -> Network:
    """The same for images of more channels; the first kernel is zero behind the third."""
    batch, _, *size = net.graph.tensors["image"].shape
    _, graph = load_graph("model4", [f"inputs.image.shape={[batch, channels, *size]}"])
    first = net.arrays["conv1", "kernel"]
    kernel = np.pad(first, ((0, 0), (0, channels - first.shape[1]), (0, 0), (0, 0)))
    return net._replace(graph=graph, arrays={**net.arrays, ("conv1", "kernel"): kernel})


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
    if image.shape[1] == VECTOR:
        image.allowed_formats = 1 << int(trt.TensorFormat.CHW4)
    scale = trt.Weights(scales_of(net.ranges["image"]))
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
        cache = options.output.with_suffix(".cache")
        self.plan_options = PlanOptions(tactic_sources=WITHOUT_CUBLAS, timing_cache=cache, profiling="detailed")
        self.subject = Subject("model4", options.weights, self.plan_options, overrides=[IMAGES])
        self.tensorrt, self.device, self.options = self.subject.tensorrt, open_device(), options
        self.lines: List[Dict[str, Any]] = []

    def network(self, batch: int, fold: bool, channels: int = 3) -> Network:
        net = Network(self.subject.graph_at(batch), self.subject.arrays, self.subject.ranges)
        net = with_channels(net, channels) if channels > 3 else net
        if not fold:
            return net
        names = {layer.inputs[0]: layer.name for layer in net.graph.layers if layer.type == "batch_norm"}
        ranges = {**net.ranges, **{maker: net.ranges[bn] for maker, bn in names.items() if bn in net.ranges}}
        return Network(*folded(net.graph, net.arrays), ranges)

    def precision(self, net: Network, without: Sequence[str] = ()) -> Any:
        """int8 wherever our rules quantize what a layer reads, but for those whose name ends so."""
        words = {layer.name: "int8" for layer in net.graph.layers if not layer.name.endswith(tuple(without))}
        return plan_precision(net.graph, words, "int8", net.ranges, self.tensorrt)

    def plan(self, definition: Definition) -> Any:
        start = time.perf_counter()
        plan = build_plan(definition, self.plan_options, Progress())
        self.build_seconds = time.perf_counter() - start
        return plan

    def say(self, title: str, batch: int, images: float, **more: Any) -> None:
        line = {"variant": title, "batch": batch, "images_per_second": round(images), **more}
        self.lines.append({**line, "build_seconds": round(self.build_seconds, 1)})
        print(json.dumps(self.lines[-1]), flush=True)
        content = {"device": self.device.facts()._asdict(), "tensorrt": self.tensorrt.version, "variants": self.lines}
        self.options.output.write_text(json.dumps(content, indent=1) + "\n")

    def measured(self, title: str, net: Network, plan: Any, dtype: Any = np.float32) -> None:
        shape = net.graph.tensors["image"].shape
        inputs = {"image": np.random.default_rng(0).integers(-100, 100, shape).astype(dtype)}
        with Runner(self.tensorrt, plan, self.device) as runner:
            latency = measure(runner, inputs, LatencyOptions(duration=1.0, transfers=False, in_flight=1))
        median = float(np.median(latency.compute))
        self.say(title, shape[0], shape[0] / median * 1e3, median_ms=round(median, 4))

    def streams(self, count: int, net: Network, plan: Any, dtype: Any) -> None:
        """Contexts that take turns, so that one's tail overlaps another's head."""
        shape = net.graph.tensors["image"].shape
        inputs = {"image": np.random.default_rng(0).integers(-100, 100, shape).astype(dtype)}
        with ExitStack() as stack:
            runners = [stack.enter_context(Runner(self.tensorrt, plan, self.device)) for _ in range(count)]
            for runner in runners:
                prepare(runner, inputs)
            rounds, start = max(2, 30 * 1024 // shape[0]), time.perf_counter()
            for _ in range(rounds):
                for runner in runners:
                    runner.enqueue()
            for runner in runners:
                runner.synchronize()
            seconds = time.perf_counter() - start
        self.say(f"and {count} streams", shape[0], count * rounds * shape[0] / seconds)

    def layers(self, plan: Any, name: str) -> None:
        """The engine inspector's account, and the time of each engine layer, as JSON beside the output."""
        with Runner(self.tensorrt, plan, self.device) as runner:
            document = engine_document(self.tensorrt, runner.engine)
            inputs = {each.name: np.zeros(each.most, each.dtype) for each in runner.inputs}
            times = profile(runner, inputs, LatencyOptions(duration=0.2, warm_up=0.1)).as_json()
        path = self.options.output.with_name(f"{self.options.output.stem}.{name}.layers.json")
        path.write_text(json.dumps({"profile": times, "inspector": document}, indent=1))


def float_images(bench: Bench, batch: int, title: str, fold: bool, without: Sequence[str], name: str) -> None:
    """Builds, measures and looks into a network that takes float32 images."""
    net = bench.network(batch, fold)
    plan = bench.plan(define(net.graph, net.arrays, bench.tensorrt, bench.precision(net, without)))
    bench.measured(title, net, plan)
    bench.layers(plan, name)


def int8_images(bench: Bench, batch: int, channels: int, title: str, name: str) -> None:
    """The same with int8 images, on one stream and on several."""
    net = bench.network(batch, True, channels)
    plan = bench.plan(with_int8_input(net, bench.tensorrt, bench.precision(net)))
    bench.measured(title, net, plan, np.int8)
    for count in (2, 4):
        bench.streams(count, net, plan, np.int8)
    bench.layers(plan, name)


STEPS: Dict[str, Callable[[Bench, int], None]] = {
    # each on top of the one before
    "bare": lambda bench, batch: float_images(bench, batch, "convolutions only", False, (".add", "avgpool"), "bare"),
    "shortcuts": lambda bench, batch: float_images(bench, batch, "and shortcuts of sums", False, ("avgpool",), "sums"),
    "average": lambda bench, batch: float_images(bench, batch, "and the average's input", False, (), "average"),
    "folded": lambda bench, batch: float_images(bench, batch, "and batch norm folded by us", True, (), "folded"),
    "int8": lambda bench, batch: int8_images(bench, batch, 3, "and int8 images", f"int8_{batch}"),
    "chw4": lambda bench, batch: int8_images(bench, batch, VECTOR, "and four channels, CHW4", f"chw4_{batch}"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=words_of, default="bare,shortcuts,average,folded,int8,chw4,chw4@256,chw4@2048",
                        help=f"some of {', '.join(STEPS)}, at another batch than 1024: chw4@256")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=600.0, help="start nothing new after so long")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    end = time.monotonic() + options.seconds
    bench = Bench(options)
    for step in options.steps:
        name, _, batch = step.partition("@")
        if time.monotonic() > end:
            print(f"{step}: no time left")
            break
        try:
            STEPS[name](bench, int(batch or 1024))
        except (TransplantFailure, RuntimeError, TypeError, ValueError) as error:
            print(f"{step}: failed: {type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main()
