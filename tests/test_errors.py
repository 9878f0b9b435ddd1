"""spec.errors: the nearest known word."""

from __future__ import annotations

from typing import Any, List

import pytest

from spec.errors import did_you_mean, nearest

NEAREST: List[Any] = [
    # the word, the known ones, the nearest of them
    ("Relu", ["elu", "relu", "selu"], "relu"),
    ("RELU6", ["elu", "relu", "relu6"], "relu6"),
    ("SAME", ["valid", "same"], "same"),
    ("conv1.Weight", ["conv1.weight", "conv2.weight"], "conv1.weight"),
    ("Conv1", ["CONV1", "conv1", "Conv11"], "conv1"),
    ("strides", ["kernel", "stride"], "stride"),
]


@pytest.mark.parametrize("word, known, wanted", NEAREST)
def test_upper_and_lower_case_matter_least(word, known, wanted):
    assert nearest(word, known) == (wanted,)
    assert nearest(word, reversed(known))[0].casefold() == wanted.casefold()
    assert did_you_mean(word, known) == f"; did you mean '{wanted}'?"


def test_the_best_come_first_and_no_more_than_asked():
    known = ["fc.bias", "FC.weight", "fc.weights", "fc.weight"]
    assert nearest("fc.weight", known, count=3) == ("fc.weight", "FC.weight", "fc.weights")
    assert nearest("fc.weight", known, count=1) == ("fc.weight",)


@pytest.mark.parametrize("known", [[], ["dense", "lrn"]])
def test_a_word_like_no_other_has_none(known):
    assert nearest("convolution", known) == () and did_you_mean("convolution", known) == ""
