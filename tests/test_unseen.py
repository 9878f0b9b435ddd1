"""What an input cannot show is said, or shown by a louder one: values above 6, beyond a clip's bounds, other than 0."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np
import pytest

from commands.configs import load_graph
from commands.testing import compare_layers
from tests.small_models import graph_of
from verify.report import verdict_lines
from verify.unseen import ALIKE, louder_layers, other_function, quiet_layers, unseen

TWO_RELUS = [
    ("activation", {"name": "first", "function": "relu6"}),
    ("activation", {"name": "curve", "function": "tanh"}),
    ("activation", {"name": "second", "function": "relu", "inputs": ["first"]}),
]


def two_relus():
    return graph_of(TWO_RELUS, {"image": (1, 1, 2, 2)}, ["curve", "second"])


def filled(**values):
    """A tensor of two_relus by name, all of one value."""
    return {name: np.full((1, 1, 2, 2), value, np.float32) for name, value in values.items()}


@pytest.mark.parametrize(
    "image, first, said",
    [
        (7, 6, "in 1 of 2 layers this input reaches no value above 6 (second)"),
        (6, 5, "in 2 of 2 layers this input reaches no value above 6 (first, second)"),
    ],
)
def test_layers_that_saw_no_value_above_6(image, first, said):
    graph, arrays = two_relus(), filled(image=image, first=first)
    [note] = unseen(graph, quiet_layers(graph, arrays), arrays)
    assert said in note


def test_a_louder_input_that_a_clamp_holds_down_is_no_advice():
    """Behind a first relu6 no input is above 6, however loud."""
    graph, usual, loud = two_relus(), filled(image=6, first=5), filled(image=192, first=6)
    notes = list(unseen(graph, quiet_layers(graph, usual), usual, loud))
    [left] = [note for note in notes if "not told apart" in note]
    assert "in 1 of 2 layers neither this input nor one 32 times as loud reaches a value above 6 (second)" in left
    assert "--input" not in left


@pytest.mark.parametrize("functions, told", [({"second": "relu"}, True), ({"first": "relu6"}, False), ({}, False)])
def test_the_references_own_word_tells_them_apart_too(functions, told):
    graph, usual, loud = two_relus(), filled(image=6, first=5), filled(image=192, first=6)
    notes = list(unseen(graph, quiet_layers(graph, usual), usual, loud, functions))
    assert ("relu and relu6 are told apart in 1 of 2 layers by the reference's own word alone" in notes) == told
    assert any("not told apart" in note for note in notes) != told
    assert any("by an input 32 times as loud" in note for note in notes)  # of the first


@pytest.mark.parametrize(
    "name, theirs, words",
    [
        ("first", "relu", "the function is relu6, the reference's is relu"),
        ("second", "relu6", "the function is relu, the reference's is relu6"),
        ("first", "relu6", ""), ("curve", "relu", ""), ("second", None, ""),
    ],
)  # fmt: skip
def test_another_function_of_the_reference_is_a_problem_whatever_the_numbers(name, theirs, words):
    [layer] = [layer for layer in two_relus().layers if layer.name == name]
    assert other_function(layer, {name: theirs} if theirs else {}) == words


def test_where_all_saw_values_above_6_nothing_is_said():
    graph, arrays = two_relus(), filled(image=7, first=7)
    assert list(unseen(graph, quiet_layers(graph, arrays), arrays)) == []


def test_a_reference_without_the_tensor_says_nothing():
    assert quiet_layers(two_relus(), {}) == {}


def bounded():
    clip = ("activation", {"name": "first", "function": "clip", "minimum": -1, "maximum": 3})
    return graph_of([clip], {"image": (1, 1, 1, 2)}, ["first"])


@pytest.mark.parametrize(
    "pair, lacking",
    [
        ((-2, 4), ()),
        ((-1, 3), ("a value above 3", "a value below -1")),
        ((-2, 3), ("a value above 3",)),
        ((0, 4), ("a value below -1",)),
        ((0, 0), ("anything but zeros", "a value above 3", "a value below -1")),
    ],
)
def test_a_clip_is_quiet_until_both_bounds_are_passed(pair, lacking):
    graph = bounded()
    image = np.float32([[[pair]]])
    arrays = {"image": image, "first": np.clip(image, -1, 3)}
    assert quiet_layers(graph, arrays).get("first", ()) == lacking
    notes = list(unseen(graph, quiet_layers(graph, arrays), arrays))
    words = " and no ".join(each[2:] for each in lacking if each.startswith("a value"))
    assert bool(notes) == bool(lacking)
    assert not notes or f"bounds of clip not shown: first reads no {words}; an --input of larger numbers" in notes[0]


def test_a_louder_input_that_overflows_is_not_used():
    graph = bounded()
    usual, loud = np.zeros((1, 1, 1, 2), np.float32), np.float32([[[[-np.inf, 9]]]])
    quiet = quiet_layers(graph, {"image": usual, "first": usual})
    assert louder_layers(graph, quiet, {"image": loud, "first": np.clip(loud, -1, 3)}) == ()
    assert louder_layers(graph, quiet, {"image": np.float32([[[[-2, 9]]]]), "first": usual}) == ("first",)
    assert louder_layers(graph, quiet, {"image": loud}) == ()


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


@pytest.mark.parametrize("source, layer", [("clamped", "2"), ("bytes_config", "relu")])
def test_an_input_of_the_users_own_is_the_only_one_and_the_reference_has_a_word(source, layer, request):
    """No louder one is run; what the operation is called tells what the numbers do not."""
    config = request.getfixturevalue(source)
    right, wrong = (compare_layers(config(name), input="random:1", backend="tensorrt_rtx") for name in ALIKE[::-1])
    assert right.passed
    assert right.notes == ("relu and relu6 are told apart in 1 of 1 layers by the reference's own word alone",)
    assert wrong.first_bad.layer == layer and wrong.first_bad.accumulated.passed
    assert wrong.first_bad.problem == "the function is relu, the reference's is relu6"


PLAIN = """
name: NAME
architecture: plain
inputs:
  image: {shape: [1, 3, 8, 8], dtype: float32, layout: NCHW}
