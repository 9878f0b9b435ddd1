"""Transplant: every parameter slot of the graph is filled from the checkpoint, audited both ways.

    Graph.slots() x Source names --match--> [Transfer, ...] --audit--> missing, unused, mis-shaped: all at once, or
                                                            --read---> Weights[layer, role] + ledger

The audit needs names and shapes only; no tensor is read before it has passed.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections import Counter
from typing import Dict, Iterable, Iterator, List, Mapping, NamedTuple, Sequence, Set, Tuple

import numpy as np

from spec.errors import AuditError, nearest
from spec.graph import Graph
from spec.layers import Convolution, Layer, Slot, WeightedLayer
from spec.model import WeightsSpec
from spec.wording import counted
from weights.checkpoint import Checkpoint, Source
from weights.layout import Rule, parse_axes, parse_rule, rearrange, shape_of
from weights.sources import Convention

SHOWN = 10
"""Tensors named in full per message before the rest is counted."""


class Transfer(NamedTuple):
    """One slot and the tensor that fills it."""

    layer: str
    role: str
    tensor: str
    rule: str
    source_shape: Tuple[int, ...]
    shape: Tuple[int, ...]
    sizes: Dict[str, int]


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


def match(graph: Graph, checkpoint: Checkpoint, spec: WeightsSpec, convention: Convention) -> List[Transfer]:
    """Which tensor fills which slot, by names and shapes alone.

    Raises:
        AuditError: with every missing, unused, doubtful and mis-shaped tensor.
    """
    found: List[Transfer] = []
    problems: List[str] = []
    used: Set[str] = set()
    wanted: List[str] = []
    biases: Dict[str, str] = {}
    for position, (layer, slot) in _numbered(graph.slots()):
        source = convention.sources[layer.type, slot.role]
        names = _candidates(layer, slot, position, source, checkpoint, spec, convention.separator)
        present = [name for name in names if name in checkpoint.tensors]
        used.update(present)
        biases.update(_unread_biases(layer, slot, source, names, convention))
        if len(present) == 1:
            transfer = _transfer(layer, slot, present[0], source, checkpoint, spec)
            used.add(transfer.tensor)
            found.append(transfer)
            problems += _misfit(layer, slot, transfer, checkpoint)
        else:
            # a wrong prefix misses hundreds of names: the nearest of the first few say as much as those of all
            known = checkpoint.tensors if len(problems) < SHOWN else ()
            missing = _missing(layer, slot, names, checkpoint, known)
            wanted += [] if present else names[:1]
            problems.append(_doubtful(layer, slot, present) if present else missing)
    unused = [name for name in checkpoint if name not in used and not _ignored(name, spec.ignore)]
    problems += _prefix_hint(wanted, checkpoint) or _unused(unused, checkpoint, biases)
    if problems:
        raise AuditError(problems)
    return found


def _numbered(slots: Iterator[Tuple[Layer, Slot]]) -> Iterator[Tuple[int, Tuple[WeightedLayer, Slot]]]:
    """Each slot with its position among the slots of its layer."""
    before, position = None, 0
    for layer, slot in slots:
        position = position + 1 if layer is before else 0
        before = layer
        yield position, (layer, slot)  # type: ignore[misc]


def _candidates(
    layer: WeightedLayer,
    slot: Slot,
    position: int,
    source: Source,
    checkpoint: Checkpoint,
    spec: WeightsSpec,
    separator: str,
) -> Tuple[str, ...]:
    """Full tensor names that could fill a slot."""
    if slot.role in layer.tensors:
        return (spec.prefix + layer.tensors[slot.role],)
    scope = spec.prefix + (layer.name if layer.scope is None else layer.scope)
    start = scope + separator if scope else ""
    if checkpoint.positional:
        return (f"{start}{position}",)
    return tuple(start + name for name in source.names)


def _transfer(
    layer: WeightedLayer, slot: Slot, tensor: str, source: Source, checkpoint: Checkpoint, spec: WeightsSpec
) -> Transfer:
    averaged = f"{tensor}/{spec.average}"
    if spec.average is not None and averaged in checkpoint.tensors:
        tensor = averaged
    text = source.rule if "->" in source.rule else f"{slot.layout} -> {slot.layout}"
    rule: Rule = parse_rule(text)
    shapes = shape_of(rule.source, slot.sizes), shape_of(rule.target, slot.sizes)
    return Transfer(layer.name, slot.role, tensor, text, *shapes, slot.sizes)


def _misfit(layer: WeightedLayer, slot: Slot, transfer: Transfer, checkpoint: Checkpoint) -> List[str]:
    """A tensor of another shape, of another kind of number, or a rule that cannot fill the whole slot."""
    stored, wanted = checkpoint.tensors[transfer.tensor], shape_of(parse_axes(slot.layout), slot.sizes)
    axes, _, target = transfer.rule.partition(" -> ")
    start = f"{layer.place}: layer '{transfer.layer}': {transfer.role} <- '{transfer.tensor}': "
    if stored.shape != transfer.source_shape:
        hint = _hint(layer, stored.shape, transfer.source_shape, axes)
        return [f"{start}has shape {_show(stored.shape)}, wanted {_show(transfer.source_shape)} ({axes}){hint}"]
    if transfer.shape != wanted:
        return [f"{start}gives {_show(transfer.shape)} ({target}), the layer wants {_show(wanted)} ({slot.layout})"]
    if not stored.dtype.startswith(("float", "bfloat")):
        return [f"{start}holds {stored.dtype}, wanted floating-point numbers; export quantized weights as float32"]
    return []


def _hint(layer: WeightedLayer, found: Tuple[int, ...], wanted: Tuple[int, ...], axes: str) -> str:
    """What would make a shape fit: another layout, or the groups of a convolution."""
    if sorted(found) == sorted(wanted):
        return "; the same sizes in another order: is it another framework's layout (weights.convention)?"
    sizes = {axis: (f, w) for axis, f, w in zip(axes.split(), found, wanted)}
    differing = [axis for axis, (f, w) in sizes.items() if f != w]
    if not isinstance(layer, Convolution) or len(found) != len(wanted) or differing != ["i"] or 0 in found:
        return ""
    groups, rest = divmod(sizes["i"][1] * layer.groups, sizes["i"][0])
    return "" if rest or layer.filters % groups else f"; groups: {groups} would fit"


def _missing(
    layer: WeightedLayer, slot: Slot, names: Sequence[str], checkpoint: Checkpoint, known: Iterable[str]
) -> str:
    near: Tuple[str, ...] = nearest(names[0], known, count=3)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    spelled = names[0] if len(names) == 1 else f"{names[0]} (or {', '.join(_last(name) for name in names[1:])})"
    return f"{layer.place}: layer '{layer.name}': {slot.role}: missing in {checkpoint.path}: {spelled}{hint}"


def _last(name: str) -> str:
    return name.replace(".", "/").rsplit("/", 1)[-1]


def _doubtful(layer: WeightedLayer, slot: Slot, present: Sequence[str]) -> str:
    return (
        f"{layer.place}: layer '{layer.name}': {slot.role}: {' and '.join(present)} both fit; "
        f"say which with tensors: {{{slot.role}: ...}}"
    )


def _prefix_hint(missing: Sequence[str], checkpoint: Checkpoint) -> List[str]:
    """What to say where every missing name is there behind one and the same prefix."""
    prefixes = {name[: -len(missing[0])] for name in checkpoint if missing and name.endswith(missing[0])}
    for prefix in sorted(prefixes - {""}, key=len):
        if all(prefix + name in checkpoint.tensors for name in missing):
            return [
                f"{checkpoint.path}: every missing tensor is there behind '{prefix}': say weights: {{prefix: {prefix}}}"
            ]
    return []


def _unread_biases(
    layer: WeightedLayer, slot: Slot, source: Source, names: Sequence[str], convention: Convention
) -> Dict[str, str]:
    """The names a bias of this layer would have, and what to do if one is there: the layer says it has none."""
    if slot.role != "kernel" or getattr(layer, "bias", True):
        return {}
    spellings = convention.sources[layer.type, "bias"].names
    scopes = {name[: -len(spelling)] for name, spelling in zip(names, source.names) if name.endswith(spelling)}
    hint = f"{layer.place}: layer '{layer.name}': the checkpoint holds a bias, '{{}}'; say bias: true"
    return {scope + spelling: hint.format(scope + spelling) for scope in scopes for spelling in spellings}


def _unused(names: Sequence[str], checkpoint: Checkpoint, biases: Mapping[str, str]) -> List[str]:
    """A message for each bias that a layer denies; one for all others, with glob patterns for their families."""
    told = [biases[name] for name in names if name in biases]
    return told + _unused_tensors([name for name in names if name not in biases], checkpoint)


def _unused_tensors(names: Sequence[str], checkpoint: Checkpoint) -> List[str]:
    if not names:
        return []
    shown = ", ".join(f"{name} {_show(checkpoint.tensors[name].shape)}" for name in names[:SHOWN])
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [
        f"{checkpoint.path}: {counted(len(names), 'tensor')} that no layer uses: {shown}{more}; add layers, "
        f"or leave them behind with weights: {{ignore: [{', '.join(_patterns(names))}]}}"
    ]


def _patterns(names: Sequence[str]) -> List[str]:
    """`*/Momentum` where several names share their last part, whole names otherwise."""
    families: Dict[str, List[str]] = {}
    for name in names:
        split = max(name.rfind("/"), name.rfind("."))
        families.setdefault(name[split:] if split > 0 else name, []).append(name)
    patterns = [f'"*{last}"' if len(family) > 1 else f'"{family[0]}"' for last, family in families.items()]
    return patterns[:SHOWN] + ["..."] * (len(patterns) > SHOWN)


def _ignored(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


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


def _show(shape: Tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape) or "scalar"
