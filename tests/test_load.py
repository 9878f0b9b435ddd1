"""load_model: what a valid file becomes, every message about an invalid one, and that nothing else comes out."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import pytest
import yaml

from builders import ARCHITECTURES, expand
from spec.errors import ConfigError, TransplantFailure, UsageError
from spec.graph import build_graph
from spec.load import load_model
from spec.model import ModelSpec
from spec.schema import json_schema
from spec.yaml_file import read_yaml

SCHEMA = pytest.importorskip("jsonschema").Draft202012Validator(json_schema(ARCHITECTURES))
CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))

PLAIN = """\
name: small
architecture: plain
inputs:
  image: {shape: [1, 3, 9, 7], dtype: float32, layout: NCHW}
weights: {path: model.ckpt}
layers:
  - convolution: {name: conv, filters: 4, kernel: 3, padding: same, bias: true}
  - batch_norm: {name: norm, epsilon: 1e-5}
outputs: [norm]
"""

RESNET = """\
name: small
architecture: resnet_torch
inputs:
  image: {shape: [1, 3, 32, 32], dtype: float32, layout: NCHW}
weights:
  path: model.pth
stem: {filters: 8, kernel: 7, stride: 2, padding: 3}
stages:
  - {blocks: 1, width: 4, stride: 1}
  - {blocks: 1, width: 8, stride: 2}
