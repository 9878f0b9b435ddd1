"""How figures of a comparison are written, the same on the terminal and on the page.

error 1.5e-06 of max|r|   value 0.123456789   element stem/bn[0, 3, 17, 4]   shape 1x64x112x112
"""

from __future__ import annotations

import math
from typing import List, Optional, Sequence

from verify.compare import KINDS, Comparison, Difference, LayerRow

RESULTS = ("passed", "only zeros", "not judged", "FAILED, inherited", "FAILED")
"""Best first."""

SHOWN_NAMES = 5
"""Layers named in a sentence; the others are counted."""


def show_error(error: Optional[float]) -> str:
    """Two digits, which is all an error has to say; `-` where there is none."""
    return "-" if error is None else "0" if error == 0 else f"{error:.1e}" if math.isfinite(error) else "inf"


def show_difference(difference: Optional[Difference]) -> str:
    """An error, or of whole numbers how many differ: an index that is one off has no small error."""
    if difference is None or not difference.differing:
        return show_error(None if difference is None else difference.error)
    return f"{difference.differing:,} {'differs' if difference.differing == 1 else 'differ'}"


def show_tolerance(comparison: Comparison) -> str:
    """The rule for floating-point numbers, and the one for whole numbers where there are some."""
    return f"{comparison.tolerance}{', whole numbers equal' if comparison.has_whole else ''}"


def show_value(value: float) -> str:
    """Nine significant digits tell any two float32 numbers apart (IEEE 754)."""
    return f"{value:.9g}"


def show_decibels(psnr: float) -> str:
    return f"{psnr:.1f}" if math.isfinite(psnr) else "inf" if psnr > 0 else "-inf"


def show_element(layer: str, difference: Difference) -> str:
    """`stem/bn[0, 3, 17, 4]: candidate 0.25, reference 0.5`: where the difference is largest."""
    index, candidate, reference = difference.worst
    return f"{layer}{list(index)}: candidate {show_value(candidate)}, reference {show_value(reference)}"


def show_result(row: LayerRow) -> str:
    """One of RESULTS: `FAILED` where the layer itself is wrong, `FAILED, inherited` where only its inputs are."""
    if row.blank:
        return "only zeros"
    if row.passed:
        return "passed" if row.judged else "not judged"
    return "FAILED, inherited" if row.inherited else "FAILED"


def show_errors(row: LayerRow) -> str:
    """`isolated 1.5e-07, accumulated 2.0e-06 of max|r|`, or what made a comparison impossible."""
    if row.worst is None:
        return row.problem or "not compared"
    shown = f"{', '.join(error_words(row))}{_of_what(row.worst)}"
    return f"{shown}; {row.problem}" if row.problem else shown


def _of_what(worst: Difference) -> str:
    """What the errors are relative to, or why whole numbers that differ passed or failed."""
    if not worst.differing:
        return " of max|r|"
    if math.isinf(worst.choice):
        return ": whole numbers are equal or wrong"
    return f": indices chosen otherwise, between scores that are {2 * worst.choice:.1e} of the largest apart"


def error_words(row: LayerRow) -> List[str]:
    """`isolated 1.5e-07`, `accumulated 2.0e-06`: each kind that the row has or is judged by."""
    found = {kind: getattr(row, kind) for kind in KINDS if kind in row.judged or getattr(row, kind) is not None}
    return [f"{kind} {show_difference(each)}" for kind, each in found.items()]


def show_count(comparison: Comparison) -> str:
    """`189 of 189 layers passed`, `1 of 189 layers failed`; comparing nothing is said plainly.

    `186 of 189 layers passed, 3 saw only zeros (a, b, c)`: these are not proven, see LayerRow.blank.
    """
    judged = sum(bool(row.judged) for row in comparison.rows)
    others, failed, blank = len(comparison.rows) - judged, len(comparison.failed), len(comparison.blank)
    if not comparison.passed and not failed:
        return f"nothing {'but zeros ' if blank else ''}was compared, which counts as failed"
    zeros = f", {blank} saw only zeros ({_listed(comparison.blank)})" if blank else ""
    if failed:
        return f"{failed} of {len(comparison.rows)} layers failed{zeros}"
    measured = f", {others:,} only measured" if others else ""
    return f"{judged - blank} of {judged} layers passed{zeros}{measured}"


def _listed(rows: Sequence[LayerRow]) -> str:
    more = f" and {len(rows) - SHOWN_NAMES:,} more" if len(rows) > SHOWN_NAMES else ""
    return ", ".join(row.layer for row in rows[:SHOWN_NAMES]) + more


def show_needed(comparison: Comparison) -> str:
    """The smallest rtol with which everything that is judged would have passed."""
    if math.isinf(comparison.needed):
        return "no rtol would pass"
    return f"the smallest rtol that would pass is {_rounded_up(comparison.needed)}"


def _rounded_up(needed: float) -> str:
    """Three digits, never less than the number: what is printed does pass."""
    if needed == 0:
        return "0"
    step = 10.0 ** (math.floor(math.log10(needed)) - 2)
    return f"{math.ceil(needed / step) * step:.2e}"
