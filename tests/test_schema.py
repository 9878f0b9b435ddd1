"""The JSON Schema of a config: it fits what load_model accepts, refuses what it can tell is wrong, and explains."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from builders import ARCHITECTURES
from spec.layers import LAYERS
from spec.schema import json_schema
from spec.yaml_file import read_yaml

jsonschema = pytest.importorskip("jsonschema")

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
SCHEMA = json_schema(ARCHITECTURES)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

PLAIN = {
    "name": "small",
    "architecture": "plain",
    "inputs": {"image": {"shape": [1, 3, 9, 7], "dtype": "float32", "layout": "NCHW"}},
    "weights": {"path": "model.ckpt"},
    "layers": [
        {"convolution": {"name": "conv", "filters": 4, "kernel": 3, "padding": "same", "bias": True}},
        {"scale": {"name": "scale", "scale": "1/255", "input": "conv"}},
        {"elementwise": {"name": "sum", "inputs": ["conv", "scale"], "function": "sum"}},
    ],
    "outputs": ["sum"],
}
CONVOLUTION = ("layers", 0, "convolution")


def complaints(data: Any) -> List[str]:
    return [error.message for error in VALIDATOR.iter_errors(data)]


def changed(keys: tuple, value: Any) -> Any:
    data = copy.deepcopy(PLAIN)
    target: Any = data
    for key in keys[:-1]:
        target = target[key]
    if value is ...:
        del target[keys[-1]]
    else:
        target[keys[-1]] = value
    return data


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_it_is_the_same_each_time_and_plain_json():
    text = json.dumps(SCHEMA)
    assert json.dumps(json_schema(ARCHITECTURES)) == text
    assert json.loads(text) == SCHEMA


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_configs_of_this_repository_fit(path):
    assert complaints(read_yaml(path).data) == []


ACCEPTED = [
    (CONVOLUTION + ("padding",), 3),
    (CONVOLUTION + ("padding",), [0, 1]),
    (CONVOLUTION + ("padding",), [[0, 1], 2]),
    (CONVOLUTION + ("kernel",), [3, 5]),
    (CONVOLUTION + ("tensors",), {"kernel": "w"}),
    (CONVOLUTION + ("scope",), None),
    (("layers", 1, "scale", "scale"), [1, "1/2", 0.5]),
    (("layers", 1), {"pooling": {"name": "p", "function": "max", "window": "global"}}),
    (("layers", 1), {"softmax": {"name": "p", "axis": -1}}),
    (("outputs",), "sum"),
    (("batch",), {"min": 1, "opt": 2, "max": 4}),
    (("weights", "ignore"), "*.x"),
    (("reference",), {"graph": "m.meta", "feeds": {"keep_prob": 1, "phase": False, "sizes": [8, 0.5]}}),
]


@pytest.mark.parametrize(("keys", "value"), ACCEPTED)
def test_accepted(keys, value):
    assert complaints(changed(keys, value)) == []


REFUSED = [
    (("name",), ..., "'name' is a required property"),
    (("name",), 3, "3 is not of type 'string'"),
    (("name",), "../up", "does not match"),
    (("layers",), ..., "'layers' is a required property"),
    (("layers",), [], "[] should be non-empty"),
    (("layers",), {}, "{} is not of type 'array'"),
    (("architecture",), "plian", "'plian' is not one of ['plain', 'resnet_torch', 'resnet_keras', "),
    (("ouputs",), ["a"], "'ouputs' is not one of ["),
    (("stem",), {}, "'stem' is not one of ["),
    (("inputs",), {}, "{} should be non-empty"),
    (("inputs", "image", "dtype"), "float64", "'float64' is not one of ['uint8', 'float32', 'float16']"),
    (("inputs", "image", "layuot"), "NCHW", "'layuot' was unexpected"),
    (("inputs", "image", "shape"), [1, "3"], "'3' is not of type 'integer'"),
    (("inputs", "image", "shape"), [1], "[1] is too short"),
    (("weights",), "model.ckpt", "'model.ckpt' is not of type 'object'"),
    (("weights",), {}, "'path' is a required property"),
    (("batch",), {"min": 0, "opt": 1, "max": 1}, "is not valid under any of the given schemas"),
    (("layers", 0), {}, "{} should be non-empty"),
    (("layers", 0), "convolution", "'convolution' is not of type 'object'"),
    (("layers", 0, "softmax"), {"name": "s"}, "has too many properties"),
    (("layers", 0), {"convolutoin": {"name": "c"}}, "'convolutoin' was unexpected"),
    (CONVOLUTION + ("padding",), ..., "'padding' is a required property"),
    (CONVOLUTION + ("padding",), "sam", "'sam' is not valid under any of the given schemas"),
    (CONVOLUTION + ("padding",), -1, "-1 is not valid under any of the given schemas"),
    (CONVOLUTION + ("padding",), [1, 2, 3], "[1, 2, 3] is not valid under any of the given schemas"),
    (CONVOLUTION + ("kernel",), 0, "0 is not valid under any of the given schemas"),
    (CONVOLUTION + ("filters",), 0, "0 is less than the minimum of 1"),
    (CONVOLUTION + ("filters",), True, "True is not of type 'integer'"),
    (CONVOLUTION + ("bias",), 1, "1 is not of type 'boolean'"),
    (CONVOLUTION + ("strides",), 2, "'strides' was unexpected"),
    (("reference",), {"graph": "m.meta", "feeds": {"keep_prob": "all"}}, "'all'}} is not valid under any of"),
    (("reference",), {"graph": "m.meta", "feeds": {"keep_prob": []}}, "[]}} is not valid under any of the"),
    (("layers", 1, "scale", "scale"), "1:255", "'1:255' is not valid under any of the given schemas"),
]


@pytest.mark.parametrize(("keys", "value", "message"), REFUSED, ids=[f"{row[0][-1]}-{row[1]}" for row in REFUSED])
def test_refused(keys, value, message):
    assert message in " | ".join(complaints(changed(keys, value)))


@pytest.mark.parametrize("word", list(ARCHITECTURES))
def test_an_architecture_brings_its_own_keys(word):
    (choice,) = [each for each in SCHEMA["allOf"] if each["if"]["properties"]["architecture"]["const"] == word]
    assert list(choice["then"]["properties"]) == list(ARCHITECTURES[word].model_fields)
    assert choice["then"]["description"] == ARCHITECTURES[word].__doc__


def test_a_row_knows_every_layer_type_and_its_explanation():
    assert list(SCHEMA["$defs"]["Layer"]["properties"]) == list(LAYERS)
    for word, cls in LAYERS.items():
        layer = SCHEMA["$defs"][SCHEMA["$defs"]["Layer"]["properties"][word]["$ref"].rpartition("/")[2]]
        assert layer["description"].splitlines()[0] == cls.__doc__.splitlines()[0]
        assert {field.alias or name for name, field in cls.model_fields.items()} <= set(layer["properties"])


def references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from [schema["$ref"]] if "$ref" in schema else []
        for below in schema.values():
            yield from references(below)
    elif isinstance(schema, list):
        for below in schema:
            yield from references(below)


def test_references_and_definitions_match():
    named = {reference.rpartition("/")[2] for reference in references(SCHEMA)}
    assert named == set(SCHEMA["$defs"])


@pytest.mark.parametrize("word", ["convolution", "pooling", "batch_norm", "resize"])
def test_keys_are_explained(word):
    properties = SCHEMA["$defs"][LAYERS[word].__name__]["properties"]
    explained = [key for key, schema in properties.items() if "description" in schema]
    assert {"name", "input"} <= set(explained) and len(explained) >= len(properties) / 2
