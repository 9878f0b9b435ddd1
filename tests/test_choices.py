"""Indices that differ: equal or wrong alone, judged by the scores that they choose between where these are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.network import define
from engine.tensorrt_api import load
from spec.layers import ArgMax, Softmax, TopK
from tests.small_models import graph_of
from verify.choices import choice_notes, with_choice
from verify.compare import LayerRow, Tolerance, difference
from verify.trials import MEASURES
from verify.verification import Activations, verify

HALF = Tolerance(rtol=5e-3)
SCORES = np.array([[0.1, 0.9, 2.0, 1.99, 0.5]])


def judged(layer, name, candidate, scores=SCORES, tolerance=HALF):
    """The difference of indices from those that the layer chooses by these scores."""
    right = np.argsort(-scores, axis=1, kind="stable")[:, : 1 if isinstance(layer, ArgMax) else layer.k]
    right = right[:, 0] if isinstance(layer, ArgMax) and not layer.keep_dims else right
    candidate = np.asarray(candidate, np.int32).reshape(right.shape)
    arrays = {name: right, **({} if scores is None else {"scores": scores})}
    return with_choice(difference(candidate, right, tolerance), layer, name, candidate, arrays, tolerance)


def argmax(keep_dims=False):
    return ArgMax(name="best", inputs=("scores",), axis=1, keep_dims=keep_dims)


@pytest.mark.parametrize("keep_dims", [False, True])
@pytest.mark.parametrize(
    "index, passed, choice",
    [(2, True, math.inf), (3, True, 0.0025), (1, False, 0.275), (5, False, math.inf), (-1, False, math.inf)],
    ids=["equal", "near-tie", "a wrong class", "beyond the classes", "negative"],
)
def test_an_index_is_judged_by_the_gap_between_the_scores(keep_dims, index, passed, choice):
    found = judged(argmax(keep_dims), "best", index)
    assert found.passed is passed and found.choice == pytest.approx(choice)
    assert found.error == (pytest.approx(choice) if index != 2 else 0.0)


@pytest.mark.parametrize("rtol", [0.0024, 0.0026])
def test_half_the_gap_is_what_each_score_may_be_off_by(rtol):
    """A candidate whose every score is off by rtol max|r| can choose so, and one that is off by less cannot."""
    off = SCORES + rtol * 2.0 * np.array([[0, 0, -1, 1, 0]])
    assert judged(argmax(), "best", 3, tolerance=Tolerance(rtol=rtol)).passed == (off.argmax() == 3)


@pytest.mark.parametrize("indices, passed", [([2, 3, 1], True), ([3, 2, 1], True), ([2, 1, 3], False)])
def test_each_place_of_a_top_k_is_a_choice(indices, passed):
    layer = TopK(name="best", inputs=("scores",), k=3, axis=1)
    assert judged(layer, "best/indices", indices).passed is passed


def test_what_chooses_nothing_is_equal_or_wrong():
    layer = Softmax(name="best", inputs=("scores",))
    found = difference(np.int32([3]), np.int64([2]), HALF)
    assert with_choice(found, layer, "best", np.int32([3]), {"best": np.int64([2]), "scores": SCORES}, HALF) is found
    assert not found.passed and found.error == found.needed == math.inf
    assert with_choice(found, argmax(), "best", np.int32([3]), {"best": np.int64([2])}, HALF) is found


def test_a_near_tie_that_passed_is_said():
    found = judged(argmax(), "best", 3)
    row = LayerRow("best", "argmax", (1,), "best", None, found, judged=("accumulated",))
    [note] = choice_notes([row, row._replace(problem="NaN"), row._replace(accumulated=judged(argmax(), "best", 2))])
    assert note == (
        "best, accumulated: 1 of 1 indices chosen otherwise, all near-ties: "
        "the reference's scores of both are at most 5.0e-03 of the largest apart"
    )


LAYERS = [("activation", {"name": "scores", "function": "relu"}), ("argmax", {"name": "best", "axis": 1})]


def verified(scores, best):
    """The small network on [1, 1.000002, 0], against a reference that gave these."""
    graph = graph_of(LAYERS, {"image": (1, 3)}, ["best"])
    inputs = {"image": np.float32([[1, 1.000002, 0]])}
    arrays = {"scores": np.float32([scores]), "best": np.array([best])}
    activations = Activations(arrays, {}, inputs, "a framework", "noise")
    return verify(define(graph, {}, load()), activations, Tolerance(), lambda name: iter(())).comparison


def test_alone_an_index_has_to_be_equal_however_near_the_scores_are():
    found = verified([1, 1.000002, 0], 0)
    assert not found.passed and found.first_bad.layer == "best" and found.rows[1].isolated.differing == 1
    assert found.rows[1].isolated.error == found.needed == np.inf and not found.rows[1].inherited


def test_from_the_image_on_a_near_tie_passes_and_is_said():
    found = verified([1.000002, 1, 0], 0)
    assert found.passed and found.rows[1].isolated.differing == 0 and found.rows[1].accumulated.differing == 1
    assert found.notes[0].startswith("best, accumulated: 1 of 1 indices chosen otherwise, all near-ties")


@pytest.mark.parametrize("measure", MEASURES)
def test_no_trial_takes_another_index_for_a_small_error(measure):
    """995 for 999 is 0.4 % of its magnitude."""
    reference = np.array([3, 999])
    assert MEASURES[measure](difference(np.array([3, 995]), reference, Tolerance())) == np.inf
    assert MEASURES[measure](difference(reference, reference, Tolerance())) == 0
