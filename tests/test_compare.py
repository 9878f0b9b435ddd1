"""verify.compare: every figure against its own formula, every refusal, and what a comparison concludes."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from tests.small_comparison import EPSILON, compared
from verify.compare import Comparison, LayerRow, Tolerance, difference

STRICT = Tolerance(rtol=1e-5)
SHAPES = [(1,), (3, 5), (2, 3, 7, 4)]


def pair(shape: Any, scale: float = 1e-6, seed: int = 0) -> Any:
    """A float32 candidate near a float32 reference of a shape."""
    rng = np.random.default_rng(seed)
    reference = rng.standard_normal(shape).astype(np.float32)
    return (reference + scale * rng.standard_normal(shape)).astype(np.float32), reference


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_every_figure_against_plain_python(shape, seed):
    candidate, reference = pair(shape, 1e-3, seed)
    found = difference(candidate, reference, Tolerance(atol=1e-4, rtol=1e-5))
    cs, rs = [float(x) for x in candidate.flat], [float(x) for x in reference.flat]
    gaps = [abs(c - r) for c, r in zip(cs, rs)]
    largest = max(abs(r) for r in rs)
    norm_c, norm_r = math.sqrt(math.fsum(c * c for c in cs)), math.sqrt(math.fsum(r * r for r in rs))
    assert found.max_abs == max(gaps)
    assert found.magnitude == largest
    assert found.error == max(gaps) / largest
    assert found.max_rel == pytest.approx(max(g / abs(r) for g, r in zip(gaps, rs)), rel=1e-12)
    assert found.relative_l2 == pytest.approx(math.sqrt(math.fsum(g * g for g in gaps)) / norm_r, rel=1e-12)
    assert found.cosine == pytest.approx(math.fsum(c * r for c, r in zip(cs, rs)) / (norm_c * norm_r), rel=1e-12)
    mean_square = math.fsum(g * g for g in gaps) / len(gaps)
    assert found.psnr == pytest.approx(20 * math.log10(largest / math.sqrt(mean_square)), rel=1e-12)
    assert found.needed == pytest.approx(max(max(gaps) - 1e-4, 0.0) / largest, rel=1e-12)
    assert found.passed == (max(gaps) <= 1e-4 + 1e-5 * largest)


def test_worst_element_has_index_and_both_values():
    candidate, reference = pair((2, 3, 4))
    candidate[1, 2, 3] = reference[1, 2, 3] - 7
    index, c, r = difference(candidate, reference, STRICT).worst
    assert index == (1, 2, 3)
    assert (c, r) == (float(candidate[1, 2, 3]), float(reference[1, 2, 3]))


@pytest.mark.parametrize("offset, passed", [(0.125, True), (0.25, True), (0.2500001, False)])
def test_the_tolerance_is_inclusive_and_uses_both_parts(offset, passed):
    found = difference(np.array([2.0, 1.0 + offset]), np.array([2.0, 1.0]), Tolerance(atol=0.125, rtol=0.0625))
    assert found.passed is passed
    assert (found.needed <= 0.0625) is passed


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "uint8", "bool"])
def test_equal_arrays_are_exact(dtype):
    array = np.array([0, 1, 1], dtype)
    found = difference(array, array.copy(), Tolerance(rtol=0.0))
    assert found[:3] == (0, 0, 0) and found.error == 0 and found.needed == 0 and found.passed
    assert found.cosine == pytest.approx(1) and found.psnr == math.inf


def test_unsigned_integers_do_not_wrap_around():
    assert difference(np.uint8([0]), np.uint8([255]), STRICT).max_abs == 255


@pytest.mark.parametrize(
    "candidate, reference",
    [
        (np.int32([323160]), np.int64([323159])),
        (np.uint8([[255, 254]]), np.uint8([[255, 255]])),
        (np.array([True, False]), np.array([True, True])),
        (np.float32([323160]), np.int32([323159])),
        (np.int32([323160]), np.float32([323159])),
    ],
    ids=["index", "uint8", "bool", "whole reference", "whole candidate"],
)
def test_whole_numbers_are_equal_or_wrong(candidate, reference):
    found = difference(candidate, reference, Tolerance(atol=10.0, rtol=1.0))
    assert not found.passed and found.differing == 1 and found.error == found.needed == math.inf
    equal = difference(reference, reference, Tolerance(rtol=0.0))
    assert equal.passed and equal.error == equal.needed == 0


def test_two_zero_arrays_agree():
    found = difference(np.zeros(3), np.zeros(3), STRICT)
    assert found.passed and found.error == 0 and found.cosine == 1 and found.relative_l2 == 0 and found.needed == 0


def test_anything_but_zero_against_zero_fails_without_an_atol():
    found = difference(np.array([0.0, 1e-30]), np.zeros(2), STRICT)
    assert not found.passed
    assert (found.error, found.needed, found.relative_l2) == (math.inf,) * 3
    assert (found.cosine, found.psnr, found.max_rel) == (0, -math.inf, 0)
    assert difference(np.array([0.0, 1e-30]), np.zeros(2), Tolerance(atol=1e-29)).passed


@pytest.mark.parametrize(
    "candidate, reference, message",
    [
        (np.ones((2, 3)), np.ones((3, 2)), "shape 2x3, the reference has 3x2"),
        (np.ones(1), np.float64(1), "shape 1, the reference has scalar"),
        (np.ones((0, 3)), np.ones((0, 3)), "no elements to compare"),
        (np.array([1, np.nan]), np.ones(2), "the candidate holds 1 values that are NaN or infinite"),
        (np.ones(2), np.array([np.inf, np.nan]), "the reference holds 2 values that are NaN or infinite"),
        (np.array([np.inf]), np.array([np.inf]), "the reference holds 1 values"),
    ],
    ids=["transposed", "scalar", "empty", "NaN", "infinite reference", "equal infinities"],
)
def test_refused(candidate, reference, message):
    with pytest.raises(ValueError, match=message):
        difference(candidate, reference, STRICT)


# Rows and comparisons ------------------------------------------------------------------------------------------------

GOOD = difference(*pair((4,), 1e-7), STRICT)
BAD = difference(*pair((4,), 1e-1), STRICT)


def row(name: str, isolated: Any = GOOD, accumulated: Any = GOOD, problem: str = "") -> LayerRow:
    return LayerRow(name, "activation", (4,), name, isolated, accumulated, problem)


def comparison(*rows: LayerRow) -> Comparison:
    return Comparison("net", "ours", "theirs", "image", STRICT, rows)


def test_the_fixtures_of_this_file_pass_and_fail():
    assert GOOD.passed and not BAD.passed


@pytest.mark.parametrize(
    "each, passed",
    [
        (row("both"), True),
        (row("isolated fails", BAD, GOOD), False),
        (row("accumulated fails", GOOD, BAD), False),
        (row("isolated missing", None, GOOD), False),
        (row("accumulated missing", GOOD, None), False),
        (row("problem", GOOD, GOOD, "no such tensor"), False),
    ],
    ids=lambda each: getattr(each, "layer", None),
)
def test_a_row_passes_only_if_both_comparisons_did(each, passed):
    assert each.passed is passed
    assert comparison(each).passed is passed


def test_comparing_nothing_fails():
    nothing = comparison()
    assert not nothing.passed
    assert nothing.first_bad is None and nothing.worst is None and nothing.needed == math.inf
    assert nothing.as_json()["passed"] is False


ZERO = difference(np.zeros(4), np.zeros(4), STRICT)
INDEX = difference(np.zeros(4, np.int32), np.zeros(4, np.int64), STRICT)


@pytest.mark.parametrize(
    "each, blank",
    [
        (row("zeros", ZERO, ZERO), True),
        (row("fed with zeros")._replace(unfed=True), True),
        (row("louder alone", GOOD, ZERO), False),
        (row("indices", INDEX, INDEX), False),
        (row("constant", ZERO, ZERO)._replace(type="constant"), False),
        (row("not judged", ZERO, ZERO)._replace(judged=()), False),
        (row("failed", BAD, ZERO), False),
    ],
    ids=lambda each: getattr(each, "layer", None),
)
def test_a_row_of_zeros_proves_nothing_and_fails_nothing(each, blank):
    assert each.blank is blank
    assert comparison(each, row("other")).passed is each.passed
    assert comparison(each).passed is (each.passed and bool(each.judged) and not blank)


def test_comparing_nothing_but_zeros_fails():
    zeros = comparison(row("a", ZERO, ZERO), row("b", ZERO, ZERO))
    assert not zeros.passed and zeros.needed == math.inf and zeros.first_bad is None
    assert zeros.as_json()["only_zeros"] == ["a", "b"]


@pytest.mark.parametrize(
    "rows, first",
    [
        ((row("a"), row("b")), None),
        ((row("a"), row("b", BAD, BAD), row("c", BAD, BAD)), "b"),
        ((row("heir", GOOD, BAD), row("culprit", BAD, BAD)), "culprit"),
        ((row("heir", GOOD, BAD), row("unknown", None, None, "no such tensor")), "unknown"),
        ((row("heir", GOOD, BAD), row("missing", None, GOOD)), "missing"),
        ((row("a"), row("drift", GOOD, BAD), row("later", GOOD, BAD)), "drift"),
    ],
    ids=["none", "in order", "alone before inherited", "a problem", "not compared", "only accumulated"],
)
def test_first_bad(rows, first):
    found = comparison(*rows).first_bad
    assert (found and found.layer) == first


def test_worst_is_the_largest_error_and_what_could_not_be_compared_before_all():
    middle = difference(*pair((4,), 1e-2), STRICT)
    rows = row("a"), row("b", GOOD, middle), row("c", BAD, GOOD)
    assert comparison(*rows).worst.layer == "c"
    assert comparison(*rows, row("d", problem="NaN")).worst.layer == "d"
    assert rows[1].worst == middle and rows[2].worst == BAD and row("e", None, None).worst is None
    assert rows[2].worst_error == BAD.error and row("e", None, None).worst_error == math.inf


def test_the_needed_rtol_is_the_smallest_that_passes():
    needed = compared(epsilon=2e-3).comparison.needed
    assert compared(epsilon=2e-3, tolerance=Tolerance(rtol=needed * 1.000001)).comparison.passed
    assert not compared(epsilon=2e-3, tolerance=Tolerance(rtol=needed * 0.999)).comparison.passed


def test_needed_is_infinite_where_a_row_was_not_compared():
    assert comparison(row("a"), row("b", None, GOOD)).needed == math.inf


def test_another_epsilon_fails_at_the_batch_norm():
    assert compared(EPSILON).comparison.passed
    failed = compared(1e-2).comparison
    assert failed.first_bad.layer == "bn"
    assert [each.layer for each in failed.failed] == ["bn", "relu", "add", "<out>"]
    assert [each.layer for each in failed.failed if not each.isolated.passed] == ["bn"]


def test_json_has_no_literals_outside_the_standard():
    zero = difference(np.array([1.0]), np.array([0.0]), STRICT)
    exact = difference(np.array([1.0]), np.array([1.0]), STRICT)
    found = comparison(row("zero", zero, exact), row("gone", None, None, "no such tensor"))

    def refuse(literal: str) -> None:
        raise AssertionError(f"{literal} in JSON")

    plain = json.loads(json.dumps(found.as_json()), parse_constant=refuse)
    assert plain["passed"] is False and plain["first_bad"] == "zero" and plain["needed"] == "inf"
    isolated, accumulated = plain["rows"][0]["isolated"], plain["rows"][0]["accumulated"]
    assert (isolated["needed"], isolated["psnr"], accumulated["psnr"]) == ("inf", "-inf", "inf")
    assert isolated["worst"] == {"index": [0], "candidate": 1.0, "reference": 0.0}
    assert plain["rows"][1]["isolated"] is None and plain["rows"][1]["problem"] == "no such tensor"
    assert plain["tolerance"]["rule"] == "|c - r| <= 0 + 1e-05 * max|r|"
