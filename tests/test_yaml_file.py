"""read_yaml: plain values with their lines, overrides, and every kind of text that is no config."""

from __future__ import annotations

import time
from pathlib import Path
from textwrap import dedent
from typing import Any, List, Union

import pytest

from spec.errors import ConfigError, TransplantFailure, UsageError
from spec.yaml_file import MOST_BYTES, Document, read_yaml


def document_of(directory: Path, text: Union[str, bytes], *overrides: str) -> Document:
    path = directory / "model.yaml"
    path.write_bytes(text if isinstance(text, bytes) else dedent(text).encode())
    return read_yaml(path, overrides)


def problems_of(directory: Path, text: Union[str, bytes], *overrides: str, error: type = ConfigError) -> List[str]:
    with pytest.raises(error) as caught:
        document_of(directory, text, *overrides)
    return [problem.replace(f"{directory}/", "") for problem in caught.value.problems]


NESTED = """\
name: m
layers:
  - conv: {kernel: 3,
           stride: 2}
  - pool:
      window: [2, 3]
"""


def test_values_and_lines(tmp_path):
    document = document_of(tmp_path, NESTED)
    assert document.data == {
        "name": "m",
        "layers": [{"conv": {"kernel": 3, "stride": 2}}, {"pool": {"window": [2, 3]}}],
    }
    lines = {keys: int(place.rpartition(":")[2]) for keys, place in document.places.items()}
    assert lines[("name",)] == 1
    assert lines[("layers", 0, "conv", "kernel")] == 3
    assert lines[("layers", 0, "conv", "stride")] == 4
    assert lines[("layers", 1)] == 5
    assert lines[("layers", 1, "pool", "window", 1)] == 6


def test_the_place_of_a_missing_key_is_the_one_above_it(tmp_path):
    document = document_of(tmp_path, NESTED)
    assert document.place(("layers", 1, "pool", "padding", "top")).endswith("model.yaml:5")
    assert document.place(("nothing",)).endswith("model.yaml:1")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1.001e-5", 1.001e-5),
        ("-2E+3", -2000.0),
        ("1.e5", 1e5),
        ("5", 5),
        (".5", 0.5),
        ("1/255", "1/255"),
        ("e5", "e5"),
        ("1e", "1e"),
        ("'1e-5'", "1e-5"),
        ("2020-01-02", "2020-01-02"),
        ("yes", True),
        ("~", None),
        ("", None),
        ("!!str 5", "5"),
        ("grün", "grün"),
        ("[1e-5, 2]", [1e-5, 2]),
    ],
)
def test_scalars(tmp_path, text, value):
    read = document_of(tmp_path, f"a: {text}\n").data["a"]
    assert read == value and type(read) is type(value)


def test_a_byte_order_mark_is_no_matter(tmp_path):
    assert document_of(tmp_path, "\ufeffname: m\n".encode()).data == {"name": "m"}


ANCHORS = """\
defaults: &defaults {padding: same, bias: true}
more: &more {bias: false, groups: 2}
layers:
  - {<<: *defaults, kernel: 3}
  - {kernel: 5, <<: *defaults, padding: valid}
  - {<<: [*defaults, *more], kernel: 7}
  - *defaults
  - {<<: *more, <<: *defaults}
"""


def test_anchors_aliases_and_merge_keys(tmp_path):
    document = document_of(tmp_path, ANCHORS)
    assert document.data["layers"] == [
        {"padding": "same", "bias": True, "kernel": 3},
        {"padding": "valid", "bias": True, "kernel": 5},
        {"padding": "same", "bias": True, "groups": 2, "kernel": 7},
        {"padding": "same", "bias": True},
        {"bias": False, "groups": 2, "padding": "same"},
    ]
    assert document.place(("layers", 0, "kernel")).endswith(":4")
    assert document.place(("layers", 0, "padding")).endswith(":1")
    assert document.place(("layers", 1, "padding")).endswith(":5")


def test_an_alias_is_a_copy_so_that_overriding_it_leaves_its_anchor(tmp_path):
    data = document_of(tmp_path, ANCHORS, "layers.3.bias=false").data
    assert data["layers"][3]["bias"] is False and data["defaults"]["bias"] is True


