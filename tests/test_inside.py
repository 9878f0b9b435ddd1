"""engine.inside: which tensors are shown and how, real plans with each way, and the listener on tensors of the host."""

from __future__ import annotations

import ctypes
from typing import Any, Dict, List, Mapping

import numpy as np
import pytest

from engine.build_options import PlanOptions
from engine.emulation import interpreter_of
from engine.inside import WAYS, WISHES, address_of, dequantized, expose, make_listener, open_inside, way_of
from engine.interpreter import Interpreter
from engine.network import Definition, define
from engine.plan import Progress, build_plan
from engine.precision import plan_precision
from engine.tensorrt_api import TensorRT, gpu_count, load
from spec.errors import UsageError
from tests.small_models import graph_of, random_arrays

LAYERS = [
    ("convolution", {"name": "conv", "filters": 4, "kernel": 3, "stride": 1, "padding": "same", "bias": True}),
    ("batch_norm", {"name": "bn", "epsilon": 1e-3}),
    ("activation", {"name": "relu", "function": "relu"}),
]
NAMES = ["conv", "bn", "relu"]
RANGES = dict.fromkeys(["image", "relu1", "bn", "relu2"], 4.0)
WITHOUT_CUBLAS = PlanOptions(tactic_sources="-CUBLAS,-CUBLAS_LT,-CUDNN")
"""On a GPU: these libraries are not part of TensorRT, so they may be missing."""


@pytest.fixture(scope="module")
def tensorrt() -> TensorRT:
    return load()


def definition(tensorrt: TensorRT, word: str = "fp32") -> Definition:
    graph = graph_of(LAYERS, {"image": (1, 3, 5, 7)}, ["relu"])
    precision = plan_precision(graph, dict.fromkeys(NAMES, word), word, {}, tensorrt)
    return define(graph, random_arrays(graph), tensorrt, precision)


def residual(tensorrt: TensorRT, word: str, channels: int = 3, ranges: Mapping[str, float] = RANGES) -> Definition:
    """Two convolutions with a shortcut over the second, a batch norm in it, an average and a dense layer."""
    conv = {"filters": channels, "kernel": 3, "stride": 1, "padding": "same", "bias": True}
    relu = {"function": "relu"}
    layers = [
        ("convolution", {"name": "conv1", **conv}),
        ("activation", {"name": "relu1", **relu}),
        ("convolution", {"name": "conv2", **conv}),
        ("convolution", {"name": "shortcut", "input": "relu1", **conv}),
        ("batch_norm", {"name": "bn", "epsilon": 1e-3}),
        ("elementwise", {"name": "add", "inputs": ["conv2", "bn"], "function": "sum"}),
        ("activation", {"name": "relu2", **relu}),
        ("pooling", {"name": "pool", "function": "average", "window": "global"}),
        ("flatten", {"name": "flat"}),
        ("dense", {"name": "fc", "units": 2, "bias": True}),
    ]
    graph = graph_of(layers, {"image": (1, channels, 5, 7)}, ["fc"])
    precision = plan_precision(graph, dict.fromkeys(graph.made, word), word, ranges, tensorrt)
    return define(graph, random_arrays(graph), tensorrt, precision)


def outputs(network: Any) -> List[str]:
    return [network.get_output(index).name for index in range(network.num_outputs)]


def missing(tensorrt: TensorRT, way: str) -> bool:
    return bool(WAYS[way].capability) and not tensorrt.has(WAYS[way].capability)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("word", ["fp32", "fp16"])
def test_each_way_gives_a_plan(tensorrt, way, word):
    if missing(tensorrt, way):
        pytest.skip(f"{tensorrt.title} has no {WAYS[way].capability}")
    made = definition(tensorrt, word)
    expose(made, way, ["image", *NAMES])
    options = WITHOUT_CUBLAS if tensorrt.name == "tensorrt" else PlanOptions()
    assert memoryview(build_plan(made, options, Progress())).nbytes > 1000


def test_marked_tensors_are_outputs_once_and_inputs_are_not(tensorrt):
    made = definition(tensorrt)
    expose(made, "marked", ["image", "bn", "relu", "bn"])
    assert outputs(made.network) == ["relu", "bn"]


def test_the_half_tensor_behind_an_output_is_not_shown_beside_it(tensorrt):
    made = definition(tensorrt, "fp16")
    expose(made, "marked", NAMES)
    assert outputs(made.network) == ["relu", "conv", "bn"]


