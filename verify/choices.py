"""Indices that are chosen otherwise: an argmax or a top-k decides between scores, and scores are never quite the same.

    scores, reference  0.70000003  0.70000000      index 0
    scores, candidate  0.69999999  0.70000001      index 1: the gap is 3e-8, both scores may be off by 7e-6

A candidate that chooses j where the reference chooses i has scores of which c[j] >= c[i]. If each is off by a at most,
the reference has |r[i] - r[j]| <= 2 a. So half that gap, relative to max|r|, is judged as the scores themselves are;
without scores nothing tells a near-tie from a wrong index, and the index has to be equal.
"""

from __future__ import annotations

from typing import Iterable, Iterator, Mapping, Optional

import numpy as np

from spec.layers import ArgMax, Layer, TopK
from spec.layers.layer import axis_number
from verify.compare import KINDS, LayerRow
from verify.difference import Difference, Tolerance, needed_rtol


def with_choice(
    found: Optional[Difference],
    layer: Layer,
    name: str,
    candidate: np.ndarray,
    arrays: Mapping[str, np.ndarray],
    tolerance: Tolerance,
) -> Optional[Difference]:
    """The difference of one of a layer's tensors; of indices that differ, judged by the scores they choose between.

    Args:
        name: the tensor.
        arrays: the reference's tensors and inputs by our names: the indices, and the scores if they are known.
    """
    if found is None or not found.differing or not _is_index(layer, name):
        return found
    scores, indices = arrays.get(layer.inputs[0]), arrays[name]
    gap = None if scores is None else _gap(scores.astype(np.float64), candidate, indices, layer)
    if gap is None:
        return found
    magnitude = float(np.abs(scores).max())
    needed = needed_rtol(gap / 2, magnitude, tolerance.atol)
    choice = gap / 2 / magnitude if magnitude else 0.0  # where all scores are zero, every choice is a tie
    return found._replace(choice=choice, needed=needed, passed=gap / 2 <= tolerance.allowed(magnitude))


def _is_index(layer: Layer, name: str) -> bool:
    return isinstance(layer, ArgMax) or (isinstance(layer, TopK) and name != layer.name)


def _gap(scores: np.ndarray, candidate: np.ndarray, reference: np.ndarray, layer: Layer) -> Optional[float]:
    """The largest gap between the scores at both indices; None where an index is none, or scores are not finite."""
    axis = axis_number(layer.axis, scores.ndim)
    pair = [array.astype(np.int64) for array in (candidate, reference)]
    if pair[0].ndim < scores.ndim:
        pair = [np.expand_dims(array, axis) for array in pair]
    outside = any((array < 0).any() or (array >= scores.shape[axis]).any() for array in pair)
    if outside or pair[0].ndim != scores.ndim or not np.isfinite(scores).all():
        return None
    chosen, right = (np.take_along_axis(scores, array, axis) for array in pair)
    return float(np.abs(chosen - right).max())


def choice_notes(rows: Iterable[LayerRow]) -> Iterator[str]:
    """A sentence for each tensor that passed although indices in it differ."""
    for row in rows:
        for kind in (kind for kind in KINDS if kind in row.judged):
            found = getattr(row, kind)
            if row.passed and found.differing:
                count = f"{found.differing:,} of {int(np.prod(row.shape)):,} indices chosen otherwise"
                apart = f"at most {2 * found.choice:.1e} of the largest apart"
                yield f"{row.layer}, {kind}: {count}, all near-ties: the reference's scores of both are {apart}"
