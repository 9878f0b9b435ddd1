"""build_graph: names, order, types and shapes of a whole network, and every complaint with its line."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import List

import pytest

from builders import ARCHITECTURES, expand
from spec.errors import ConfigError
from spec.graph import Graph, build_graph
from spec.layers import Slot, TensorType
from spec.load import load_model

HEAD = """\
name: small
architecture: plain
inputs:
  image: {shape: [1, 3, 9, 7], dtype: float32, layout: NCHW}
weights: {path: model.ckpt}
"""
"""Five lines, so that a test's own text starts at line 6."""

CONVOLUTION = "filters: 4, kernel: 3, padding: valid, bias: false"


def graph_of(directory: Path, text: str, head: str = HEAD) -> Graph:
    path = directory / "model.yaml"
    path.write_text(head + dedent(text))
    model = load_model(path, ARCHITECTURES)
    return build_graph(model, expand(model))


def problems_of(directory: Path, text: str, head: str = HEAD) -> List[str]:
    with pytest.raises(ConfigError) as caught:
        graph_of(directory, text, head)
    return [problem.replace(f"{directory}/", "") for problem in caught.value.problems]


def test_a_graph(tmp_path):
    graph = graph_of(
        tmp_path,
        f"""\
        layers:
          - convolution: {{name: conv, {CONVOLUTION}}}
          - activation: {{name: relu, function: relu}}
          - pooling: {{name: pool, function: max, window: global}}
          - elementwise: {{name: sum, input: [relu, pool], function: sum}}
        outputs: [sum]
        """,
    )
    assert graph.name == "small" and graph.outputs == ("sum",) and graph.batch is None
    assert [(layer.name, layer.inputs) for layer in graph.layers] == [
        ("conv", ("image",)),
        ("relu", ("conv",)),
        ("pool", ("relu",)),
        ("sum", ("relu", "pool")),
    ]
    assert graph.tensors == {
        "image": TensorType((1, 3, 9, 7), "float32"),
        "conv": TensorType((1, 4, 7, 5), "float32"),
        "relu": TensorType((1, 4, 7, 5), "float32"),
        "pool": TensorType((1, 4, 1, 1), "float32"),
        "sum": TensorType((1, 4, 7, 5), "float32"),
    }
    assert [(layer.name, slot) for layer, slot in graph.slots()] == [
        ("conv", Slot("kernel", "o i h w", {"o": 4, "i": 3, "h": 3, "w": 3}))
    ]


def test_a_dynamic_batch_runs_through(tmp_path):
    text = """\
    batch: {min: 1, opt: 4, max: 8}
    layers:
      - reduce: {name: mean, function: mean, axes: [h, w]}
      - dense: {name: fc, units: 5, bias: true}
    outputs: fc
    """
    graph = graph_of(tmp_path, text)
    assert graph.batch is not None and graph.batch.opt == 4
    assert [tensor.shape for tensor in graph.tensors.values()] == [(-1, 3, 9, 7), (-1, 3), (-1, 5)]


def test_indices_of_top_k_are_a_tensor(tmp_path):
    text = """\
    layers:
      - top_k: {name: best, k: 2}
      - cast: {name: ids, input: best/indices, dtype: float32}
    outputs: [ids]
    """
    assert graph_of(tmp_path, text).tensors["best/indices"] == TensorType((1, 2, 9, 7), "int32")


def test_a_constant_does_not_read_the_layer_before(tmp_path):
    text = """\
    layers:
      - constant: {name: offset, shape: [1, 3, 1, 1], value: [1, 2, 3]}
      - elementwise: {name: sum, inputs: [image, offset], function: sum}
    outputs: [sum]
    """
    assert graph_of(tmp_path, text).layers[0].inputs == ()


RELU = "function: relu"

