"""verify.agreement: who decides otherwise on which image, by what margin, and what cannot be counted."""

from __future__ import annotations

from typing import Any, Dict, Optional

import numpy as np
import pytest

from spec.errors import VerificationError
from spec.graph import Graph
from tests.small_models import graph_of
from verify.agreement import agreement_batch, measure_agreement

WANTED = np.float32([[0, 1, 4], [5, 1, 4], [2, 8, 7], [1, 0, -10]])
FOUND = np.float32([[0, 1, 9], [4, 1, 5], [2, 7, 8], [9, 0, 0]])
"""By row: the same, another by 1 of 5, another by 1 of 8, the same."""


def graph(batch: int = 1, bounds: Optional[Dict[str, int]] = None) -> Graph:
    return graph_of([("activation", {"name": "out", "function": "relu"})], {"x": (batch, 3, 1, 1)}, ["out"], bounds)


def answers(array: np.ndarray) -> Any:
    """A run that gives one row after another, whatever it is fed."""
    rows = iter(array)
    return lambda inputs: {"out": np.stack([next(rows) for _ in inputs["x"]])}


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_lost_images_are_named_with_the_margin_of_the_reference(batch):
    found = measure_agreement(answers(FOUND), answers(WANTED), graph(batch), 4)
    assert found.count == 4 and found.share == 0.5
    assert found.lost == pytest.approx({1: 0.2, 2: 0.125})
    assert str(found) == (
        "top-1 of out agrees on 2 of 4 structured images (50.00%); where not, the reference preferred its own by "
        "1.2e-01 (image 2) to 2.0e-01 (image 1) of max|r|"
    )
    plain = found.as_json()
    assert (plain["count"], plain["share"], plain["smallest_margin"]) == (4, 0.5, 0.125)
    assert list(plain["lost"]) == ["1", "2"]


def test_the_margin_of_a_single_lost_image_is_said_once():
    found = measure_agreement(answers(FOUND[:2]), answers(WANTED[:2]), graph(), 2)
    assert str(found).endswith("; where not, the reference preferred its own by 2.0e-01 (image 1) of max|r|")


def test_full_agreement_says_no_margin():
    found = measure_agreement(answers(WANTED), answers(WANTED), graph(), 4)
    assert str(found) == "top-1 of out agrees on 4 of 4 structured images (100.00%)"
    assert found.as_json()["smallest_margin"] is None


def test_whole_batches_are_run():
    rows = np.tile(WANTED, (2, 1))
    assert measure_agreement(answers(rows), answers(rows), graph(4), 5).count == 8


@pytest.mark.parametrize(
    "bounds, batch",
    [
        (None, 3),
        ({"min": 1, "opt": 1, "max": 4}, 4),
        ({"min": 1, "opt": 8, "max": 99}, 16),
        ({"min": 20, "opt": 20, "max": 32}, 20),
    ],
    ids=["fixed", "small", "large", "never small"],
)
def test_the_batch(bounds, batch):
    assert agreement_batch(graph(3 if bounds is None else -1, bounds)) == batch


def test_both_are_fed_the_same_and_each_image_once():
    fed = []

    def run(inputs: Any) -> Any:
        fed.append(inputs["x"])
        return {"out": inputs["x"]}

    assert measure_agreement(run, run, graph(2), 4).share == 1
    assert fed[0] is fed[1] and fed[2] is fed[3]
    images = np.concatenate(fed[::2])
    assert len(np.unique(images.reshape(4, -1), axis=0)) == 4


@pytest.mark.parametrize(
    "found, message",
    [(FOUND[:, :2], "has shape (1, 2), the reference's has (1, 3)"), (np.full_like(FOUND, np.inf), "NaN or infinite")],
    ids=["shape", "infinite"],
)
def test_what_cannot_be_decided_is_an_error(found, message):
    with pytest.raises(VerificationError) as caught:
        measure_agreement(answers(found), answers(WANTED), graph(), 4)
    assert message in str(caught.value)
