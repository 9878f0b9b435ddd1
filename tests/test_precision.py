"""spec.precision and engine.precision: fp16 and int8 as types and layers of a real TensorRT-RTX network."""

from __future__ import annotations

import numpy as np
import pytest

from engine.build_options import PlanOptions
from engine.interpreter import Interpreter
from engine.network import define
from engine.plan import Progress, build_plan
from engine.precision import FP32, plan_precision
from engine.quantization import kernel_scales, quantized_reads, quantized_tensors
from engine.tensorrt_api import dtype_name
from spec.errors import ConfigError
from spec.precision import PrecisionSpec
from tests.backends import rtx
from tests.small_models import graph_of, random_arrays

TENSORRT = rtx()
CONV = {"filters": 4, "kernel": 3, "padding": "same", "bias": True}
RESIDUAL = [
    ("convolution", {"name": "stem", "input": "x", **CONV}),
    ("activation", {"name": "relu", "input": "stem", "function": "relu"}),
    ("convolution", {"name": "conv", "input": "relu", **CONV}),
    ("batch_norm", {"name": "bn", "input": "conv", "epsilon": 1e-3}),
    ("elementwise", {"name": "add", "input": ["bn", "relu"], "function": "sum"}),
    ("flatten", {"name": "flat", "input": "add", "order": "NCHW"}),
    ("dense", {"name": "fc", "input": "flat", "units": 5, "bias": True}),
    ("softmax", {"name": "prob", "input": "fc"}),
]
GRAPH = graph_of(RESIDUAL, {"x": (1, 3, 7, 9)}, ["prob"])
ARRAYS = random_arrays(GRAPH)
FEEDS = {"x": np.random.default_rng(0).standard_normal((1, 3, 7, 9)).astype(np.float32)}
NAMES = [layer.name for layer in GRAPH.layers]


def run_fp32():
    return Interpreter(define(GRAPH, ARRAYS, TENSORRT).network, TENSORRT.module, np.float64).run(FEEDS, ["x", *NAMES])


RANGES = {name: float(np.abs(array).max()) for name, array in run_fp32().items()}


def defined(spec, ranges=RANGES):
    precision = PrecisionSpec.model_validate(spec)
    layers = precision.of_layers(NAMES, "net.yaml:1")
    return define(GRAPH, ARRAYS, TENSORRT, plan_precision(GRAPH, layers, precision.default, ranges, TENSORRT))


@pytest.mark.parametrize(
    "spec, found",
    [
        ("fp16", {"stem": "fp16", "prob": "fp16"}),
        ({"default": "fp16", "fp32": "prob"}, {"fc": "fp16", "prob": "fp32"}),
        ({"default": "int8", "fp16": ["st*"], "fp32": ["fc", "prob"]}, {"stem": "fp16", "conv": "int8", "fc": "fp32"}),
    ],
)
def test_a_default_and_patterns_give_each_layer_its_precision(spec, found):
    layers = PrecisionSpec.model_validate(spec).of_layers(NAMES, "here")
    assert set(layers) == set(NAMES) and {name: layers[name] for name in found} == found


@pytest.mark.parametrize(
    "spec, words",
    [
        ({"fp16": "stemm"}, ["net.yaml:1", "fp16", "'stemm'", "did you mean 'stem'?"]),
        ({"fp16": "stem", "fp32": "st*"}, ["layer 'stem' is both fp32 and fp16"]),
    ],
)
def test_patterns_that_match_nothing_or_twice_are_refused(spec, words):
    with pytest.raises(ConfigError) as refused:
        PrecisionSpec.model_validate(spec).of_layers(NAMES, "net.yaml:1")
    assert all(word in str(refused.value) for word in words)


def test_the_residual_sum_reads_its_shortcut_quantized_but_not_the_convolution_it_is_fused_into():
    words = dict.fromkeys(NAMES, "int8")
    assert quantized_tensors(GRAPH, words) == ("x", "relu")
    assert "add" in quantized_reads(GRAPH, words) and "add" not in quantized_reads(GRAPH, {**words, "conv": "fp16"})


