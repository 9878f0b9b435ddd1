"""Other ways a stored tensor could have been read: every naming of its axes that fits its shape, and flips.

Used to diagnose a layer that differs: a square kernel stored `h w i o` and read as `w h i o` raises no shape error.
"""

from __future__ import annotations

from itertools import permutations
from typing import Dict, Iterator, Tuple

import numpy as np

from weights.layout import Axes, Rule, parse_rule, rearrange, shape_of

SPATIAL = ("h", "w")


def other_readings(array: np.ndarray, rule_text: str, sizes: Dict[str, int]) -> Iterator[Tuple[str, np.ndarray]]:
    """(`read as h w i o, but w h i o`, our array read that way) for every other reading of the stored tensor.

    Args:
        array: ours, in the rule's target order.
        rule_text: how it was read, `h w i o -> o i h w`.
        sizes: length of every named axis.
    """
    rule = parse_rule(rule_text)
    stored = rearrange(array, Rule(rule.target, rule.source), sizes)
    names = [name for group in rule.source for name in group]
    for order in permutations(names):
        renamed = _renamed(rule.source, order)
        if list(order) != names and shape_of(renamed, sizes) == stored.shape:
            says = f"read as {' '.join(names)}, but {' '.join(order)}"
            yield says, rearrange(stored, Rule(renamed, rule.target), sizes)
    if all((name,) in rule.target for name in SPATIAL):
        axes = tuple(rule.target.index((name,)) for name in SPATIAL)
        yield "as stored, but turned by 180 degrees (Theano)", np.flip(array, axes)


def _renamed(axes: Axes, order: Tuple[str, ...]) -> Axes:
    """The same grouping of axes with other names."""
    names = iter(order)
    return tuple(tuple(next(names) for _ in group) for group in axes)
