"""Two arrays -> a Difference: every figure of a comparison, and whether it passed.

    floating-point numbers   |c - r| <= atol + rtol max|r|
    whole numbers, bool      c == r: an index one off is another index, however large both are
"""

from __future__ import annotations

import math
from typing import NamedTuple, Optional, Tuple

import numpy as np


class Tolerance(NamedTuple):
    """A value passes if abs(candidate - reference) <= atol + rtol * max(abs(reference)); a whole number if equal."""

    atol: float = 0.0
    rtol: float = 1e-5

    def allowed(self, magnitude: float) -> float:
        return self.atol + self.rtol * magnitude

    def __str__(self) -> str:
        return f"|c - r| <= {self.atol:g} + {self.rtol:g} * max|r|"


class Difference(NamedTuple):
    """How far a candidate is from its reference.

    Attributes:
        max_abs: largest |c - r|.
        max_rel: largest |c - r| / |r| over elements with r != 0; for reading only, small r make it large.
        relative_l2: ||c - r|| / ||r||.
        cosine: c . r / (||c|| ||r||), 1 where both are zero.
        psnr: 10 log10(max|r|^2 / mean((c - r)^2)) in dB, infinite where equal.
        magnitude: max|r|.
        worst: index of the largest |c - r|, with the candidate's and the reference's value there.
        needed: the smallest rtol that would pass, with the atol used; infinite for whole numbers that differ.
        passed: against the tolerance used.
        differing: of whole numbers, how many are not equal; None for floating-point ones.
        choice: of indices that differ, by how much of max|score| the scores that they choose between must be off to
            explain that; infinite where these are not known. See verify/choices.py.
        rounding: where it passed as rounding alone, what float32 loses there, of max|r|; see verify/rounding.py.
    """

    max_abs: float
    max_rel: float
    relative_l2: float
    cosine: float
    psnr: float
    magnitude: float
    worst: Tuple[Tuple[int, ...], float, float]
    needed: float
    passed: bool
    differing: Optional[int] = None
    choice: float = math.inf
    rounding: float = 0.0

    @property
    def error(self) -> float:
        """The number that is judged and plotted: max|c - r| / max|r|; for whole numbers that differ, `choice`."""
        if self.differing is not None:
            return self.choice if self.differing else 0.0
        return self.max_abs / self.magnitude if self.magnitude else (0.0 if self.max_abs == 0.0 else math.inf)


def difference(candidate: np.ndarray, reference: np.ndarray, tolerance: Tolerance) -> Difference:
    """Compares two arrays of equal shape in float64; if either holds whole numbers, for equality.

    Raises:
        ValueError: other shapes, no elements, or a value that is not finite; the message says which.
    """
    if candidate.shape != reference.shape:
        raise ValueError(f"shape {_show(candidate.shape)}, the reference has {_show(reference.shape)}")
    if not candidate.size:
        raise ValueError("no elements to compare")
    for title, array in (("reference", reference), ("candidate", candidate)):
        finite = np.isfinite(array)
        if not finite.all():
            raise ValueError(f"the {title} holds {int((~finite).sum())} values that are NaN or infinite")
    sums = _summed(candidate.reshape(-1), reference.reshape(-1))
    differing = int((candidate != reference).sum()) if is_whole(candidate) or is_whole(reference) else None
    index = tuple(int(i) for i in np.unravel_index(sums.position, candidate.shape))
    norm, length = math.sqrt(sums.rr), math.sqrt(sums.cc) * math.sqrt(sums.rr)
    return Difference(
        max_abs=sums.max_abs,
        max_rel=sums.max_rel,
        relative_l2=math.sqrt(sums.dd) / norm if norm else (0.0 if sums.max_abs == 0 else math.inf),
        cosine=sums.cr / length if length else float(sums.cc == sums.rr),
        psnr=_psnr(sums.magnitude, sums.dd / candidate.size),
        magnitude=sums.magnitude,
        worst=(index, float(candidate[index]), float(reference[index])),
        needed=_needed(differing, sums, tolerance.atol),
        passed=sums.max_abs <= tolerance.allowed(sums.magnitude) if differing is None else differing == 0,
        differing=differing,
    )


def is_whole(array: np.ndarray) -> bool:
    """Whether an array holds integers or truth values."""
    return array.dtype.kind in "iub"


_BLOCK = 1 << 13
"""Elements compared at a time: both float64 copies stay in the cache, and OpenBLAS starts no threads for a dot."""


class _Sums(NamedTuple):
    """Of c, r and d = c - r over all elements: dot products, extremes, and where |d| is largest."""

    cc: float
    rr: float
    cr: float
    dd: float
    max_abs: float
    position: int
    magnitude: float
    max_rel: float


def _summed(candidate: np.ndarray, reference: np.ndarray) -> _Sums:
    blocks = [_summed_block(candidate, reference, start) for start in range(0, candidate.size, _BLOCK)]
    worst = max(blocks, key=lambda block: block.max_abs)
    dots = [math.fsum(block[k] for block in blocks) for k in range(4)]
    magnitude, max_rel = (max(block[k] for block in blocks) for k in (6, 7))
    return _Sums(*dots, worst.max_abs, worst.position, magnitude, max_rel)


def _summed_block(candidate: np.ndarray, reference: np.ndarray, start: int) -> _Sums:
    c = candidate[start : start + _BLOCK].astype(np.float64)
    r = reference[start : start + _BLOCK].astype(np.float64)
    dots = float(c @ c), float(r @ r), float(c @ r)
    delta = np.abs(np.subtract(c, r, out=c), out=c)
    size = np.abs(r, out=r)
    position, magnitude, square = int(delta.argmax()), float(size.max()), float(delta @ delta)
    max_abs = float(delta[position])
    relative = np.divide(delta, size, out=np.zeros_like(delta), where=size > 0)
    return _Sums(*dots, square, max_abs, start + position, magnitude, float(relative.max()))


def _psnr(magnitude: float, square: float) -> float:
    """Peak signal-to-noise ratio in dB, from the mean square of the difference."""
    if square and magnitude:
        return 10 * math.log10(magnitude**2 / square)
    return math.inf if not square else -math.inf


def _needed(differing: Optional[int], sums: _Sums, atol: float) -> float:
    if differing is not None:
        return math.inf if differing else 0.0
    return needed_rtol(sums.max_abs, sums.magnitude, atol)


def needed_rtol(max_abs: float, magnitude: float, atol: float) -> float:
    """The smallest rtol with which max_abs <= atol + rtol * magnitude; infinite where there is none."""
    over = max(max_abs - atol, 0.0)
    return over / magnitude if magnitude else (0.0 if over == 0.0 else math.inf)


def _show(shape: Tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape) or "scalar"
