"""weights.layout: rules are read, moves are right, and every parameter slot has a rule in every convention."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np
import pytest

from spec.layers import LAYERS, WeightedLayer
from weights.layout import parse_axes, parse_rule, rearrange, shape_of
from weights.sources import CONVENTIONS

SIZES = {"o": 5, "i": 4, "c": 3, "m": 2, "h": 7, "w": 6}

# Every rule of weights/sources.py, as the transpose that NumPy is told in numbers.
MOVES = {
    "o -> o": lambda a: a,
    "c -> c": lambda a: a,
    "i o -> o i": lambda a: a.T,
    "o i -> o i": lambda a: a,
    "h w i o -> o i h w": lambda a: a.transpose(3, 2, 0, 1),
    "o i h w -> o i h w": lambda a: a,
    "h w o i -> i o h w": lambda a: a.transpose(3, 2, 0, 1),
    "i o h w -> i o h w": lambda a: a,
    "h w c m -> (c m) 1 h w": lambda a: a.transpose(2, 3, 0, 1).reshape(3 * 2, 1, 7, 6),
    "(c m) 1 h w -> (c m) 1 h w": lambda a: a,
    "h w c -> c h w": lambda a: a.transpose(2, 0, 1),
    "c -> c 1 1": lambda a: a.reshape(3, 1, 1),
}

# One small layer of each type that has parameters, with every one of them, and the shape of what it reads.
WEIGHTED: Dict[str, Any] = {
    "convolution": ({"filters": 4, "kernel": 3, "padding": "valid", "bias": True}, (1, 2, 5, 6)),
    "depthwise_convolution": ({"multiplier": 2, "kernel": 3, "padding": "valid", "bias": True}, (1, 2, 5, 6)),
    "deconvolution": ({"filters": 4, "kernel": 3, "padding": "valid", "bias": True}, (1, 2, 5, 6)),
    "dense": ({"units": 4, "bias": True}, (1, 6)),
    "batch_norm": ({"epsilon": 1e-3}, (1, 2, 5, 6)),
    "scale": ({"learned": ("scale", "shift")}, (1, 2, 5, 6)),
    "prelu": ({}, (1, 2, 5, 6)),
    "constant": ({"shape": (1, 2, 1, 1)}, None),
}


def slots_of(word: str):
    keys, shape = WEIGHTED[word]
    return LAYERS[word](name="layer", **keys).slots(*([shape] if shape else []))


def stored(rule: str) -> np.ndarray:
    """An array of the rule's source shape, every number another one."""
    shape = shape_of(parse_rule(rule).source, SIZES)
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_a_rule_is_read():
    rule = parse_rule("h w c m -> (c m) 1 h w")
    assert rule.source == (("h",), ("w",), ("c",), ("m",))
    assert rule.target == (("c", "m"), (), ("h",), ("w",))
    assert shape_of(rule.target, SIZES) == (6, 1, 7, 6)


def test_a_scalar_has_no_axes():
    assert shape_of(parse_axes(""), SIZES) == ()
    assert rearrange(np.array(3.0), parse_rule(" -> 1 1"), {}).tolist() == [[3.0]]


@pytest.mark.parametrize(
    "text",
    ["h w i o", "h w -> h", "h w -> h w c", "a -> b", "h h -> h h", "(c m) -> c", "", "(h w -> (h w", "c 2 -> 2 c",
     "h,w -> w h", "(c 1) -> c", "... -> ..."],
)  # fmt: skip
def test_a_rule_that_makes_or_loses_numbers_is_refused(text):
    with pytest.raises(ValueError, match="rule"):
        parse_rule(text)


@pytest.mark.parametrize("rule", MOVES)
def test_a_rule_moves_as_numpy_is_told(rule):
    array = stored(rule)
    moved = rearrange(array, parse_rule(rule), SIZES)
    assert np.array_equal(moved, MOVES[rule](array))
    assert moved.shape == shape_of(parse_rule(rule).target, SIZES)


@pytest.mark.parametrize("rule", sorted(set(MOVES) - {"h w c m -> (c m) 1 h w"}))
def test_a_move_is_a_view(rule):
    array = stored(rule)
    assert np.shares_memory(rearrange(array, parse_rule(rule), SIZES), array)


def test_a_view_of_a_read_only_array_stays_read_only():
    array = stored("i o -> o i")
    array.flags.writeable = False
    assert not rearrange(array, parse_rule("i o -> o i"), SIZES).flags.writeable


@pytest.mark.parametrize("shape", [(7, 6, 4, 6), (7, 6, 20), (5, 4, 7, 6), (1, 7, 6, 4, 5)])
def test_an_array_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="the rule wants"):
        rearrange(np.zeros(shape), parse_rule("h w i o -> o i h w"), SIZES)


def test_every_rule_of_every_convention_is_in_the_table():
    rules = {source.rule for convention in CONVENTIONS.values() for source in convention.sources.values()}
    assert rules - {"..."} == set(MOVES)


def test_every_weighted_layer_is_in_the_table():
    assert set(WEIGHTED) == {word for word, cls in LAYERS.items() if issubclass(cls, WeightedLayer)}


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_convention_covers_every_slot_and_nothing_else(convention):
    slots = {(word, slot.role) for word in WEIGHTED for slot in slots_of(word)}
    assert set(CONVENTIONS[convention].sources) == slots


@pytest.mark.parametrize("word", WEIGHTED)
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_rule_ends_in_the_axes_of_its_slot(convention, word):
    for slot in slots_of(word):
        rule = CONVENTIONS[convention].sources[word, slot.role].rule
        if word == "constant":
            assert rule == "..."
            continue
        wanted = parse_axes(slot.layout)
        if (convention, word) == ("torch", "prelu"):  # nn.PReLU has one slope a channel, so its h and w are 1
            wanted = (("c",), (), ())
        assert parse_rule(rule).target == wanted
        assert shape_of(parse_rule(rule).target, slot.sizes) == shape_of(parse_axes(slot.layout), slot.sizes)


def test_the_slot_of_a_constant_has_one_axis_for_each_of_its_shape():
    (slot,) = LAYERS["constant"](name="layer", shape=(1, 2, 3, 4, 5)).slots()
    assert shape_of(parse_axes(slot.layout), slot.sizes) == (1, 2, 3, 4, 5)
