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

from verify.difference import Difference, Tolerance, difference

__all__ = ["KINDS", "Comparison", "Difference", "LayerRow", "Tolerance", "difference"]

KINDS = ("isolated", "accumulated", "shipped")
"""What a layer's row may hold a Difference for."""


class LayerRow(NamedTuple):
    """One layer of our graph and what it was compared with.

    Attributes:
        reference: the reference's own name for the tensor.
        isolated, accumulated, shipped: see the module; one that is judged is None only where `problem` says why.
        problem: what made a comparison impossible (no such tensor, another shape, NaN); such a row has failed.
        diagnosis: what the layer would agree with, best first.
        judged: those of KINDS that decide; what else the row holds is for reading only.
        unfed: whether all that the layer read by itself is zero.
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
    unfed: bool = False

    @property
    def passed(self) -> bool:
        found = (getattr(self, kind) for kind in self.judged)
        return not self.problem and all(each is not None and each.passed for each in found)

    @property
    def blank(self) -> bool:
        """Whether it passed by zeros alone: all that it read is zero, or both sides of all that it was judged by.

        Zeros times any kernel are zeros, so such a row shows next to nothing of its layer and does not count as proven.
        Nor has it failed: a relu may rightly give zeros alone, a shortcut whose gamma is still 0 as well, and no input
        would change that. Index 0 and a constant 0 are values like any other.
        """
        if self.type == "constant" or not self.judged or not self.passed:
            return False
        found = [getattr(self, kind) for kind in self.judged]
        return self.unfed or all(each.magnitude == each.max_abs == 0 and each.differing is None for each in found)

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
        """Comparing nothing, judging nothing, or judging nothing but zeros is a failure."""
        return any(row.judged and not row.blank for row in self.rows) and all(row.passed for row in self.rows)

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
    def blank(self) -> Tuple[LayerRow, ...]:
        """What passed by zeros alone; see LayerRow.blank."""
        return tuple(row for row in self.rows if row.blank)

    @property
    def has_whole(self) -> bool:
        """Whether some judged row is of whole numbers, for which the tolerance is 0."""
        found = [getattr(row, kind) for row in self.rows for kind in row.judged]
        return any(each is not None and each.differing is not None for each in found)

    @property
    def needed(self) -> float:
        """The smallest rtol with which every row would pass that is judged by it, infinite where none would."""
        found = [getattr(row, kind) for row in self.rows for kind in row.judged]
        nothing = not self.passed and not self.failed
        if nothing or None in found or any(row.problem for row in self.rows):
            return math.inf
        return max(each.needed for each in found if not each.rounding)

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
            "only_zeros": [row.layer for row in self.blank],
            "notes": list(self.notes),
            "rows": rows,
        }


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


