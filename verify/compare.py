"""Two sets of arrays by layer name -> a Comparison: one row a layer, the first bad one named.

    reference activations ─┐
                           ├─ difference() ─> LayerRow(isolated, accumulated) ─> Comparison.passed
    our activations ───────┘

Isolated: our layer on the reference's own inputs, so that an early error does not drown later layers.
Accumulated: our layer on our own inputs, all the way from the image.
Shipped: an output of the engine that is deployed, where the accumulated ones are of an engine opened to be looked into.
"""

from __future__ import annotations

import math
from typing import Any, Dict, NamedTuple, Optional, Tuple

import numpy as np

KINDS = ("isolated", "accumulated", "shipped")
"""What a layer's row may hold a Difference for."""


class Tolerance(NamedTuple):
    """A value passes if abs(candidate - reference) <= atol + rtol * max(abs(reference))."""

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
        needed: the smallest rtol that would pass, with the atol used.
        passed: against the tolerance used.
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

    @property
    def error(self) -> float:
        """The number that is judged and plotted: max|c - r| / max|r|."""
        return self.max_abs / self.magnitude if self.magnitude else (0.0 if self.max_abs == 0.0 else math.inf)


class LayerRow(NamedTuple):
    """One layer of our graph and what it was compared with.

    Attributes:
        reference: the reference's own name for the tensor.
        isolated, accumulated, shipped: see the module; one that is judged is None only where `problem` says why.
        problem: what made a comparison impossible (no such tensor, another shape, NaN); such a row has failed.
        diagnosis: what the layer would agree with, best first.
        judged: those of KINDS that decide; what else the row holds is for reading only.
    """

    layer: str
    type: str
    shape: Tuple[int, ...]
    reference: str
    isolated: Optional[Difference]
    accumulated: Optional[Difference]
    problem: str = ""
    diagnosis: Tuple[str, ...] = ()
    shipped: Optional[Difference] = None
    judged: Tuple[str, ...] = ("isolated", "accumulated")

    @property
    def passed(self) -> bool:
        found = (getattr(self, kind) for kind in self.judged)
        return not self.problem and all(each is not None and each.passed for each in found)

    @property
    def inherited(self) -> bool:
        """Whether the layer failed, but not on the reference's own inputs."""
        alone = not self.problem and self.isolated is not None and self.isolated.passed
        return alone and not self.passed

    @property
    def worst(self) -> Optional[Difference]:
        """Whichever has the largest error; None where none could be computed."""
        found = [each for each in (self.accumulated, self.isolated, self.shipped) if each is not None]
        return max(found, key=lambda each: each.error, default=None)

    @property
    def worst_error(self) -> float:
        """The largest of its errors; infinite where nothing could be compared."""
        return math.inf if self.problem or self.worst is None else self.worst.error


class Comparison(NamedTuple):
    """All rows in execution order, and what was compared with what.

    `candidate`, `reference` and `input` are sentences for people, and so are the `notes`: what else must be known.
    """

    model: str
    candidate: str
    reference: str
    input: str
    tolerance: Tolerance
    rows: Tuple[LayerRow, ...]
    notes: Tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Comparing nothing, or judging nothing, is a failure."""
        return any(row.judged for row in self.rows) and all(row.passed for row in self.rows)

    @property
    def kinds(self) -> Tuple[str, ...]:
        """Those of KINDS that some row has or is judged by."""
        return tuple(
            kind for kind in KINDS if any(kind in row.judged or getattr(row, kind) is not None for row in self.rows)
        )

    @property
    def failed(self) -> Tuple[LayerRow, ...]:
        return tuple(row for row in self.rows if not row.passed)

    @property
    def needed(self) -> float:
        """The smallest rtol with which every row would pass, infinite where none would."""
        found = [getattr(row, kind) for row in self.rows for kind in row.judged]
        if not found or None in found or any(row.problem for row in self.rows):
            return math.inf
        return max(each.needed for each in found)

    @property
    def first_bad(self) -> Optional[LayerRow]:
        """The first failing layer in execution order, those that fail in isolation before those that only inherit."""
        alone = [row for row in self.failed if not row.inherited]
        return (alone or list(self.failed) or [None])[0]

    @property
    def worst(self) -> Optional[LayerRow]:
        return max(self.rows, key=lambda row: row.worst_error, default=None)

    def as_json(self) -> Dict[str, Any]:
        """Plain values, NaN-free: infinity is the string "inf"."""
        rows = [_plain(row) for row in self.rows]
        bad = self.first_bad
        return {
            "model": self.model,
            "passed": self.passed,
            "candidate": self.candidate,
            "reference": self.reference,
            "input": self.input,
            "tolerance": {**self.tolerance._asdict(), "rule": str(self.tolerance)},
            "needed": _number(self.needed),
            "first_bad": bad.layer if bad else None,
            "notes": list(self.notes),
            "rows": rows,
        }


def difference(candidate: np.ndarray, reference: np.ndarray, tolerance: Tolerance) -> Difference:
    """Compares two arrays of equal shape in float64.

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
        needed=_needed(sums.max_abs, sums.magnitude, tolerance.atol),
        passed=sums.max_abs <= tolerance.allowed(sums.magnitude),
    )


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


def _needed(max_abs: float, magnitude: float, atol: float) -> float:
    over = max(max_abs - atol, 0.0)
    return over / magnitude if magnitude else (0.0 if over == 0.0 else math.inf)


def _plain(row: LayerRow) -> Dict[str, Any]:
    plain = row._asdict()
    plain.update(shape=list(row.shape), diagnosis=list(row.diagnosis), judged=list(row.judged), passed=row.passed)
    for key in KINDS:
        found = getattr(row, key)
        plain[key] = None if found is None else {name: _number(value) for name, value in found._asdict().items()}
    return plain


def _number(value: Any) -> Any:
    if isinstance(value, tuple):
        index, candidate, reference = value
        return {"index": list(index), "candidate": candidate, "reference": reference}
    return "inf" if value == math.inf else "-inf" if value == -math.inf else value


def _show(shape: Tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape) or "scalar"
