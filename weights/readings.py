"""Other ways a stored tensor could have been read: every naming of its axes that fits its shape, and flips.

    h w c m -> (c m) 1 h w      w h c m -> (c m) 1 h w      h w c m -> (m c) 1 h w      turned by 180 degrees

Used to diagnose a layer that differs: a square kernel stored `h w i o` and read as `w h i o` raises no shape error.
"""

from __future__ import annotations

from itertools import permutations, product
from typing import Callable, Dict, Iterator, Tuple

import numpy as np

from spec.graph import Graph
from weights.layout import Axes, Rule, parse_rule, rearrange, shape_of
from weights.transplant import Weights

SPATIAL = ("h", "w")

Readings = Callable[[str], Iterator[Tuple[str, np.ndarray]]]
"""role -> (words, array) for every other reading."""


def readings_of(graph: Graph, weights: Weights) -> Callable[[str], Readings]:
    """layer -> role -> `other_readings` of the tensor that filled that slot."""
    rules = {(row.layer, row.role): row.rule for row in weights.ledger}
    sizes = {(layer.name, slot.role): slot.sizes for layer, slot in graph.slots()}

    def of_layer(layer: str) -> Readings:
        return lambda role: other_readings(weights.arrays[layer, role], rules[layer, role], sizes[layer, role])

    return of_layer


def other_readings(array: np.ndarray, rule_text: str, sizes: Dict[str, int]) -> Iterator[Tuple[str, np.ndarray]]:
    """(`read as h w i o, but h w o i`, our array read that way) for every other reading of the stored tensor.

    Args:
        array: ours, in the rule's target order.
        rule_text: how it was read, `h w i o -> o i h w`.
        sizes: length of every named axis.
    """
    rule = parse_rule(rule_text)
    stored = rearrange(array, Rule(rule.target, rule.source), sizes)
    seen = {_moves(rule)}
    for other in _rules_that_fit(rule, sizes):
        if _moves(other) not in seen:
            seen.add(_moves(other))
            yield _say(rule, other), rearrange(stored, other, sizes)
    if all((name,) in rule.target for name in SPATIAL):
        axes = tuple(rule.target.index((name,)) for name in SPATIAL)
        yield "as stored, but turned by 180 degrees (as Theano stores it)", np.flip(array, axes)


def _rules_that_fit(rule: Rule, sizes: Dict[str, int]) -> Iterator[Rule]:
    """The names of the stored axes in every order of the same shape; then so with other orders within our axes."""
    shape = shape_of(rule.source, sizes)
    sources = [_renamed(rule.source, names) for names in permutations(_flat(rule.source))]
    for target in product(*(permutations(group) for group in rule.target)):
        yield from (Rule(source, target) for source in sources if shape_of(source, sizes) == shape)


def _renamed(axes: Axes, names: Tuple[str, ...]) -> Axes:
    """The same grouping of axes with other names."""
    remaining = iter(names)
    return tuple(tuple(next(remaining) for _ in group) for group in axes)


def _moves(rule: Rule) -> Tuple[int, ...]:
    """What a rule does, whatever its names: the stored axis behind each of our axes."""
    source = _flat(rule.source)
    return tuple(source.index(name) for name in _flat(rule.target))


def _flat(axes: Axes) -> Tuple[str, ...]:
    return tuple(name for group in axes for name in group)


def _say(rule: Rule, other: Rule) -> str:
    if rule.target == other.target:
        return f"read as {_text(rule.source)}, but {_text(other.source)}"
    return f"read as {_text(rule.source)} -> {_text(rule.target)}, but {_text(other.source)} -> {_text(other.target)}"


def _text(axes: Axes) -> str:
    """`(c m) 1 h w`, as weights/sources.py writes it."""
    return " ".join("1" if not group else group[0] if len(group) == 1 else f"({' '.join(group)})" for group in axes)