def test_debug_tensors_are_no_outputs(tensorrt):
    if missing(tensorrt, "debug"):
        pytest.skip(f"{tensorrt.title} has no debug tensors")
    made = definition(tensorrt)
    expose(made, "debug", NAMES)
    assert outputs(made.network) == ["relu"]
    assert [made.network.is_debug_tensor(made.tensors[name]) for name in NAMES] == [True, True, False]


def test_boundaries_are_what_lies_between_fused_kernels(tensorrt):
    made = residual(tensorrt, "fp32")
    expose(made, "boundaries", [*made.graph.made, "image"])
    assert outputs(made.network) == ["fc", "relu1", "bn", "relu2", "pool"]


@pytest.mark.parametrize("word", ["fp16", "int8"])
def test_boundaries_build(tensorrt, word):
    made = residual(tensorrt, word)
    expose(made, "boundaries", made.graph.made)
    options = WITHOUT_CUBLAS if tensorrt.name == "tensorrt" else PlanOptions()
    assert memoryview(build_plan(made, options, Progress())).nbytes > 1000


def test_int8_boundaries_are_the_numbers_that_kernels_hand_on(tensorrt):
    """relu1 is read by convolutions, bn by the sum, relu2 by the average: as int8. pool and fc are left in floats."""
    made, plain = residual(tensorrt, "int8"), residual(tensorrt, "int8")
    image = np.random.default_rng(0).normal(size=(1, 3, 5, 7)).astype(np.float32)
    before = Interpreter(plain.network, tensorrt.module, np.float64).run({"image": image}, plain.graph.made)
    expose(made, "boundaries", made.graph.made)
    assert outputs(made.network) == ["fc", "relu1/quantized", "bn/quantized", "relu2/quantized", "pool"]
    given = Interpreter(made.network, tensorrt.module, np.float64).run({"image": image}, outputs(made.network))
    found = dequantized(made, given)
    assert set(found) == {"fc", "relu1", "bn", "relu2", "pool"} and found["relu1"].dtype == np.float32
    step = 4.0 / 127
    for name in ("relu1", "bn", "relu2"):
        exact = before[name].clip(-128 * step, 127 * step)
        assert 0 < np.abs(found[name] - exact).max() <= 0.51 * step + 1e-3 * 4.0  # scales are half where tensors are
    np.testing.assert_array_equal(found["fc"], before["fc"])
    np.testing.assert_array_equal(found["pool"], before["pool"])


@pytest.mark.parametrize(
    "wish, words, lacks, way",
    [
        ("marked", ["fp32"], [], "marked"),
        ("marked", ["int8"], [], "marked"),
        ("boundaries", ["fp16"], [], "boundaries"),
        ("debug", ["int8"], [], "unfused"),
        ("auto", ["fp32", "fp16"], [], "marked"),
        ("auto", ["int8", "fp16"], [], "boundaries"),
        ("debug", ["fp16"], ["unfused debug tensors"], "debug"),
        ("auto", ["fp16"], ["unfused debug tensors"], "marked"),
    ],
)
def test_the_way_of_a_wish(tensorrt, monkeypatch, wish, words, lacks, way):
    monkeypatch.setattr(TensorRT, "has", lambda self, capability: capability not in lacks)
    assert way_of(tensorrt, wish, words, "--per-layer") == way


def test_debug_tensors_of_a_tensorrt_without_them_are_refused(tensorrt, monkeypatch):
    monkeypatch.setattr(TensorRT, "has", lambda self, capability: False)
    with pytest.raises(UsageError, match=r"--per-layer debug: .* has no debug tensors; TensorRT 10.0 and newer"):
        way_of(tensorrt, "debug", ["fp32"], "--per-layer debug")


def test_every_wish_ends_in_known_ways():
    assert {way for ways in WISHES.values() for way in ways} == set(WAYS)


# The listener; a tensor of the host takes the same road as one of the GPU but for the copy


def capsule(array: np.ndarray, name: Any = None) -> Any:
    """A `void*` as pybind11 hands it over."""
    make = ctypes.pythonapi.PyCapsule_New
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return make(array.ctypes.data, name, None)


@pytest.fixture
def heard(tensorrt):
    """(tell, arrays, problems) of a listener."""
    if missing(tensorrt, "debug"):
        pytest.skip(f"{tensorrt.title} has no debug tensors")
    arrays: Dict[str, np.ndarray] = {}
    problems: List[str] = []
    listener = make_listener(tensorrt, None, arrays, problems)
    trt = tensorrt.module

    def tell(name: str, array: np.ndarray, dtype: str, address: Any = None) -> bool:
        place = capsule(array) if address is None else address
        shape, type = trt.Dims(array.shape), getattr(trt.DataType, dtype)
        return listener.process_debug_tensor(place, trt.TensorLocation.HOST, type, shape, name, 0)

    return tell, arrays, problems


