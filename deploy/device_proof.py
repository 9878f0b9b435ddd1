"""What the device computes beside what was recorded of the source framework: a row a tensor, the first bad one named.

    arrays by our names ─┬─ layer by layer: recorded elements, max|r|, ||r||, mean ─┐
                         └─ outputs: every element ─────────────────────────────────┴─> [Row, ...]
"""

from __future__ import annotations

import math
from typing import Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from deploy.bundle_samples import LayerSamples, Recording, Sums, positions, sums_of
from engine.tolerance import output_rtol
from spec.errors import VerificationError
from spec.shapes import show

LAYER_RTOL = 1e-5
"""Of every layer in fp32."""

SUMMED_RTOL = 1e-12
"""Of sums over whole numbers, which are added in float64 in any order."""


class Row(NamedTuple):
    """One tensor: its error relative to max|r|, what is allowed, and what is wrong with it, if anything."""

    name: str
    error: float
    allowed: float
    problem: str = ""


def layer_rows(recording: Recording, arrays: Iterable[Tuple[str, np.ndarray]], rtol: float) -> List[Row]:
    """A row for each recorded layer, in execution order.

    Args:
        arrays: (name, tensor) in any order; each is compared as it comes and need not be kept.

    A layer passes if |c - r| <= rtol max|r| at every recorded element, and over all its elements max|c| and mean differ
    by no more, and ||c|| by no more than rtol ||r||. What float16 weights change in this layer, or float32 loses on the
    way there, measured when the bundle was written, is added to rtol. Whole numbers are equal or wrong.
    """
    recorded = {layer.name: layer for layer in recording.layers}
    rows = {
        name: _layer_row(recorded[name], array, rtol + recorded[name].rounding)
        for name, array in arrays
        if name in recorded
    }
    return [rows.get(name, Row(name, math.inf, rtol, "was not computed")) for name in recorded]


def output_rows(recording: Recording, arrays: Mapping[str, np.ndarray], words: Sequence[str]) -> List[Row]:
    """A row for each output, all elements compared, with the tolerance of the coarsest precision among `words`.

    Whole numbers have no tolerance in any precision: class 900 is not nearly class 999. An index that another precision
    chooses between two near-equal scores fails too, since the scores are not known here; its sentence says so.
    """
    rounding = {layer.name: layer.rounding for layer in recording.layers}
    allowed = output_rtol(words)
    return [
        _output_row(name, reference, arrays[name], allowed + rounding.get(name, 0.0))
        for name, reference in recording.outputs.items()
    ]


def check(rows: Sequence[Row], of_what: str, cure: str = "") -> Row:
    """The worst row of those that all passed.

    Args:
        cure: what to do where one failed.

    Raises:
        VerificationError: nothing was compared, or a row failed: the first bad one, and how many more.
    """
    if not rows:
        raise VerificationError(f"{of_what}: nothing was compared")
    bad = [row for row in rows if row.problem]
    if bad:
        agree = f"; the other {len(rows) - 1} agree" if len(rows) > 1 else ""
        more = f"; {len(bad) - 1} more of {len(rows)} fail" if len(bad) > 1 else agree
        raise VerificationError(f"FIRST BAD {of_what.upper()}: {bad[0].name}: {bad[0].problem}{more}{cure}")
    return max(rows, key=lambda row: row.error)


def _layer_row(layer: LayerSamples, candidate: np.ndarray, allowed: float) -> Row:
    found, problem = _sums(candidate, layer.shape)
    if found is None:
        return Row(layer.name, math.inf, allowed, problem)
    recorded, largest = layer.sums, layer.sums.largest
    where = positions(candidate.size, layer.elements.size)
    if _is_whole(layer.elements):
        row, allowed = _whole_row(layer.name, candidate.reshape(-1)[where], layer.elements, where), SUMMED_RTOL
        if row.problem:
            return row
    errors = {
        # over all elements: the relative error
        "max|c|": _relative(found.largest - recorded.largest, largest),
        "||c||": _relative(found.norm - recorded.norm, recorded.norm),
        "mean": _relative(found.mean - recorded.mean, largest),
    }
    error, words = _worst_element(candidate.reshape(-1)[where], layer.elements, where, largest)
    if error > allowed:
        return Row(layer.name, error, allowed, f"{words}: {_over(error, allowed)}")
    wrong = [f"{name} of all elements: {_over(error, allowed)}" for name, error in errors.items() if error > allowed]
    return Row(layer.name, max(error, *errors.values()), allowed, "; ".join(wrong))


def _output_row(name: str, reference: np.ndarray, candidate: np.ndarray, allowed: float) -> Row:
    found, problem = _sums(candidate, reference.shape)
    if found is None:
        return Row(name, math.inf, allowed, problem)
    where = np.arange(reference.size)
    if _is_whole(reference):
        return _whole_row(name, candidate.reshape(-1), reference.reshape(-1), where)
    largest = sums_of(reference).largest
    error, words = _worst_element(candidate.reshape(-1), reference.reshape(-1), where, largest)
    return Row(name, error, allowed, f"{words}: {_over(error, allowed)}" if error > allowed else "")


def _is_whole(array: np.ndarray) -> bool:
    return array.dtype.kind in "iub"


def _whole_row(name: str, candidate: np.ndarray, reference: np.ndarray, where: np.ndarray) -> Row:
    """Indices, classes, masks: equal or wrong, whatever a precision allows floating-point numbers."""
    differing = np.flatnonzero(candidate != reference)
    if not differing.size:
        return Row(name, 0.0, 0.0)
    first = int(differing[0])
    element = f"element {int(where[first])} is {candidate[first]}, recorded {reference[first]}"
    count = f"{differing.size:,} of {reference.size:,} compared whole numbers differ, which have no tolerance"
    cure = "where they choose between scores, make the scores an output too: a near-tie shows there"
    return Row(name, math.inf, 0.0, f"{element}; {count} - {cure}")


def _sums(candidate: np.ndarray, shape: Tuple[int, ...]) -> Tuple[Optional[Sums], str]:
    """The sums of a tensor, or why it cannot be compared at all."""
    if tuple(candidate.shape) != tuple(shape):
        return None, f"is {show(tuple(candidate.shape))}, recorded was {show(tuple(shape))}"
    try:
        return sums_of(candidate), ""
    except VerificationError as error:
        return None, str(error)


def _worst_element(
    candidate: np.ndarray, reference: np.ndarray, where: np.ndarray, largest: float
) -> Tuple[float, str]:
    """Largest |c - r| / max|r|, and the element it is found at."""
    delta = np.abs(candidate.astype(np.float64) - reference.astype(np.float64))
    worst = int(delta.argmax())
    words = f"element {int(where[worst])} is {float(candidate[worst]):.6g}, recorded {float(reference[worst]):.6g}"
    return _relative(float(delta[worst]), largest), words


def _relative(difference: float, size: float) -> float:
    return abs(difference) / size if size else (math.inf if difference else 0.0)


def _over(error: float, allowed: float) -> str:
    return f"off by {error:.2g} relative to max|r|, allowed {allowed:.2g}"
