"""Every layer type against the framework's own layer: random weights, odd sizes, a fixed and a dynamic batch.

    the framework's layer ─ its weights, by its own names ─> transplant ─> define (tensorrt_rtx) ─> Interpreter ─┐
                          └ forward on the same input ─────────────────────────────────────────────────────> equal?

The rows are in tests/torch_layers.py and tests/tensorflow_layers.py.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Set, Tuple

import numpy as np
import pytest

from engine.interpreter import Interpreter
from engine.network import define
from spec.graph import Graph
from spec.layers import LAYERS
from spec.layers.activation import NEEDS
from spec.layers.arrangement import TO_NCHW, TO_NHWC
from spec.model import WeightsSpec
from tests.backends import rtx
from tests.small_models import CountedCheckpoint, graph_of
from tests.tensorflow_layers import KERAS, TENSORFLOW
from tests.torch_layers import ROWS as TORCH
from tests.torch_layers import Row
from weights.sources import CONVENTIONS
from weights.transplant import transplant

TENSORRT = rtx()
TOLERANCE = 1e-5
BATCH = {"min": 1, "opt": 2, "max": 4}

EXACT = {"argmax", "cast", "concatenation", "constant", "flatten", "gather", "padding", "reshape", "slice", "squeeze",
         "top_k", "transpose"}  # fmt: skip
"""Layers that only move numbers, or add two of them: equal bit for bit."""

TABLES: Dict[str, List[Row]] = {"torch": TORCH, "keras": KERAS, "tensorflow": TENSORFLOW}
TWINS: Dict[str, Tuple[str, ...]] = {"PyTorch": ("torch",), "TensorFlow or Keras": ("keras", "tensorflow")}


class Truth(NamedTuple):
    """What a framework's layer computed: its outputs in our layout, its weights by checkpoint name."""

    outputs: Sequence[np.ndarray]
    weights: Dict[str, np.ndarray]


def title(row: Row) -> str:
    return f"{row.type} {row.keys} {row.shapes[0]}"


def numbers(row: Row) -> List[np.ndarray]:
    """Inputs of the kind that the row asks for, n c h w."""
    rng = np.random.default_rng(7)
    kinds: Dict[str, Callable[[Tuple[int, ...]], Any]] = {
        "normal": rng.standard_normal,
        "wide": lambda shape: 10 * rng.standard_normal(shape),
        "positive": lambda shape: rng.uniform(0.1, 2.0, shape),
        "ties": lambda shape: rng.integers(0, 6, shape),
        "pixels": lambda shape: rng.integers(0, 256, shape),
    }
    dtype = np.uint8 if row.numbers == "pixels" else np.float32
    return [np.ascontiguousarray(kinds[row.numbers](shape), dtype) for shape in row.shapes]


