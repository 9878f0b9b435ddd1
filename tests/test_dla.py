"""engine.dla: the rule of each layer type on odd rows, hops and subnetworks of hand-made graphs, asking TensorRT."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Tuple

import pytest

from engine.build_options import PlanOptions
from engine.devices.device import DeviceFacts
from engine.dla.asking import NEUTRAL, ask
from engine.dla.case import Accelerator
from engine.dla.placement import ASKED, DLA, GPU, QUANTIZED, RULE, DlaPlan, find_hops, plan_dla
from engine.dla.placing import place_layers
from engine.dla.rules import ELEMENTWISE, FUNCTIONS, RULES
from engine.manifest import write_plan
from engine.naming import owner_of
from engine.network import define
from engine.plan import Progress, build_plan
from engine.plan_check import check_plan, dla_core_of
from engine.precision import plan_precision
from engine.refit import refit_plan
from spec.errors import PlanError, UsageError
from spec.layers import LAYERS
from spec.layers.activation import NEEDS
from tests.backends import rtx
from tests.layer_rows import ROWS, VALUES
from tests.small_models import graph_of, random_arrays

ORIN85, ORIN10, XAVIER = Accelerator("orin", (8, 5, 2)), Accelerator("orin", (10, 3)), Accelerator("xavier", (8, 5, 2))
IMAGE = (1, 4, 9, 12)
KERNEL = {"filters": 2, "kernel": 3, "padding": 0, "bias": False}


def planned(layers: Any, accelerator: Accelerator = ORIN85, word: str = "fp16", **keys: Any) -> DlaPlan:
    inputs = keys.pop("inputs", {"image": IMAGE})
    graph = graph_of(layers, inputs, keys.pop("outputs", [layers[-1][1]["name"]]), **keys)
    return plan_dla(graph, accelerator, {layer.name: word for layer in graph.layers})


def reason_of(word: str, keys: Dict[str, Any], shapes: Any = (IMAGE,), accelerator: Accelerator = ORIN85) -> str:
    """The rule's reason for one layer that reads inputs of these shapes."""
    names = [f"in{position}" for position in range(len(shapes))]
    made = LAYERS[word](name="L", inputs=names, **keys)
    plan = planned(
        [(word, {"name": "L", "inputs": names, **keys})],
        accelerator,
        inputs=dict(zip(names, shapes)),
        outputs=list(made.tensor_names),
    )
    return plan.placements[0].reason


# Rules


def test_every_layer_type_and_function_has_a_row():
    assert set(RULES) == set(LAYERS)
    assert set(FUNCTIONS) == set(NEEDS)
    assert set(ELEMENTWISE) == {"sum", "product", "max", "min", "sub", "div"}


@pytest.mark.parametrize("accelerator", [ORIN85, ORIN10, XAVIER])
def test_every_rule_judges_every_row(accelerator):
    """None raises, and each gives a word or nothing."""
    reasons = [reason_of(word, keys, shapes, accelerator) for word, keys, shapes in ROWS]
    assert all(isinstance(each, str) for each in reasons) and 0 < reasons.count("") < len(reasons)


POOL = {"function": "max", "window": 3, "stride": 2}
DECONVOLUTION = {"filters": 2, "kernel": 3, "stride": 2, "padding": 0, "bias": False}
RESIZE = {"mode": "nearest", "scale": 2, "coordinates": "asymmetric", "rounding": "floor"}

