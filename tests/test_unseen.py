"""What an input cannot show is said, or shown by a louder one: relu and relu6 where nothing above 6 came."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Callable

import numpy as np
import pytest

from commands.configs import load_graph
from commands.testing import compare_layers
from verify.unseen import quiet_layers, unseen

CONFIG = """
name: small
architecture: plain
inputs:
  image: {shape: [1, 1, 2, 2], dtype: float32, layout: NCHW}
weights: {path: none}
layers:
  - activation: {name: first, function: relu6}
  - activation: {name: curve, function: tanh}
  - activation: {name: second, function: relu, input: first}
outputs: [curve, second]
"""


@pytest.mark.parametrize(
    "image, first, said",
    [
        (7, 7, None),
        (7, 6, "in 1 of 2 layers this input reaches no value above 6 (second)"),
        (6, 5, "in 2 of 2 layers this input reaches no value above 6 (first, second)"),
    ],
)
def test_layers_that_saw_no_value_above_6(tmp_path, image, first, said):
    (tmp_path / "small.yaml").write_text(CONFIG)
    _, graph = load_graph(str(tmp_path / "small.yaml"), [])
    arrays = {name: np.full((1, 1, 2, 2), value, np.float32) for name, value in (("image", image), ("first", first))}
    quiet = quiet_layers(graph, arrays)
    notes = list(unseen(graph, quiet, quiet))
    assert len(notes) == (said is not None)
    assert said is None or said in notes[0]


def test_a_reference_without_the_tensor_says_nothing(tmp_path):
    (tmp_path / "small.yaml").write_text(CONFIG)
    assert quiet_layers(load_graph(str(tmp_path / "small.yaml"), [])[1], {}) == ()


CLAMPED = """
name: clamped
architecture: plain
inputs:
  image: {shape: [1, 3, 8, 8], dtype: float32, layout: NCHW}
weights: {path: clamped.pth, ignore: ["*.num_batches_tracked"]}
reference: {callable: "clamped_source:build"}
layers:
  - convolution: {name: "0", filters: 4, kernel: 3, padding: 1, bias: true}
  - batch_norm: {name: "1", epsilon: 1.0e-5}
  - activation: {name: "2", function: FUNCTION}
  - flatten: {name: "3", order: NCHW}
  - dense: {name: "4", units: 5, bias: true}
outputs: ["4"]
"""
SOURCE = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU6(), nn.Flatten(), nn.Linear(256, 5))
"""


def written(path: Path, text: str) -> Callable[[str], str]:
    """Gives a config's path for each function that its activation is to have."""

    def config(function: str) -> str:
        path.write_text(text.replace("FUNCTION", function))
        return str(path)

    return config


@pytest.fixture
def clamped(tmp_path):
    """Writes a PyTorch model with a ReLU6 that no standard normal number fills, and returns its config's maker."""
    torch = pytest.importorskip("torch")
    (tmp_path / "clamped_source.py").write_text(SOURCE)
    torch.manual_seed(0)
    spec = importlib.util.spec_from_file_location("clamped_source", tmp_path / "clamped_source.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.save(module.build().state_dict(), tmp_path / "clamped.pth")
    return written(tmp_path / "clamped.yaml", CLAMPED)


BYTES = """
name: bytes
architecture: plain
inputs:
  image: {shape: [1, 8, 8, 3], dtype: uint8, layout: NHWC}
weights: {path: net}
reference: {graph: net.meta}
layers:
  - cast: {name: floats, dtype: float32}
  - scale: {name: small, scale: 1/255}
  - convolution: {name: conv, filters: 4, kernel: 3, stride: 1, padding: same, bias: true}
  - activation: {name: relu, function: FUNCTION}
outputs: [relu]
"""


@pytest.fixture
def bytes_config(tmp_path):
    """Writes a TensorFlow 1 graph that takes uint8, casts it and clamps at 6; returns its config's maker."""
    tf = pytest.importorskip("tensorflow").compat.v1
    with tf.Graph().as_default(), tf.Session() as session:
        image = tf.cast(tf.placeholder(tf.uint8, [None, 8, 8, 3], name="image"), tf.float32, name="floats")
        small = tf.multiply(image, 1 / 255, name="small")
        start = tf.random_normal_initializer(stddev=0.2, seed=0)
        kernel = tf.get_variable("conv/kernel", [3, 3, 3, 4], initializer=start)
        bias = tf.get_variable("conv/bias", [4])
        with tf.name_scope("conv/"):
            conv = tf.nn.bias_add(tf.nn.conv2d(small, kernel, 1, "SAME"), bias)
        tf.nn.relu6(conv, name="relu")
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(tmp_path / "net"))
    return written(tmp_path / "bytes.yaml", BYTES)


@pytest.mark.parametrize("source, layer", [("clamped", "2"), ("bytes_config", "relu")])
def test_a_louder_input_tells_relu_from_relu6(source, layer, request):
    """Floats are louder as they are, whole numbers behind the graph's own cast."""
    config = request.getfixturevalue(source)
    right = compare_layers(config("relu6"), backend="tensorrt_rtx")
    assert right.passed
    assert right.notes == ("relu and relu6 are told apart in 1 of 1 layers by an input 32 times as loud",)
    wrong = compare_layers(config("relu"), backend="tensorrt_rtx")
    assert wrong.first_bad.layer == layer and wrong.first_bad.accumulated.passed
    assert "function relu, but function relu6 agrees" in wrong.first_bad.diagnosis[0]


def test_an_input_of_the_users_own_is_the_only_one(clamped):
    found = compare_layers(clamped("relu"), input="random:1", backend="tensorrt_rtx")
    assert found.passed and "relu and relu6 not told apart: in 1 of 1 layers" in found.notes[0]
