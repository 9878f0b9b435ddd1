"""Mistakes on purpose, one at a time: the diff fails, names that very layer first, and says that very fact.

    a network of the framework's own + its right config ─ one fact changed ─> Comparison.first_bad, its diagnosis

The references are the frameworks'; tests/diagnosed_*.py hold the networks. No row says what the fact should be but in
words that name the framework's own value.
"""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import numpy as np
import pytest
import yaml

from commands.testing import compare_layers
from verify.compare import Comparison
from verify.hypotheses import HYPOTHESES
from verify.report import verdict_lines
from weights.checkpoint import Source
from weights.layout import parse_rule
from weights.sources import CONVENTIONS


class Mistake(NamedTuple):
    """A wrong fact of a config: the network, the layer, its wrong keys, and the diagnosis that must come first."""

    network: str
    layer: str
    keys: str
    says: str


CONFIG_MISTAKES = [
    # padding
    Mistake("tensorflow", "conv1", "padding=2", "padding 2 symmetric, but SAME upper [[1, 2], [1, 2]] agrees"),
    Mistake(
        "tensorflow", "conv1", "padding=same_lower", "SAME lower [[2, 1], [2, 1]], but SAME upper [[1, 2], [1, 2]]"
    ),
    Mistake("tensorflow", "conv1", "padding=valid", "padding VALID, but SAME upper [[1, 2], [1, 2]] agrees"),
    Mistake("tensorflow", "pool1", "padding=1", "padding 1 symmetric, but SAME upper [1, [0, 1]] agrees exactly"),
    Mistake("tensorflow", "pool1", "padding=same_lower", "but SAME upper [1, [0, 1]] agrees exactly"),
    Mistake("tensorflow", "average", "padding=1", "padding 1 symmetric, but SAME upper [[0, 1], [0, 1]] agrees"),
    Mistake("tensorflow", "depthwise", "padding=[[2, 0], [1, 1]]", "padding [[2, 0], 1], but SAME upper [1, 1] agrees"),
    Mistake("tensorflow", "up", "padding=same_lower", "SAME lower [[1, 0], [1, 0]], but SAME upper [[0, 1], [0, 1]]"),
    Mistake("tensorflow", "up", "padding=1 output_padding=1", "padding 1 symmetric, but SAME upper [[0, 1], [0, 1]]"),
    Mistake("torch", "conv1", "padding=[[0, 1], [0, 1]]", "padding 0 before and 1 after, but SAME upper [1, 1] agrees"),
    Mistake("torch", "block.conv2", "padding=same", "padding SAME upper [[0, 1], 1], but SAME lower"),
    Mistake("torch", "block.conv2", "padding=valid", "padding VALID, but"),
    Mistake("torch", "up", "padding=same output_padding=0", "but 1 symmetric and output_padding 1 agrees"),
    Mistake("torch", "avgpool", "padding=[[2, 0], [1, 1]]", "padding [[2, 0], 1], but SAME upper [1, 1] that counts"),
    # strides, dilations, windows
    Mistake("torch", "conv1", "stride=1", "stride 1, but stride 2 (is it on another layer of the block?) agrees"),
    Mistake("torch", "maxpool", "stride=3", "stride 3, but stride 2 (is it on another layer of the block?) agrees"),
    Mistake("tensorflow", "conv3", "dilation=1", "dilation 1, but dilation 2 agrees"),
    Mistake("torch", "maxpool", "ceil=false", "output size rounded down, but rounded up (ceil) agrees exactly"),
    Mistake("torch", "maxpool", "window=2 stride=2", "window 2, but window 3 agrees exactly"),
    Mistake(
        "torch", "avgpool", "count_padding=false", "an average that leaves padding out, but one that counts padding"
    ),
    Mistake(
        "tensorflow", "average", "count_padding=true", "that counts padding, but one that leaves padding out agrees"
    ),
    Mistake("torch", "avgpool", "function=max", "function max, but average that counts padding agrees"),
    Mistake("tensorflow", "pool1", "function=average count_padding=false", "function average, but max agrees exactly"),
    # batch norm, scale, LRN
    Mistake("tensorflow", "bn2", "epsilon=1.0e-5", "epsilon 1e-05, but epsilon 1.001e-05 agrees"),
    Mistake("torch", "bn1", "epsilon=1.001e-5", "epsilon 1.001e-05, but epsilon 1e-05 agrees"),
    Mistake("torch", "bn1", "epsilon=1.0e-3", "epsilon 0.001, but epsilon 1e-05 agrees"),
    Mistake("keras", "bn", "epsilon=1.0e-3", "epsilon 0.001, but epsilon 0.0042 agrees"),
    Mistake("tensorflow", "halved", "scale=1.0 shift=0.5", "x * 1 + 0.5, but x * 0.5 - 0.25 agrees"),
    Mistake("tensorflow", "norm1", "alpha_of=mean", "alpha of the mean, but of the sum agrees"),
    Mistake("torch", "lrn", "alpha_of=sum", "alpha of the sum, but of the mean agrees"),
    Mistake("tensorflow", "norm1", "alpha=0.002", "alpha 0.002, but alpha 0.02 agrees"),
    Mistake("tensorflow", "norm1", "window=3", "window 3, but window 5 agrees"),
    Mistake("torch", "lrn", "window=1", "window 1, but 1 is a depth radius: window 3, alpha_of mean agrees"),
    Mistake("tensorflow", "norm1", "beta=0.5", "beta 0.5, but beta 0.75 agrees"),
    Mistake("tensorflow", "norm1", "k=1.0", "k 1, but k 2 agrees"),
    # activations
    Mistake("tensorflow", "leaky", "alpha=0.01", "alpha 0.01, but alpha 0.2 agrees"),
    Mistake("torch", "leaky", "alpha=0.3", "alpha 0.3, but alpha 0.01 agrees"),
    Mistake("torch", "elu", "alpha=1.0", "alpha 1, but alpha 0.7 agrees"),
    Mistake("torch", "hard_sigmoid", "alpha=0.2", "alpha 0.2, beta 0.5, but alpha 0.16667, beta 0.5 agrees"),
    Mistake("torch", "gelu", "approximate=false", "approximate false, but approximate true agrees"),
    Mistake("torch", "clip", "maximum=0.6", "minimum -0.5, maximum 0.6, but minimum -0.5, maximum 0.8 agrees"),
    Mistake("tensorflow", "relu1", "function=sigmoid", "function sigmoid, but function relu agrees exactly"),
    Mistake("torch", "relu", "function=relu6", "function relu6, but function relu agrees exactly"),
    Mistake(
        "torch", "leaky", "function=relu alpha=null", "function relu, but function leaky_relu with alpha 0.01 agrees"
    ),
    # order of inputs, of axes, of numbers
    Mistake(
        "torch", "ratio", "inputs=[avgpool, prelu]", "inputs avgpool, prelu, but in the order prelu, avgpool agrees"
    ),
    Mistake(
        "tensorflow", "joined", "inputs=[conv3, difference]", "conv3, difference, but in the order difference, conv3"
    ),
    Mistake("torch", "ratio", "inputs=[prelu, lrn]", "it reads lrn, but reading avgpool it agrees exactly"),
    Mistake("tensorflow", "difference", "function=sum", "function sum, but sub agrees exactly"),
    Mistake("torch", "joined", "axis=h", "axis h, but axis c agrees exactly"),
    Mistake("tensorflow", "flat", "order=NCHW", "order NCHW, but order NHWC agrees exactly"),
    Mistake("torch", "flat", "order=NHWC", "order NHWC, but order NCHW agrees exactly"),
    Mistake("tensorflow", "reshaped", "order=NCHW shape=[12, 6, 2]", "order NCHW, but order NHWC"),
    Mistake("torch", "spread", "axis=c", "axis c, but axis w agrees"),
    Mistake("torch", "best", "axis=h", "axis h, but axis c agrees exactly"),
    Mistake("torch", "top", "largest=false", "the smallest, but the largest agrees exactly"),
    Mistake("torch", "top", "axis=w", "axis w, but axis h agrees exactly"),
    Mistake("torch", "mean", "function=max", "function max, but mean agrees"),
    Mistake("torch", "mean", "axes=[c, h]", "axes c, h, but axes h, w agrees"),
    Mistake("torch", "mean", "keep_dims=true", "keep_dims true, but false agrees"),
    Mistake("torch", "turned", "axes=[0, 1, 2, 3]", "axes [0, 1, 2, 3], but axes [0, 1, 3, 2] agrees exactly"),
    Mistake("torch", "bgr", "indices=[0, 1, 2]", "indices [0, 1, 2], but indices [2, 1, 0] agrees exactly"),
    Mistake("torch", "cropped", "start=[1, 1]", "start 1 of axis h, but start 2 agrees exactly"),
    Mistake("torch", "edge", "mode=reflect", "mode reflect, but mode edge agrees exactly"),
    Mistake("torch", "filled", "value=0.0", "mode constant 0, but mode constant 0.75 agrees exactly"),
    Mistake("tensorflow", "mirrored", "mode=edge", "mode edge, but mode reflect agrees exactly"),
    Mistake("torch", "edge", "pad=[[1, 2], [0, 1]]", "pad [[1, 2], [0, 1]], but pad [[2, 1], [1, 0]] agrees exactly"),
    Mistake("tensorflow", "resized", "coordinates=half_pixel", "bilinear half_pixel, but bilinear asymmetric agrees"),
    Mistake("torch", "bilinear", "coordinates=align_corners", "bilinear align_corners, but bilinear half_pixel agrees"),
    Mistake(
        "torch", "nearest", "rounding=ceil", "nearest asymmetric ceil, but nearest asymmetric floor agrees exactly"
    ),
    Mistake(
        "torch", "bilinear", "mode=nearest rounding=floor", "nearest half_pixel floor, but bilinear half_pixel agrees"
    ),
]