def weights_of(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Positive, for variances, and far from the frameworks' 0 and 1."""
    return rng.uniform(0.2, 1.5, tuple(shape)).astype(np.float32)


def torch_truth(row: Row, inputs: Sequence[np.ndarray]) -> Truth:
    torch, rng = pytest.importorskip("torch"), np.random.default_rng(3)
    source, weights = row.source(torch), {}
    if isinstance(source, torch.nn.Module):
        state = {name: tensor for name, tensor in source.eval().state_dict().items() if tensor.is_floating_point()}
        for name, tensor in state.items():
            weights[f"layer.{name.rpartition('.')[2]}"] = array = weights_of(rng, tensor.shape)
            tensor.copy_(torch.from_numpy(array))
    with torch.no_grad():
        outputs = source(*map(torch.from_numpy, inputs))
    return Truth([each.numpy() for each in _listed(outputs)], weights)


def keras_truth(row: Row, inputs: Sequence[np.ndarray]) -> Truth:
    keras, rng = pytest.importorskip("keras"), np.random.default_rng(3)
    source, arrays = row.source(keras), [_nhwc(each) for each in inputs]
    outputs, weights = source(*arrays), {}
    if isinstance(source, keras.layers.Layer) and source.weights:
        source.set_weights([weights_of(rng, each.shape) for each in source.weights])
        weights = {f"layer/{each.name}": np.asarray(each) for each in source.weights}
        outputs = source(*arrays)
    return Truth([_nchw(keras.ops.convert_to_numpy(each)) for each in _listed(outputs)], weights)


def tensorflow_truth(row: Row, inputs: Sequence[np.ndarray]) -> Truth:
    tensorflow, rng = pytest.importorskip("tensorflow"), np.random.default_rng(3)
    weights: Dict[str, np.ndarray] = {}

    def variable(name: str, *shape: int) -> Any:
        return tensorflow.constant(weights.setdefault(f"layer/{name}", weights_of(rng, shape)))

    outputs = row.source(tensorflow, variable)(*(tensorflow.constant(_nhwc(each)) for each in inputs))
    return Truth([_nchw(each.numpy()) for each in _listed(outputs)], weights)


TRUTHS = {"torch": torch_truth, "keras": keras_truth, "tensorflow": tensorflow_truth}


def _listed(outputs: Any) -> Sequence[Any]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _nhwc(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(TO_NHWC)) if array.ndim == 4 else array


def _nchw(array: np.ndarray) -> np.ndarray:
    return array.transpose(TO_NCHW) if array.ndim == 4 else array


def graph_of_row(row: Row, dynamic: bool) -> Graph:
    """The layer alone; a constant reads nothing, so that it is added to the input."""
    names = [f"input{position}" for position in range(len(row.shapes))]
    dtype = "uint8" if row.numbers == "pixels" else "float32"
    layers = [(row.type, {"name": "layer", "input": names, **row.keys})]
    if row.type == "constant":
        layers = [("constant", {"name": "layer", **row.keys})]
        layers += [("elementwise", {"name": "sum", "function": "sum", "input": [*names, "layer"]})]
    last = layers[-1][1]["name"]
    return graph_of(layers, dict(zip(names, row.shapes)), [last], BATCH if dynamic else None, dtype)


def computed(row: Row, convention: str, truth: Truth, inputs: Sequence[np.ndarray], dynamic: bool) -> List[np.ndarray]:
    """Our layer's tensors, from a network definition of its own."""
    graph, checkpoint = graph_of_row(row, dynamic), CountedCheckpoint(truth.weights)
    weights = transplant(graph, checkpoint, WeightsSpec(path="memory.ckpt"), CONVENTIONS[convention])
    definition = define(graph, weights.arrays, TENSORRT)
    fetch = graph.layers[-1].tensor_names
    found = Interpreter(definition.network, TENSORRT.module).run(dict(zip(graph.inputs, inputs)), fetch)
    return [found[name] for name in fetch]


def assert_equal(row: Row, candidate: np.ndarray, reference: np.ndarray) -> None:
    assert candidate.shape == reference.shape
    assert np.isfinite(reference).all() and np.ptp(reference) > 0
    if row.type in EXACT:
        np.testing.assert_array_equal(candidate, reference)
    error = np.abs(candidate.astype(np.float64) - reference).max() / np.abs(reference.astype(np.float64)).max()
    assert error <= TOLERANCE


ALL = [pytest.param(name, row, id=f"{name} {title(row)}") for name, rows in TABLES.items() for row in rows]


@pytest.mark.parametrize("convention, row", ALL)
def test_a_layer_computes_what_the_frameworks_does(convention, row):
    inputs = numbers(row)
    truth = TRUTHS[convention](row, inputs)
    for dynamic in (False, True):
        outputs = computed(row, convention, truth, inputs, dynamic)
        assert len(outputs) == len(truth.outputs)
        for candidate, reference in zip(outputs, truth.outputs):
            assert_equal(row, candidate, reference)


# the rows are complete


@pytest.mark.parametrize("framework", TWINS)
def test_every_layer_type_has_rows(framework):
    assert {row.type for table in TWINS[framework] for row in TABLES[table]} == set(LAYERS)


@pytest.mark.parametrize("framework", TWINS)
def test_every_activation_has_a_row(framework):
    rows = [row for table in TWINS[framework] for row in TABLES[table] if row.type == "activation"]
    assert {row.keys["function"] for row in rows} == set(NEEDS)
    assert {row.keys["approximate"] for row in rows if "approximate" in row.keys} == {True, False}


def values_of(word: str, key: str) -> Set[Any]:
    return {row.keys[key] for rows in TABLES.values() for row in rows if row.type == word and key in row.keys}


def test_every_word_of_a_key_has_a_row():
    for word, cls in LAYERS.items():
        for key, field in cls.model_fields.items():
            words = getattr(field.annotation, "__args__", ())
            if key in ("function", "mode", "coordinates", "alpha_of") and all(isinstance(each, str) for each in words):
                assert values_of(word, key) | ({"constant"} if key == "mode" else set()) >= set(words), (word, key)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_role_of_every_convention_was_transplanted(convention):
    """Keras has no layer that learns a scale, and none that is a constant: there the rows are TensorFlow's."""
    graphs = [graph_of_row(row, dynamic=False) for row in TABLES[convention]]
    moved = {(layer.type, slot.role) for graph in graphs for layer, slot in graph.slots()}
    absent = {("scale", "scale"), ("scale", "shift"), ("constant", "value")} if convention == "keras" else set()
    assert set(CONVENTIONS[convention].sources) - moved == absent
