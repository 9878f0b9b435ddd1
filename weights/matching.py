"""Matching: which tensor fills which slot, by names and shapes alone.

    Graph.slots() x Convention ──> names it could have ──those in the Checkpoint──> one: Transfer; else: a problem

What is said of tensors that are missing, doubtful or unused is in weights/audit.py.
"""

from __future__ import annotations

from collections import Counter
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from spec.errors import AuditError
from spec.graph import Graph
from spec.layers import Convolution, Slot, WeightedLayer
from spec.model import WeightsSpec
from weights import audit
from weights.audit import show
from weights.checkpoint import Checkpoint, Source
from weights.layout import Rule, parse_axes, parse_rule, shape_of
from weights.sources import Convention


class Transfer(NamedTuple):
    """One slot and the tensor that fills it."""

    layer: str
    role: str
    tensor: str
    rule: str
    source_shape: Tuple[int, ...]
    shape: Tuple[int, ...]
    sizes: Dict[str, int]


def match(graph: Graph, checkpoint: Checkpoint, spec: WeightsSpec, convention: Convention) -> List[Transfer]:
    """Which tensor fills which slot, by names and shapes alone.

    Raises:
        AuditError: with every missing, unused, doubtful and mis-shaped tensor; where not one is there under its name
            but all are under another prefix, that alone.
    """
    found: List[Transfer] = []
    problems: List[str] = []
    used: Set[str] = set()
    missing: List[Tuple[str, ...]] = []
    biases: Dict[str, str] = {}
    slots: List[Tuple[WeightedLayer, Slot]] = list(graph.slots())  # type: ignore[arg-type]
    for position, layer, slot in _numbered(slots, checkpoint, spec, convention.separator):
        source = convention.sources[layer.type, slot.role]
        names = _candidates(layer, slot, position, source, checkpoint, spec, convention.separator)
        present = [name for name in names if name in checkpoint.tensors]
        used.update(present)
        biases.update(audit.unread_biases(layer, slot, source, names, convention))
        if len(present) == 1:
            transfer = _transfer(layer, slot, present[0], source, checkpoint, spec)
            used.add(transfer.tensor)
            found.append(transfer)
            problems += _misfit(layer, slot, transfer, checkpoint)
        elif present:
            problems.append(audit.doubtful(layer, slot, present))
        else:
            # a wrong prefix misses hundreds of names: the nearest of the first few say as much as those of all
            known = checkpoint.tensors if len(missing) < audit.SHOWN else ()
            problems.append(audit.missing(layer, slot, names, checkpoint, known))
            missing.append(names)
    wrong_prefix = [] if used else audit.wrong_prefix(missing, checkpoint, spec.prefix)
    if wrong_prefix:
        raise AuditError(wrong_prefix)
    if found and not any(is_average(transfer.tensor, spec.average) for transfer in found):
        problems += audit.unknown_average(used, checkpoint, spec.average)
    problems += audit.unused(checkpoint, used, spec.ignore, biases)
    if problems:
        raise AuditError(problems)
    return found


def is_average(tensor: str, average: Optional[str]) -> bool:
    """Whether a tensor is called NAME/<average>."""
    return average is not None and tensor.endswith(f"/{average}")


def _numbered(
    slots: Sequence[Tuple[WeightedLayer, Slot]], checkpoint: Checkpoint, spec: WeightsSpec, separator: str
) -> Iterator[Tuple[int, WeightedLayer, Slot]]:
    """Each slot with its number among those of its layer in the checkpoint, where variables are known by number.

    Layers of ours that share one there number on where together they have as many slots as it has variables, as the two
    halves of a SeparableConv2D have; else each begins anew, as one layer does that is used twice.
    """
    starts = [_start(layer, spec, separator) for layer, _ in slots]
    variables = Counter(name.rpartition(separator)[0] + separator for name in checkpoint if checkpoint.positional)
    wanted, taken = Counter(starts), Counter()  # type: Counter[str], Counter[Tuple[str, str]]
    for start, (layer, slot) in zip(starts, slots):
        owner = "" if wanted[start] == variables[start] else layer.name
        yield taken[start, owner], layer, slot
        taken[start, owner] += 1


def _start(layer: WeightedLayer, spec: WeightsSpec, separator: str) -> str:
    scope = spec.prefix + (layer.name if layer.scope is None else layer.scope)
    return scope + separator if scope else ""


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
    start = _start(layer, spec, separator)
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
        return [f"{start}has shape {show(stored.shape)}, wanted {show(transfer.source_shape)} ({axes}){hint}"]
    if transfer.shape != wanted:
        return [f"{start}gives {show(transfer.shape)} ({target}), the layer wants {show(wanted)} ({slot.layout})"]
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