# (layer type, keys, shapes, accelerator): what the reason must say, "" where the DLA takes it
LIMITS: List[Tuple[str, Dict[str, Any], Any, Accelerator, str]] = [
    ("convolution", {**KERNEL, "kernel": 32}, ((1, 1, 40, 40),), ORIN85, ""),
    ("convolution", {**KERNEL, "kernel": [33, 1]}, ((1, 1, 40, 40),), ORIN85, "kernel 33 x 1: a DLA takes 1 to 32"),
    ("convolution", {**KERNEL, "stride": 8}, (IMAGE,), ORIN85, ""),
    ("convolution", {**KERNEL, "stride": 9}, (IMAGE,), ORIN85, "stride 9 x 9"),
    ("convolution", {**KERNEL, "dilation": 33}, ((1, 1, 80, 80),), ORIN85, "dilation 33 x 33"),
    ("convolution", {**KERNEL, "padding": 2}, (IMAGE,), ORIN85, ""),
    ("convolution", {**KERNEL, "padding": 3}, (IMAGE,), ORIN85, "padding as wide as the kernel of 3"),
    ("convolution", KERNEL, ((1, 4096, 3, 300),), ORIN85, "banks of the convolution buffer, which has 16"),
    ("convolution", KERNEL, ((5000, 1, 5, 5),), ORIN85, "batches to 4096"),
    ("convolution", KERNEL, ((1, 8193, 5, 5),), ORIN85, "other sizes to 8192"),
    ("depthwise_convolution", {"kernel": 3, "padding": 1, "bias": True}, (IMAGE,), XAVIER, ""),
    ("deconvolution", DECONVOLUTION, (IMAGE,), ORIN85, ""),
    ("deconvolution", {**DECONVOLUTION, "padding": 1}, (IMAGE,), ORIN85, "a DLA's deconvolution has none"),
    ("deconvolution", {**DECONVOLUTION, "padding": "same"}, (IMAGE,), ORIN85, "a DLA's deconvolution has none"),
    ("deconvolution", {**DECONVOLUTION, "groups": 2}, (IMAGE,), ORIN85, "groups or dilation"),
    ("deconvolution", {**DECONVOLUTION, "kernel": 24}, (IMAGE,), ORIN85, "from 23 to 32"),
    ("deconvolution", {**DECONVOLUTION, "kernel": [1, 96]}, (IMAGE,), ORIN85, ""),
    ("deconvolution", {**DECONVOLUTION, "kernel": [1, 95]}, (IMAGE,), ORIN85, "kernel 1 x 95"),
    ("dense", {"units": 2, "bias": True}, ((1, 6),), ORIN85, "a tensor has 2 axes, 1 x 6"),
    ("pooling", {**POOL, "window": 8}, (IMAGE,), ORIN85, ""),
    ("pooling", {**POOL, "window": 9}, (IMAGE,), ORIN85, "window 9 x 9: a DLA takes 1 to 8"),
    ("pooling", {**POOL, "stride": 17}, (IMAGE,), ORIN85, "stride 17 x 17"),
    ("pooling", {"function": "average", "window": "global"}, ((1, 4, 8, 8),), ORIN85, ""),
    ("pooling", {"function": "average", "window": "global"}, (IMAGE,), ORIN85, "window 9 x 12"),
    ("pooling", {"function": "average", "window": 2}, (IMAGE,), XAVIER, "count_padding: true is the same and runs"),
    ("pooling", {"function": "average", "window": 2, "count_padding": True}, (IMAGE,), XAVIER, ""),
    ("pooling", {"function": "average", "window": 3, "padding": 1, "count_padding": False}, (IMAGE,), XAVIER,
     "the DLA of a Xavier counts it"),
    ("pooling", {"function": "average", "window": 3, "padding": 1, "count_padding": True, "ceil": True}, (IMAGE,),
     ORIN85, "a layer of its own"),
    ("scale", {"scale": 2.0}, (IMAGE,), ORIN85, ""),
    ("scale", {"scale": 2.0, "power": 2.0}, (IMAGE,), ORIN85, "a power"),
    ("lrn", {"window": 9, "alpha": 1e-3, "beta": 0.75, "k": 2.0, "alpha_of": "sum"}, (IMAGE,), XAVIER, ""),
    ("lrn", {"window": 11, "alpha": 1e-3, "beta": 0.75, "k": 2.0, "alpha_of": "sum"}, (IMAGE,), XAVIER, "window 11"),
    ("activation", {"function": "relu6"}, (IMAGE,), ORIN85, ""),
    ("activation", {"function": "swish"}, (IMAGE,), ORIN85, ""),
    ("activation", {"function": "clip", "minimum": 0.0, "maximum": 127.0}, (IMAGE,), ORIN85, ""),
    ("activation", {"function": "clip", "minimum": 0.0, "maximum": 128.0}, (IMAGE,), ORIN85, "clips to 0..128"),
    ("activation", {"function": "clip", "minimum": -1.0, "maximum": 1.0}, (IMAGE,), ORIN85, "clips to -1..1"),
    ("activation", {"function": "gelu", "approximate": VALUES["approximate"]}, (IMAGE,), ORIN10, "no GELU"),
    ("activation", {"function": "relu"}, ((1, 6),), ORIN10, "2 axes"),
    ("softmax", {}, ((1, 8192, 1, 1),), ORIN85, ""),
    ("softmax", {}, ((1, 1025, 2, 1),), ORIN85, "an axis of 1025: a DLA takes 1 to 1024"),
    ("softmax", {}, ((1, 8, 1, 1),), XAVIER, "a Xavier has no softmax"),
    ("elementwise", {"function": "sum"}, (IMAGE, (1, 4, 1, 1)), ORIN85, ""),
    ("elementwise", {"function": "sum"}, (IMAGE, (1, 1, 9, 12)), ORIN85, "1 x 1 x 9 x 12 is spread over"),
    ("elementwise", {"function": "div"}, (IMAGE, IMAGE), ORIN85, "has no div"),
    ("elementwise", {"function": "div"}, (IMAGE, IMAGE), ORIN10, ""),
    ("concatenation", {"axis": "c"}, (IMAGE, IMAGE), ORIN85, ""),
    ("concatenation", {"axis": "h"}, (IMAGE, IMAGE), ORIN85, "joins channels only"),
    ("transpose", {"axes": [0, 3, 1, 2]}, (IMAGE,), ORIN85, "not said to reshape or transpose"),
    ("transpose", {"axes": [0, 3, 1, 2]}, (IMAGE,), ORIN10, ""),
    ("flatten", {"order": "NCHW"}, (IMAGE,), ORIN10, "2 axes, 1 x 432"),
    ("reduce", {"function": "max", "axes": ["h", "w"], "keep_dims": True}, (IMAGE,), ORIN10, ""),
    ("reduce", {"function": "mean", "axes": ["h", "w"], "keep_dims": True}, (IMAGE,), ORIN10, "window: global"),
    ("reduce", {"function": "max", "axes": ["c"], "keep_dims": True}, (IMAGE,), ORIN85, "a max over axes"),
    ("resize", RESIZE, (IMAGE,), ORIN85, ""),
    ("resize", {**RESIZE, "scale": 33}, (IMAGE,), ORIN85, "factors 33 x 33: a DLA takes 1 to 32"),
    ("resize", {**RESIZE, "rounding": "ceil"}, (IMAGE,), ORIN85, "a DLA has no such resize"),
    ("resize", {"mode": "bilinear", "scale": 4, "coordinates": "half_pixel"}, (IMAGE,), ORIN85, ""),
    ("resize", {"mode": "bilinear", "scale": 5, "coordinates": "half_pixel"}, (IMAGE,), ORIN85, "takes 1 to 4"),
    ("resize", {"mode": "bilinear", "size": [10, 12], "coordinates": "half_pixel"}, (IMAGE,), ORIN85, "whole factors"),
    ("cast", {"dtype": "float16"}, (IMAGE,), ORIN85, "a cast is not among the layers of a DLA"),
    ("padding", {"pad": 1}, (IMAGE,), ORIN85, "a padding is not among"),
    ("slice", {"axes": ["h"], "start": [1], "size": [3]}, (IMAGE,), ORIN85, ""),
    ("gather", {"axis": "c", "indices": [2, 1, 0]}, (IMAGE,), ORIN85, "a gather is not among"),
    ("argmax", {"keep_dims": True}, (IMAGE,), ORIN85, "a top-k is not among"),
    ("prelu", {}, (IMAGE,), XAVIER, ""),
    ("batch_norm", {"epsilon": 1e-3}, (IMAGE,), XAVIER, ""),
]  # fmt: skip


