"""Small configs with a reference, for the tests of verify/reference.py and of the modules behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, NamedTuple

import numpy as np

from builders import ARCHITECTURES, expand
from spec.graph import Graph, build_graph
from spec.load import load_model
from spec.model import ModelSpec
from verify.reference import Reference, open_reference, reference_activations
from verify.verification import Activations
from weights.tf_paths import checkpoint_prefix


class Case(NamedTuple):
    """A model, its graph and its opened reference."""

    model: ModelSpec
    graph: Graph
    reference: Reference

    def run(self, **inputs: np.ndarray) -> Activations:
        return reference_activations(self.model, self.graph, self.reference, inputs, "a test")

    @property
    def layer_names(self) -> List[str]:
        return [layer.name for layer in self.graph.layers]


def config(path: Path, image: str, weights: str, reference: str, layers: List[str]) -> Path:
    """A plain config: the braces of `image`, `weights` and `reference`, and `type: {...}` layers, the last put out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    output = layers[-1].split("name: ")[1].split(",")[0].rstrip("} ")
    rows = "\n".join(f"  - {layer}" for layer in layers)
    path.write_text(
        f"name: small\narchitecture: plain\ninputs:\n  image: {{{image}}}\nweights: {{{weights}}}\n"
        f"reference: {{{reference}}}\nlayers:\n{rows}\noutputs: [{output}]\n"
    )
    return path


def opened(path: Path, overrides: Any = ()) -> Case:
    """Everything that a config says, with its reference open."""
    model = load_model(path, ARCHITECTURES, overrides)
    reference = open_reference(model, checkpoint_prefix(model.weights_path))
    return Case(model, build_graph(model, expand(model)), reference)


def assert_close(found: np.ndarray, wanted: np.ndarray) -> None:
    """Equal but for the last bits of float32: two runs of one framework."""
    assert found.shape == wanted.shape
    assert np.abs(found.astype(np.float64) - wanted).max() <= 1e-6 * np.abs(wanted).max()


def random_image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def randomise_torch(module: Any, seed: int = 0) -> Any:
    """The module in eval mode with other statistics and factors in every channel of its batch norms."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in module.modules():
            if isinstance(each, torch.nn.BatchNorm2d):
                for tensor in (each.weight, each.bias, each.running_mean, each.running_var):
                    tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return module.eval()