weights: {path: NAME.pth}
reference: {callable: "NAME_source:build"}
layers:
LAYERS
outputs: ["LAST"]
"""
CONVOLUTION = '  - convolution: {name: "%d", filters: 4, kernel: 3, padding: valid, bias: %s}'


@pytest.fixture
def sequential(tmp_path):
    """Writes a torch.nn.Sequential, its weights after `prepare`, and a config of these layers; returns its path."""
    torch = pytest.importorskip("torch")

    def write(name: str, modules: str, layers: Sequence[str], prepare: Callable[[Any], Any]) -> str:
        source = f"from torch import nn\n\ndef build():\n    return nn.Sequential({modules})\n"
        (tmp_path / f"{name}_source.py").write_text(source)
        torch.manual_seed(0)
        module = eval(f"nn.Sequential({modules})", {"nn": torch.nn})
        with torch.no_grad():
            prepare(module)
        torch.save(module.state_dict(), tmp_path / f"{name}.pth")
        text = PLAIN.replace("NAME", name).replace("LAYERS", "\n".join(layers)).replace("LAST", str(len(layers) - 1))
        (tmp_path / f"{name}.yaml").write_text(text)
        return str(tmp_path / f"{name}.yaml")

    return write


@pytest.mark.parametrize(
    "function, passed, said",
    [
        ("clip, minimum: 0, maximum: 20", True, "both bounds of clip are shown in 1 of 1 layers by an input 32 times"),
        ("clip, minimum: 0, maximum: 3", False, "minimum 0, maximum 3, but minimum 0, maximum 20 agrees exactly"),
        ("relu", False, "function relu, but function clip with minimum 0, maximum 20 agrees exactly"),
    ],
)
def test_a_louder_input_passes_the_bounds_of_a_clip(sequential, function, passed, said):
    layers = [CONVOLUTION % (0, "true"), f'  - activation: {{name: "1", function: {function}}}']
    config = sequential("hard", "nn.Conv2d(3, 4, 3), nn.Hardtanh(0.0, 20.0)", layers, lambda net: None)
    found = compare_layers(config, backend="tensorrt_rtx")
    assert found.passed is passed and all(row.accumulated.passed for row in found.rows)
    assert said in "\n".join(verdict_lines(found))


def test_the_bound_that_a_relu_would_have_shown_is_said(sequential):
    layers = [CONVOLUTION % (0, "true"), '  - activation: {name: "1", function: relu}']
    config = sequential("far", "nn.Conv2d(3, 4, 3), nn.Hardtanh(0.0, 500.0)", layers, lambda net: None)
    found = compare_layers(config, backend="tensorrt_rtx")
    [note] = found.notes
    said = re.fullmatch(r"relu and relu6 are told apart .*, and so would be a clamp up to (\S+)", note)
    assert found.passed and 20 < float(said.group(1)) < 500


DEAD = "nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Sigmoid()"
DEAD_LAYERS = [CONVOLUTION % (0, "true"), '  - activation: {name: "1", function: relu}', CONVOLUTION % (2, "true"),
               '  - activation: {name: "3", function: sigmoid}']  # fmt: skip


def test_layers_that_saw_only_zeros_are_not_counted_as_proven(sequential):
    config = sequential("dead", DEAD, DEAD_LAYERS, lambda net: net[0].bias.fill_(-1e4))
    found = compare_layers(config, backend="tensorrt_rtx")
    assert found.passed and [row.layer for row in found.blank] == ["1", "2"]
    lines = verdict_lines(found)
    assert lines[3].startswith("2 of 4 layers passed, 2 saw only zeros (1, 2): |c - r| <=")
    assert "1, 2 read or give only zeros on this input and on one 32 times as loud: that proves no kernel" in lines[-1]
    assert found.as_json()["only_zeros"] == ["1", "2"]


def test_a_louder_input_wakes_what_reads_only_zeros(sequential):
    """A bias that no standard normal number exceeds, but one 32 times as loud does: only that shows the kernel."""
    config = sequential("asleep", DEAD, DEAD_LAYERS, lambda net: net[0].bias.fill_(-4))
    awake = compare_layers(config, backend="tensorrt_rtx")
    assert awake.passed and not awake.blank
    assert awake.rows[1].accumulated.magnitude == 0 < awake.rows[1].isolated.magnitude
    quiet = compare_layers(config, input="random:0", backend="tensorrt_rtx")
    assert [row.layer for row in quiet.blank] == ["1", "2"]


def test_only_what_quiet_layers_read_and_make_is_fetched_again(clamped, monkeypatch):
    from verify.torch_reference import open_source

    asked = []
    kind = type(open_source(load_graph(clamped("relu6"), [])[0]))
    original = kind.activations
    monkeypatch.setattr(kind, "activations", lambda self, i, n: asked.append(list(n)) or original(self, i, asked[-1]))
    assert compare_layers(clamped("relu6"), backend="tensorrt_rtx").passed
    assert [sorted(each) for each in asked] == [["0", "1", "2", "3", "4"], ["1", "2"]]