# (what is wrong, layers and outputs from line 6 on, the messages)
BROKEN = [
    (
        "a name twice",
        f"""\
        layers:
          - activation: {{name: a, {RELU}}}
          - activation: {{name: b, {RELU}}}
          - activation: {{name: a, {RELU}}}
        outputs: [a]
        """,
        ["model.yaml:9: layer 'a': 'a' is taken at model.yaml:7; rename one"],
    ),
    (
        "a layer named as the input",
        f"""\
        layers:
          - activation: {{name: image, {RELU}}}
        outputs: [image]
        """,
        [
            "model.yaml:7: layer 'image': 'image' is taken at model.yaml:4; rename one",
            "model.yaml:8: outputs: 'image' is an input",
        ],
    ),
    (
        "a layer named as another one's second tensor",
        f"""\
        layers:
          - top_k: {{name: best, k: 1}}
          - activation: {{name: best/indices, {RELU}}}
        outputs: [best]
        """,
        ["model.yaml:8: layer 'best/indices': 'best/indices' is taken at model.yaml:7; rename one"],
    ),
    (
        "an unknown input, with the nearest name",
        f"""\
        layers:
          - activation: {{name: stem/relu, {RELU}}}
          - activation: {{name: b, input: stem/rleu, {RELU}}}
        outputs: [b]
        """,
        ["model.yaml:8: layer 'b': no tensor 'stem/rleu' to read; did you mean 'stem/relu'?"],
    ),
    (
        "an input that is made further down",
        f"""\
        layers:
          - activation: {{name: a, input: b, {RELU}}}
          - activation: {{name: b, input: image, {RELU}}}
        outputs: [a]
        """,
        ["model.yaml:7: layer 'a': no tensor 'b' to read; it is made further down, move it up"],
    ),
    (
        "a layer that reads itself",
        f"""\
        layers:
          - activation: {{name: a, input: a, {RELU}}}
        outputs: [a]
        """,
        ["model.yaml:7: layer 'a': no tensor 'a' to read; that is this layer itself"],
    ),
    (
        "too few inputs",
        """\
        layers:
          - concatenation: {name: a}
        outputs: [a]
        """,
        ["model.yaml:7: layer 'a': concatenation takes 2 or more inputs, this one has 1"],
    ),
    (
        "too many inputs",
        f"""\
        layers:
          - activation: {{name: a, {RELU}}}
          - softmax: {{name: b, input: [a, image]}}
        outputs: [b]
        """,
        ["model.yaml:8: layer 'b': softmax takes 1 input, this one has 2"],
    ),
    (
        "a shape, and nothing about the layers behind it",
        f"""\
        layers:
          - convolution: {{name: a, {CONVOLUTION}, dilation: 4}}
          - activation: {{name: b, {RELU}}}
          - top_k: {{name: c, k: 99}}
          - activation: {{name: d, input: c/indices, {RELU}}}
        outputs: [d]
        """,
        ["model.yaml:7: layer 'a': a window of 9 does not fit into 0 + 7 + 0 = 7 pixels"],
    ),
    (
        "a parameter that only the channels decide",
        f"""\
        layers:
          - convolution: {{name: a, {CONVOLUTION}, groups: 2}}
        outputs: [a]
        """,
        ["model.yaml:7: layer 'a': 2 groups do not divide 3 channels into 4 filters"],
    ),
    (
        "a role that the layer does not have",
        f"""\
        layers:
          - convolution: {{name: a, {CONVOLUTION}, tensors: {{kernal: w, bias: b}}}}
        outputs: [a]
        """,
        [
            "model.yaml:7: layer 'a': tensors: no role 'kernal'; did you mean 'kernel'?; this convolution has kernel",
            "model.yaml:7: layer 'a': tensors: no role 'bias'; this convolution has kernel",
        ],
    ),
    (
        "a layer that nothing reads",
        f"""\
        layers:
          - activation: {{name: a, {RELU}}}
          - activation: {{name: b, input: image, {RELU}}}
        outputs: [b]
        """,
        ["model.yaml:7: layer 'a': nothing reads it and it is no output; remove or name it"],
    ),
    (
        "outputs that do not exist, and nothing about the layers they were meant for",
        f"""\
        layers:
          - activation: {{name: prob, {RELU}}}
        outputs:
          - prbo
          - image
        """,
        [
            "model.yaml:9: outputs: no layer 'prbo'; did you mean 'prob'?",
            "model.yaml:10: outputs: 'image' is an input",
        ],
    ),
    (
        "an output twice",
        f"""\
        layers:
          - activation: {{name: a, {RELU}}}
        outputs: [a, a]
        """,
        ["model.yaml:8: outputs: 'a' stands twice"],
    ),
    (
        "everything at once",
        f"""\
        layers:
          - activation: {{name: a, {RELU}}}
          - activation: {{name: a, {RELU}}}
          - dense: {{name: fc, units: 3, bias: true}}
          - softmax: {{name: prob}}
          - activation: {{name: c, input: imgae, {RELU}}}
        outputs: [prob, c, nothing]
        """,
        [
            "model.yaml:8: layer 'a': 'a' is taken at model.yaml:7; rename one",
            "model.yaml:9: layer 'fc': takes n i, its input is 1 x 3 x 9 x 7; put a flatten before it",
            "model.yaml:11: layer 'c': no tensor 'imgae' to read; did you mean 'image'?",
            "model.yaml:12: outputs: no layer 'nothing'",
        ],
    ),
]