@pytest.mark.parametrize("folded, sums", [("batch_norm", True), ("scale", True), ("activation", False)])
def test_a_sum_reads_its_shortcut_quantized_where_its_branch_is_folded_into_a_convolution(folded, sums):
    keys = {"batch_norm": {"epsilon": 1e-3}, "scale": {"scale": 0.5}, "activation": {"function": "relu"}}[folded]
    branch = [
        ("convolution", {"name": "stem", "input": "x", **CONV}),
        ("activation", {"name": "relu", "input": "stem", "function": "relu"}),
        ("convolution", {"name": "conv", "input": "relu", **CONV}),
        (folded, {"name": "folded", "input": "conv", **keys}),
        ("elementwise", {"name": "add", "input": ["folded", "relu"], "function": "sum"}),
    ]
    graph = graph_of(branch, {"x": (1, 3, 8, 8)}, ["add"])
    found = quantized_reads(graph, {layer.name: "int8" for layer in graph.layers})
    assert found.get("add") == ((1,) if sums else None)


@pytest.mark.parametrize(
    "average",
    [
        ("pooling", {"name": "mean", "function": "average", "window": "global"}),
        ("reduce", {"name": "mean", "function": "mean", "axes": ["h", "w"]}),
    ],
)
def test_an_average_reads_int8_where_a_convolution_made_it(average):
    relu = ("activation", {"name": "relu", "function": "relu"})
    head = [("convolution", {"name": "first", "input": "x", **CONV}), relu]
    graph = graph_of([*head, average], {"x": (1, 3, 8, 8)}, ["mean"])
    words = dict.fromkeys(("first", "relu", "mean"), "int8")
    assert quantized_reads(graph, words, spare_images=True) == {"first": (0,), "mean": (0,)}
    assert "mean" not in quantized_reads(graph, {**words, "mean": "fp16"})
    assert "mean" not in quantized_reads(graph, {**words, "first": "fp16"})
    bare = graph_of([(average[0], {**average[1], "input": "x"})], {"x": (1, 3, 8, 8)}, ["mean"])
    assert not quantized_reads(bare, words)


def test_int8_without_ranges_names_what_is_missing():
    with pytest.raises(ConfigError) as refused:
        defined("int8", {"x": 1.0})
    assert all(word in str(refused.value) for word in ("1 tensor", "relu", "run.py calibrate"))


@pytest.mark.parametrize("spec, limit", [("fp32", 1e-6), ("fp16", 2e-3), ("int8", 5e-2)])
def test_a_precision_builds_and_errs_as_much_as_it_should(spec, limit):
    definition = defined(spec) if spec != "fp32" else define(GRAPH, ARRAYS, TENSORRT, FP32)
    assert build_plan(definition, PlanOptions(), Progress()) is not None
    found, reference = Interpreter(definition.network, TENSORRT.module).run(FEEDS, NAMES), run_fp32()
    errors = [np.linalg.norm(found[name] - reference[name]) / np.linalg.norm(reference[name]) for name in NAMES]
    assert max(errors) < limit
    assert spec == "fp32" or max(errors) > limit / 1000  # it really rounds


def test_fp16_tensors_are_half_but_inputs_and_outputs_stay_as_they_were():
    definition = defined({"default": "fp16", "fp32": "fc"})
    types = {name: dtype_name(tensor.dtype) for name, tensor in definition.tensors.items()}
    assert types["stem"] == types["add"] == "float16" and types["fc"] == "float32"
    network = definition.network
    assert dtype_name(network.get_input(0).dtype) == dtype_name(network.get_output(0).dtype) == "float32"
    assert network.get_output(0).name == "prob"


@pytest.mark.parametrize(
    "words, default", [({"prob": "fp32"}, "fp16"), ({"prob": "fp32"}, "int8"), ({"fc": "fp16"}, "fp32"), ({}, "fp16")]
)
def test_a_half_output_that_another_layer_reads_is_cast_once(words, default):
    graph = graph_of(RESIDUAL, {"x": (1, 3, 7, 9)}, ["prob", "fc"])
    layers = {**dict.fromkeys(NAMES, default), **words}
    definition = define(graph, ARRAYS, TENSORRT, plan_precision(graph, layers, default, RANGES, TENSORRT))
    outputs = [definition.network.get_output(index) for index in range(2)]
    assert [(each.name, dtype_name(each.dtype)) for each in outputs] == [("prob", "float32"), ("fc", "float32")]
    names = [definition.network.get_layer(index).name for index in range(definition.network.num_layers)]
    assert names.count("fc/float32") == 1
    found = Interpreter(definition.network, TENSORRT.module).run(FEEDS, ["fc", "prob"])
    wanted = run_fp32()
    for name in ("fc", "prob"):
        assert np.abs(found[name] - wanted[name]).max() <= 5e-2 * np.abs(wanted[name]).max()
    assert build_plan(definition, PlanOptions(), Progress()) is not None