MALFORMED = [
    ("empty", b"", ["model.yaml: holds no mapping; a config starts with `name: ...`"]),
    ("comments only", "# nothing\n", ["model.yaml: holds no mapping; a config starts with `name: ...`"]),
    ("a list", "- 1\n- 2\n", ["model.yaml: holds no mapping; a config starts with `name: ...`"]),
    ("a word", "model\n", ["model.yaml: holds no mapping; a config starts with `name: ...`"]),
    ("not UTF-8", b"name: caf\xe9\n", ["model.yaml: is no UTF-8 text (byte 9); a config is a YAML file"]),
    ("an HDF5 file", b"\x89HDF\r\n\x1a\n", ["model.yaml: is no UTF-8 text (byte 0); a config is a YAML file"]),
    ("a control character", b"a: 1\nb: \x01\n", ["model.yaml:2: not valid YAML: a control character"]),
    ("an unclosed list", "a: 1\nb: [1, 2\n", [
        "model.yaml:3: not valid YAML: expected ',' or ']', but got '<stream end>'",
    ]),
    ("an unclosed quote", "a: 'x\n", ["model.yaml:2: not valid YAML: found unexpected end of stream"]),
    ("a tab", "a:\n\t- b\n", [
        "model.yaml:2: not valid YAML: found character '\\t' that cannot start any token; "
        "YAML is indented with spaces",
    ]),
    ("two documents", "a: 1\n---\nb: 2\n", ["model.yaml:2: not valid YAML: but found another document"]),
    ("an unknown alias", "a: *b\n", ["model.yaml:1: not valid YAML: found undefined alias 'b'"]),
    (
        "keys twice, at any depth",
        "a: 1\nb: {c: 1,\n    c: 2}\na: 3\n",
        [
            "model.yaml:3: key 'c' stands twice; the first is at model.yaml:2",
            "model.yaml:4: key 'a' stands twice; the first is at model.yaml:1",
        ],
    ),
    (
        "keys that are no text",
        "1: a\nyes: b\n[a]: c\n? {d: e}\n: f\n~: g\n",
        [
            "model.yaml:1: key 1 is no text; quote it",
            "model.yaml:2: key yes is no text; quote it",
            "model.yaml:3: key [...] is no text; quote it",
            "model.yaml:4: key [...] is no text; quote it",
            "model.yaml:6: key ~ is no text; quote it",
        ],
    ),
    ("a merge of no mapping", "a: {<<: 3}\nb: {<<: [1]}\n", [
        "model.yaml:1: `<<` merges mappings; name one with *alias",
        "model.yaml:2: `<<` merges mappings; name one with *alias",
    ]),
    ("numbers that are none", "a: !!int x\nb: !!bool maybe\n", [
        "model.yaml:1: 'x' is no int that configs have",
        "model.yaml:2: 'maybe' is no bool that configs have",
    ]),
    ("a tag for Python", "a: !!python/object/apply:os.system [ls]\n", [
        "model.yaml:1: tag tag:yaml.org,2002:python/object/apply:os.system is not for configs; leave it out",
    ]),
    ("binary", "a: !!binary aGVsbG8=\n", ["model.yaml:1: 'aGVsbG8=' is no binary that configs have"]),
    ("a NUL in a name", 'a: "b\\0"\n', ["model.yaml:1: 'b\\x00' is no str that configs have"]),
    ("half a surrogate pair", 'a: "\\ud800"\n', ["model.yaml:1: '\\ud800' is no str that configs have"]),
    ("an alias within itself", "a: &a [*a]\n", ["model.yaml: nests too deep; does an alias contain itself?"]),
    ("a merge of itself", "a: &a {<<: *a}\n", ["model.yaml: nests too deep; does an alias contain itself?"]),
    ("brackets without end", "[" * 5000, ["model.yaml: nests too deep; does an alias contain itself?"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "messages"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED])
def test_malformed(tmp_path, text, messages):
    assert problems_of(tmp_path, text)[: len(messages)] == messages


def bomb(form: str) -> str:
    """Nine levels of nine aliases each: a billion values in ten lines."""
    lines = ["a0: &a0 {x0: 1}" if "<<" in form else "a0: &a0 [x]"]
    for level in range(1, 10):
        lines.append(f"a{level}: &a{level} " + form.format(", ".join([f"*a{level - 1}"] * 9), level))
    return "\n".join(lines)


@pytest.mark.parametrize("form", ["[{0}]", "{{<<: [{0}], x{1}: 1}}"])
def test_a_billion_laughs_end_soon(tmp_path, form):
    start = time.perf_counter()
    assert problems_of(tmp_path, bomb(form)) == ["model.yaml: above 100000 values; its aliases multiply"]
    assert time.perf_counter() - start < 10


def test_a_file_of_the_wrong_kind_is_not_read_to_its_end(tmp_path):
    text = "a: " + "x" * MOST_BYTES
    assert problems_of(tmp_path, text) == ["model.yaml: is above 1000 kB; a config is a YAML file, not a checkpoint"]


def test_very_long_values_are_read(tmp_path):
    text = "a: " + "x" * 300_000 + "\nb: 0x" + "f" * 100 + "\n"
    data = document_of(tmp_path, text).data
    assert len(data["a"]) == 300_000 and data["b"] == 16**100 - 1


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent.yaml", "No such file or directory"), (".", "Is a directory"), ("a/b", "No such file")],
)
def test_files_that_cannot_be_read(tmp_path, name, message):
    with pytest.raises(UsageError, match=f"cannot be read: {message}"):
        read_yaml(tmp_path / name)


