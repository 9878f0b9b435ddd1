"""engine.network and its emitters: every layer type becomes real TensorRT layers under our names, or says why not."""

from __future__ import annotations

from typing import Any, Dict, List

import numpy as np
import pytest

from engine.build_options import PlanOptions
from engine.emitters import EMITTERS
from engine.emitters.activation import ACTIVATIONS, COMPOSED
from engine.interpreter import Interpreter
from engine.network import Definition, define
from engine.plan import Progress, build_plan
from engine.precision import plan_precision
from engine.tensorrt_api import TensorRT, dtype_name, load
from spec.errors import TensorRTError
from spec.layers import LAYERS, Convolution
from spec.layers.activation import NEEDS
from tests.layer_rows import FLAT, IMAGE, KERNEL, ROWS, network_of_rows
from tests.small_models import graph_of, random_arrays

TENSORRT = load("auto")
NAMES = [f"{number} {word}" for number, (word, _, _) in enumerate(ROWS)]


def network_of(rows: Any, dynamic: bool = False, tensorrt: TensorRT = TENSORRT) -> Definition:
    return network_of_rows(rows, dynamic, tensorrt)


def added_layers(definition: Definition) -> Dict[str, str]:
    """TensorRT's layer types by layer name."""
    trt = definition.tensorrt.module
    layers = [definition.network.get_layer(index) for index in range(definition.network.num_layers)]
    return {layer.name: trt.ILayer.type.__get__(layer).name for layer in layers}


def tensor_names(definition: Definition) -> List[str]:
    layers = [definition.network.get_layer(index) for index in range(definition.network.num_layers)]
    return [layer.get_output(index).name for layer in layers for index in range(layer.num_outputs)]


def test_the_table_covers_the_vocabulary_exactly():
    assert list(EMITTERS) == list(LAYERS)
    assert set(ACTIVATIONS) | set(COMPOSED) == set(NEEDS) and not set(ACTIVATIONS) & set(COMPOSED)
    assert {word for word, _, _ in ROWS} | {"constant"} == set(LAYERS)


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_a_layer_is_defined_under_our_names(row, dynamic):
    definition = network_of([row], dynamic)
    names = added_layers(definition)
    assert "L0" in names
    for name in [*names, *tensor_names(definition)]:
        assert name == "L0" or name.startswith("L0/")
    for name, wanted in definition.graph.tensors.items():
        assert tuple(definition.tensors[name].shape) == wanted.shape
        assert wanted.shape[0] == (-1 if dynamic else 1)


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
def test_every_layer_type_builds(dynamic):
    definition = network_of(ROWS, dynamic)
    assert len(set(added_layers(definition))) == definition.network.num_layers
    plan = build_plan(definition, PlanOptions(), Progress())
    assert memoryview(plan).nbytes > 10_000


