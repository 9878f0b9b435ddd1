"""Axis orders as text: `h w i o -> o i h w` says what the source's axes are and where they go.

Each side lists axes by name; `(c m)` is one axis made of two, `1` an axis of length one. Nothing else is known: no
flips, no padding, no broadcasting, so a rule moves numbers and never makes or loses one.
"""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

Axes = Tuple[Tuple[str, ...], ...]
"""One tuple of names for each axis of an array; the empty tuple is an axis of length one."""


class Rule(NamedTuple):
    """Both sides of `source -> target`."""

    source: Axes
    target: Axes


def parse_rule(text: str) -> Rule:
    """Reads `h w c m -> (c m) 1 h w`; raises ValueError unless both sides name the same axes, each once, in letters."""
    source_text, arrow, target_text = text.partition("->")
    rule = Rule(parse_axes(source_text), parse_axes(target_text))
    source, target = _flat(rule.source), _flat(rule.target)
    if not arrow or sorted(source) != sorted(target) or len(set(source)) != len(source):
        raise ValueError(f"rule '{text}': both sides must name the same axes, each once")
    if not all(name.isalpha() for name in source):
        raise ValueError(f"rule '{text}': axes are named by letters, and a group closes what it opens")
    return rule


def parse_axes(text: str) -> Axes:
    """`(c m) 1 h w` -> (("c", "m"), (), ("h",), ("w",))."""
    words = re.findall(r"\(([^()]*)\)|(\S+)", text)
    return tuple(tuple(group.split()) if group else () if word == "1" else (word,) for group, word in words)


def shape_of(axes: Axes, sizes: Dict[str, int]) -> Tuple[int, ...]:
    """Length of each axis, a group being the product of its names."""
    return tuple(int(np.prod([sizes[name] for name in names], dtype=np.int64)) for names in axes)


def rearrange(array: np.ndarray, rule: Rule, sizes: Dict[str, int]) -> np.ndarray:
    """The array in the rule's target order; a view wherever NumPy can make one.

    Args:
        array: has exactly the shape the rule's source side says; anything else is a ValueError.
        sizes: length of every named axis.
    """
    if array.shape != shape_of(rule.source, sizes):
        raise ValueError(f"array has shape {array.shape}, the rule wants {shape_of(rule.source, sizes)}")
    source, target = _flat(rule.source), _flat(rule.target)
    split = array.reshape([sizes[name] for name in source])
    moved = split.transpose([source.index(name) for name in target])
    return moved.reshape(shape_of(rule.target, sizes))


def _flat(axes: Sequence[Sequence[str]]) -> List[str]:
    return [name for names in axes for name in names]
