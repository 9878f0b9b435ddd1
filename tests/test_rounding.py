"""verify.rounding: a right network whose float32 strays further than the tolerance passes, a wrong one does not."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np
import pytest

from engine.interpreter import Interpreter
from engine.network import define
from tests.backends import rtx
from tests.small_models import graph_of
from verify.compare import LayerRow
from verify.difference import Tolerance, difference
from verify.report import verdict_lines
from verify.rounding import ROUNDINGS, allowed_rounding, rounding_notes, with_rounding
from verify.verification import Activations, Verification, verify

CHANNELS = 16
LARGE = 4000.0
"""The convolution adds it and the batch norm takes it away: float32 loses up to 2e-4 of numbers about 10."""

GRAPH = graph_of(
    [
        ("convolution", {"name": "conv", "filters": CHANNELS, "kernel": 1, "padding": "valid", "bias": True}),
        ("batch_norm", {"name": "bn", "epsilon": 1.0, "beta": False}),
        ("activation", {"name": "relu", "function": "relu"}),
    ],
    {"image": (1, CHANNELS, 8, 8)},
    ["relu"],
)
KERNEL = np.random.default_rng(0).standard_normal((CHANNELS, CHANNELS, 1, 1)).astype(np.float32)
ONES = np.ones(CHANNELS, np.float32)
ARRAYS = {
    ("conv", "kernel"): KERNEL,
    ("conv", "bias"): ONES * LARGE,
    ("bn", "gamma"): ONES * 2,
    ("bn", "mean"): ONES * LARGE,
    ("bn", "variance"): ONES * 3,  # with epsilon the square of gamma: the factor is 1, and a layer alone loses nothing
}
IMAGE = np.random.default_rng(1).standard_normal((1, CHANNELS, 8, 8)).astype(np.float32)


def framework(wrong: float = 0.0) -> Dict[str, np.ndarray]:
    """What another float32 program makes of it: it begins with the bias, where we end with it."""
    halves = np.split(KERNEL[:, :, 0, 0], 2, axis=1), np.split(IMAGE, 2, axis=1)
    conv = np.full(IMAGE.shape, LARGE, np.float32)
    for kernel, image in zip(*halves):
        conv = conv + np.einsum("oi,nihw->nohw", kernel, image)
    conv += np.float32(wrong)
    bn = conv - np.float32(LARGE)
    return {"conv": conv, "bn": bn, "relu": np.maximum(bn, 0)}


def verified(arrays: Dict[str, np.ndarray]) -> Verification:
    definition = define(GRAPH, ARRAYS, rtx())
    names = {name: name for name in arrays}
    activations = Activations(arrays, names, {"image": IMAGE}, "another program", "random numbers")
    return verify(definition, activations, Tolerance(), lambda name: lambda role: iter(()))


def test_what_float32_loses_on_the_way_is_no_mistake():
    comparison = verified(framework()).comparison
    assert comparison.passed and comparison.needed <= 1e-5
    rows = {row.layer: row.accumulated for row in comparison.rows}
    assert rows["conv"].rounding == 0 and rows["relu"].error > 1e-5 and 1e-6 < rows["relu"].rounding < 1e-4
    [said] = [line for line in verdict_lines(comparison) if line.startswith("rounding: ")]
    assert "2 of 3 tensors are further off than that" in said and "each layer passes by itself" in said
    allowed = allowed_rounding(comparison.rows)
    assert allowed == {name: pytest.approx(ROUNDINGS * rows[name].rounding) for name in ("bn", "relu")}


def test_more_than_float32_loses_is_one():
    """A millionth of what the convolution makes, so that every layer passes by itself."""
    comparison = verified(framework(wrong=4e-3)).comparison
    assert not comparison.passed and {row.layer for row in comparison.failed} == {"bn", "relu"}
    assert all(row.inherited for row in comparison.failed)
    assert not any(line.startswith("rounding: ") for line in verdict_lines(comparison))


def test_a_layer_that_is_wrong_by_itself_forgives_nobody():
    comparison = verified({**framework(), "relu": framework()["bn"]}).comparison
    assert {row.layer for row in comparison.failed} == {"bn", "relu"}


def row_of(ours: Any, reference: Any, **alone: Any) -> LayerRow:
    accumulated = difference(ours, reference, Tolerance())
    isolated = difference(reference, alone.get("reference", reference), Tolerance())
    return LayerRow("a", "relu", ours.shape, "a", isolated, accumulated)


@pytest.mark.parametrize("times, passes", [(0, True), (ROUNDINGS * 0.99, True), (ROUNDINGS * 1.01, False), (-9, False)])
def test_the_reference_is_as_near_to_float64_as_rounding_brings_it(times, passes):
    exact = np.array([1.0, 2.0])
    ours, reference = exact + [0, 1e-4], exact + [0, times * 1e-4]
    [row] = with_rounding([row_of(ours, reference)], {"a": ours}, {"a": reference}, lambda names: {"a": exact})
    assert row.passed == passes and bool(row.accumulated.rounding) == passes
    assert len(list(rounding_notes([row]))) == passes


def test_where_all_pass_nothing_is_run():
    ours = np.ones(2)

    def exact(names: Any) -> Any:
        raise AssertionError("nobody asked for float64")

    [row] = with_rounding([row_of(ours, ours)], {"a": ours}, {"a": ours}, exact)
    assert row.passed and not row.accumulated.rounding


def test_whole_numbers_are_never_rounded():
    ours, reference = np.array([1, 2]), np.array([1, 3])
    row = row_of(ours, reference)
    assert with_rounding([row], {"a": ours}, {"a": reference}, lambda names: {"a": ours}) == [row]


def test_the_interpreter_in_float64_is_what_the_network_means():
    found = Interpreter(define(GRAPH, ARRAYS, rtx()).network, rtx().module, np.float64).run({"image": IMAGE}, ["bn"])
    wanted = np.einsum("oi,nihw->nohw", KERNEL[:, :, 0, 0].astype(np.float64), IMAGE.astype(np.float64))
    np.testing.assert_allclose(found["bn"], wanted, atol=1e-9)
