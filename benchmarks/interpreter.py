"""How long ResNet-50 takes in the interpreter and in PyTorch, same weights, same image, same process: medians as JSON.

random weights --> INetworkDefinition (tensorrt_rtx) --> Interpreter.run -> logits
               --> the same operations called in PyTorch on the CPU      -> logits: compared, then timed in turn

python -m benchmarks.interpreter [--size 256] [--runs 7] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

from engine.interpreter import Interpreter

STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))  # blocks, width, stride of the first block
IMAGE, CLASSES = "image", 1000


class NetworkBackend:
    """The operations of a ResNet as layers of a network definition, batch normalisation as a scale layer."""

    def __init__(self, trt: Any, size: int) -> None:
        self.trt, self.builder = trt, trt.Builder(trt.Logger(trt.Logger.ERROR))
        self.network = self.builder.create_network()
        self.image = self.network.add_input(IMAGE, trt.float32, (1, 3, size, size))

    def convolution(self, x: Any, kernel: np.ndarray, stride: int) -> Any:
        layer = self.network.add_convolution_nd(x, kernel.shape[0], kernel.shape[2:], kernel)
        layer.stride_nd, layer.padding_nd = (stride, stride), (kernel.shape[2] // 2,) * 2
        return layer.get_output(0)

    def normalise(self, x: Any, scale: np.ndarray, shift: np.ndarray) -> Any:
        return self.network.add_scale(x, self.trt.ScaleMode.CHANNEL, shift, scale, self.trt.Weights()).get_output(0)

    def relu(self, x: Any) -> Any:
        return self.network.add_activation(x, self.trt.ActivationType.RELU).get_output(0)

    def add(self, x: Any, y: Any) -> Any:
        return self.network.add_elementwise(x, y, self.trt.ElementWiseOperation.SUM).get_output(0)

    def max_pool(self, x: Any) -> Any:
        layer = self.network.add_pooling_nd(x, self.trt.PoolingType.MAX, (3, 3))
        layer.stride_nd, layer.padding_nd = (2, 2), (1, 1)
        return layer.get_output(0)

    def mean(self, x: Any) -> Any:
        return self.network.add_reduce(x, self.trt.ReduceOperation.AVG, 0b1100, True).get_output(0)


class TorchBackend:
    """The same operations in PyTorch, run as they are called."""

    def __init__(self, torch: Any) -> None:
        self.torch, self.f = torch, torch.nn.functional

    def convolution(self, x: Any, kernel: np.ndarray, stride: int) -> Any:
        return self.f.conv2d(x, self.torch.from_numpy(kernel), stride=stride, padding=kernel.shape[2] // 2)

    def normalise(self, x: Any, scale: np.ndarray, shift: np.ndarray) -> Any:
        zero, one = self.torch.zeros(len(scale)), self.torch.ones(len(scale))
        scale, shift = self.torch.from_numpy(scale), self.torch.from_numpy(shift)
        return self.f.batch_norm(x, zero, one, scale, shift, eps=0.0)

    def relu(self, x: Any) -> Any:
        return x.relu_()

    def add(self, x: Any, y: Any) -> Any:
        return x.add_(y)

    def max_pool(self, x: Any) -> Any:
        return self.f.max_pool2d(x, 3, 2, 1)

    def mean(self, x: Any) -> Any:
        return x.mean((2, 3), keepdim=True)


def convolution_shapes() -> List[Tuple[int, int, int]]:
    """(maps, channels, window) of every convolution in the order `resnet50` asks for them, the classifier last."""
    shapes, channels = [(64, 3, 7)], 64
    for blocks, width, _ in STAGES:
        for block in range(blocks):
            shapes += [(width, channels, 1), (width, width, 3), (4 * width, width, 1)]
            shapes += [(4 * width, channels, 1)] if block == 0 else []
            channels = 4 * width
    return shapes + [(CLASSES, channels, 1)]


def random_weights(seed: int = 0) -> List[Tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Kernel, scale and shift for every convolution, scaled so that activations stay near one."""
    random = np.random.default_rng(seed)
    rows = []
    for maps, channels, window in convolution_shapes():
        kernel = random.standard_normal((maps, channels, window, window)) * (channels * window * window) ** -0.5
        rows.append((kernel, random.uniform(0.5, 1.0, maps), random.standard_normal(maps) * 0.1))
    return [tuple(array.astype(np.float32) for array in row) for row in rows]


def resnet50(backend: Any, x: Any, weights: List[Tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Any:
    """Logits (1, 1000, 1, 1) of an image (1, 3, h, w), stride in the 3x3 convolution as torchvision has it."""
    rows = iter(weights)

    def convolve(x: Any, stride: int = 1) -> Any:
        kernel, scale, shift = next(rows)
        return backend.normalise(backend.convolution(x, kernel, stride), scale, shift)

    x = backend.max_pool(backend.relu(convolve(x, 2)))
    for blocks, _, first_stride in STAGES:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            y = backend.relu(convolve(x))
            y = convolve(backend.relu(convolve(y, stride)))
            x = backend.relu(backend.add(y, convolve(x, stride) if block == 0 else x))
    return backend.convolution(backend.mean(x), next(rows)[0], 1)


def interpreted(weights: List[Any], size: int) -> Callable[[np.ndarray], np.ndarray]:
    """ResNet-50 as a function of the image, run by the interpreter."""
    import tensorrt_rtx as trt

    backend = NetworkBackend(trt, size)
    backend.network.mark_output(resnet50(backend, backend.image, weights))
    interpreter = Interpreter(backend.network, trt)
    output = interpreter.outputs[0].name
    return lambda image: interpreter.run({IMAGE: image})[output]


def in_torch(weights: List[Any], threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """ResNet-50 as a function of the image, run by PyTorch."""
    import torch

    torch.set_num_threads(threads)
    backend = TorchBackend(torch)

    def run(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return resnet50(backend, torch.from_numpy(image), weights).numpy()

    return run


def time_in_turn(candidates: Dict[str, Callable[[], Any]], runs: int) -> Dict[str, float]:
    """Median seconds of each, one call after the other, so that a busy machine slows both."""
    seconds: Dict[str, List[float]] = {name: [] for name in candidates}
    for _ in range(runs):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    weights = random_weights()
    image = np.random.default_rng(1).standard_normal((1, 3, options.size, options.size)).astype(np.float32)
    interpreter, torch = interpreted(weights, options.size), in_torch(weights, options.threads)
    ours, theirs = interpreter(image), torch(image)  # also the warm-up
    times = time_in_turn({"interpreter": lambda: interpreter(image), "torch": lambda: torch(image)}, options.runs)
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    print(json.dumps({"seconds": times, "difference": difference, **vars(options)}))
    print(
        f"ResNet-50 {options.size}x{options.size}: interpreter {times['interpreter']:.3f} s,"
        f" PyTorch {times['torch']:.3f} s (ratio {times['interpreter'] / times['torch']:.2f}),"
        f" difference {difference:.1e} of max|y|"
    )


if __name__ == "__main__":
    main()