RULE_MISTAKES = [
    # network, layer, (type, role), the rule in the place of that of weights/sources.py, what the diagnosis says
    ("tensorflow", "conv3", ("convolution", "kernel"), "w h i o -> o i h w", "read as w h i o, but h w i o"),
    ("tensorflow", "conv3", ("convolution", "kernel"), "h w o i -> o i h w", "read as h w o i, but h w i o"),
    ("tensorflow", "conv3", ("convolution", "kernel"), "o i h w -> o i h w", "read as o i h w, but h w i o"),
    ("tensorflow", "depthwise", ("depthwise_convolution", "kernel"), "w h c m -> (c m) 1 h w", "w h c m, but h w c m"),
    ("tensorflow", "depthwise", ("depthwise_convolution", "kernel"), "h w m c -> (c m) 1 h w", "h w m c, but h w c m"),
    ("tensorflow", "up", ("deconvolution", "kernel"), "h w i o -> i o h w", "read as h w i o, but h w o i"),
    ("tensorflow", "up", ("deconvolution", "kernel"), "w h o i -> i o h w", "read as w h o i, but h w o i"),
    ("tensorflow", "fc2", ("dense", "kernel"), "o i -> o i", "read as o i, but i o"),
    ("keras", "conv", ("convolution", "kernel"), "h w o i -> o i h w", "read as h w o i, but h w i o"),
    ("keras", "slopes", ("prelu", "alpha"), "w h c -> c h w", "alpha read as w h c, but h w c"),
    ("keras", "slopes", ("prelu", "alpha"), "c h w -> c h w", "alpha read as c h w, but h w c"),
    ("keras", "depthwise", ("depthwise_convolution", "kernel"), "h w m c -> (c m) 1 h w", "h w m c, but h w c m"),
    ("keras", "up", ("deconvolution", "kernel"), "h w i o -> i o h w", "read as h w i o, but h w o i"),
    ("keras", "fc2", ("dense", "kernel"), "o i -> o i", "read as o i, but i o"),
    ("torch", "conv1", ("convolution", "kernel"), "i o h w -> o i h w", "read as i o h w, but o i h w"),
    ("torch", "conv1", ("convolution", "kernel"), "h w i o -> o i h w", "read as h w i o, but o i h w"),
    ("torch", "depthwise", ("depthwise_convolution", "kernel"), "(m c) 1 h w -> (c m) 1 h w", "(m c) 1 h w, but (c m) 1 h w"),
    ("torch", "up", ("deconvolution", "kernel"), "o i h w -> i o h w", "read as o i h w, but i o h w"),
    ("torch", "fc2", ("dense", "kernel"), "i o -> o i", "read as i o, but o i"),
]  # fmt: skip