@pytest.mark.parametrize(("text", "messages"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_problems(tmp_path, text, messages):
    assert problems_of(tmp_path, text) == messages


def test_an_input_that_no_layer_reads(tmp_path):
    head = HEAD.replace(
        "weights:",
        "  second: {shape: [1, 4, 4, 3], dtype: uint8, layout: NHWC, preprocessing: {scale: 1/255}}\nweights:",
    )
    text = f"""\
    layers:
      - activation: {{name: a, {RELU}}}
    outputs: [a]
    """
    assert problems_of(tmp_path, text, head) == ["model.yaml:5: input 'second': no layer reads it"]


def test_a_batch_without_bounds(tmp_path):
    text = f"""\
    layers:
      - activation: {{name: a, {RELU}}}
    outputs: [a]
    """
    assert problems_of(tmp_path, text, HEAD.replace("[1, 3", "[-1, 3")) == [
        "model.yaml:4: input 'image': its batch is -1; say batch: {min: 1, opt: 8, max: 32}, or a number"
    ]


def test_integers_reach_no_convolution(tmp_path):
    text = f"""\
    layers:
      - cast: {{name: whole, dtype: int32}}
      - convolution: {{name: conv, {CONVOLUTION}}}
    outputs: [conv]
    """
    assert problems_of(tmp_path, text) == [
        "model.yaml:8: layer 'conv': convolution takes float32 or float16, its input is int32; put a cast before it"
    ]


def test_bytes_reach_only_casts(tmp_path):
    head = HEAD.replace("shape: [1, 3, 9, 7], dtype: float32, layout: NCHW", "shape: [1, 7], dtype: uint8")
    text = """\
    layers:
      - cast: {name: same, dtype: uint8}
      - softmax: {name: prob}
    outputs: [prob]
    """
    assert problems_of(tmp_path, text, head) == [
        "model.yaml:8: layer 'prob': softmax takes float32 or float16, its input is uint8; put a cast before it"
    ]


def test_a_layers_name_may_not_be_one_that_an_input_adds(tmp_path):
    text = f"""\
    layers:
      - activation: {{name: a, {RELU}}}
      - activation: {{name: image/nchw, {RELU}}}
    outputs: [image/nchw]
    """
    head = HEAD.replace("[1, 3, 9, 7]", "[1, 9, 7, 3]").replace("NCHW", "NHWC")
    assert problems_of(tmp_path, text, head) == [
        "model.yaml:8: layer 'image/nchw': 'image/nchw' is taken at model.yaml:4; rename one"
    ]


def test_layers_of_an_architecture_point_at_its_line(tmp_path):
    head = HEAD.replace("plain", "resnet_torch").replace("[1, 3, 9, 7]", "[1, 3, 1, 1]")
    text = """\
    stem: {filters: 4, kernel: 9, stride: 2, padding: 0}
    stages: [{blocks: 1, width: 2, stride: 1}]
    epsilon: 1e-5
    classes: 5
    outputs: [fc]
    """
    assert problems_of(tmp_path, text, head) == [
        "model.yaml:2: layer 'conv1': a window of 9 does not fit into 0 + 1 + 0 = 1 pixels"
    ]
