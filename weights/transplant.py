"""Transplant: every parameter slot of the graph is filled from the checkpoint, audited both ways.

    Graph.slots() x Convention ──match──> [Transfer, ...] ──read──> Weights[layer, role] + ledger
                                 └─ missing, unused, mis-shaped: all at once

The audit needs names and shapes only; no tensor is read before it has passed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from spec.errors import AuditError
from spec.graph import Graph
from spec.model import WeightsSpec
from weights.checkpoint import Checkpoint
from weights.layout import parse_rule, rearrange
from weights.matching import Transfer, is_average, match
from weights.sources import Convention


class LedgerRow(NamedTuple):
    """What went where: written as a row of ledger.json. `sha256` is of the tensor's bytes as stored, row-major."""

    layer: str
    role: str
    tensor: str
    rule: str
    source_shape: Tuple[int, ...]
    shape: Tuple[int, ...]
    dtype: str
    sha256: str


class Weights(NamedTuple):
    """Arrays by (layer name, role) in our axis orders, with their ledger. The dtype is the checkpoint's."""

    arrays: Dict[Tuple[str, str], np.ndarray]
    ledger: Tuple[LedgerRow, ...]

    def of(self, layer: str) -> Dict[str, np.ndarray]:
        """The arrays of one layer by role."""
        return {role: array for (name, role), array in self.arrays.items() if name == layer}

    def averages(self, average: Optional[str]) -> str:
        """`, 160 of them averages` where a config asks for NAME/<average>, else nothing."""
        count = sum(is_average(row.tensor, average) for row in self.ledger)
        return f", {count} of them averages" if count else ""


def transplant(graph: Graph, checkpoint: Checkpoint, spec: WeightsSpec, convention: Convention) -> Weights:
    """Matches, audits, then reads every tensor once.

    Raises:
        AuditError: with every missing, unused and mis-shaped tensor, or every tensor with NaN or infinity.
        CheckpointError: a tensor's bytes are damaged.
    """
    transfers = match(graph, checkpoint, spec, convention)
    arrays: Dict[Tuple[str, str], np.ndarray] = {}
    ledger: List[LedgerRow] = []
    problems: List[str] = []
    for transfer, stored in _read(transfers, checkpoint):
        problems += _unusable(checkpoint, transfer, stored)
        row_major = np.ascontiguousarray(stored)
        digest = hashlib.sha256(row_major.reshape(-1).view(np.uint8)).hexdigest()
        moved = rearrange(row_major, parse_rule(transfer.rule), transfer.sizes)
        arrays[transfer.layer, transfer.role] = np.ascontiguousarray(moved)
        ledger.append(LedgerRow(*transfer[:6], str(stored.dtype), digest))
    if problems:
        raise AuditError(problems)
    return Weights(arrays, tuple(ledger))


def _read(transfers: Sequence[Transfer], checkpoint: Checkpoint) -> Iterator[Tuple[Transfer, np.ndarray]]:
    """Each transfer with its tensor; one that fills several slots is read once and kept until the last of them."""
    waiting = Counter(transfer.tensor for transfer in transfers)
    kept: Dict[str, np.ndarray] = {}
    for transfer in transfers:
        name = transfer.tensor
        stored = kept.pop(name) if name in kept else checkpoint[name]
        waiting[name] -= 1
        if waiting[name]:
            kept[name] = stored
        yield transfer, stored


def _unusable(checkpoint: Checkpoint, transfer: Transfer, stored: np.ndarray) -> List[str]:
    """NaN and infinity build silently into a plan, so they end here; so does a float64 that float32 cannot hold.

    So does a variance below zero, whose square root would be NaN: it is another tensor, the mean perhaps.
    """
    with np.errstate(over="ignore"):
        wrong = ~np.isfinite(stored.astype(np.float32) if stored.dtype == np.float64 else stored)
    words = "NaN or infinite"
    if transfer.role == "variance" and not wrong.any():
        wrong, words = stored < 0, "negative"
    if not wrong.any():
        return []
    first = [int(index) for index in np.argwhere(wrong)[0]]
    return [
        f"{checkpoint.path}: tensor '{transfer.tensor}' ({transfer.role} of layer '{transfer.layer}') holds "
        f"{np.count_nonzero(wrong)} values that are {words}, the first at {first}"
    ]