SWAPPED_ROLES = [
    ("tensorflow", "bn2", "gamma", "beta"),
    ("keras", "bn", "gamma", "beta"),
    ("keras", "bn", "mean", "variance"),
    ("torch", "bn1", "gamma", "beta"),
    ("torch", "bn1", "mean", "variance"),
    ("torch", "bn1", "gamma", "variance"),
]

STORED_MISTAKES: Dict[str, Tuple[str, str, Callable[[np.ndarray], np.ndarray], str]] = {
    # of keras' file, the reference keeping the right one: layer, tensor, what happened to it, what the diagnosis says
    "turned kernel": ("conv", "kernel", lambda k: k[::-1, ::-1], "kernel as stored, but turned by 180 degrees"),
    "turned depthwise kernel": ("depthwise", "kernel", lambda k: k[::-1, ::-1], "but turned by 180 degrees"),
    "turned deconvolution kernel": ("up", "kernel", lambda k: k[::-1, ::-1], "but turned by 180 degrees"),
    "RGB for BGR": ("conv", "kernel", lambda k: k[:, :, ::-1], "input channels as they come, but in reversed order"),
    "no bias": ("fc1", "bias", np.zeros_like, "bias 0, but bias ["),
}

INPUT = "inputs.image.preprocessing"
INPUT_MISTAKES = {
    "mean": ([f"{INPUT}.mean=0.5"], "but x * [0.017125, 0.017507, 0.017429] - [2.1179, 2.0357, 1.8044]"),
    "std": ([f"{INPUT}.std=1.0"], "x * 0.0039216 - [0.485, 0.456, 0.406], but x * [0.017125, 0.017507, 0.017429] -"),
    "scale": ([f"{INPUT}.scale=1.0"], "but x * [0.017125, 0.017507, 0.017429] - [2.1179, 2.0357, 1.8044] agrees"),
    "channels": (
        [f"{INPUT}.swap_channels=false", "reference.tensors={image/cast: to_float, image/normalised: normalised}"],
        "input channels as they come, but in reversed order (RGB and BGR) agrees",
    ),
}


