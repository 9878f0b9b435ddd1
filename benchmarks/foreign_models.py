"""Models that nobody here wrote, every layer compared with their own framework's: figures as JSON.

    keras.applications, torchvision, timm, TF-Slim ─ own code, random weights and statistics ─> checkpoint
    checkpoint + a YAML config ─> network definition ─> interpreter ─ every layer ─> error beside the source's forward

    pip install --no-deps --target DIR torchvision==0.28.0 timm==1.0.29 pillow huggingface_hub tqdm filelock fsspec
    python -m benchmarks.foreign_models --packages DIR --tensorflow1 PYTHON37 [--only NAME] [--output FILE]

What is not installed is left out and said so. PYTHON37 is that of an environment with TensorFlow 1.15: see
benchmarks/foreign_slim.py.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import numpy as np

from benchmarks.foreign_configs import BASIC, BOTTLENECKS, KERAS, SLIM, TORCH
from builders import ARCHITECTURES, expand
from builders.resnet_slim import ResNetSlim
from engine.atomic_file import json_bytes, write_whole
from engine.network import define
from engine.tensorrt_api import load
from spec.graph import build_graph
from spec.load import load_model
from verify.compare import Comparison, Tolerance
from verify.inputs import make_inputs
from verify.reference import open_reference, reference_activations
from verify.verification import verify
from weights import convention_of, open_checkpoint
from weights.readings import readings_of
from weights.transplant import transplant


class Foreign(NamedTuple):
    """A model: what writes its checkpoint into a directory and returns what wrote it, and its config."""

    write: Callable[[Path, argparse.Namespace], str]
    config: str


def torchvision_resnet18() -> Any:
    return torchvision().models.resnet18()


def torchvision_resnet50() -> Any:
    return torchvision().models.resnet50()


def timm_resnet18() -> Any:
    torchvision()
    import timm

    return timm.create_model("resnet18")


def timm_resnet50() -> Any:
    torchvision()
    import timm

    return timm.create_model("resnet50")


def torchvision() -> Any:
    """The package; its import fails beside the CPU build of PyTorch unless two operators it wraps are declared."""
    import torch

    if "torchvision" not in sys.modules:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
    import torchvision as package

    return package


_KEPT: List[Any] = []
"""A torch.library.Library takes its operators back when it is freed."""


def write_keras(directory: Path, options: argparse.Namespace) -> str:
    import keras

    keras.utils.set_random_seed(0)
    model, rng = keras.applications.ResNet50(weights=None), np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights(statistics(rng, layer.weights[0].shape[0]))
    model.save(directory / "resnet50.h5")
    return f"keras {keras.__version__}, keras.applications.ResNet50"


def torch_writer(name: str) -> Callable[[Path, argparse.Namespace], str]:
    """What writes NAME.pth with the state_dict of the function NAME, its statistics random."""

    def write(directory: Path, options: argparse.Namespace) -> str:
        import torch

        torch.manual_seed(0)
        module, rng = globals()[name](), np.random.default_rng(0)
        for each in module.modules():
            if isinstance(each, torch.nn.BatchNorm2d):
                numbers = map(torch.from_numpy, statistics(rng, each.num_features))
                for tensor, array in zip((each.weight, each.bias, each.running_mean, each.running_var), numbers):
                    tensor.data.copy_(array)
        torch.save(module.state_dict(), directory / f"{name}.pth")
        package = name.partition("_")[0]
        return f"torch {torch.__version__}, {package} {sys.modules[package].__version__}, {name.partition('_')[2]}"

    return write


def write_slim(directory: Path, options: argparse.Namespace) -> str:
    if options.tensorflow1 is None:
        raise ModuleNotFoundError("no --tensorflow1")
    script = Path(__file__).with_name("foreign_slim.py")
    # TensorFlow 2, once imported here, sets TF2_BEHAVIOR for its children, and 1.15 then has no placeholders
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TF")}
    subprocess.run([options.tensorflow1, script, directory, "225"], check=True, capture_output=True, env=clean)
    found = json.loads((directory / "graph.json").read_text())
    epsilons = ", ".join(found["epsilons"])
    return f"tensorflow {found['tensorflow']}, tf.contrib.slim resnet_v1_50, epsilon {epsilons} in its graph"


def statistics(rng: np.random.Generator, channels: int) -> List[np.ndarray]:
    """gamma, beta, mean, variance; fresh ones are 1, 0, 0, 1, and hide every mistake.

    Every sixteenth channel is nearly dead, as in trained networks: there an epsilon shows.
    """
    gamma, variance = rng.uniform(0.3, 0.9, channels), rng.uniform(0.5, 2.0, channels)
    gamma[::16], variance[::16] = 0.01, 1e-4
    drawn = gamma, rng.uniform(-0.3, 0.3, channels), rng.uniform(-0.3, 0.3, channels), variance
    return [array.astype(np.float32) for array in drawn]


def torch_row(name: str, stages: str) -> Foreign:
    return Foreign(torch_writer(name), TORCH.replace("NAME", name) + stages)


MODELS: Dict[str, Foreign] = {
    "keras_resnet50": Foreign(write_keras, KERAS),
    "torchvision_resnet18": torch_row("torchvision_resnet18", BASIC),
    "torchvision_resnet50": torch_row("torchvision_resnet50", BOTTLENECKS),
    "timm_resnet18": torch_row("timm_resnet18", BASIC),
    "timm_resnet50": torch_row("timm_resnet50", BOTTLENECKS),
    "slim_resnet_v1_50": Foreign(write_slim, SLIM),
}


def compare(config: Path) -> Comparison:
    """Every layer of a config, as `run.py diff` compares it."""
    model = load_model(config, {**ARCHITECTURES, "resnet_slim": ResNetSlim})
    graph = build_graph(model, expand(model))
    checkpoint = open_checkpoint(model.weights_path)
    weights = transplant(graph, checkpoint, model.weights, convention_of(checkpoint))
    definition = define(graph, weights.arrays, load("tensorrt_rtx"))
    inputs, title = make_inputs(graph, "random:0")
    activations = reference_activations(model, graph, open_reference(model), inputs, title)
    return verify(definition, activations, Tolerance(), readings_of(graph, weights)).comparison


def figures(name: str, options: argparse.Namespace) -> Dict[str, Any]:
    """What was compared, the worst layers, and every row."""
    with tempfile.TemporaryDirectory() as directory:
        written_by = MODELS[name].write(Path(directory), options)
        config = Path(directory) / f"{name}.yaml"
        config.write_text(MODELS[name].config)
        start = time.perf_counter()
        found = compare(config)
        seconds = time.perf_counter() - start
    return {
        "written_by": written_by,
        "reference": found.reference,
        "candidate": found.candidate,
        "passed": found.passed,
        "layers": len(found.rows),
        "largest_value": float(f"{max(row.worst.magnitude for row in found.rows if row.worst):.3g}"),
        "not_compared": [row.layer for row in found.rows if row.worst is None],
        "worst_isolated": worst(found, "isolated"),
        "worst_accumulated": worst(found, "accumulated"),
        "first_bad": found.first_bad and [found.first_bad.layer, found.first_bad.problem, *found.first_bad.diagnosis],
        "seconds": round(seconds, 2),
        "rows": {
            row.layer: [each and float(f"{each.error:.3g}") for each in (row.isolated, row.accumulated)]
            for row in found.rows
        },
    }


def worst(comparison: Comparison, kind: str) -> Optional[Dict[str, Any]]:
    rows = [row for row in comparison.rows if getattr(row, kind) is not None]
    if not rows:
        return None
    row = max(rows, key=lambda each: getattr(each, kind).error)
    return {"layer": row.layer, "type": row.type, "error": float(f"{getattr(row, kind).error:.3g}")}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--packages", help="where pip put torchvision and timm (--target)")
    parser.add_argument("--tensorflow1", help="the Python of an environment with TensorFlow 1.15")
    parser.add_argument("--only", choices=MODELS, action="append", help="these models; default all")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results") / "foreign_models.json")
    options = parser.parse_args()
    if options.packages:
        sys.path.append(options.packages)
    results: Dict[str, Any] = {}
    for name in options.only or MODELS:
        try:
            results[name] = found = figures(name, options)
            print(f"{name}: {found['layers']} layers, passed {found['passed']}, isolated {found['worst_isolated']}, "
                  f"accumulated {found['worst_accumulated']}, {found['seconds']} s", flush=True)  # fmt: skip
        except ModuleNotFoundError as error:
            print(f"{name}: left out ({error})", flush=True)
    write_whole(options.output, json_bytes(results))
    return 0 if results and all(found["passed"] for found in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