def value_at(data: Any, keys: str) -> Any:
    for key in keys.split("."):
        data = data[int(key) if isinstance(data, list) else key]
    return data


@pytest.mark.parametrize(
    ("override", "keys", "value"),
    [
        ("name=other", "name", "other"),
        ("name='5'", "name", "5"),
        ("layers.0.conv.kernel=5", "layers.0.conv.kernel", 5),
        ("layers.1.pool.window.1=7", "layers.1.pool.window.1", 7),
        ("layers.1.pool.window=[4, 5]", "layers.1.pool.window", [4, 5]),
        ("batch={min: 1, opt: 2, max: 3}", "batch.opt", 2),
        ("weights.path=a=b.ckpt", "weights.path", "a=b.ckpt"),
        ("new.deep.key=1e-5", "new.deep.key", 1e-5),
        ("name=", "name", None),
        ("layers.0.conv.0=1", "layers.0.conv.0", 1),
        ("tags.0=1", "tags.0", 1),
    ],
)
def test_overrides(tmp_path, override, keys, value):
    document = document_of(tmp_path, NESTED, override)
    assert value_at(document.data, keys) == value
    dotted = override.partition("=")[0]
    assert f"--set {dotted}" in document.places.values()


def test_an_empty_value_becomes_a_mapping_when_something_below_it_is_set(tmp_path):
    assert document_of(tmp_path, "batch:\n", "batch.min=1", "batch.max=2").data == {"batch": {"min": 1, "max": 2}}


def test_what_is_below_an_overridden_value_has_its_place(tmp_path):
    document = document_of(tmp_path, NESTED, "layers.1.pool={window: [9, x]}")
    assert document.place(("layers", 1, "pool", "window", 1)) == "--set layers.1.pool"
    assert document.place(("layers", 0, "conv", "kernel")).endswith("model.yaml:3")


def test_the_last_override_wins(tmp_path):
    assert document_of(tmp_path, NESTED, "name=a", "name=b").data["name"] == "b"


BAD_OVERRIDES = [
    ("name", ["--set name: wanted key=value, for example --set weights.path=model.ckpt"]),
    ("=3", ["--set =3: wanted key=value, for example --set weights.path=model.ckpt"]),
    ("a..b=3", ["--set a..b=3: wanted key=value, for example --set weights.path=model.ckpt"]),
    ("name=[1", ["--set name: not valid YAML: expected ',' or ']', but got '<stream end>'"]),
    ("name={a: 1, a: 2}", ["--set name: key 'a' stands twice; the first is at --set name"]),
    ("name.first=3", ["--set name.first: 'name' is a single value, nothing stands below it"]),
    ("layers.2=3", ["--set layers.2: 'layers' is a list, wanted a number below 2, found '2'"]),
    ("layers.-1=3", ["--set layers.-1: 'layers' is a list, wanted a number below 2, found '-1'"]),
    ("layers.x.y=3", ["--set layers.x.y: 'layers' is a list, wanted a number below 2, found 'x'"]),
    ("layers.².y=3", ["--set layers.².y: 'layers' is a list, wanted a number below 2, found '²'"]),
]


@pytest.mark.parametrize(("override", "messages"), BAD_OVERRIDES, ids=[row[0] for row in BAD_OVERRIDES])
def test_bad_overrides(tmp_path, override, messages):
    assert problems_of(tmp_path, NESTED, override, error=UsageError) == messages


def test_all_bad_overrides_at_once(tmp_path):
    assert len(problems_of(tmp_path, NESTED, "x", "name=ok", "layers.9=1", error=TransplantFailure)) == 2