@pytest.fixture(scope="module")
def config_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`config_of("torch")`: the right config of that framework's network, its checkpoint beside it; written once."""
    written: Dict[str, Path] = {}

    def of(network: str) -> Path:
        pytest.importorskip(network)
        if network not in written:
            module = importlib.import_module(f"tests.diagnosed_{network}")
            written[network] = module.write(tmp_path_factory.mktemp(network))
        return written[network]

    return of


def overrides(config: Path, layer: str, keys: str) -> List[str]:
    """`padding=2` of a layer as `--set` has it: `layers.3.convolution.padding=2`."""
    rows = yaml.safe_load(config.read_text())["layers"]
    found = [(number, word) for number, row in enumerate(rows) for word in row if row[word]["name"] == layer]
    ((number, word),) = found
    pairs = (" " + keys).replace(", ", ",").split(" ")[1:]
    return [f"layers.{number}.{word}.{pair}" for pair in pairs]


def assert_first_bad(comparison: Comparison, layer: str, says: str) -> None:
    """The diff failed at this very layer, with this diagnosis before any other."""
    assert not comparison.passed
    assert comparison.first_bad.layer == layer
    assert says in comparison.first_bad.diagnosis[0], comparison.first_bad.diagnosis
    lines = verdict_lines(comparison)
    assert f"  diagnosis: {comparison.first_bad.diagnosis[0]}" in lines
    assert any(line.startswith(f"FIRST BAD LAYER: {layer} (") for line in lines)