@pytest.mark.parametrize("word, keys, shapes, accelerator, wanted", LIMITS)
def test_a_limit(word, keys, shapes, accelerator, wanted):
    found = reason_of(word, keys, shapes, accelerator)
    assert wanted in found and bool(found) == bool(wanted)


def test_the_convolution_buffer_is_the_guides_formula():
    """512 channels, 7 rows of 64: 512 * 49 * 2 / 32768 and (512 * 2 / 32) * 64 / 4 * 7 / 256, rounded up: 2 + 14."""
    keys = {**KERNEL, "kernel": 7}
    assert reason_of("convolution", keys, ((1, 512, 9, 64),)) == ""
    assert reason_of("convolution", keys, ((1, 512, 9, 65),)).startswith("needs 17 banks")


# Precision and batch

RELU = [("activation", {"name": "relu", "inputs": ["image"], "function": "relu"})]
CONVOLUTION = [
    ("convolution", {**KERNEL, "name": "conv", "inputs": ["image"]}),
    ("activation", {"name": "relu", "inputs": ["conv"], "function": "relu"}),
]


@pytest.mark.parametrize("word", ["fp32", "tf32"])
def test_a_dla_has_no_floats_of_32_bits(word):
    assert planned(RELU, word=word).placements[0].reason == f"computes in {word}: a DLA has fp16 and int8"


