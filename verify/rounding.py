"""What float32 itself loses from the image on, for layers that it carries further off than the tolerance.

    image ─ our layers in float32 ─┐ lost
    image ─ our layers in float64 ─┴─ the reference: as near as ROUNDINGS times what is lost ─> passes

A deep network with batch norm may lose 1e-5 of max|r| and more, in the framework as here (benchmarks/rounding.py).
"""

from __future__ import annotations

from typing import Callable, Dict, Iterator, List, Mapping, Sequence

import numpy as np

from verify.compare import LayerRow
from verify.difference import is_whole

ROUNDINGS = 3
"""In mobilenet_v2, densenet121, shufflenet_v2 and googlenet the reference is up to 1.8 times as far off as we are:
benchmarks/results/rounding.json."""

Exact = Callable[[Sequence[str]], Mapping[str, np.ndarray]]


def with_rounding(
    rows: Sequence[LayerRow], ours: Mapping[str, np.ndarray], references: Mapping[str, np.ndarray], exact: Exact
) -> List[LayerRow]:
    """The rows, where failures that are rounding alone have passed.

    Only if every layer passes by itself, on the reference's own inputs: then no layer is wrong, nor read from the wrong
    place, and what is left is what float32 makes of it.

    Args:
        ours, references: by tensor name, from the image on.
        exact: (names) -> ours in float64, from the image on.
    """
    failed = [row for row in rows if not row.passed]
    if not all(row.inherited and row.accumulated and not is_whole(ours[row.layer]) for row in failed):
        return list(rows)
    wanted = exact([row.layer for row in failed]) if failed else {}
    return [
        row if row.passed else _judged(row, ours[row.layer], references[row.layer], wanted[row.layer]) for row in rows
    ]


def _judged(row: LayerRow, ours: np.ndarray, reference: np.ndarray, exact: np.ndarray) -> LayerRow:
    lost, distance = (float(np.abs(exact - array).max()) for array in (ours, reference))
    if row.accumulated is None or not distance <= ROUNDINGS * lost:
        return row
    return row._replace(accumulated=row.accumulated._replace(passed=True, rounding=lost / row.accumulated.magnitude))


def allowed_rounding(rows: Sequence[LayerRow]) -> Dict[str, float]:
    """What another program may be off by beyond the tolerance, of max|r|, where rounding alone was: by tensor name."""
    found = {row.layer: row.accumulated.rounding for row in rows if row.accumulated is not None}
    return {name: ROUNDINGS * rounding for name, rounding in found.items() if rounding}


def rounding_notes(rows: Sequence[LayerRow]) -> Iterator[str]:
    """A sentence for people on the rows that passed so."""
    rounded = [row for row in rows if row.accumulated is not None and row.accumulated.rounding]
    worst = max(rounded, key=lambda row: row.worst_error, default=None)
    if worst is None or worst.accumulated is None:
        return
    yield (
        f"rounding: accumulated, {len(rounded)} of {len(rows)} tensors are further off than that, up to "
        f"{worst.accumulated.error:.1e} of max|r| at {worst.layer}; each layer passes by itself, and float32 loses "
        f"{worst.accumulated.rounding:.1e} on the way there, as our own run in float64 says; {ROUNDINGS} times that "
        "passes"
    )