@pytest.mark.parametrize("network", ["tensorflow", "keras", "torch"])
def test_the_right_config_has_no_failure(network, config_of):
    comparison = compare_layers(str(config_of(network)))
    assert comparison.passed and comparison.failed == () and comparison.first_bad is None
    assert all(row.diagnosis == () for row in comparison.rows)


@pytest.mark.parametrize("mistake", CONFIG_MISTAKES, ids=lambda each: f"{each.network} {each.layer} {each.keys}")
def test_a_wrong_key_is_named(mistake, config_of):
    config = config_of(mistake.network)
    comparison = compare_layers(str(config), *overrides(config, mistake.layer, mistake.keys))
    assert_first_bad(comparison, mistake.layer, mistake.says)


@pytest.mark.parametrize("network, layer, key, rule, says", RULE_MISTAKES, ids=lambda each: str(each))
def test_a_wrong_axis_order_is_named(network, layer, key, rule, says, config_of, monkeypatch):
    config = config_of(network)
    sources = CONVENTIONS[network].sources
    monkeypatch.setitem(sources, key, Source(sources[key].names, rule))
    assert_first_bad(compare_layers(str(config)), layer, f"{says} agrees")


def test_every_rule_that_moves_axes_has_been_broken():
    rules = {(name, key): parse_rule(source.rule) for name, convention in CONVENTIONS.items()
             for key, source in convention.sources.items() if "->" in source.rule}  # fmt: skip
    moving = {where for where, rule in rules.items() if len(rule.source) > 1}
    broken = {(network, key) for network, _, key, _, _ in RULE_MISTAKES}
    # tensorflow's PReLU has keras' own rule; a slope a channel (torch) has one axis to read
    assert moving - broken == {("tensorflow", ("prelu", "alpha"))}
    assert (
        CONVENTIONS["tensorflow"].sources["prelu", "alpha"].rule == CONVENTIONS["keras"].sources["prelu", "alpha"].rule
    )


@pytest.mark.parametrize("network, layer, one, other", SWAPPED_ROLES)
def test_swapped_statistics_are_named(network, layer, one, other, config_of, monkeypatch):
    config = config_of(network)
    sources = CONVENTIONS[network].sources
    rows = {role: sources["batch_norm", role] for role in (one, other)}
    monkeypatch.setitem(sources, ("batch_norm", one), rows[other])
    monkeypatch.setitem(sources, ("batch_norm", other), rows[one])
    assert_first_bad(compare_layers(str(config)), layer, f"{one} and {other} as named, but each in the other's place")


def stored_otherwise(config: Path, layer: str, tensor: str, change: Callable[[np.ndarray], np.ndarray]) -> str:
    """An override that takes the weights from a copy of keras' file with one tensor changed."""
    import h5py

    path = config.with_name("other.h5")
    shutil.copy(config.with_name("net.h5"), path)
    with h5py.File(path, "r+") as file:
        dataset = file[f"model_weights/{layer}/{layer}/{tensor}"]
        dataset[...] = change(dataset[...])
    return f"weights.path={path}"


@pytest.mark.parametrize("name", STORED_MISTAKES)
def test_a_tensor_stored_otherwise_is_named(name, config_of):
    layer, tensor, change, says = STORED_MISTAKES[name]
    config = config_of("keras")
    assert_first_bad(compare_layers(str(config), stored_otherwise(config, layer, tensor, change)), layer, says)


