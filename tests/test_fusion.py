"""engine.fusion: the groups that share a kernel, on small graphs and on the four sample models."""

from __future__ import annotations

import pytest

from commands.configs import load_graph
from engine.fusion import CONVOLUTIONS, fused_groups, spread_over_groups
from tests.sample_models import LAYERS
from tests.small_models import graph_of

CONV = {"filters": 3, "kernel": 1, "padding": "valid", "bias": False}


def conv(name, source):
    return ("convolution", {"name": name, "input": source, **CONV})


def relu(name, source):
    return ("activation", {"name": name, "input": source, "function": "relu"})


def norm(name, source):
    return ("batch_norm", {"name": name, "input": source, "epsilon": 1e-3})


def total(name, *sources, function="sum"):
    return ("elementwise", {"name": name, "input": list(sources), "function": function})


CASES = {
    "chain": ([conv("c", "x"), norm("n", "c"), relu("r", "n")], "r", "c n r"),
    "two readers": ([conv("c", "x"), relu("r", "c"), total("s", "c", "r")], "s", "c|r s"),
    "an output": ([conv("c", "x"), relu("r", "c")], "c r", "c|r"),
    "residual": ([conv("a", "x"), conv("b", "a"), norm("n", "b"), total("s", "n", "a")], "s", "a|b n s"),
    "projection": ([conv("a", "x"), conv("p", "x"), norm("n", "p"), total("s", "a", "n")], "s", "a s|p n"),
    "shortcut first": ([relu("i", "x"), conv("c", "i"), total("s", "i", "c"), relu("r", "s")], "r", "i|c s r"),
    "pointwise": ([("pooling", {"name": "p", "input": "x", "function": "max", "window": 1, "stride": 1,
                                "padding": "valid"}), relu("r", "p"), norm("n", "r")], "n", "p|r n"),
    "swish": ([conv("c", "x"), ("activation", {"name": "g", "input": "c", "function": "sigmoid"}),
               total("s", "c", "g", function="product")], "s", "c|g s"),
    "square": ([conv("c", "x"), total("s", "c", "c", function="product")], "s", "c|s"),
}  # fmt: skip


@pytest.mark.parametrize("layers, outputs, wanted", CASES.values(), ids=CASES)
def test_small_graphs(layers, outputs, wanted):
    graph = graph_of(layers, {"x": (1, 3, 5, 7)}, outputs.split())
    assert [" ".join(group) for group in fused_groups(graph)] == wanted.split("|")


@pytest.mark.parametrize("name, count", [("model1", 16), ("model2", 66), ("model3", 71), ("model4", 57)])
def test_the_groups_of_the_samples_hold_every_layer_once(name, count):
    graph = load_graph(name, [])[1]
    groups = fused_groups(graph)
    assert sorted(layer for group in groups for layer in group) == sorted(layer.name for layer in graph.layers)
    assert len(graph.layers) == LAYERS[name] and len(groups) == count
    types = {layer.name: layer.type for layer in graph.layers}
    assert all(types[layer] not in CONVOLUTIONS for group in groups for layer in group[1:])


@pytest.mark.parametrize(
    "name, group",
    [
        ("model1", "conv1 relu1"),
        ("model2", "conv2_block1_3_conv conv2_block1_3_bn conv2_block1_add conv2_block1_out"),
        ("model3", "stage1/unit1/shortcut_conv stage1/unit1/shortcut_bn"),
        ("model4", "layer4.2.conv3 layer4.2.bn3 layer4.2.add layer4.2.relu"),
    ],
)
def test_a_group_of_each_sample(name, group):
    assert tuple(group.split()) in fused_groups(load_graph(name, [])[1])


@pytest.mark.parametrize(
    "default, exceptions, wanted",
    [
        ("fp32", {"c": "fp16"}, "fp32 fp16 fp16 fp16"),  # TensorRT 8.5.3.1 finds no kernel for c fp16, r fp32
        ("fp16", {"r": "fp32"}, "fp16 fp32 fp32 fp32"),
        ("int8", {"n": "fp16", "r": "fp32"}, "int8 int8 fp32 fp32"),
        ("fp32", {"c": "int8"}, "fp32 int8 fp32 fp32"),
        ("fp16", {}, "fp16 fp16 fp16 fp16"),
    ],
)
def test_an_exception_spreads_over_its_group(default, exceptions, wanted):
    graph = graph_of([conv("a", "x"), *CASES["chain"][0][:0], conv("c", "a"), norm("n", "c"), relu("r", "n")],
                     {"x": (1, 3, 5, 7)}, ["r"])  # fmt: skip
    spread = spread_over_groups(graph, exceptions, default)
    assert [spread[name] for name in "acnr"] == wanted.split()
