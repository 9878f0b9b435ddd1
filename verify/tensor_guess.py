"""Which tensor of a reference a layer without one most likely means; none rather than a wrong one.

    features.3/sum     elementwise sum ─> features.3:add      the operation of that scope, by its own name or its type's
    stage2.1/chunk1    slice           ─> stage2.1:chunk:1    the first free one of several
    block.a            reads block.bn  ─> block.act           what follows in that scope
    blok.bn1                           ─> block.bn1           the nearest spelling, its numbers being the same

Whatever it is, it is not taken by another layer, and its shape, where known, is the layer's but for the layout.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from spec.errors import nearest
from spec.graph import Graph
from spec.layers import Layer
from spec.layers.arrangement import TO_NCHW

if TYPE_CHECKING:
    from verify.reference import Reference

CALLED: Dict[str, Tuple[str, ...]] = {
    # our layer type, or what it has for `function` -> what frameworks call that operation
    "sum": ("add",),
    "product": ("mul", "multiply"),
    "sub": ("sub", "subtract"),
    "concatenation": ("cat", "concat", "concatenate"),
    "slice": ("chunk", "split", "getitem"),
    "flatten": ("flatten", "view", "reshape"),
    "reshape": ("view", "reshape"),
    "transpose": ("transpose", "permute"),
    "resize": ("interpolate", "upsample"),
    "padding": ("pad",),
    "max": ("max_pool2d", "adaptive_max_pool2d", "maximum"),
    "average": ("avg_pool2d", "adaptive_avg_pool2d", "mean"),
    "swish": ("silu",),
}


def guess(graph: Graph, layer: Layer, name: str, reference: "Reference", taken: Mapping[str, str]) -> Optional[str]:
    """The reference's tensor for `name`, one that the layer makes; None where nothing is near.

    Args:
        taken: the reference's tensors of others of our tensors.
    """
    known = list(reference.names())
    others = set(taken.values())
    free = [
        each for each in known if each not in others and _may_be(reference.shape(each), graph.tensors[name].shape)
    ]
    read = _read(layer, known, taken) if reference.is_sequence else None
    later = free if read is None else [each for each in free if known.index(each) > read]
    found = [*_same_operation(layer, name, later), *_following(name, known, read, free), *_spelled(name, free)]
    return next(iter(found), None)


def parts(name: str) -> Tuple[str, str]:
    """Scope and operation: `layer1.0:add#2`, `layer1.0/add` and `layer1.0.add:1` are (layer1.0, add)."""
    path, *inside = name.split(":")
    if inside and not inside[0].isdigit():
        return path, inside[0].partition("#")[0]
    scope, _, operation = path.replace("/", ".").rpartition(".")
    return path[: len(scope)], operation.partition("#")[0]


def _may_be(theirs: Optional[Sequence[int]], ours: Sequence[int]) -> bool:
    """Whether two shapes may be one tensor's, whatever the batch and the layout; -1 is any length, None any shape."""
    if theirs is None:
        return True
    layouts = [theirs, [theirs[axis] for axis in TO_NCHW]] if len(theirs) == 4 else [theirs]
    return len(theirs) == len(ours) and any(
        all(one == other or -1 in (one, other) for one, other in zip(each[1:], ours[1:])) for each in layouts
    )


def _read(layer: Layer, known: List[str], taken: Mapping[str, str]) -> Optional[int]:
    """Where the last tensor that a layer reads stands; None where it reads one that is not known."""
    positions = [known.index(taken[each]) for each in layer.inputs if taken.get(each) in known]
    return max(positions) if positions and len(positions) == len(layer.inputs) else None


def _same_operation(layer: Layer, name: str, free: Sequence[str]) -> Iterator[str]:
    """Those of the same scope whose operation is what the name says, or what the layer does."""
    scope, word = parts(name)
    function = str(getattr(layer, "function", layer.type))
    for called in (word, word.rstrip("0123456789_"), *CALLED.get(function, (function,))):
        yield from (each for each in free if parts(each) == (scope, called))


def _following(name: str, known: Sequence[str], read: Optional[int], free: Sequence[str]) -> Iterator[str]:
    """What is computed next after what the layer reads, in the layer's own scope if it has one."""
    later = [] if read is None else [each for each in known[read + 1 :] if not _holds(each, known[read])]
    scope = parts(name)[0]
    yield from (each for each in later[:1] if each in free and scope in ("", parts(each)[0]))


def _holds(module: str, name: str) -> bool:
    """Whether a tensor is made inside a module, which puts out that very tensor once more."""
    return name.startswith((f"{module}.", f"{module}:"))


def _spelled(name: str, free: Sequence[str]) -> Tuple[str, ...]:
    """The nearest spelling; numbers tell layers apart, so they are no misspelling."""
    scope, word = parts(name)
    alike = (each for each in free if re.findall(r"\d+", each) == re.findall(r"\d+", name))
    return nearest(name, [each for each in alike if _near(scope, parts(each)[0]) and _near(word, parts(each)[1])])


def _near(one: str, other: str) -> bool:
    return one == other or bool(difflib.get_close_matches(one.casefold(), [other.casefold()]))
