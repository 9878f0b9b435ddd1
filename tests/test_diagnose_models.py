"""Mistakes on purpose in the real models: the first bad layer of 175 to 189 is the one that was broken, and why.

reference activations, once a model ─┐
config with one fact changed ────────┴─> Comparison.first_bad, its diagnosis
"""

from __future__ import annotations

from typing import Callable, Dict, List, Sequence

import pytest

from builders import expand
from commands.configs import load_graph
from engine.network import define
from engine.tensorrt_api import load
from samples import SAMPLES
from spec.graph import Graph, build_graph
from spec.layers import Layer
from spec.model import ModelSpec
from tests.sample_models import overrides_of
from verify.compare import Comparison, Tolerance
from verify.inputs import make_inputs
from verify.reference import open_reference, reference_activations
from verify.verification import Activations, verify
from weights import convention_of, open_checkpoint
from weights.readings import readings_of
from weights.transplant import transplant

MISTAKES = [
    # model, what the config says wrongly, the layer that must be first, what its diagnosis must say first
    ("model1", "layers.2.scale.shift=-0.99", "shift", "x * 1 - 0.99, but x * 1 - 1 agrees"),
    ("model1", "layers.3.convolution.padding=2", "conv1", "2 symmetric, but 1 before and 2 after (SAME upper) agrees"),
    ("model1", "layers.5.lrn.alpha_of=mean", "norm1", "alpha of the mean, but of the sum agrees"),
    ("model1", "layers.9.lrn.window=5", "norm2", "window 5, but window 7 agrees"),
    ("model1", "layers.9.lrn.beta=0.75", "norm2", "beta 0.75, but beta 0.5 agrees"),
    (
        "model1",
        "layers.15.pooling.count_padding=true",
        "pool4",
        "counts padding, but one that leaves padding out agrees",
    ),
    ("model1", "layers.16.flatten.order=NCHW", "flatten", "order NCHW, but order NHWC agrees exactly"),
    ("model2", "epsilon=1.0e-5", "conv1_bn", "epsilon 1e-05, but epsilon 1.001e-05 agrees"),
    ("model2", "stages.1.skip.pool=max", "skip3_pool", "function max, but average agrees"),
    ("model3", "epsilon=1.0e-5", "stem/bn", "epsilon 1e-05, but epsilon 2e-05 agrees"),
    ("model3", "stem.padding=3", "stem/conv", "padding 3 symmetric, but 2 before and 3 after (SAME upper) agrees"),
    ("model3", "inputs.image.preprocessing.mean=0.5", "image/normalised", "- 0.5, but x * 0.0078431 - 1 agrees"),
    ("model4", "epsilon=1.001e-5", "bn1", "epsilon 1.001e-05, but epsilon 1e-05 agrees"),
    ("model4", "stem.padding=same", "conv1", "2 before and 3 after (SAME upper), but 3 symmetric agrees"),
]


@pytest.fixture(scope="module")
def activations_of(sample_directory) -> Callable[[str], Activations]:
    """`activations_of("model1")`: what the source framework makes of a random image; computed once."""
    known: Dict[str, Activations] = {}

    def of(name: str) -> Activations:
        pytest.importorskip(SAMPLES[name].framework)
        if name not in known:
            model, graph = load_graph(name, overrides_of(name, sample_directory(name)))
            inputs, title = make_inputs(graph, "random:0")
            known[name] = reference_activations(model, graph, open_reference(model), inputs, title)
        return known[name]

    return of


def compared(model: ModelSpec, graph: Graph, activations: Activations) -> Comparison:
    checkpoint = open_checkpoint(model.weights_path, model.weights.key)
    weights = transplant(graph, checkpoint, model.weights, convention_of(checkpoint, model.weights.convention))
    definition = define(graph, weights.arrays, load("auto"))
    return verify(definition, activations, Tolerance(), readings_of(graph, weights)).comparison


@pytest.mark.parametrize("name, mistake, layer, says", MISTAKES)
def test_a_wrong_fact_of_a_config_is_named(name, mistake, layer, says, sample_directory, activations_of):
    activations = activations_of(name)
    model, graph = load_graph(name, [*overrides_of(name, sample_directory(name)), mistake])
    bad = compared(model, graph, activations).first_bad
    assert bad.layer == layer and says in bad.diagnosis[0]


def restrided(layers: Sequence[Layer], strides: Dict[str, int]) -> List[Layer]:
    """The layers with other strides, by name."""
    return [
        layer.model_copy(update={"stride": (strides[layer.name],) * 2}) if layer.name in strides else layer
        for layer in layers
    ]


def test_the_stride_on_the_first_convolution_of_a_bottleneck(sample_directory, activations_of):
    """ResNet v1 (He et al.), where model4 has torchvision's v1.5: shapes differ inside one block only."""
    activations = activations_of("model4")
    model, _ = load_graph("model4", overrides_of("model4", sample_directory("model4")))
    graph = build_graph(model, restrided(expand(model), {"layer2.0.conv1": 2, "layer2.0.conv2": 1}))
    comparison = compared(model, graph, activations)
    assert comparison.first_bad.layer == "layer2.0.conv1"
    assert comparison.first_bad.problem == "shape 1x128x32x32, the reference has 1x128x64x64"
    assert comparison.first_bad.diagnosis[0].startswith("stride 2, but stride 1 (is it on another layer of the block?)")
    by_name = {row.layer: row for row in comparison.rows}
    for behind in ("layer2.0.bn1", "layer2.0.relu1"):
        assert (
            by_name[behind].diagnosis[0].startswith("its inputs have other shapes than the reference's, but on those")
        )
    assert by_name["layer2.0.conv3"].isolated.passed and not by_name["layer2.0.conv3"].accumulated.passed
