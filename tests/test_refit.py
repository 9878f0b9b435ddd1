"""Weights under names that a refit finds them by: of every layer type, in every precision, of the four models."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Dict

import numpy as np
import pytest

from commands.configs import load_graph
from engine.build_options import PlanOptions
from engine.execution import run_plan
from engine.interpreter import Interpreter
from engine.interpreter.readback import FIELDS
from engine.network import Definition, define
from engine.plan import Progress, build_plan
from engine.precision import FP32, plan_precision
from engine.quantization import quantized_tensors
from engine.refit import _serialized, check_engine_names, refit_plan
from engine.tensorrt_api import gpu_count, load, require_gpu
from spec.errors import SHOWN, TensorRTError, UsageError, listed
from tests.layer_rows import ROWS, network_of_rows
from tests.sample_models import FILES
from tests.small_models import graph_of, random_arrays
from weights import convention_of, open_checkpoint
from weights.transplant import transplant

TENSORRT = load("auto")
HELD = {"CONVOLUTION": ("kernel", "bias"), "DECONVOLUTION": ("kernel", "bias"), "SCALE": ("scale", "shift"),
        "CONSTANT": ("weights",)}  # fmt: skip
CONV = {"filters": 4, "kernel": 3, "padding": "same"}
LAYERS = [
    ("convolution", {"name": "conv", "input": "x", "bias": True, **CONV}),
    ("batch_norm", {"name": "bn", "epsilon": 1e-3}),
    ("prelu", {"name": "prelu"}),
    ("convolution", {"name": "plain", "bias": False, **CONV}),
    ("flatten", {"name": "flat", "order": "NCHW"}),
    ("dense", {"name": "fc", "units": 5, "bias": True}),
]
GRAPH = graph_of(LAYERS, {"x": (1, 3, 7, 9)}, ["fc"])
NAMES = [layer.name for layer in GRAPH.layers]
STATE_DICT = {("conv", "kernel"): "conv.weight", ("bn", "gamma"): "bn.weight", ("fc", "bias"): "fc.bias"}


def precision_of(word: str, graph: Any = GRAPH) -> Any:
    if word == "fp32":
        return FP32
    layers = dict.fromkeys([layer.name for layer in graph.layers], word)
    return plan_precision(graph, layers, word, dict.fromkeys(quantized_tensors(graph, layers), 3.0), TENSORRT)


def held_weights(definition: Definition) -> Dict[int, np.ndarray]:
    """Every array that TensorRT's layers hold, by its address: views of our own memory."""
    trt, network, found = definition.tensorrt.module, definition.network, {}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        kind = trt.ILayer.type.__get__(layer).name
        layer.__class__ = getattr(trt, FIELDS[kind][0])
        arrays = [getattr(layer, field) for field in HELD.get(kind, ())]
        found.update({array.ctypes.data: array for array in arrays if array.size})
    return found


def check_names(definition: Definition) -> None:
    """Every array in the network has one name, and the array of that name is that memory."""
    held = held_weights(definition)
    assert sorted(array.ctypes.data for array in definition.named.values()) == sorted(held)
    for name, array in definition.named.items():
        kept = held[array.ctypes.data]
        assert kept.dtype == array.dtype and np.array_equal(kept, array.reshape(-1)), name
        taken = definition.network.set_weights_name(definition.tensorrt.module.Weights(array), name)
        assert taken, f"{name}: {definition.tensorrt.log.take()}"


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
def test_all_weights_of_every_layer_type_have_a_name(dynamic):
    definition = network_of_rows(ROWS, dynamic, TENSORRT)
    check_names(definition)
    assert len(definition.named) > 30