@pytest.mark.parametrize(
    "dtype, trt_word", [("float32", "FLOAT"), ("float16", "HALF"), ("int32", "INT32"), ("int64", "INT64")]
)
def test_what_is_heard_is_a_copy(heard, dtype, trt_word):
    tell, arrays, problems = heard
    source = np.arange(6).reshape(2, 3).astype(dtype)
    wanted = source.copy()
    assert tell("x", source, trt_word) and not problems
    source[...] = 0
    np.testing.assert_array_equal(arrays["x"], wanted)
    assert arrays["x"].dtype == dtype


def test_an_empty_tensor_is_heard(heard):
    tell, arrays, problems = heard
    assert tell("x", np.empty((0, 3), np.float32), "FLOAT") and arrays["x"].shape == (0, 3)


def test_a_type_that_numpy_lacks_is_a_problem_and_no_array(heard):
    tell, arrays, problems = heard
    assert not tell("x", np.zeros((2, 3), np.float16), "BF16")
    assert not arrays and len(problems) == 1
    assert problems[0].startswith("debug tensor 'x' (DataType.BF16 (2, 3)): cannot be read")


def test_an_address_that_is_none_is_a_problem(heard):
    """An exception would end in TensorRT's C++."""
    tell, arrays, problems = heard
    assert not tell("x", np.zeros(3, np.float32), "FLOAT", object()) and not arrays
    assert problems[0].startswith("debug tensor 'x' (DataType.FLOAT (3,)): cannot be read: ")


@pytest.mark.parametrize("name", [None, b"void*"])
def test_an_address_is_read_from_a_capsule_or_a_number(name):
    array = np.zeros(3)
    assert address_of(capsule(array, name)) == address_of(array.ctypes.data) == array.ctypes.data


# On a GPU


@pytest.mark.skipif(not gpu_count(), reason="no GPU answers")
@pytest.mark.parametrize("way", WAYS)
def test_an_engine_shows_what_the_interpreter_computes(tensorrt, way):
    from engine.devices import open_device

    if missing(tensorrt, way):
        pytest.skip(f"{tensorrt.title} has no {WAYS[way].capability}")
    image = np.random.default_rng(0).standard_normal((1, 3, 5, 7)).astype(np.float32)
    wanted = Interpreter(definition(tensorrt).network, tensorrt.module).run({"image": image}, NAMES)
    with open_device() as device:
        arguments = (definition(tensorrt), way, NAMES, WITHOUT_CUBLAS, Progress(), device)
        with open_inside(*arguments) as run:
            first, again = run({"image": image}), run({"image": image})
    assert set(first) == set(again) >= ({"relu"} if WAYS[way].keeps_fusion else set(NAMES))
    for name in set(NAMES).intersection(first):
        assert np.abs(first[name] - wanted[name]).max() <= 1e-5 * np.abs(wanted[name]).max()
        np.testing.assert_array_equal(first[name], again[name])


@pytest.mark.skipif(not gpu_count(), reason="no GPU answers")
def test_an_int8_engine_shows_the_int8_that_its_kernels_hand_on(tensorrt):
    """A number that lies between two steps may be rounded to either."""
    from engine.devices import open_device

    image = np.random.default_rng(0).uniform(-1, 1, (1, 32, 5, 7)).astype(np.float32)
    reached = interpreter_of(residual(tensorrt, "fp32", 32)).run({"image": image}, list(RANGES))
    ranges = {name: float(np.abs(array).max()) for name, array in reached.items()}
    plain, made = (residual(tensorrt, "int8", 32, ranges) for _ in range(2))
    wanted = interpreter_of(plain).run({"image": image}, ["relu1", "relu2", "fc"])
    with open_device() as device:
        with open_inside(made, "boundaries", made.graph.made, WITHOUT_CUBLAS, Progress(), device) as run:
            found = run({"image": image})
    assert set(found) == {"relu1", "bn", "relu2", "pool", "fc"}
    for name, steps in {"relu1": 1.6, "relu2": 3}.items():
        assert np.abs(found[name] - wanted[name]).max() <= steps * ranges[name] / 127
    assert np.abs(found["fc"] - wanted["fc"]).max() <= 0.02 * np.abs(wanted["fc"]).max()