def test_layers_that_quantize_stay_on_the_gpu():
    assert [row.reason for row in planned(CONVOLUTION, word="int8").placements] == [QUANTIZED, ""]


@pytest.mark.parametrize("bounds, device", [((1, 2, 8), GPU), ((4, 4, 4), DLA)])
def test_a_dla_has_fixed_sizes(bounds, device):
    batch = dict(zip(("min", "opt", "max"), bounds))
    assert planned(RELU, batch=batch).placements[0].device == device


# Hops


def test_a_tensor_that_crosses_twice_the_same_way_is_one_hop():
    """relu (DLA) is read by two paddings (GPU), whose sum (DLA) reads both."""
    plan = planned(
        RELU
        + [
            ("padding", {"name": "a", "inputs": ["relu"], "pad": 1}),
            ("padding", {"name": "b", "inputs": ["relu"], "pad": 1}),
            ("elementwise", {"name": "sum", "inputs": ["a", "b"], "function": "sum"}),
        ]
    )
    assert [(hop.tensor, hop.source, hop.target) for hop in plan.hops] == [
        ("relu", DLA, GPU), ("a", GPU, DLA), ("b", GPU, DLA)
    ]  # fmt: skip
    assert [hop.bytes for hop in plan.hops] == [2 * 4 * 9 * 12, 2 * 4 * 11 * 14, 2 * 4 * 11 * 14]
    assert plan.subnetworks == 2


def test_a_shortcut_around_the_gpu_parts_the_dla():
    """conv -> sum directly and through a padding: the sum must wait for the GPU, so it is another subnetwork."""
    layers = [
        ("activation", {"name": "a", "inputs": ["image"], "function": "relu"}),
        ("activation", {"name": "b", "inputs": ["a"], "function": "gelu", "approximate": True}),
        ("elementwise", {"name": "sum", "inputs": ["a", "b"], "function": "sum"}),
    ]
    plan = planned(layers)
    assert [(hop.tensor, hop.target) for hop in plan.hops] == [("a", GPU), ("b", DLA)] and plan.subnetworks == 2


def test_parallel_branches_that_meet_are_one_subnetwork():
    layers = [
        ("activation", {"name": "a", "inputs": ["image"], "function": "relu"}),
        ("activation", {"name": "b", "inputs": ["image"], "function": "tanh"}),
        ("elementwise", {"name": "sum", "inputs": ["a", "b"], "function": "sum"}),
    ]
    assert (planned(layers).subnetworks, planned(layers).hops) == (1, ())
    assert planned(layers[:2], outputs=["a", "b"]).subnetworks == 2


def test_a_constant_hops_nowhere():
    layers = [
        ("constant", {"name": "two", "shape": [1, 1, 1, 1], "value": 2.0}),
        ("elementwise", {"name": "product", "inputs": ["image", "two"], "function": "product"}),
    ]
    plan = planned(layers)
    assert (plan.hops, plan.subnetworks) == ((), 1)


def test_nothing_on_the_dla_is_no_subnetwork():
    plan = planned(RELU, word="fp32")
    assert (plan.hops, plan.subnetworks, plan.on(DLA)) == ((), 0, [])


def test_the_second_output_of_a_layer_has_its_device():
    layers = RELU + [("top_k", {"name": "best", "inputs": ["relu"], "k": 2})]
    graph = graph_of(layers, {"image": IMAGE}, ["best", "best/indices"])
    assert [hop.tensor for hop in find_hops(graph, {"relu": DLA, "best": GPU})] == ["relu"]


