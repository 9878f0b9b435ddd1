"""run.py precisions: errors that no number says are words, so that any reader of JSON takes the file."""

from __future__ import annotations

import json

import run
from commands.console import Console
from commands.precisions import Column, _print
from tests.own_logging import own_logging  # noqa: F401
from tests.small_models import SMALL, graph_of, write_small

BEYOND_HALF = "  - scale: {name: up, scale: 6.0e+4}\n  - scale: {name: down, scale: 1.6e-5}\n"


def refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def test_a_tensor_that_overflows_is_infinitely_wrong_in_json_too(tmp_path):
    text, output = SMALL.replace("  - flatten", BEYOND_HALF + "  - flatten"), tmp_path / "precisions.json"
    words = ["precisions", "--config", str(write_small(tmp_path, text)), "--backend", "tensorrt_rtx", "--on", "cpu"]
    assert run.main([*words, "--precisions", "fp32,fp16", "--json", str(output)]) == 0
    errors = json.loads(output.read_text(), parse_constant=refuse)["relative_l2"]
    assert errors["fp16"]["up"] == "inf" and errors["fp16"]["relu"] < 1e-2 and max(errors["fp32"].values()) < 1e-5


def test_what_an_int8_engine_fused_away_says_so(capsys):
    """The int8 column has fewer layers than the others; none of theirs is dropped for it."""
    graph = graph_of([("activation", {"name": name, "function": "relu"}) for name in "ab"], {"x": (1, 2, 3, 3)}, ["b"])
    fp32, int8 = Column({"a": 1e-7, "b": 2e-7}, {"b": 2e-7}, None), Column({"b": 0.02}, {"b": 0.03}, None)
    _print(Console(), graph, {"fp32": fp32, "int8": int8}, whole=True)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["a", "activation", "1.0e-07", "fused"] in rows and ["b", "activation", "2.0e-07", "2.0e-02"] in rows
    assert ["b", "as", "shipped", "2.0e-07", "3.0e-02"] in rows
