"""One of the four models as a benchmark sees it: graph at any batch, weights, inputs, int8 ranges, precision.

    Subject("model4", weights, options) -> .graph_at(batch, dtype) .definition(word, graph) .inputs_at(batch) .reference
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence

import numpy as np

from commands.configs import load_graph
from commands.stages import tensor_names
from engine.build_options import PlanOptions
from engine.calibration import calibrate
from engine.interpreter import Interpreter
from engine.network import Definition, define
from engine.precision import FP32, plan_precision
from engine.quantization import quantized_tensors
from engine.tensorrt_api import load
from spec.graph import Graph
from verify.inputs import make_inputs
from weights import convention_of, open_checkpoint
from weights.transplant import transplant

PRECISIONS = ("fp32", "tf32", "fp16", "int8")
WITHOUT_CUBLAS = "-CUBLAS,-CUBLAS_LT,-CUDNN"
"""The packed TensorRT carries no cuBLAS and no cuDNN; its ONNX parser's networks are built without them too."""

IMAGES = 4
"""Different images in a batch; a larger batch repeats them, so that its reference costs no more."""

CALIBRATED = 8
"""Structured images that the int8 ranges are of."""


def weights_of(directory: Path) -> Mapping[str, Path]:
    """model1.safetensors ... model4.pth by model name."""
    return {path.stem: path for path in sorted(directory.iterdir()) if path.suffix in (".safetensors", ".pth")}


class Subject:
    """A model with its weights. Ranges and references are computed when first wanted."""

    def __init__(
        self, name: str, weights: Path, options: PlanOptions, backend: str = "tensorrt", overrides: Sequence[str] = ()
    ) -> None:
        self.name, self.tensorrt, self.options = name, load(backend), options
        self.overrides = [f"weights.path={weights.resolve()}", *overrides]
        if name != "model4":  # the others are stored under TensorFlow's names
            self.overrides += ["weights.convention=tensorflow"]
        self.model, self.graph = load_graph(name, self.overrides)
        checkpoint = open_checkpoint(self.model.weights_path, self.model.weights.key)
        convention = convention_of(checkpoint, self.model.weights.convention)
        weights_found = transplant(self.graph, checkpoint, self.model.weights, convention)
        self.arrays, self.names = weights_found.arrays, tensor_names(weights_found)
        self.layers = [layer.name for layer in self.graph.layers]
        self._kept: Dict[str, Any] = {}

    @property
    def takes_uint8(self) -> bool:
        return any(spec.dtype == "uint8" for spec in self.graph.inputs.values())

    def graph_at(self, batch: int, dtype: str = "") -> Graph:
        """The graph for one batch; `dtype` feeds the network with another type than the config's."""
        shapes = [f"inputs.{name}.shape={[batch, *spec.shape[1:]]}" for name, spec in self.graph.inputs.items()]
        types = [f"inputs.{name}.dtype={dtype}" for name in self.graph.inputs if dtype]
        return load_graph(self.name, [*self.overrides, *shapes, *types])[1]

    def inputs_at(self, batch: int, dtype: str = "", kind: str = "random") -> Dict[str, np.ndarray]:
        """IMAGES different images of a kind, repeated up to the batch; `n` first. None is one of `ranges`."""
        seeds = range(CALIBRATED, CALIBRATED + min(batch, IMAGES))
        one = [make_inputs(self.graph, f"{kind}:{seed}")[0] for seed in seeds]
        stacked = {name: np.concatenate([each[name] for each in one]) for name in self.graph.inputs}
        repeats = -(-batch // len(one))
        tiled = {name: np.tile(array, (repeats, 1, 1, 1))[:batch] for name, array in stacked.items()}
        return {name: array.astype(dtype or array.dtype) for name, array in tiled.items()}

    def reference(self, batch: int, kind: str = "random") -> Mapping[str, np.ndarray]:
        """Every layer of `min(batch, IMAGES)` images of a kind in float64 on the CPU."""
        count = min(batch, IMAGES)
        key = f"reference {count} {kind}"
        if key not in self._kept:
            network = define(self.graph_at(count), self.arrays, self.tensorrt).network
            interpreter = Interpreter(network, self.tensorrt.module, np.float64)
            self._kept[key] = interpreter.run(self.inputs_at(count, kind=kind), self.layers)
        return self._kept[key]

    @property
    def ranges(self) -> Mapping[str, float]:
        """From CALIBRATED structured images, largest magnitudes."""
        if "ranges" not in self._kept:
            definition = define(self.graph, self.arrays, self.tensorrt)
            tensors = quantized_tensors(self.graph, dict.fromkeys(self.layers, "int8"))
            interpreter = Interpreter(definition.network, self.tensorrt.module)
            batches = (make_inputs(self.graph, f"structured:{seed}")[0] for seed in range(CALIBRATED))
            self._kept["ranges"] = calibrate(interpreter.run, batches, tensors, "min_max")
        return self._kept["ranges"]

    def definition(self, word: str, graph: Graph, ranges: Optional[Mapping[str, float]] = None) -> Definition:
        """The network in one precision, weights under their checkpoint's names; int8 with these ranges or its own."""
        precision = FP32
        if word != "fp32":
            ranges = (ranges or self.ranges) if word == "int8" else {}
            words = dict.fromkeys(self.layers, word)
            precision = plan_precision(graph, words, word, ranges, self.tensorrt)
        return define(graph, self.arrays, self.tensorrt, precision, self.names)


def relative_l2(found: np.ndarray, reference: np.ndarray) -> float:
    """||c - r|| / ||r||, `n` of the candidate being repetitions of the reference's."""
    count, squares = reference.shape[0], 0.0
    expected = reference.astype(np.float64)
    for first in range(0, found.shape[0], count):
        part = found[first : first + count].astype(np.float64)
        squares += float(np.square(part - expected[: len(part)]).sum())
    whole = float(np.square(expected).sum()) * found.shape[0] / count
    return float(np.sqrt(squares / whole)) if whole else float(np.sqrt(squares))


def words_of(text: str) -> Sequence[str]:
    return [word for word in text.split(",") if word]