@pytest.mark.parametrize("word", ["fp16", "int8"])
@pytest.mark.parametrize("index", [4999, 69999])
def test_an_index_made_a_float_is_no_half(word, index):
    best = ("argmax", {"name": "best", "axis": 1, "keep_dims": False})
    graph = graph_of([best, ("cast", {"name": "number", "dtype": "float32"})], {"x": (1, 70_000)}, ["number"])
    precision = plan_precision(graph, {"best": word, "number": word}, word, {}, TENSORRT)
    definition = define(graph, {}, TENSORRT, precision)
    scores = np.zeros((1, 70_000), np.float32)
    scores[0, index] = 1
    assert Interpreter(definition.network, TENSORRT.module).run({"x": scores}, ["number"])["number"] == index


def test_int8_layers_quantize_kernels_by_output_channel():
    definition = defined("int8")
    names = [definition.network.get_layer(index).name for index in range(definition.network.num_layers)]
    assert {"conv/kernel/quantized", "relu/quantized", "relu/dequantized"} <= set(names)
    assert not any(name.startswith("fc/kernel") for name in names)
    assert names.count("relu/quantized") == 1  # one for the convolution and the shortcut
    kernel = np.array([[0.5, -2.54], [0.0, 0.0]], np.float32).reshape(2, 2, 1, 1)
    assert kernel_scales(kernel) == pytest.approx([2.54 / 127, 1.0])


@pytest.mark.parametrize("largest", [1.0, 1e-5, 3e-6, 1e-30, 1e-43])
def test_a_scale_is_never_zero_and_nothing_saturates_in_half(largest):
    """Channels that training has shrunk to nothing."""
    kernel = ARRAYS["conv", "kernel"].copy()
    kernel[1] *= largest / np.abs(kernel[1]).max()
    layers = dict.fromkeys(NAMES, "int8")
    arrays, ranges = {**ARRAYS, ("conv", "kernel"): kernel}, {**RANGES, "x": largest}
    named = define(GRAPH, arrays, TENSORRT, plan_precision(GRAPH, layers, "int8", ranges, TENSORRT)).named
    for scale in (named["conv/kernel/step"][1], named["x/step"]):
        assert scale.dtype == np.float16 and max(largest / 127, 2.0**-24) <= scale <= largest / 127 * 1.001 + 2.0**-24


FOLLOWED = {
    # what follows a first convolution of 3 channels: whether its image is quantized where images are spared
    "another convolution": ([("convolution", {"name": "last", **CONV})], True),
    "batch norm, activation, max pooling, convolution": (
        [
            ("batch_norm", {"name": "bn", "epsilon": 1e-3}),
            ("activation", {"name": "relu", "function": "relu"}),
            ("pooling", {"name": "pool", "function": "max", "window": 2, "stride": 2, "padding": "valid"}),
            ("convolution", {"name": "last", **CONV}),
        ],
        True,
    ),
    "local response normalization": (
        [
            ("lrn", {"name": "norm", "window": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0, "alpha_of": "sum"}),
            ("convolution", {"name": "last", **CONV}),
        ],
        False,
    ),
    "a softmax": ([("softmax", {"name": "last"})], False),
}


@pytest.mark.parametrize("followed", FOLLOWED)
def test_an_image_is_spared_where_the_first_convolution_does_not_end_in_int8(followed):
    layers, quantized = FOLLOWED[followed]
    first = ("convolution", {"name": "first", "input": "x", **CONV, "filters": 8})
    graph = graph_of([first, *layers], {"x": (1, 3, 8, 8)}, ["last"])
    words = {layer.name: "int8" for layer in graph.layers}
    assert ("first" in quantized_reads(graph, words, spare_images=True)) == quantized
    assert "first" in quantized_reads(graph, words)
    last = {**words, "last": "fp16"}
    assert "first" not in quantized_reads(graph, last, spare_images=True)
