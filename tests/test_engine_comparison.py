"""verify.engine_comparison: what is judged in which precision, what is said of two engines, and all of it in reports.

The engines' tensors are the interpreter's, of the small model in fp32 and with its tensors rounded to half, so every
number is a network's; what only a GPU gives is in test_inside.py.
"""

from __future__ import annotations

import json
from typing import Any, Dict, NamedTuple

import numpy as np
import pytest

from engine.interpreter import Interpreter
from engine.network import Definition, define
from engine.tensorrt_api import load
from engine.tolerance import OUTPUT_TOLERANCES, output_rtol
from spec.graph import Graph
from spec.precision import EXCEPTIONS
from tests.small_models import graph_of, random_arrays
from verify.compare import Comparison, Tolerance
from verify.engine_comparison import (
    Seen,
    compare_engine,
    interpreted_activations,
)
from verify.report import print_table, verdict_lines, write_json
from verify.report.page import render
from verify.verification import Activations

LAYERS = [
    ("convolution", {"name": "conv", "filters": 4, "kernel": 3, "stride": 1, "padding": "same", "bias": True}),
    ("batch_norm", {"name": "bn", "epsilon": 1e-3}),
    ("activation", {"name": "relu", "function": "relu"}),
    ("softmax", {"name": "prob"}),
]
NAMES = ["conv", "bn", "relu", "prob"]
INPUT = {"image": np.random.default_rng(0).standard_normal((1, 3, 5, 7)).astype(np.float32)}


class Case(NamedTuple):
    """The small network and what its reference gave."""

    graph: Graph
    definition: Definition
    activations: Activations
    exact: Dict[str, np.ndarray]

    def compared(self, word: str = "fp32", inside: Any = None, shipped: Any = None, way: str = "marked") -> Comparison:
        """A comparison of what the engines gave; the interpreter's float32 where left out."""
        return self.verified(word, inside, shipped, way).comparison

    def verified(self, word: str = "fp32", inside: Any = None, shipped: Any = None, way: str = "marked") -> Any:
        inside = self.exact if inside is None else inside
        shipped = {"prob": self.exact["prob"]} if shipped is None else shipped
        seen = Seen(inside, shipped, way, "an engine")
        return compare_engine(self.graph, self.activations, seen, (word,), Tolerance(rtol=output_rtol([word])))


@pytest.fixture(scope="module")
def case() -> Case:
    graph = graph_of(LAYERS, {"image": (1, 3, 5, 7)}, ["prob"])
    definition = define(graph, random_arrays(graph), load())
    exact = Interpreter(definition.network, definition.tensorrt.module).run(INPUT, NAMES)
    return Case(graph, definition, interpreted_activations(definition, INPUT, "noise"), exact)


def rounded(arrays: Dict[str, np.ndarray], relative: float) -> Dict[str, np.ndarray]:
    """Every array off by a part of its largest magnitude, everywhere."""
    return {name: (array + relative * np.abs(array).max()).astype(np.float32) for name, array in arrays.items()}


def test_in_fp32_every_layer_and_the_shipped_outputs_are_judged(case):
    comparison = case.compared()
    assert comparison.passed and comparison.kinds == ("accumulated", "shipped")
    assert [row.judged for row in comparison.rows] == [("accumulated",)] * 3 + [("accumulated", "shipped")]
    assert comparison.candidate == "an engine, every layer's tensor marked as an output"
    [said] = comparison.notes
    assert said == "marking changes little: prob differs by 0.0e+00 of its largest from the shipped engine's"


def test_a_layer_that_is_off_fails_in_fp32_and_is_only_measured_in_fp16(case):
    off = {**case.exact, "bn": rounded(case.exact, 1e-3)["bn"]}
    failed, measured = case.compared("fp32", off), case.compared("fp16", off)
    assert not failed.passed and failed.first_bad.layer == "bn" and [row.layer for row in failed.failed] == ["bn"]
    assert measured.passed and measured.rows[1].judged == () and measured.rows[1].accumulated.error > 9e-4
    assert verdict_lines(failed)[-1].startswith("  diagnosis: run.py diff without --engine tells whether")