@pytest.mark.parametrize("keys", [{"value": 2.0}, {"value": [1.0, 2.0, 3.0, 4.0]}, {}], ids=["one", "all", "learned"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
def test_a_constant_joins_the_image(keys, dynamic):
    layers = [
        ("constant", {"name": "four", "shape": [1, 4, 1, 1], **keys}),
        ("elementwise", {"name": "sum", "inputs": ["image", "four"], "function": "sum"}),
    ]
    graph = graph_of(layers, {"image": IMAGE}, ["sum"], {"min": 1, "opt": 2, "max": 5} if dynamic else None)
    definition = define(graph, random_arrays(graph), TENSORRT)
    assert added_layers(definition) == {"four": "CONSTANT", "sum": "ELEMENTWISE"}
    assert build_plan(definition, PlanOptions(), Progress()) is not None


@pytest.mark.parametrize("word", ["fp16", "int8"])
def test_a_constant_has_the_type_of_its_layer(word):
    layers = [
        ("convolution", {"name": "conv", **KERNEL, "filters": 4}),
        ("constant", {"name": "four", "shape": [1, 4, 1, 1], "value": 2.0}),
        ("elementwise", {"name": "sum", "inputs": ["conv", "four"], "function": "sum"}),
    ]
    graph = graph_of(layers, {"image": IMAGE}, ["sum"])
    ranges = {"image": 3.0, "four": 2.0} if word == "int8" else {}
    precision = plan_precision(graph, dict.fromkeys(graph.made, word), word, ranges, TENSORRT)
    definition = define(graph, random_arrays(graph), TENSORRT, precision)
    assert dtype_name(definition.tensors["four"].dtype) == ("float16" if precision.typed else "float32")
    assert build_plan(definition, PlanOptions(), Progress()) is not None


def test_a_constant_that_is_no_half_is_refused():
    layers = [("constant", {"name": "far", "shape": [1, 4, 1, 1], "value": 1e6}),
              ("elementwise", {"name": "sum", "inputs": ["image", "far"], "function": "sum"})]  # fmt: skip
    graph = graph_of(layers, {"image": IMAGE}, ["sum"])
    precision = plan_precision(graph, dict.fromkeys(graph.made, "fp16"), "fp16", {}, TENSORRT)
    if not precision.typed:
        pytest.skip("tensors have no types of their own")
    with pytest.raises(TensorRTError, match=r"layer 'far': numbers up to 1e\+06 do not fit float16"):
        define(graph, random_arrays(graph), TENSORRT, precision)


@pytest.mark.parametrize(
    "word, kind",
    [("batch_norm", "SCALE"), ("concatenation", "CONCATENATION"), ("flatten", "SHUFFLE"), ("cast", "CAST"),
     ("convolution", "CONVOLUTION"), ("depthwise_convolution", "CONVOLUTION"), ("pooling", "POOLING"), ("lrn", "LRN"),
     ("prelu", "PARAMETRIC_RELU"), ("transpose", "SHUFFLE"), ("softmax", "SOFTMAX")],
)  # fmt: skip
def test_a_layer_is_the_tensorrt_layer_it_should_be(word, kind):
    row = next(row for row in ROWS if row[0] == word)
    assert added_layers(network_of([row]))["L0"] == kind


def test_the_parts_of_a_dense_layer_have_its_name():
    names = added_layers(network_of([row for row in ROWS if row[0] == "dense"][:1]))
    assert names == {"L0/image": "SHUFFLE", "L0/convolution": "CONVOLUTION", "L0": "SHUFFLE"}


CLASSIFIER = [
    ("convolution", {**KERNEL, "filters": 3}),
    ("batch_norm", {"epsilon": 1e-3}),
    ("scale", {"scale": 0.5, "power": 2.0}),
    ("activation", {"function": "relu"}),
    ("pooling", {"function": "max", "window": 2}),
    ("flatten", {"order": "NHWC"}),
    ("dense", {"units": 3, "bias": True}),
    ("softmax", {}),
]
DECODER = [
    ("prelu", {}),
    ("deconvolution", {**KERNEL, "filters": 2, "stride": 2}),
    ("padding", {"pad": 1, "value": 0.5}),
    ("lrn", {"window": 3, "alpha": 0.1, "beta": 0.75, "k": 1.0, "alpha_of": "mean"}),
    ("activation", {"function": "gelu", "approximate": True}),
]


@pytest.mark.parametrize("layers", [CLASSIFIER, DECODER], ids=["classifier", "decoder"])
def test_weights_meet_half_precision_tensors_in_half_precision(layers):
    """After a cast to float16 every kernel, bias and scale must be float16 too, or TensorRT refuses the layer."""
    rows = [("cast", {"name": "half", "inputs": ["image"], "dtype": "float16"})]
    for number, (word, keys) in enumerate(layers):
        rows.append((word, {"name": f"L{number}", "inputs": [rows[-1][1]["name"]], **keys}))
    graph = graph_of(rows, {"image": IMAGE}, [rows[-1][1]["name"]])
    definition = define(graph, random_arrays(graph), TENSORRT)
    assert definition.network.get_output(0).dtype == TENSORRT.module.float16
    assert build_plan(definition, PlanOptions(), Progress()) is not None


def test_a_weight_that_half_precision_cannot_hold_is_refused():
    rows = [
        ("cast", {"name": "half", "inputs": ["x"], "dtype": "float16"}),
        ("dense", {"name": "fc", "inputs": ["half"], "units": 3, "bias": False}),
    ]
    graph = graph_of(rows, {"x": FLAT}, ["fc"])
    with pytest.raises(TensorRTError, match=r"net\.yaml:2: layer 'fc': numbers up to 7e\+04 do not fit float16"):
        define(graph, {("fc", "kernel"): np.full((3, 6), 70_000, np.float32)}, TENSORRT)


# What is refused, and in whose words


def conv_graph(**keys: Any):
    layer = ("convolution", {"name": "conv", "inputs": ["image"], "filters": 3, **KERNEL, **keys})
    return graph_of([layer], {"image": IMAGE}, ["conv"])


def test_a_kernel_of_the_wrong_size_is_refused_in_tensorrts_words():
    graph = conv_graph()
    arrays = {**random_arrays(graph), ("conv", "kernel"): np.ones((3, 5, 3, 2), np.float32)}
    with pytest.raises(TensorRTError) as failure:
        define(graph, arrays, TENSORRT)
    message = str(failure.value)
    assert message.startswith(f"net.yaml:1: layer 'conv': {TENSORRT.title} refused it: ")
    assert "90 weights" in message and "4 input channels" in message
    assert failure.value.exit_code == 1


def test_a_bias_of_the_wrong_size_names_the_part_it_belongs_to():
    graph = graph_of([("dense", {"name": "fc", "inputs": ["x"], "units": 3, "bias": True})], {"x": FLAT}, ["fc"])
    arrays = {**random_arrays(graph), ("fc", "bias"): np.ones(4, np.float32)}
    with pytest.raises(TensorRTError, match=r"net\.yaml:1: layer 'fc/convolution': .* refused it: .*4"):
        define(graph, arrays, TENSORRT)


def test_a_batch_norm_of_the_wrong_width_is_refused():
    graph = graph_of([("batch_norm", {"name": "bn", "inputs": ["x"], "epsilon": 1e-3})], {"x": IMAGE}, ["bn"])
    arrays = {key: np.ones(5, np.float32) for key in random_arrays(graph)}
    with pytest.raises(TensorRTError, match=r"net\.yaml:1: layer 'bn': .* refused it: .*weights"):
        define(graph, arrays, TENSORRT)


def test_words_of_one_refusal_do_not_turn_up_in_the_next():
    graph = conv_graph()
    for size in (5, 6):
        arrays = {**random_arrays(graph), ("conv", "kernel"): np.ones((3, size, 3, 2), np.float32)}
        with pytest.raises(TensorRTError) as failure:
            define(graph, arrays, TENSORRT)
        assert f"{18 * size} weights" in str(failure.value)
    assert "90 weights" not in str(failure.value)


def test_a_shape_that_tensorrt_infers_differently_is_caught(monkeypatch):
    monkeypatch.setattr(Convolution, "output_shape", lambda self, shape: (shape[0], self.filters, 8, 9))
    with pytest.raises(TensorRTError) as failure:
        define(conv_graph(), random_arrays(conv_graph()), TENSORRT)
    assert str(failure.value) == (
        "net.yaml:1: layer 'conv': TensorRT infers 1 x 3 x 7 x 9, the graph 1 x 3 x 8 x 9"
    )


def test_a_type_that_tensorrt_infers_differently_is_caught(monkeypatch):
    monkeypatch.setattr(Convolution, "output_dtype", lambda self, *dtypes: "float16")
    with pytest.raises(TensorRTError, match="layer 'conv': TensorRT infers float32, the graph float16"):
        define(conv_graph(), random_arrays(conv_graph()), TENSORRT)


def test_a_name_that_a_part_already_has_is_refused():
    layers = [
        ("dense", {"name": "fc", "inputs": ["x"], "units": 6, "bias": True}),
        ("activation", {"name": "fc/image", "inputs": ["fc"], "function": "relu"}),
    ]
    graph = graph_of(layers, {"x": FLAT}, ["fc/image"])
    with pytest.raises(TensorRTError, match=r"net\.yaml:2: layer 'fc/image': .* refused it: .*fc/image"):
        define(graph, random_arrays(graph), TENSORRT)


# TensorRTs that lack a layer


class Lacking(TensorRT):
    """The TensorRT that is here, without some capabilities."""

    def __init__(self, *capabilities: str) -> None:
        super().__init__(TENSORRT.module)
        self.logger, self.log, self._lacks = TENSORRT.logger, TENSORRT.log, capabilities

    def has(self, capability: str) -> bool:
        return capability not in self._lacks and super().has(capability)


@pytest.mark.parametrize("approximate", [True, False])
@pytest.mark.parametrize("shape", [IMAGE, FLAT], ids=["image", "flat"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
def test_a_composed_gelu_computes_what_tensorrts_own_does(approximate, shape, dynamic):
    row = ("activation", {"function": "gelu", "approximate": approximate}, (shape,))
    own, composed = network_of([row], dynamic), network_of([row], dynamic, Lacking("gelu activation"))
    assert added_layers(own) == {"L0": "ACTIVATION"}
    names = added_layers(composed)
    assert names["L0"] == "ELEMENTWISE" and "L0/tanh" in names if approximate else names["L0/erf"] == "UNARY"
    assert all(name == "L0" or name.startswith("L0/") for name in [*names, *tensor_names(composed)])
    image = np.random.default_rng(0).uniform(-4, 4, shape).astype(np.float32)
    outputs = [Interpreter(each.network, TENSORRT.module).run({"in0_0": image})["L0"] for each in (own, composed)]
    assert np.abs(outputs[0] - outputs[1]).max() < 1e-6 * np.abs(outputs[0]).max()
    assert build_plan(composed, PlanOptions(), Progress()) is not None


@pytest.mark.skipif(
    not hasattr(TENSORRT.module.ILayer, "set_output_type"),
    reason=f"{TENSORRT.title} is strongly typed: an identity cannot change the type, and it has a cast layer",
)
@pytest.mark.parametrize("dtype", ["float16", "int32"])
def test_a_cast_is_an_identity_where_there_is_no_cast_layer(dtype):
    row = ("cast", {"dtype": dtype}, (IMAGE,))
    definition = network_of([row], tensorrt=Lacking("cast layer"))
    assert added_layers(definition) == {"L0": "IDENTITY"}
    assert definition.tensors["L0"].dtype == network_of([row]).tensors["L0"].dtype
