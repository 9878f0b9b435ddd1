"""How figures of a comparison are written, the same on the terminal and on the page.

error 1.5e-06 of max|r|   value 0.123456789   element stem/bn[0, 3, 17, 4]   shape 1x64x112x112
"""

from __future__ import annotations

import math
from typing import Optional

from verify.compare import Comparison, Difference, LayerRow


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
    """`passed`; `FAILED` where the layer itself is wrong; `FAILED, inherited` where only its inputs are."""
    if row.passed:
        return "passed"
    inherited = not row.problem and row.isolated is not None and row.isolated.passed
    return "FAILED, inherited" if inherited else "FAILED"


def show_errors(row: LayerRow) -> str:
    """`isolated 1.5e-07, accumulated 2.0e-06 of max|r|`, or what made a comparison impossible."""
    if row.worst is None:
        return row.problem or "not compared"
    errors = [each and each.error for each in (row.isolated, row.accumulated)]
    shown = f"isolated {show_error(errors[0])}, accumulated {show_error(errors[1])} of max|r|"
    return f"{shown}; {row.problem}" if row.problem else shown


def show_count(comparison: Comparison) -> str:
    """`189 of 189 layers passed`, `1 of 189 layers failed`; comparing nothing is said plainly."""
    total, failed = len(comparison.rows), len(comparison.failed)
    if not total:
        return "nothing was compared, which counts as failed"
    return f"{failed} of {total} layers failed" if failed else f"{total} of {total} layers passed"


def show_needed(comparison: Comparison) -> str:
    """The smallest rtol with which every layer would have passed."""
    if math.isinf(comparison.needed):
        return "no rtol would pass"
    return f"the smallest rtol that would pass is {_rounded_up(comparison.needed)}"


def _rounded_up(needed: float) -> str:
    """Three digits, never less than the number: what is printed does pass."""
    if needed == 0:
        return "0"
    step = 10.0 ** (math.floor(math.log10(needed)) - 2)
    return f"{math.ceil(needed / step) * step:.2e}"