@pytest.mark.parametrize("word", OUTPUT_TOLERANCES)
@pytest.mark.parametrize("factor, passed", [(0.9, True), (1.1, False)])
def test_the_shipped_outputs_are_judged_by_the_precision(case, word, factor, passed):
    exact = case.activations.arrays["prob"]
    off = {"prob": exact + factor * OUTPUT_TOLERANCES[word].rtol * np.abs(exact).max()}
    comparison = case.compared(word, shipped=off)
    assert comparison.passed is passed
    assert passed or comparison.first_bad.layer == "prob"


@pytest.mark.parametrize("word, words", [("fp32", ""), ("fp16", "5e-03"), ("int8", "0.1")])
def test_the_tolerance_of_a_precision_is_said_with_its_reason(case, word, words):
    said = [note for note in case.compared(word).notes if note.startswith("outputs are judged, layers only measured")]
    assert len(said) == (word != "fp32")
    assert not said or said[0].endswith(f"{OUTPUT_TOLERANCES[word].rtol:g}: {OUTPUT_TOLERANCES[word].why}")


def test_the_least_exact_precision_decides():
    assert output_rtol(["fp32"]) == 1e-5 and output_rtol(["fp16", "fp32"]) == 5e-3
    assert output_rtol(["int8", "fp16", "fp32"]) == 1e-1
    assert set(EXCEPTIONS) < set(OUTPUT_TOLERANCES)


