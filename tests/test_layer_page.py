"""spec.layer_page: docs/layers.md is what it writes, every key is in it, and its example is right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import run
from spec.layer_page import COMMON, layer_page
from spec.layers import LAYERS
from tests.own_logging import own_logging  # noqa: F401

PAGE = layer_page()


def test_the_page_in_docs_is_of_now(capsys):
    path = Path(__file__).resolve().parents[1] / "docs" / "layers.md"
    assert path.read_text() == PAGE, "python run.py schema --layers > docs/layers.md"
    assert run.main(["schema", "--layers"]) == 0 and capsys.readouterr().out == PAGE


@pytest.mark.parametrize("word", LAYERS)
def test_every_key_of_a_layer_has_its_row(word):
    section = PAGE.split(f"\n## {word}\n")[1].split("\n## ")[0]
    keys = {field.alias or name for name, field in LAYERS[word].model_fields.items()} - {*COMMON, "inputs"}
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.M)) == keys


@pytest.mark.parametrize(
    "row",
    [
        "| `kernel` | integer or [integer, integer] |  | kernel size |",
        "| `padding` | `same`, `same_lower`, `valid` or integer or [integer, integer] or pairs |  |",
        "| `axes` | [`n`, `c`, `h`, `w` or integer, ...] |  |  |",
        "| `stride` | integer or [integer, integer] | left out | the window's size where left out |",
        "| `alpha` | number |  |  |",
    ],
)
def test_values_are_said_in_words(row):
    assert f"\n{row}" in PAGE


def test_the_rows_of_the_example_are_layers():
    rows = yaml.safe_load(PAGE.split("```yaml\n")[1].split("```")[0])
    assert len(rows) == 10
    for [(word, keys)] in (row.items() for row in rows):
        assert LAYERS[word].model_validate(keys).name == keys["name"]
