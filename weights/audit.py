"""The audit's sentences: tensors that are missing, doubtful or unused, and what to say instead.

    place: layer 'fc': kernel: missing in net.pth: fc.weight; nearest: fc.wieght       a layer's own
    net.pth: 3 tensors that no layer uses: ...                                          the checkpoint's
"""

from __future__ import annotations

import fnmatch
import re
from typing import AbstractSet, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from spec.errors import listed, nearest
from spec.layers import Slot, WeightedLayer
from spec.wording import counted
from weights.checkpoint import Checkpoint, Source
from weights.sources import Convention

SHOWN = 10
"""Tensors named in full per message before the rest is counted."""

OPTIMIZER_SLOT = re.compile(r"(Adadelta|Adagrad|AdagradDA|Adam|Ftrl|Momentum|ProximalAdagrad|RMSProp)(_\d+)?")
"""NAME/Momentum is no average of NAME: the names that the optimizers of tf.compat.v1.train give their slots."""


def missing(
    layer: WeightedLayer, slot: Slot, names: Sequence[str], checkpoint: Checkpoint, known: Iterable[str]
) -> str:
    """A slot for which no tensor is there, by the names it could have; the nearest are looked for among `known`."""
    near: Tuple[str, ...] = nearest(names[0], known, count=3)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    spelled = names[0] if len(names) == 1 else f"{names[0]} (or {', '.join(_last(name) for name in names[1:])})"
    return f"{layer.place}: layer '{layer.name}': {slot.role}: missing in {checkpoint.path}: {spelled}{hint}"


def _last(name: str) -> str:
    return name.replace(".", "/").rsplit("/", 1)[-1]


def doubtful(layer: WeightedLayer, slot: Slot, present: Sequence[str]) -> str:
    """A slot that several tensors could fill."""
    return (
        f"{layer.place}: layer '{layer.name}': {slot.role}: {' and '.join(present)} both fit; "
        f"say which with tensors: {{{slot.role}: ...}}"
    )


def wrong_prefix(wanted: Sequence[Sequence[str]], checkpoint: Checkpoint, prefix: str) -> List[str]:
    """What to say where none of the wanted tensors is there, but all are under another prefix, or under none.

    Args:
        wanted: for each missing tensor the names it could have, which all start with `prefix`.
    """
    bare = [[name[len(prefix) :] for name in names] for names in wanted]
    ends = bare[0] if bare else []
    possible = {name[: len(name) - len(end)] for name in checkpoint for end in ends if name.endswith(end)}
    for right in sorted(possible - {prefix}, key=len):
        if all(any(right + name in checkpoint.tensors for name in names) for names in bare):
            return [f"{checkpoint.path}: every missing tensor is there {_say_prefix(prefix, right)}"]
    return []


def _say_prefix(prefix: str, right: str) -> str:
    if not right:
        return f"without '{prefix}' in front: remove `prefix: {prefix}` from weights"
    instead = f", not behind '{prefix}'" if prefix else ""
    return f"behind '{right}'{instead}: say weights: {{prefix: {right}}}"


def unknown_average(used: AbstractSet[str], checkpoint: Checkpoint, average: Optional[str]) -> List[str]:
    """What to say of an average that no used tensor has: the raw ones would be taken, and nobody would notice."""
    if average is None:
        return []
    start = f"{checkpoint.path}: weights.average: no tensor that a layer uses has an average NAME/{average}"
    known = _averages(used, checkpoint)
    if not known:
        return [f"{start}, nor any other; remove `average: {average}` from weights"]
    near = nearest(average, known, count=len(known))
    known = [*near, *(name for name in known if name not in near)]
    there = listed([f"NAME/{end}" for end in known])
    return [f"{start}; there is {there}: say weights: {{average: {known[0]}}}, or remove `average`"]


def _averages(used: AbstractSet[str], checkpoint: Checkpoint) -> List[str]:
    """What stands behind `NAME/` of used tensors, without optimizers' slots."""
    ends: Dict[str, None] = {}
    for name in checkpoint:
        slashes = (position for position, letter in enumerate(name) if letter == "/")
        ends.update({name[position + 1 :]: None for position in slashes if name[:position] in used})
    return [end for end in ends if not OPTIMIZER_SLOT.fullmatch(end)]


def unread_biases(
    layer: WeightedLayer, slot: Slot, source: Source, names: Sequence[str], convention: Convention
) -> Dict[str, str]:
    """The names a bias of this layer would have, and what to do if one is there: the layer says it has none."""
    if slot.role != "kernel" or getattr(layer, "bias", True):
        return {}
    spellings = convention.sources[layer.type, "bias"].names
    scopes = {name[: -len(spelling)] for name, spelling in zip(names, source.names) if name.endswith(spelling)}
    hint = f"{layer.place}: layer '{layer.name}': the checkpoint holds a bias, '{{}}'; say bias: true"
    return {scope + spelling: hint.format(scope + spelling) for scope in scopes for spelling in spellings}


def unused(
    checkpoint: Checkpoint, used: AbstractSet[str], ignored: Sequence[str], biases: Mapping[str, str]
) -> List[str]:
    """A message for each bias that a layer denies; one for all others, with glob patterns for their families."""
    names = [name for name in checkpoint if name not in used and not _matches(name, ignored)]
    told = [biases[name] for name in names if name in biases]
    return told + _unused_tensors([name for name in names if name not in biases], checkpoint)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _unused_tensors(names: Sequence[str], checkpoint: Checkpoint) -> List[str]:
    if not names:
        return []
    shown = ", ".join(f"{name} {show(checkpoint.tensors[name].shape)}" for name in names[:SHOWN])
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


def show(shape: Tuple[int, ...]) -> str:
    """`3x2x3x3`, as few letters as a list of tensors needs."""
    return "x".join(str(size) for size in shape) or "scalar"
