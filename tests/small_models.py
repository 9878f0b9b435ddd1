"""A small network, its weights and its config, for tests that need a whole model but no framework's model.

    image n 2 7 9 -> conv 3x3 stride 2 -> bn -> relu -> flat -> fc n 4       SMALL.yaml + torch_arrays() -> one plan

and `graph_of`, which makes a Graph of any layers, each `(type, keys)`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from builders import ARCHITECTURES, expand
from spec.graph import Graph, build_graph
from spec.layers import LAYERS
from spec.load import load_model
from spec.model import ModelSpec
from weights.checkpoint import Checkpoint, TensorInfo
from weights.layout import parse_axes, shape_of

SMALL = """\
name: small
architecture: plain
inputs:
  image: {shape: [1, 2, 7, 9], dtype: float32, layout: NCHW}
weights: {path: small.safetensors}
layers:
  - convolution: {name: conv, filters: 3, kernel: 3, stride: 2, padding: valid, bias: true}
  - batch_norm: {name: bn, epsilon: 1.0e-3}
  - activation: {name: relu, function: relu}
  - flatten: {name: flat, order: NCHW}
  - dense: {name: fc, units: 4, bias: true}
outputs: [fc]
"""


def torch_arrays(seed: int = 0) -> Dict[str, np.ndarray]:
    """The tensors of SMALL as PyTorch names and shapes them; float32, every number another one."""
    rng = np.random.default_rng(seed)
    arrays = {
        "conv.weight": rng.standard_normal((3, 2, 3, 3)),
        "conv.bias": rng.standard_normal(3),
        "bn.weight": rng.uniform(0.5, 1.5, 3),
        "bn.bias": rng.standard_normal(3),
        "bn.running_mean": rng.uniform(0.1, 0.5, 3),
        "bn.running_var": rng.uniform(0.01, 2.0, 3),
        "fc.weight": rng.standard_normal((4, 36)),
        "fc.bias": rng.standard_normal(4),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def tensorflow_arrays(seed: int = 0) -> Dict[str, np.ndarray]:
    """The same numbers as TensorFlow names and shapes them."""
    torch = torch_arrays(seed)
    return {
        "conv/kernel": torch["conv.weight"].transpose(2, 3, 1, 0),
        "conv/bias": torch["conv.bias"],
        "bn/gamma": torch["bn.weight"],
        "bn/beta": torch["bn.bias"],
        "bn/moving_mean": torch["bn.running_mean"],
        "bn/moving_variance": torch["bn.running_var"],
        "fc/kernel": torch["fc.weight"].T,
        "fc/bias": torch["fc.bias"],
    }


def write_small(directory: Path, text: str = SMALL, arrays: Optional[Dict[str, np.ndarray]] = None) -> Path:
    """small.yaml and small.safetensors in a directory; returns the path of the config."""
    from safetensors.numpy import save_file

    contiguous = {name: np.ascontiguousarray(array) for name, array in (arrays or torch_arrays()).items()}
    save_file(contiguous, directory / "small.safetensors")
    config = directory / "small.yaml"
    config.write_text(text)
    return config


def load_text(directory: Path, text: str = SMALL, overrides: Sequence[str] = ()) -> Tuple[ModelSpec, Graph]:
    """The model and the graph of a config given as text."""
    config = directory / "small.yaml"
    config.write_text(text)
    model = load_model(config, ARCHITECTURES, overrides)
    return model, build_graph(model, expand(model))


class CountedCheckpoint(Checkpoint):
    """A checkpoint in memory that lists the tensors that were read.

    Attributes:
        reads: tensor names in the order they were read.
    """

    def __init__(self, arrays: Dict[str, np.ndarray], positional: bool = False) -> None:
        self.reads: List[str] = []
        tensors = {name: TensorInfo(array.shape, array.dtype.name) for name, array in arrays.items()}
        self._arrays = arrays
        super().__init__(Path("memory.ckpt"), "safetensors", "in memory", (), tensors, self._read, positional)

    def _read(self, name: str) -> np.ndarray:
        self.reads.append(name)
        return self._arrays[name]


def graph_of(
    layers: Iterable[Tuple[str, Dict[str, Any]]],
    inputs: Dict[str, Tuple[int, ...]],
    outputs: Sequence[str],
    batch: Optional[Dict[str, int]] = None,
    dtype: str = "float32",
) -> Graph:
    """A graph of `(type, keys)` layers that stand at net.yaml:1, net.yaml:2, ...; images are n c h w."""
    images = {
        name: {"shape": shape, "dtype": dtype, "layout": "NCHW" if len(shape) == 4 else None}
        for name, shape in inputs.items()
    }
    model = ModelSpec(
        name="net", inputs=images, batch=batch, weights={"path": "none"}, outputs=outputs, architecture="plain"
    )
    made = [LAYERS[word](**keys).at(f"net.yaml:{line}") for line, (word, keys) in enumerate(layers, 1)]
    return build_graph(model, made)


def random_arrays(graph: Graph, seed: int = 0) -> Dict[Tuple[str, str], np.ndarray]:
    """Numbers for every slot, in our axis orders, as `engine.network.define` takes them; none is negative or zero."""
    rng = np.random.default_rng(seed)
    return {
        (layer.name, slot.role): rng.uniform(0.1, 1.0, shape_of(parse_axes(slot.layout), slot.sizes)).astype(np.float32)
        for layer, slot in graph.slots()
    }
