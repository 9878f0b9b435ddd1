"""A comparison of a residual block, evaluated with NumPy: in float64 as the reference, in float32 as the candidate.

image -> conv (1x1) -> bn -> relu ─> add -> <out>        bn with another epsilon is the genuine failure
                             └─────────┘                 `<out>` is a relu whose name needs escaping in HTML
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from spec.graph import Graph
from tests.small_models import graph_of, random_arrays
from verify.compare import Comparison, LayerRow, Tolerance, difference

EPSILON = 1e-3
STRICT = Tolerance(rtol=1e-5)
LAYERS = (
    ("convolution", {"name": "conv", "filters": 4, "kernel": 1, "stride": 1, "padding": "valid", "bias": True}),
    ("batch_norm", {"name": "bn", "epsilon": EPSILON}),
    ("activation", {"name": "relu", "function": "relu"}),
    ("elementwise", {"name": "add", "function": "sum", "input": ["relu", "bn"]}),
    ("activation", {"name": "<out>", "function": "relu"}),
)


class Case(NamedTuple):
    """What the reports take."""

    comparison: Comparison
    graph: Graph
    arrays: Dict[str, Tuple[np.ndarray, np.ndarray]]
    ledger: List[Dict[str, Any]]


def residual_block() -> Graph:
    return graph_of(LAYERS, {"image": (1, 3, 5, 7)}, ["<out>"])


def compared(epsilon: float = EPSILON, tolerance: Tolerance = STRICT, image: Optional[np.ndarray] = None) -> Case:
    """The block compared layer by layer; the candidate's batch norm uses `epsilon`, the reference's EPSILON."""
    graph, rng = residual_block(), np.random.default_rng(3)
    weights = random_arrays(graph)
    image = rng.standard_normal((1, 3, 5, 7)) if image is None else image
    reference = evaluate({"image": image}, weights, EPSILON, np.float64)
    ours = evaluate({"image": image}, weights, epsilon, np.float32)
    rows = []
    for layer in graph.layers:
        read = {name: reference[name] for name in layer.inputs}
        alone = evaluate(read, weights, epsilon, np.float32, only=layer.name)
        found = [difference(each[layer.name], reference[layer.name], tolerance) for each in (alone, ours)]
        rows.append(LayerRow(layer.name, layer.type, ours[layer.name].shape, f"{layer.name}:0", *found))
    comparison = Comparison("block", "NumPy in float32", "NumPy in float64", "random image", tolerance, tuple(rows))
    arrays = {name: (ours[name], reference[name]) for name in reference if name != "image"}
    return Case(comparison, graph, arrays, ledger_of(graph))


def evaluate(
    tensors: Dict[str, np.ndarray],
    weights: Dict[Tuple[str, str], np.ndarray],
    epsilon: float,
    dtype: Any,
    only: Optional[str] = None,
) -> Dict[str, np.ndarray]:
    """Every tensor of the block in `dtype`, or only one layer's, from the tensors given."""
    t = {name: array.astype(dtype) for name, array in tensors.items()}
    w = {key: array.astype(dtype).reshape(-1, 1, 1) for key, array in weights.items() if key != ("conv", "kernel")}
    kernel = weights["conv", "kernel"][:, :, 0, 0].astype(dtype)
    steps = {
        "conv": lambda: np.einsum("oi,nihw->nohw", kernel, t["image"]) + w["conv", "bias"],
        "bn": lambda: (
            (t["conv"] - w["bn", "mean"]) / np.sqrt(w["bn", "variance"] + dtype(epsilon)) * w["bn", "gamma"]
            + w["bn", "beta"]
        ),
        "relu": lambda: np.maximum(t["bn"], 0),
        "add": lambda: t["relu"] + t["bn"],
        "<out>": lambda: np.maximum(t["add"], 0),
    }
    for name in steps if only is None else (only,):
        t[name] = steps[name]()
    return t


def ledger_of(graph: Graph) -> List[Dict[str, Any]]:
    """Rows as ledger.json has them."""
    return [
        {
            "layer": layer.name,
            "role": slot.role,
            "tensor": f"{layer.name}/{slot.role}_of_source",
            "rule": "h w i o -> o i h w" if slot.role == "kernel" else "c -> c",
            "source_shape": [1, 1, 3, 4] if slot.role == "kernel" else [4],
            "shape": list(slot.sizes.values()),
            "dtype": "float32",
            "sha256": f"{number:064x}",
        }
        for number, (layer, slot) in enumerate(graph.slots())
    ]