# TensorRT's own answer

TENSORRT = rtx()


def definition_of(layers: Any, word: str = "fp32") -> Any:
    graph = graph_of(layers, {"image": IMAGE}, [layers[-1][1]["name"]])
    ranges = dict.fromkeys(("image", *graph.made), 1.0)
    precision = plan_precision(graph, {layer.name: word for layer in graph.layers}, word, ranges, TENSORRT)
    return define(graph, random_arrays(graph), TENSORRT, precision)


def test_an_answer_replaces_the_rule():
    graph = graph_of(CONVOLUTION, {"image": IMAGE}, ["relu"])
    plan = plan_dla(graph, ORIN85, {"conv": "fp16", "relu": "fp16"}, {"conv": "TensorRT refuses conv"})
    assert [(row.device, row.reason, row.source) for row in plan.placements] == [
        (GPU, "TensorRT refuses conv", ASKED), (DLA, "", RULE)
    ]  # fmt: skip


def test_a_tensorrt_without_a_dla_refuses_each_part_of_ours():
    layers = CONVOLUTION + [
        ("flatten", {"name": "net/flat", "inputs": ["relu"], "order": "NCHW"}),
        ("dense", {"name": "net/fc", "inputs": ["net/flat"], "units": 3, "bias": True}),
    ]
    definition = definition_of(layers)
    answers = ask(definition, definition.trt_builder.create_builder_config())
    assert answers["conv"] == "TensorRT refuses conv" and answers["net/flat"] == "TensorRT refuses net/flat"
    assert answers["net/fc"] == "TensorRT refuses net/fc/image, net/fc/convolution, net/fc"


def test_a_network_that_no_dla_takes_is_refused():
    definition = definition_of(CONVOLUTION)
    with pytest.raises(UsageError, match="--dla-core: no layer can run on the DLA"):
        place_layers(definition, definition.trt_builder.create_builder_config(), gpu_fallback=True)


class Halved:
    """A builder configuration whose DLA takes some types of layers only, as no machine without a DLA has one.

    Attributes:
        placed: the names of the layers that were put elsewhere.
    """

    def __init__(self, *taken: str) -> None:
        self.taken, self.placed = taken, []  # type: Tuple[str, ...], List[str]

    def can_run_on_DLA(self, layer: Any) -> bool:  # noqa: N802, TensorRT's name
        return layer.type.name in self.taken

    def set_device_type(self, layer: Any, device: Any) -> None:
        assert device == TENSORRT.module.DeviceType.GPU
        self.placed.append(layer.name)


def test_what_the_dla_refuses_goes_to_the_gpu_where_that_is_allowed():
    config = Halved("CONVOLUTION")
    place_layers(definition_of(CONVOLUTION), config, gpu_fallback=True)
    assert config.placed == ["relu"]
    with pytest.raises(UsageError) as refused:
        place_layers(definition_of(CONVOLUTION), config, gpu_fallback=False)
    assert "1 of 2 layers cannot run on the DLA: relu" in str(refused.value) and "--gpu-fallback" in str(refused.value)


CAST_AND_RELU = [
    ("cast", {"name": "halved", "inputs": ["image"], "dtype": "float16"}),
    ("cast", {"name": "widened", "inputs": ["halved"], "dtype": "float32"}),
    ("activation", {"name": "relu", "inputs": ["widened"], "function": "relu"}),
]
CONSTANT_AND_PRODUCT = [
    ("constant", {"name": "two", "shape": [1, 1, 1, 1], "value": 2.0}),
    ("elementwise", {"name": "product", "inputs": ["image", "two"], "function": "product"}),
]
PRELU = [("prelu", {"name": "slope", "inputs": ["image"]})]

# layers, precision, types of TensorRT's layers on the DLA: TensorRT's own layers of a neutral type, of ours on the GPU
NEUTRAL_TYPES = [
    (CAST_AND_RELU, "fp32", {"ACTIVATION"}, {"halved", "halved/float32", "widened"}, ["halved", "widened"]),
    (CONSTANT_AND_PRODUCT, "fp32", {"ELEMENTWISE"}, {"two"}, ["two"]),
    (RELU, "fp16", {"ACTIVATION"}, {"image/float16", "relu/float32"}, []),
    (PRELU, "fp32", {"PARAMETRIC_RELU"}, {"slope/alpha"}, []),
    (CONVOLUTION, "int8", {"CONVOLUTION", "ACTIVATION"},
     {"image/float16", "relu/float32", "conv/kernel", *(f"{name}/{part}" for name in ("image", "conv/kernel")
                                                        for part in ("step", "quantized", "dequantized"))}, []),
]  # fmt: skip