def test_two_engines_that_differ_are_said_to(case):
    off = rounded(case.exact, 3.1e-4)
    [said] = case.compared(inside=off).notes
    assert said == (
        "marking changes fusion: prob differs by 3.1e-04 of its largest between the marked and the shipped engine; "
        "trust the shipped one; the layers' errors are of the marked one"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_fails_in_every_precision(case, value):
    broken = {**case.exact, "conv": np.full_like(case.exact["conv"], value)}
    for word in OUTPUT_TOLERANCES:
        comparison = case.compared(word, broken)
        assert not comparison.passed and "NaN or infinite" in comparison.first_bad.problem


@pytest.mark.parametrize("word", ["fp32", "fp16"])
def test_a_tensor_that_is_missing_fails_where_every_tensor_was_asked_for(case, word):
    inside = {name: array for name, array in case.exact.items() if name != "bn"}
    for way in ("marked", "debug"):
        comparison = case.compared(word, inside, way=way)
        assert not comparison.passed and comparison.first_bad.problem == "the engine has no tensor of this name"


def test_what_tensorrt_fused_away_is_listed_and_the_rest_compared(case):
    inside = {**{name: case.exact[name] for name in ("relu", "prob")}, "internal 1": np.zeros(3)}
    comparison = case.compared("fp32", inside, way="unfused")
    assert comparison.passed and [row.layer for row in comparison.rows] == ["relu", "prob"]
    assert comparison.notes[1] == "2 of 4 tensors are in the engine; TensorRT fused away conv, bn"
    assert comparison.notes[0].startswith("looking changes little")


def test_an_output_that_the_shipped_engine_lacks_fails(case):
    comparison = case.compared(shipped={})
    assert not comparison.passed and comparison.rows[3].problem == "the shipped engine has no tensor of this name"


def test_a_layer_that_the_reference_lacks_fails(case):
    arrays = {name: array for name, array in case.activations.arrays.items() if name != "bn"}
    lacking = case._replace(activations=case.activations._replace(arrays=arrays))
    for word in ("fp32", "fp16"):
        assert lacking.compared(word).first_bad.problem == "the reference has no tensor of this name"


@pytest.mark.parametrize("word", OUTPUT_TOLERANCES)
@pytest.mark.parametrize("changed, passed", [(0, True), (-1, False)])
def test_a_class_that_is_one_off_is_never_passed_silently(word, changed, passed):
    """Class 323159 is not 323160, though they are the same to 3e-6: no tolerance is for whole numbers."""
    graph = graph_of([("argmax", {"name": "best", "axis": 1})], {"image": (1, 400000)}, ["best"])
    scores = np.zeros((1, 400000), np.float32)
    scores[0, 323160] = 1
    inputs, best = {"image": scores}, np.array([323160 + changed], np.int32)
    activations = Activations({"best": np.array([323160])}, {}, inputs, "a framework", "noise")
    seen = Seen({"best": best}, {"best": best}, "marked", "an engine")
    found = compare_engine(graph, activations, seen, (word,), Tolerance(rtol=output_rtol([word]))).comparison
    assert found.passed is passed
    assert passed or "shipped 1 differs" in verdict_lines(found)[-2 - 1]


@pytest.mark.parametrize("word, passed", [("fp32", False), ("fp16", True), ("int8", True)])
def test_a_near_tie_may_be_decided_otherwise_within_what_scores_may_be_off(word, passed):
    graph = graph_of([("argmax", {"name": "best", "axis": 1})], {"image": (1, 5)}, ["best"])
    inputs, best = {"image": np.float32([[0, 2, 1.99, 0, 0]])}, np.array([2], np.int32)
    activations = Activations({"best": np.array([1])}, {}, inputs, "a framework", "noise")
    seen = Seen({"best": best}, {"best": best}, "marked", "an engine")
    found = compare_engine(graph, activations, seen, (word,), Tolerance(rtol=output_rtol([word]))).comparison
    assert found.passed is passed
    said = "best, shipped: 1 of 1 indices chosen otherwise, all near-ties"
    assert any(note.startswith(said) for note in found.notes) is passed


def test_our_own_definition_as_the_reference_says_what_it_proves(case):
    assert case.activations.arrays["conv"].dtype == np.float64
    assert case.compared().reference.endswith("this proves the engine, not the model")
    assert 0 < case.compared().rows[0].accumulated.error < 1e-6


# Reports


def test_the_table_has_a_column_for_each_kind_and_none_for_isolated(case):
    lines = []
    print_table(case.compared("fp16", rounded(case.exact, 1e-2)), lines.append, None)
    assert "isolated" not in lines[1] and "accumulated  shipped  rel. L2" in lines[1]
    results = [line.split("  ")[-1] for line in lines[2:]]
    assert sorted(results) == ["not judged"] * 3 + ["passed"]


def test_the_verdict_counts_what_is_judged_and_repeats_the_notes(case):
    lines = verdict_lines(case.compared("fp16"))
    assert lines[3].startswith("1 of 1 layers passed, 3 only measured: |c - r| <= 0 + 0.005 * max|r|; the smallest")
    assert set(case.compared("fp16").notes) < set(lines)


def test_json_has_every_kind_and_the_notes(case, tmp_path):
    write_json(case.compared("fp16"), tmp_path / "c.json")
    plain = json.loads((tmp_path / "c.json").read_text())
    assert plain["passed"] and len(plain["notes"]) == 2
    assert plain["rows"][0]["judged"] == [] and plain["rows"][0]["isolated"] is None
    assert plain["rows"][3]["judged"] == ["shipped"] and plain["rows"][3]["shipped"]["relative_l2"] < 1e-6


@pytest.mark.parametrize("word, verdict", [("fp16", "PASSED"), ("fp32", "FAILED")])
def test_the_page_shows_an_engine(case, word, verdict):
    pytest.importorskip("plotly")
    pytest.importorskip("jinja2")
    verified = case.verified(word, rounded(case.exact, 1e-3))
    page = render(verified.comparison, case.graph, verified.arrays, [])
    assert f"<h1>{verdict}</h1>" in page and "<em>Shipped</em>" in page and "<em>Isolated</em>" not in page
    assert 'value="accumulated" checked' in page and 'value="isolated"' not in page
    assert "marking changes" in page and 'data-measure="accumulated"' in page
    assert ("accumulated-failed" in page.split("</style>")[1]) is (word == "fp32")
    assert ("not judged" in page) is (word == "fp16")


def test_where_no_engine_can_be_looked_into_the_notes_say_what_the_layers_are_of(case):
    seen = Seen(case.exact, {"prob": rounded(case.exact, 1e-2)["prob"]}, "marked", "an engine", "the CPU")
    verified = compare_engine(case.graph, case.activations, seen, ("int8",), Tolerance(rtol=output_rtol(["int8"])))
    assert verified.comparison.notes[0].startswith("layers are of the CPU; its prob and the shipped engine's differ by")
    assert verified.comparison.passed and verified.comparison.candidate == "an engine, the CPU"
