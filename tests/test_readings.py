"""weights/readings.py: the other ways to read a stored tensor that its shape allows, each once, in words."""

from __future__ import annotations

from typing import Dict, List

import numpy as np
import pytest

from weights.layout import parse_rule, rearrange
from weights.readings import other_readings

CUBE = {"h": 3, "w": 3, "i": 3, "o": 3}


def readings(rule: str, sizes: Dict[str, int], stored: np.ndarray) -> Dict[str, np.ndarray]:
    """Words -> array, of a tensor that was read by a rule."""
    return dict(other_readings(rearrange(stored, parse_rule(rule), sizes), rule, sizes))


def numbered(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


ROWS = [
    # rule it was read by, sizes, stored shape, the number of other readings beside the turned one
    ("h w i o -> o i h w", CUBE, (3, 3, 3, 3), 23),
    ("h w i o -> o i h w", {"h": 3, "w": 3, "i": 2, "o": 4}, (3, 3, 2, 4), 1),
    ("h w i o -> o i h w", {"h": 3, "w": 5, "i": 2, "o": 4}, (3, 5, 2, 4), 0),
    ("h w c m -> (c m) 1 h w", {"h": 3, "w": 3, "c": 4, "m": 2}, (3, 3, 4, 2), 3),
    ("(c m) 1 h w -> (c m) 1 h w", {"h": 3, "w": 5, "c": 4, "m": 2}, (8, 1, 3, 5), 1),
]


@pytest.mark.parametrize("rule, sizes, shape, count", ROWS)
def test_every_other_reading_comes_once(rule, sizes, shape, count):
    found = readings(rule, sizes, numbered(*shape))
    turned = [words for words in found if "turned" in words]
    assert len(found) == count + 1 and turned == ["as stored, but turned by 180 degrees (as Theano stores it)"]
    ours = rearrange(numbered(*shape), parse_rule(rule), sizes)
    arrays: List[np.ndarray] = [ours, *found.values()]
    assert len({array.tobytes() for array in arrays}) == len(arrays)
    assert {array.shape for array in arrays} == {ours.shape}


def test_the_words_say_what_the_array_is():
    stored = numbered(3, 3, 3, 3)
    found = readings("o i h w -> o i h w", CUBE, stored)
    right = found["read as o i h w, but h w i o"]
    np.testing.assert_array_equal(right, stored.transpose(3, 2, 0, 1))


def test_turning_turns_both_spatial_axes():
    found = readings("h w i o -> o i h w", CUBE, numbered(3, 3, 3, 3))
    (turned,) = [array for words, array in found.items() if "turned" in words]
    np.testing.assert_array_equal(turned, numbered(3, 3, 3, 3).transpose(3, 2, 0, 1)[:, :, ::-1, ::-1])


def test_a_multiplier_before_its_channel_has_a_reading_though_no_sizes_agree():
    stored, sizes = numbered(3, 3, 4, 2), {"h": 3, "w": 3, "c": 4, "m": 2}
    found = readings("h w c m -> (m c) 1 h w", sizes, stored)
    right = found["read as h w c m -> (m c) 1 h w, but h w c m -> (c m) 1 h w"]
    np.testing.assert_array_equal(right, stored.transpose(2, 3, 0, 1).reshape(8, 1, 3, 3))


def test_a_dense_kernel_is_not_turned():
    assert list(readings("i o -> o i", {"i": 4, "o": 4}, numbered(4, 4))) == ["read as i o, but o i"]
    assert list(readings("i o -> o i", {"i": 4, "o": 5}, numbered(4, 5))) == []