epsilon: 1e-5
classes: 10
outputs: fc
"""


def loaded(directory: Path, text: str, *overrides: str) -> ModelSpec:
    path = directory / "model.yaml"
    path.write_text(text, encoding="utf-8")
    return load_model(path, ARCHITECTURES, overrides)


def problems_of(directory: Path, text: str, *overrides: str) -> List[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(directory, text, *overrides)
    return [problem.replace(f"{directory}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_configs_of_this_repository(path):
    model = load_model(path, ARCHITECTURES)
    assert model.name == path.stem
    assert build_graph(model, expand(model)).outputs == model.outputs


def test_there_are_configs():
    assert len(CONFIGS) >= 4


def test_a_plain_model(tmp_path):
    model = loaded(tmp_path, PLAIN)
    assert (model.name, model.architecture, model.outputs) == ("small", "plain", ("norm",))
    convolution, norm = model.options.layers
    assert (convolution.kernel, convolution.padding, convolution.bias) == ((3, 3), "same", True)
    assert (norm.epsilon, norm.type) == (1e-5, "batch_norm")
    assert norm.place == f"{tmp_path}/model.yaml:8"
    assert model.weights_path == tmp_path.resolve() / "model.ckpt"
    assert model.input_shapes() == {"image": (1, 3, 9, 7)}


def test_a_dynamic_batch_takes_the_place_of_the_given_one(tmp_path):
    model = loaded(tmp_path, PLAIN + "batch: {min: 1, opt: 2, max: 4}\n")
    assert model.input_shapes() == {"image": (-1, 3, 9, 7)}


def test_an_absolute_path_of_weights_stays(tmp_path):
    assert loaded(tmp_path, PLAIN, "weights.path=/data/model.ckpt").weights_path == Path("/data/model.ckpt")


def test_a_path_is_relative_to_the_yaml_and_a_typed_one_to_where_it_was_typed(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert loaded(tmp_path, PLAIN).weights_path == (tmp_path / loaded(tmp_path, PLAIN).weights.path).resolve()
    assert loaded(tmp_path, PLAIN, "weights.path=a.ckpt").weights_path == tmp_path / "here" / "a.ckpt"
    assert loaded(tmp_path, PLAIN, "weights={path: a.ckpt}").weights_path == tmp_path / "here" / "a.ckpt"
    typed = loaded(tmp_path, PLAIN, "ranges=r.json", "reference.graph=g.meta")
    assert typed.ranges_path == tmp_path / "here" / "r.json" and loaded(tmp_path, PLAIN).ranges_path is None
    assert typed.beside(typed.reference.graph, "reference", "graph") == tmp_path / "here" / "g.meta"


def test_a_misspelt_architecture_key_is_told(tmp_path):
    problems = problems_of(tmp_path, PLAIN.replace("architecture:", "architekture:"))
    assert any("unknown key 'architekture'; did you mean 'architecture'?" in problem for problem in problems)
    assert not any("'layers'" in problem for problem in problems)
    assert problems_of(tmp_path, PLAIN, "weigths.path=x")[0].startswith("--set weigths.path: unknown key 'weigths'")


def test_places(tmp_path):
    model = loaded(tmp_path, RESNET, "classes=20")
    assert model.place("stages", 1, "width") == f"{tmp_path}/model.yaml:10"
    assert model.place("stages", 1, "absent") == f"{tmp_path}/model.yaml:10"
    assert model.place("classes") == "--set classes"
    assert model.place("absent") == f"{tmp_path}/model.yaml:1"


def test_one_name_is_a_list_of_one(tmp_path):
    assert loaded(tmp_path, RESNET, "weights.ignore='*.x'").weights.ignore == ("*.x",)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("3", ((3, 3), (3, 3))), ("[1, 2]", ((1, 1), (2, 2))), ("[[0, 1], [2, 3]]", ((0, 1), (2, 3))), ("valid", "valid")],
)
def test_spellings_of_padding(tmp_path, value, expected):
    model = loaded(tmp_path, PLAIN, f"layers.0.convolution.padding={value}")
    assert model.options.layers[0].padding == expected


FRACTIONS = [("1/255", 1 / 255), ("1 / 127.5", 1 / 127.5), ("-.5/2", -0.25), ("3", 3.0)]


@pytest.mark.parametrize(("text", "number"), FRACTIONS)
def test_numbers_may_be_fractions(tmp_path, text, number):
    model = loaded(tmp_path, PLAIN, f"inputs.image.preprocessing.scale={text}")
    assert model.inputs["image"].preprocessing.scale == number


PADDING = "pixels on every side, [height, width], or [[top, bottom], [left, right]]"
TEXT = "wanted text (numbers, yes and no are text in quotes)"

# (what is replaced in PLAIN, by what, the messages)
BROKEN = [
    # keys
    ("kernel: 3", "kernl: 3", ["7: layer 'conv': needs key 'kernel'",
                               "7: layer 'conv': unknown key 'kernl'; did you mean 'kernel'?"]),
    ("name: conv, ", "", ["7: convolution: needs key 'name'"]),
    ("name: small\n", "", ["1: needs key 'name'"]),
    ("outputs: [norm]\n", "", ["1: needs key 'outputs'"]),
    ("outputs:", "ouputs:", ["1: needs key 'outputs'", "9: unknown key 'ouputs'; did you mean 'outputs'?"]),
    ("layers:", "laiers:", ["6: unknown key 'laiers'; did you mean 'layers'?", "1: needs key 'layers'"]),
    ("layout: NCHW", "layuot: NCHW", ["4: inputs.image: unknown key 'layuot'; did you mean 'layout'?"]),
    ("path: model.ckpt", "paht: model.ckpt", ["5: weights: needs key 'path'",
                                              "5: weights: unknown key 'paht'; did you mean 'path'?"]),
    ("layout: NCHW", "layout: NCHW, preprocessing: {men: 1}",
     ["4: inputs.image.preprocessing: unknown key 'men'; did you mean 'mean'?"]),
    ("  image:", "  preprocessing: {sape: 1}\n  image:",
     ["4: inputs.preprocessing: needs key 'shape'", "4: inputs.preprocessing: needs key 'dtype'",
      "4: inputs.preprocessing: unknown key 'sape'; did you mean 'shape'?"]),
    # words
    ("plain", "plian", ["2: no architecture 'plian'; did you mean 'plain'?"]),
    ("plain", "yolo", ["2: no architecture 'yolo'; known: plain, resnet_keras, resnet_slim, resnet_tf, resnet_torch"]),
    ("convolution:", "convolutoin:", ["7: no layer type 'convolutoin'; did you mean 'convolution'?"]),
    ("convolution:", "Conv2D:", ["7: no layer type 'Conv2D'; write - convolution: {...}"]),
    ("convolution:", "Dropout:", ["7: no layer type 'Dropout'; leave it out: at inference it does nothing"]),
    ("convolution:", "identity:", ["7: no layer type 'identity'; leave it out: at inference it does nothing"]),
    ("convolution:", "adaptive_pooling:", [
        "7: no layer type 'adaptive_pooling'; write - pooling: {function: ..., window: global, ...} where its output "
        "is 1 x 1; where it is as large as the input, leave it out"]),
    ("convolution:", "channel_shuffle:", ["7: no layer type 'channel_shuffle'; write - reshape: {...} into groups, "
                                          "transpose: {...}, reshape: {...} back"]),
    ("convolution:", "split:", ["7: no layer type 'split'; write - slice: {...} for each part"]),
    ("convolution:", "relu6:", ["7: no layer type 'relu6'; write - activation: {function: relu6, ...}"]),
    ("float32", "float64", ["4: inputs.image.dtype: found 'float64', wanted one of uint8, float32, float16; "
                            "did you mean 'float16'?"]),
    ("padding: same", "padding: sam", [f"7: layer 'conv': padding: found 'sam', wanted same, same_lower, valid or "
                                       f"{PADDING}; did you mean 'same'?"]),
    # kinds of values
    ("name: small", "name: 3", [f"1: name: found 3, {TEXT}"]),
    ("name: small", "name: no", [f"1: name: found false, {TEXT}"]),
    ("name: small", "name:", [f"1: name: found nothing, {TEXT}"]),
    ("name: small", "name: ../up", ["1: name: found '../up', wanted a name of letters, digits, _, - and ."]),
    ("plain", "[plain]", [f"2: architecture: found ['plain'], {TEXT}"]),
    ("name: conv", "name: [1]", [f"7: layer '[1]': name: found [1], {TEXT}"]),
    ("name: conv", "name: ''", ["7: layer '': name: found '', it should have at least 1 character"]),
    ("[norm]", "[1]", [f"9: outputs.0: found 1, {TEXT}"]),
    ("[norm]", "{a: b}", ["9: outputs: found {'a': 'b'}, wanted a list"]),
    ("[norm]", "[]", ["9: outputs: found [], the list should have at least 1 item, not 0"]),
    ("{path: model.ckpt}", "model.ckpt", ["5: weights: found 'model.ckpt', wanted a mapping"]),
    ("{path: model.ckpt}", "[model.ckpt]", ["5: weights: found ['model.ckpt'], wanted a mapping"]),
    ("path: model.ckpt", "path: ''", ["5: weights.path: found '', it should have at least 1 character"]),
    ("[1, 3, 9, 7]", "3", ["4: inputs.image.shape: found 3, wanted a list"]),
    ("[1, 3, 9, 7]", "[1, 3.5, 9, 7]", ["4: inputs.image.shape.1: found 3.5, wanted a whole number"]),
    ("[1, 3, 9, 7]", "[1, '3', true, 7]", ["4: inputs.image.shape.1: found '3', wanted a whole number",
                                           "4: inputs.image.shape.2: found true, wanted a whole number"]),
    ("filters: 4", "filters: true", ["7: layer 'conv': filters: found true, wanted a whole number"]),
    ("filters: 4", "filters: '4'", ["7: layer 'conv': filters: found '4', wanted a whole number"]),
    ("filters: 4", "filters: 4.0", ["7: layer 'conv': filters: found 4.0, wanted a whole number"]),
    ("filters: 4", "filters: 0", ["7: layer 'conv': filters: found 0, it should be greater than or equal to 1"]),
    ("filters: 4", "filters: [4]", ["7: layer 'conv': filters: found [4], wanted a whole number"]),
    ("bias: true", "bias: 1", ["7: layer 'conv': bias: found 1, wanted true or false"]),
    ("bias: true", "bias: 'true'", ["7: layer 'conv': bias: found 'true', wanted true or false"]),
    ("kernel: 3", "kernel: true", ["7: layer 'conv': kernel: found True, wanted one whole number or [height, width]"]),
    ("kernel: 3", "kernel: [3, x]", ["7: layer 'conv': kernel.1: found 'x', wanted a whole number"]),
    ("kernel: 3", "kernel: [1, 2, 3]", ["7: layer 'conv': kernel: found [1, 2, 3], wanted one whole number or "
                                        "[height, width]"]),
    ("padding: same", "padding: -1", [f"7: layer 'conv': padding: found -1, wanted {PADDING}"]),
    ("padding: same", "padding: [[1, 2], 3.0]", [f"7: layer 'conv': padding: found [[1, 2], 3.0], wanted {PADDING}"]),
    ("1e-5", "yes", ["8: layer 'norm': epsilon: found true, wanted a number"]),
    ("1e-5", "'1e-5'", ["8: layer 'norm': epsilon: found '1e-5', wanted a number"]),
    ("1e-5", ".nan", ["8: layer 'norm': epsilon: found nan, wanted a finite number"]),
    ("1e-5", "1e999", ["8: layer 'norm': epsilon: found inf, wanted a finite number"]),
    ("1e-5", "0", ["8: layer 'norm': epsilon: found 0, it should be greater than 0"]),
    ("layout: NCHW", "layout: NCHW, preprocessing: {scale: 1/0}",
     ["4: inputs.image.preprocessing.scale: found '1/0', wanted a number"]),
    # rows
    ("  - batch_norm:", "  - 3\n  - batch_norm:", ["8: a layer is one row `- type: {name: ..., ...}`, found 3"]),
    ("  - batch_norm:", "  - {}\n  - batch_norm:", ["8: a layer is one row `- type: {name: ..., ...}`, found {}"]),
    ("  - batch_norm:", "  - relu:\n  - batch_norm:",
     ["8: a layer is one row `- type: {name: ..., ...}`, found {'relu': None}"]),
    # what belongs together
    ("outputs:", "batch: {min: 2, opt: 1, max: 3}\noutputs:", ["9: batch: needs min <= opt <= max, has 2, 1, 3"]),
    ("layout: NCHW", "layout: NCHW, preprocessing: {std: [1, 0, 1]}",
     ["4: inputs.image.preprocessing: std [1.0, 0.0, 1.0] divides by zero"]),
    ("filters: 4", "filters: 4, dilation: 0, groups: -1",
     ["7: layer 'conv': dilation: found 0, it should be greater than or equal to 1",
      "7: layer 'conv': groups: found -1, it should be greater than or equal to 1"]),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "messages"), BROKEN, ids=[f"{row[0]} -> {row[1]}" for row in BROKEN])
def test_problems(tmp_path, old, new, messages):
    assert old in PLAIN
    found = problems_of(tmp_path, PLAIN.replace(old, new, 1))
    assert sorted(found) == sorted(f"model.yaml:{message}" for message in messages)


def test_an_unknown_key_like_no_other_lists_those_there_are(tmp_path):
    (problem,) = problems_of(tmp_path, PLAIN.replace("bias: true", "bias: true, zzz: 1"))
    assert problem.startswith("model.yaml:7: layer 'conv': unknown key 'zzz'; known: bias, dilation, filters, groups, ")


def test_no_architecture_at_all(tmp_path):
    text = PLAIN.replace("architecture: plain\n", "")
    assert problems_of(tmp_path, text) == ["model.yaml:1: needs key 'architecture'"]


@pytest.mark.parametrize(("rows", "found"), [("3", "3"), ("{a: b}", "{'a': 'b'}"), ("convolution", "'convolution'")])
def test_layers_that_are_no_list(tmp_path, rows, found):
    assert problems_of(tmp_path, PLAIN, f"layers={rows}") == [f"--set layers: layers: found {found}, wanted a list"]


def test_an_empty_layer_list(tmp_path):
    expected = "--set layers: layers: found [], the list should have at least 1 item, not 0"
    assert problems_of(tmp_path, PLAIN, "layers=[]") == [expected]


def test_keys_of_an_architecture(tmp_path):
    text = RESNET.replace("blocks: 1, width: 8", "blocks: 0, widht: 8").replace("classes: 10", "clases: 10")
    assert problems_of(tmp_path, text) == [
        "model.yaml:12: unknown key 'clases'; did you mean 'classes'?",
        "model.yaml:10: stages.1.blocks: found 0, it should be greater than or equal to 1",
        "model.yaml:10: stages.1: needs key 'width'",
        "model.yaml:10: stages.1: unknown key 'widht'; did you mean 'width'?",
        "model.yaml:1: needs key 'classes'",
    ]


def test_all_problems_at_once(tmp_path):
    text = PLAIN.replace("small", "3").replace("float32", "flaot32").replace("path", "pth")
    text = text.replace("kernel: 3", "kernel: x").replace("1e-5", "-1")
    assert [problem.split(": ")[0] for problem in problems_of(tmp_path, text)] == [
        "model.yaml:1",
        "model.yaml:4",
        "model.yaml:5",
        "model.yaml:5",
        "model.yaml:7",
        "model.yaml:8",
    ]


def test_an_overridden_value_is_blamed_on_the_command_line(tmp_path):
    assert problems_of(tmp_path, PLAIN, "layers.1.batch_norm.epsilon=x") == [
        "--set layers.1.batch_norm.epsilon: layer 'norm': epsilon: found 'x', wanted a number"
    ]


BESIDE = "layers.0 is a row `- convolution: {name: ..., ...}`, whose keys stand below 'convolution'; say --set "


@pytest.mark.parametrize(
    ("override", "place", "right"),
    [
        ("layers.0.filters=8", "layers.0.filters", "layers.0.convolution.filters=..."),
        ("layers.0.kernel.0=8", "layers.0.kernel.0", "layers.0.convolution.kernel=..."),
        ("layers.0.dense.units=8", "layers.0.dense.units", "layers.0.convolution.KEY=..."),
    ],
)
def test_an_override_beside_a_layers_type_is_told_its_right_path(tmp_path, override, place, right):
    assert problems_of(tmp_path, PLAIN, override) == [f"--set {place}: {BESIDE}{right}"]


def test_overrides_of_whole_rows_are_rows(tmp_path):
    row = "{convolution: {name: conv, filters: 9, kernel: 1, padding: 0, bias: true}}"
    assert loaded(tmp_path, PLAIN, f"layers.0={row}").options.layers[0].filters == 9
    (problem,) = problems_of(tmp_path, PLAIN, "layers.0={convolution: {}, filters: 8}")
    assert problem.startswith("--set layers.0: a layer is one row `- type: {name: ..., ...}`, found ")


def test_a_word_in_capitals_is_told_its_own_spelling(tmp_path):
    text = PLAIN.replace("batch_norm: {name: norm, epsilon: 1e-5}", "activation: {name: norm, function: Relu}")
    (problem,) = problems_of(tmp_path, text)
    assert problem.endswith("did you mean 'relu'?")


def test_a_long_value_is_cut_in_its_message(tmp_path):
    (problem,) = problems_of(tmp_path, PLAIN.replace("kernel: 3", "kernel: " + "x" * 100_000))
    assert len(problem) < 300


def test_a_long_word_is_cut_in_its_message(tmp_path):
    word = "x" * 900
    (problem,) = problems_of(tmp_path, PLAIN.replace("bias: true", f"bias: true, {word}: 1"))
    assert len(problem) < 400


def test_a_network_of_endless_blocks_is_refused(tmp_path):
    (problem,) = problems_of(tmp_path, RESNET, "stages.0.blocks=1000000000")
    assert problem.endswith("stages.0.blocks: found 1000000000, it should be less than or equal to 1000")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"absent.yaml: cannot be read: No such file or directory"):
        load_model(tmp_path / "absent.yaml", ARCHITECTURES)


ODDITIES = [
    None, True, False, 0, -1, 1, 3.5, float("nan"), float("inf"), 10**30, "", "same", "1/255", "x" * 5000, "n",
    "global", "image", [], [1], [1, 2, 3, 4], [[1, 2], [3, 4]], [[]], [None], {}, {"name": "x"}, {"relu": None},
    {"a": {"b": []}},
    [{"activation": {"name": "z", "function": "relu"}}],
]  # fmt: skip


SLIPS = ("", "\n", "\t", "{", "]", ":", "*", "&", "!", "<<: ", "'", "%", "- ", "1", "\u00e9")


def spots(value: Any, path: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    """The keys that lead to every value, mappings and lists too."""
    if path:
        yield path
    if isinstance(value, (dict, list)):
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from spots(below, path + (key,))


def mutated(data: Any, dice: random.Random) -> Any:
    """One to three values replaced by oddities, removed, or moved under another key."""
    data = copy.deepcopy(data)
    for _ in range(dice.randint(1, 3)):
        *above, key = dice.choice(list(spots(data)))
        holder = data
        for step in above:
            holder = holder[step]
        action = dice.choice(("replace", "replace", "remove", "rename", "copy"))
        if action == "replace":
            holder[key] = copy.deepcopy(dice.choice(ODDITIES))
        elif action == "copy":
            holder[key] = copy.deepcopy(dice.choice([data[word] for word in sorted(data)] or [None]))
        else:
            value = holder.pop(key)
            if action == "rename" and isinstance(holder, dict):
                holder[dice.choice(("nmae", "input", "inputs", "layers", "epsilon", "0"))] = value
        if not data:
            break
    return data


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_whatever_is_thrown_at_it_only_our_errors_come_out(path, tmp_path):
    dice = random.Random(path.stem)
    data = read_yaml(path).data
    assert outcome(tmp_path, yaml.safe_dump(data, sort_keys=False)) == "graph"
    outcomes = set()
    for _ in range(60):
        text = yaml.safe_dump(mutated(data, dice), default_flow_style=dice.choice((None, True)), sort_keys=False)
        outcomes.add(outcome(tmp_path, text))
    assert "ConfigError" in outcomes and outcomes <= {"graph", "ConfigError"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_damaged_text_makes_only_our_errors(path, tmp_path):
    """A character replaced, dropped or doubled, a line moved: what a slip of the hand does."""
    dice = random.Random(path.stem)
    text = path.read_text(encoding="utf-8")
    outcomes = set()
    for _ in range(40):
        letters = list(text)
        for _ in range(dice.randint(1, 4)):
            letters[dice.randrange(len(letters))] = dice.choice(SLIPS)
        outcomes.add(outcome(tmp_path, "".join(letters)))
    assert "ConfigError" in outcomes and outcomes <= {"graph", "ConfigError"}


def outcome(directory: Path, text: str) -> str:
    """How far a text comes; any exception but ours fails the test, and so does a schema that would refuse it."""
    try:
        model = loaded(directory, text)
        SCHEMA.validate(read_yaml(model.path).data)
        build_graph(model, expand(model))
    except TransplantFailure as failure:
        assert failure.problems and all(problem.isprintable() for problem in failure.problems), failure.problems
        assert len(str(failure)) < 200_000
        return type(failure).__name__
    return "graph"
