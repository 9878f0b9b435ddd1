"""ErrorScale: the one log axis of errors, for the plot's heights and the drawing's colours.

floor ───────── passed ───────── tolerance ───────── failed ───────── ceiling
zero is drawn here                                      what could not be compared is drawn here
"""

from __future__ import annotations

import math
from typing import List, NamedTuple

from verify.compare import Comparison, Difference, Tolerance


class ErrorScale(NamedTuple):
    """Bounds of the axis, powers of ten; `tolerance` is the loosest any layer was judged by."""

    floor: float
    tolerance: float
    ceiling: float

    def height(self, error: float) -> float:
        """Where an error is drawn: itself, or the end of the axis that it is beyond."""
        return min(max(error, self.floor), self.ceiling)

    def fraction(self, error: float, passed: bool) -> float:
        """How far along its half of the axis an error lies, 0 to 1, in decades."""
        low, high = (self.floor, self.tolerance) if passed else (self.tolerance, self.ceiling)
        position = math.log10(self.height(error) / low) / math.log10(high / low) if high > low else 1.0
        return min(max(position, 0.0), 1.0)

    def decades(self) -> List[int]:
        """Exponents of the powers of ten from floor to ceiling."""
        return list(range(round(math.log10(self.floor)), round(math.log10(self.ceiling)) + 1))


def error_scale(comparison: Comparison) -> ErrorScale:
    """A decade of room below the smallest error that is not zero, and above the largest."""
    found = [each for row in comparison.rows for each in (row.isolated, row.accumulated, row.shipped) if each]
    limits = [limit for limit in (relative_limit(comparison.tolerance, each) for each in found) if 0 < limit < math.inf]
    tolerance = max(limits, default=comparison.tolerance.rtol)
    errors = [each.error for each in found if 0 < each.error < math.inf] + [tolerance] * (tolerance > 0)
    lowest, highest = (min(errors), max(errors)) if errors else (1e-8, 1e-6)
    floor = 10.0 ** (math.ceil(math.log10(lowest)) - 2)
    return ErrorScale(floor, max(tolerance, floor), 10.0 ** (math.floor(math.log10(highest)) + 2))


def relative_limit(tolerance: Tolerance, difference: Difference) -> float:
    """What `difference.error` was allowed to be: rtol + atol / max|r|; of whole numbers the rtol of their scores."""
    if not tolerance.atol or difference.differing is not None:
        return tolerance.rtol
    return tolerance.rtol + tolerance.atol / difference.magnitude if difference.magnitude else math.inf
