"""How figures of a comparison are written, the same on the terminal and on the page.

error 1.5e-06 of max|r|   value 0.123456789   element stem/bn[0, 3, 17, 4]   shape 1x64x112x112
"""

from __future__ import annotations

import math
from typing import List, Optional

from verify.compare import KINDS, Comparison, Difference, LayerRow

RESULTS = ("passed", "not judged", "FAILED, inherited", "FAILED")
"""Best first."""


def show_error(error: Optional[float]) -> str:
    """Two digits, which is all an error has to say; `-` where there is none."""
    return "-" if error is None else "0" if error == 0 else f"{error:.1e}" if math.isfinite(error) else "inf"


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
    if row.passed:
        return "passed" if row.judged else "not judged"
    return "FAILED, inherited" if row.inherited else "FAILED"


def show_errors(row: LayerRow) -> str:
    """`isolated 1.5e-07, accumulated 2.0e-06 of max|r|`, or what made a comparison impossible."""
    if row.worst is None:
        return row.problem or "not compared"
    shown = f"{', '.join(error_words(row))} of max|r|"
    return f"{shown}; {row.problem}" if row.problem else shown


def error_words(row: LayerRow) -> List[str]:
    """`isolated 1.5e-07`, `accumulated 2.0e-06`: each kind that the row has or is judged by."""
    found = {kind: getattr(row, kind) for kind in KINDS if kind in row.judged or getattr(row, kind) is not None}
    return [f"{kind} {show_error(each and each.error)}" for kind, each in found.items()]


def show_count(comparison: Comparison) -> str:
    """`189 of 189 layers passed`, `1 of 189 layers failed`; comparing nothing is said plainly."""
    judged = sum(bool(row.judged) for row in comparison.rows)
    others, failed = len(comparison.rows) - judged, len(comparison.failed)
    if not judged:
        return "nothing was compared, which counts as failed"
    total = len(comparison.rows) if failed else judged
    shown = f"{failed} of {total} layers failed" if failed else f"{judged} of {judged} layers passed"
    return f"{shown}, {others} only measured" if others and not failed else shown


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