@pytest.mark.parametrize("name", INPUT_MISTAKES)
def test_wrong_preprocessing_is_named(name, config_of):
    changes, says = INPUT_MISTAKES[name]
    assert_first_bad(compare_layers(str(config_of("tensorflow")), *changes), "image/normalised", says)


def test_a_stride_on_the_other_convolution_of_a_block(config_of):
    config = config_of("torch")
    changes = overrides(config, "block.conv1", "stride=2") + overrides(config, "block.conv2", "stride=1")
    comparison = compare_layers(str(config), *changes)
    assert_first_bad(comparison, "block.conv1", "stride 2, but stride 1 (is it on another layer of the block?) agrees")
    by_name = {row.layer: row for row in comparison.rows}
    assert "shape 2x6x3x3, the reference has 2x6x6x5" in by_name["block.conv1"].problem
    assert "stride 1, but stride 2" in by_name["block.conv2"].diagnosis[0]


def test_a_dropped_bias(config_of):
    config = config_of("tensorflow")
    changes = [*overrides(config, "conv1", "bias=false"), "weights.ignore=[conv1/bias]"]
    assert_first_bad(compare_layers(str(config), *changes), "conv1", "no bias, but bias [")


def test_a_bias_too_many(config_of):
    config = config_of("tensorflow")
    changes = overrides(config, "conv2", "bias=true") + overrides(config, "conv2", "tensors={bias:conv3/bias}")
    changes = [change.replace("bias:", "bias: ") for change in changes]
    assert_first_bad(compare_layers(str(config), *changes), "conv2", "a bias, but no bias agrees")


def test_a_reference_behind_the_activation(config_of):
    change = "reference.tensors.activated=activated/relu"
    says = "convolution alone, but the reference's tensor is behind a relu: it agrees exactly"
    assert_first_bad(compare_layers(str(config_of("tensorflow")), change), "activated", says)


def test_a_layer_behind_a_wrong_shape_is_not_blamed(config_of):
    config = config_of("torch")
    comparison = compare_layers(str(config), *overrides(config, "maxpool", "ceil=false"))
    behind = next(row for row in comparison.rows if row.layer == "block.conv1")
    assert behind.problem.startswith("cannot be run on the reference's inputs")
    wanted = "its inputs have other shapes than the reference's, but on those the layer as it is agrees to "
    assert behind.diagnosis[0].startswith(wanted)


def test_a_mistake_of_no_known_kind_is_said_to_be_unexplained(config_of):
    config = config_of("keras")
    noise = np.random.default_rng(1).uniform(0.1, 1.0, (3, 3, 3, 3)).astype(np.float32)
    comparison = compare_layers(str(config), stored_otherwise(config, "conv", "kernel", lambda _: noise))
    assert comparison.first_bad.layer == "conv" and comparison.first_bad.diagnosis == ()
    assert verdict_lines(comparison)[-1] == "  diagnosis: none of the classic mistakes explains it"


def test_a_swap_that_the_source_does_not_have(config_of):
    comparison = compare_layers(str(config_of("torch")), "inputs.image.preprocessing={swap_channels: true}")
    assert comparison.first_bad.layer == "image/swap"
    assert "the reference has no tensor of this name" in comparison.first_bad.problem


def test_every_layer_type_with_hypotheses_has_been_broken(config_of):
    broken = {mistake.layer for mistake in CONFIG_MISTAKES} | {row[1] for row in RULE_MISTAKES} | {"image/normalised"}
    types = {"prelu"}
    for network in ("tensorflow", "keras", "torch"):
        rows = yaml.safe_load(config_of(network).read_text())["layers"]
        types |= {word for row in rows for word in row if row[word]["name"] in broken}
    assert {word for word, hypotheses in HYPOTHESES.items() if hypotheses} - types == set()