@pytest.mark.parametrize("word", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("model", list(FILES))
def test_all_weights_of_the_models_have_a_name(model, word):
    graph = load_graph(model, [])[1]
    check_names(define(graph, random_arrays(graph), TENSORRT, precision_of(word, graph)))


def test_a_name_says_which_tensor_it_is():
    fp32 = define(GRAPH, random_arrays(GRAPH), TENSORRT, FP32, STATE_DICT)
    assert list(fp32.named) == [
        "conv.weight", "conv:bias", "bn/scale", "bn/shift", "prelu:alpha", "plain:kernel", "fc:kernel", "fc.bias",
    ]  # fmt: skip
    fp16 = define(GRAPH, random_arrays(GRAPH), TENSORRT, precision_of("fp16"), STATE_DICT)
    if fp16.precision.typed:
        assert [name for name in fp16.named if "/float16" in name] == [
            "conv.weight/float16", "conv:bias/float16", "prelu:alpha/float16", "plain:kernel/float16",
            "fc:kernel/float16", "fc.bias/float16",
        ]  # fmt: skip
    int8 = define(GRAPH, random_arrays(GRAPH), TENSORRT, precision_of("int8"), STATE_DICT)
    assert {"x/step", "conv/kernel/step", "prelu/step", "plain/kernel/step"} < set(int8.named)


def test_one_tensor_in_two_layers_has_two_names_and_memory_of_its_own():
    layers = [("convolution", {"name": name, **CONV, "bias": False}) for name in ("one", "two")]
    graph = graph_of([(word, {**keys, "input": "x"}) for word, keys in layers], {"x": (1, 3, 7, 9)}, ["one", "two"])
    shared = np.ones((4, 3, 3, 3), np.float32)
    names = {("one", "kernel"): "shared.weight", ("two", "kernel"): "shared.weight"}
    arrays = {("one", "kernel"): shared, ("two", "kernel"): shared}
    definition = define(graph, arrays, TENSORRT, FP32, names)
    assert list(definition.named) == ["shared.weight", "shared.weight of two"]
    check_names(definition)


@pytest.mark.parametrize("word", ["fp32", "fp16", "int8"])
def test_names_leave_the_plan_as_it_is(word):
    """Nobody pays for names: the bytes are those of a plan of other names."""
    plans = []
    for names in ({}, STATE_DICT):
        definition = define(GRAPH, random_arrays(GRAPH), TENSORRT, precision_of(word), names)
        plans.append(bytes(memoryview(build_plan(definition, PlanOptions(), Progress()))))
    assert plans[0] == plans[1]


def test_new_statistics_are_folded_into_new_scales():
    arrays = random_arrays(GRAPH)
    before = define(GRAPH, arrays, TENSORRT).named
    moved = {**arrays, ("bn", "variance"): arrays["bn", "variance"] * 4}
    after = define(GRAPH, moved, TENSORRT).named
    root = np.sqrt((arrays["bn", "variance"].astype(np.float64) + 1e-3) / (moved["bn", "variance"] + 1e-3))
    np.testing.assert_allclose(after["bn/scale"], before["bn/scale"] * root, rtol=1e-6)
    assert [name for name in after if not np.array_equal(before[name], after[name])] == ["bn/scale", "bn/shift"]


def test_kernel_scales_follow_the_new_kernel():
    arrays = random_arrays(GRAPH)
    before = define(GRAPH, arrays, TENSORRT, precision_of("int8")).named
    louder = {**arrays, ("plain", "kernel"): arrays["plain", "kernel"] * 2}
    after = define(GRAPH, louder, TENSORRT, precision_of("int8")).named
    np.testing.assert_array_equal(after["plain/kernel/step"], 2 * before["plain/kernel/step"])
    np.testing.assert_array_equal(after["prelu/step"], before["prelu/step"])


def test_the_names_of_a_checkpoint_are_those_of_its_tensors(sample_directory):
    path = sample_directory("model4") / "resnet50.pth"
    model, graph = load_graph("model4", [f"weights.path={path}"])
    checkpoint = open_checkpoint(path)
    weights = transplant(graph, checkpoint, model.weights, convention_of(checkpoint))
    names = {(row.layer, row.role): row.tensor for row in weights.ledger}
    named = define(graph, weights.arrays, TENSORRT, FP32, names).named
    assert sum(name in checkpoint.tensors for name in named) == 55  # 53 convolutions, and kernel and bias of fc
    assert np.array_equal(named["layer1.0.conv1.weight"], checkpoint["layer1.0.conv1.weight"])
    assert len(named) == 55 + 2 * 53


@pytest.mark.parametrize(
    "known, unchanged, words",
    [
        (["a"], ["b"], ""),
        (["a", "b", "c"], [], "the engine wants weights that this network has not: c; build the plan again"),
        (["a"], [], "fixed in the engine: 1 changed weight: b; TensorRT built them in, so build the plan"),
    ],
    ids=["fits", "wants more", "takes less"],
)
def test_what_an_engine_cannot_take_is_said(known, unchanged, words):
    named = {"a": np.ones(1, np.float32), "b": np.ones(1, np.float32)}
    if not words:
        check_engine_names(known, named, unchanged)
        return
    with pytest.raises(TensorRTError, match=words):
        check_engine_names(known, named, unchanged)


def test_a_message_names_the_first_and_counts_the_rest():
    names = [f"conv{number}" for number in range(SHOWN + 2)]
    assert listed(names) == "conv0, conv1, conv2, conv3, conv4 and 2 more" and listed(names[:2]) == "conv0, conv1"


@pytest.mark.skipif(gpu_count() > 0, reason="a GPU is here")
def test_without_a_gpu_refittable_plans_are_refused_in_a_sentence():
    with pytest.raises(UsageError, match=r"--refit: .* on a GPU only, and none answers here; run it on the machine"):
        require_gpu(TENSORRT, "--refit")
    definition = define(GRAPH, random_arrays(GRAPH), TENSORRT)
    with pytest.raises(TensorRTError, match="could not build"):
        build_plan(definition, PlanOptions(refit=True), Progress())
    plan = build_plan(definition, PlanOptions(), Progress())
    with pytest.raises(TensorRTError, match="cannot load this plan"):
        refit_plan(TENSORRT, plan, definition.named)


class Flags:
    """An ISerializationConfig, of which only a GPU has a real one."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)

    def clear_flag(self, flag: Any) -> None:
        self.names.discard(flag.name)

    def set_flag(self, flag: Any) -> None:
        self.names.add(flag.name)


@pytest.mark.parametrize("lacks, kept", [([], {"INCLUDE_REFIT"}), (["refittable serialization"], set())])
def test_a_refitted_plan_has_its_weights_and_can_be_refitted_again(monkeypatch, lacks, kept):
    if not TENSORRT.has("serialization flags"):
        pytest.skip(f"{TENSORRT.title} has no serialization flags")
    has = TENSORRT.has
    monkeypatch.setattr(TENSORRT, "has", lambda capability: capability not in lacks and has(capability))
    flags = Flags("EXCLUDE_WEIGHTS")
    engine = SimpleNamespace(create_serialization_config=lambda: flags, serialize_with_config=lambda config: config)
    assert _serialized(TENSORRT, engine).names == kept


def test_a_tensorrt_without_such_flags_serializes_all(monkeypatch):
    monkeypatch.setattr(TENSORRT, "has", lambda capability: False)
    assert _serialized(TENSORRT, SimpleNamespace(serialize=lambda: "plan")) == "plan"


needs_gpu = pytest.mark.skipif(gpu_count() == 0, reason="needs a GPU: the Refitter works on an engine")


@needs_gpu
@pytest.mark.parametrize("word", ["fp32", "fp16"])
def test_a_refitted_engine_computes_with_the_new_weights(word):
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 3, 7, 9)).astype(np.float32)}
    old, new = (define(GRAPH, random_arrays(GRAPH, seed), TENSORRT, precision_of(word), STATE_DICT) for seed in (0, 1))
    plan = build_plan(old, PlanOptions(refit=True, tactic_sources="-CUBLAS,-CUBLAS_LT,-CUDNN"), Progress())
    refitted = refit_plan(TENSORRT, plan, new.named)
    wanted = Interpreter(define(GRAPH, random_arrays(GRAPH, 1), TENSORRT).network, TENSORRT.module).run(feeds)["fc"]
    found = run_plan(TENSORRT, refitted.plan, feeds)["fc"]
    assert np.abs(found - wanted).max() <= (1e-5 if word == "fp32" else 1e-2) * np.abs(wanted).max()


@needs_gpu
def test_a_plan_without_the_flag_is_refused():
    definition = define(GRAPH, random_arrays(GRAPH), TENSORRT)
    plan = build_plan(definition, PlanOptions(tactic_sources="-CUBLAS,-CUBLAS_LT,-CUDNN"), Progress())
    with pytest.raises(TensorRTError, match="was built without --refit, so its weights are fixed"):
        refit_plan(TENSORRT, plan, definition.named)
