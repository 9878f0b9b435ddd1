"""engine.emulation: half emulated on a weakly typed network against the typed network that says half itself."""

from __future__ import annotations

import numpy as np
import pytest

from engine.emulation import Emulator, interpreter_of
from engine.interpreter import Interpreter
from engine.network import define
from engine.precision import FP32, Precision, plan_precision
from tests.backends import rtx
from tests.small_models import graph_of, random_arrays

TENSORRT = rtx()
CONV = {"filters": 4, "kernel": 3, "padding": "same", "bias": True}
GRAPH = graph_of(
    [
        ("convolution", {"name": "net/stem", "input": "x", **CONV}),
        ("activation", {"name": "net/relu", "function": "relu"}),
        ("convolution", {"name": "net/conv", **CONV}),
        ("elementwise", {"name": "net/add", "input": ["net/conv", "net/relu"], "function": "sum"}),
        ("flatten", {"name": "flat", "order": "NCHW"}),
        ("dense", {"name": "fc", "units": 5, "bias": True}),
    ],
    {"x": (1, 3, 7, 9)},
    ["fc"],
)
ARRAYS = random_arrays(GRAPH)
FEEDS = {"x": np.random.default_rng(0).standard_normal((1, 3, 7, 9)).astype(np.float32)}
NAMES = [layer.name for layer in GRAPH.layers]
EXACT = Interpreter(define(GRAPH, ARRAYS, TENSORRT).network, TENSORRT.module).run(FEEDS, NAMES)
RANGES = {"x": 4.0, **{name: float(np.abs(array).max()) for name, array in EXACT.items()}}


def definitions(words, default="fp16"):
    """The network in these words, weakly typed as before TensorRT 11, and strongly typed."""
    layers = {**dict.fromkeys(NAMES, default), **words}
    typed = plan_precision(GRAPH, layers, default, RANGES, TENSORRT)
    return [define(GRAPH, ARRAYS, TENSORRT, each) for each in (typed._replace(typed=False), typed)]


def error(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize(
    "words, default, limit",
    [
        ({"net/conv": "fp32"}, "fp16", 1e-4),
        ({"net/stem": "fp16", "fc": "fp16"}, "fp32", 1e-4),
        ({}, "int8", 1e-2),  # the typed network rounds the scales of int8 too
    ],
    ids=["one kept", "two half", "int8"],
)
def test_it_rounds_where_the_typed_network_does(words, default, limit):
    weak, typed = definitions(words, default)
    assert isinstance(interpreter_of(weak), Emulator) and not isinstance(interpreter_of(typed), Emulator)
    emulated, real = (interpreter_of(each).run(FEEDS, NAMES) for each in (weak, typed))
    for name in NAMES:
        assert error(emulated[name], real[name]) < limit, name
    assert error(emulated["net/add"], EXACT["net/add"]) > limit / 10  # it rounds, more than it is off


def test_all_half_equals_the_typed_network_to_the_bit():
    emulated, real = (interpreter_of(each).run(FEEDS, NAMES) for each in definitions({}))
    assert all(np.array_equal(emulated[name], real[name]) for name in NAMES)


def test_a_tensor_overflows_where_a_half_layer_reads_it():
    weak, _ = definitions({"net/stem": "fp32", "net/relu": "fp32"})
    feeds = {"x": FEEDS["x"] * 1e5}
    found = interpreter_of(weak).run(feeds, ["net/relu", "fc"])
    assert np.isfinite(found["net/relu"]).all() and not np.isfinite(found["fc"]).all()


def test_fp32_needs_no_emulation():
    assert not isinstance(interpreter_of(define(GRAPH, ARRAYS, TENSORRT, FP32)), Emulator)
    every = Precision(dict.fromkeys(NAMES, "fp32"), "fp32", {}, typed=False)
    assert not isinstance(interpreter_of(define(GRAPH, ARRAYS, TENSORRT, every)), Emulator)