@pytest.mark.parametrize("layers, word, taken, neutral, on_gpu", NEUTRAL_TYPES)
def test_a_neutral_layer_is_asked_for_only_where_it_is_one_of_the_graph(layers, word, taken, neutral, on_gpu):
    """What we add for a precision or a parameter follows the layer that reads it."""
    definition, config = definition_of(layers, word), Halved(*taken)
    assert {added.name for added in definition.network if added.type.name in NEUTRAL} == neutral
    answers = ask(definition, config)
    assert {name for name, answer in answers.items() if answer} == set(on_gpu)
    assert [answers[name] for name in on_gpu] == [f"TensorRT refuses {name}" for name in on_gpu]
    place_layers(definition, config, gpu_fallback=True)
    assert config.placed == on_gpu


def test_a_cast_of_the_graph_needs_the_gpu():
    with pytest.raises(UsageError, match="2 of 3 layers cannot run on the DLA: halved, widened; see"):
        place_layers(definition_of(CAST_AND_RELU), Halved("ACTIVATION"), gpu_fallback=False)
    with pytest.raises(UsageError, match="no layer can run on the DLA"):
        place_layers(definition_of(CAST_AND_RELU[:2]), Halved("ACTIVATION"), gpu_fallback=True)


@pytest.mark.parametrize(
    "name, owner",
    [("fc", "fc"), ("net/fc", "net/fc"), ("net/fc/image", "net/fc"), ("fc/kernel/step", "fc"), ("net/other", None),
     ("image/float16", None), ("", None)],
)  # fmt: skip
def test_a_tensorrt_layer_is_of_the_longest_name_of_ours_before_a_slash(name, owner):
    assert owner_of(name, {"fc": "", "net/fc": ""}) == owner


# Plans for a DLA

FACTS = DeviceFacts("GPU", (8, 7), 0, 0, 0)


def plan_for(directory: Path, core: Any) -> Path:
    tensorrt = {"name": TENSORRT.name, "version": TENSORRT.version}
    options = {} if core is None else {"dla_core": core}
    write_plan(directory / "m.plan", b"plan", {"tensorrt": tensorrt, "options": options})
    return directory / "m.plan"


@pytest.mark.parametrize("core", [0, 1])
def test_a_plan_for_a_dla_that_is_not_there_is_refused(tmp_path, core):
    """TensorRT is asked how many there are; where no GPU answers, the plan is only looked at."""
    path = plan_for(tmp_path, core)
    with pytest.raises(PlanError, match=f"m.plan: was built for DLA core {core}; this machine has none: build it here"):
        check_plan(path, TENSORRT, FACTS)
    assert dla_core_of(check_plan(path, TENSORRT, None)) == core


def test_a_plan_for_a_dla_that_is_there_is_not_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.plan_check.new_runtime", lambda tensorrt: SimpleNamespace(num_DLA_cores=2))
    assert dla_core_of(check_plan(plan_for(tmp_path, 1), TENSORRT, FACTS)) == 1
    with pytest.raises(PlanError, match="was built for DLA core 2; this machine has 2: build"):
        check_plan(plan_for(tmp_path, 2), TENSORRT, FACTS)


def test_a_plan_of_the_gpu_alone_needs_no_dla(tmp_path):
    assert dla_core_of(check_plan(plan_for(tmp_path, None), TENSORRT, FACTS)) is None


def test_a_refit_loads_the_plan_on_its_dla():
    with pytest.raises(UsageError, match="--dla-core 1: this machine has no such DLA"):
        refit_plan(TENSORRT, b"plan", {}, dla_core=1)


def test_a_build_for_a_dla_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="--dla-core 0: this machine has no such DLA"):
        build_plan(definition_of(CONVOLUTION), PlanOptions(dla_core=0, gpu_fallback=True), Progress())
