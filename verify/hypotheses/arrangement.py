"""What is got wrong where numbers are moved: axis orders, edges, starts, the coordinates of a resize."""

from __future__ import annotations

from itertools import combinations, permutations, product
from typing import Iterator, List, Optional, Tuple

import numpy as np

from spec.layers.arrangement import TO_NHWC
from spec.layers.layer import axis_number, axis_numbers
from verify.hypotheses.case import Case, Variant, say_keys, say_pair, with_keys

COORDINATES = ("half_pixel", "asymmetric", "align_corners")
ROUNDINGS = ("floor", "ceil", "half_down", "half_up")


def orders(case: Case) -> Iterator[Variant]:
    """TensorFlow and Keras flatten n h w c, PyTorch n c h w."""
    now = case.layer.order or "NCHW"
    other = "NCHW" if now == "NHWC" else "NHWC"
    yield with_keys(case, f"order {now}, but order {other}", order=other)


def shapes(case: Case) -> Iterator[Variant]:
    """The reference's own: two axes exchanged, such as the groups of a channel shuffle and their channels."""
    now = list(case.layer.target(case.inputs[0].shape))[1:]
    row_major = TO_NHWC if case.layer.order == "NHWC" and case.reference.ndim == 4 else range(case.reference.ndim)
    wanted = [case.reference.shape[axis] for axis in row_major][1:]
    if wanted != now:
        yield with_keys(case, f"shape {now}, but shape {wanted}", shape=tuple(wanted))


def axes(case: Case) -> Iterator[Variant]:
    """Channels are last in TensorFlow."""
    rank = case.inputs[0].ndim
    now = axis_number(case.layer.axis, rank)
    for axis in range(1, rank):
        if axis != now:
            yield with_keys(case, f"axis {_letter(now, rank)}, but axis {_letter(axis, rank)}", axis=axis)


def _letter(axis: int, rank: int) -> str:
    return "nchw"[axis] if rank == 4 else str(axis)


def reduced_axes(case: Case) -> Iterator[Variant]:
    rank = case.inputs[0].ndim
    now = tuple(sorted(axis_numbers(case.layer.axes, rank)))
    for count in range(1, rank):
        for chosen in combinations(range(1, rank), count):
            if chosen != now:
                says = [", ".join(_letter(axis, rank) for axis in each) for each in (now, chosen)]
                yield with_keys(case, f"axes {says[0]}, but axes {says[1]}", axes=chosen)


def kept_axes(case: Case) -> Iterator[Variant]:
    now = case.layer.keep_dims
    yield with_keys(case, f"{say_keys({'keep_dims': now})}, but {str(not now).lower()}", keep_dims=not now)


def transposes(case: Case) -> Iterator[Variant]:
    for order in permutations(range(1, case.inputs[0].ndim)):
        if (0, *order) != tuple(case.layer.axes):
            yield with_keys(case, f"axes {list(case.layer.axes)}, but axes {[0, *order]}", axes=(0, *order))


def other_functions(case: Case) -> Iterator[Variant]:
    """Every other function of a layer whose functions all take the same keys."""
    for function in type(case.layer).model_fields["function"].annotation.__args__:
        if function != case.layer.function:
            yield with_keys(case, f"function {case.layer.function}, but {function}", function=function)


def smallest(case: Case) -> Iterator[Variant]:
    words = ("the smallest", "the largest")
    now = case.layer.largest
    yield with_keys(case, f"{words[now]}, but {words[not now]}", largest=not now)


def edges(case: Case) -> Iterator[Variant]:
    """Another mode, or the value that the reference has in its corner."""
    layer = case.layer
    corner = float(case.reference.reshape(-1)[0])
    for mode, value in (("constant", 0.0), ("constant", corner), ("reflect", 0.0), ("edge", 0.0)):
        if (mode, value) != (layer.mode, layer.value):
            yield with_keys(case, f"{_edge(layer.mode, layer.value)}, but {_edge(mode, value)}", mode=mode, value=value)


def _edge(mode: str, value: float) -> str:
    return f"mode {mode}" + (f" {value:.5g}" if mode == "constant" else "")


def added_pixels(case: Case) -> Iterator[Variant]:
    """The same number of pixels, split between the two sides in another way."""
    rows, columns = (_splits(sum(side)) for side in case.layer.pad)
    for pad in ((row, column) for row in rows for column in columns):
        if pad != case.layer.pad:
            says = [f"[{say_pair(sides[0])}, {say_pair(sides[1])}]" for sides in (case.layer.pad, pad)]
            yield with_keys(case, f"pad {says[0]}, but pad {says[1]}", pad=pad)


def _splits(total: int) -> List[Tuple[int, int]]:
    return sorted(((before, total - before) for before in range(total + 1)), key=lambda pair: abs(pair[0] - pair[1]))


def starts(case: Case) -> Iterator[Variant]:
    """A slice of the same size from elsewhere: up to 8 elements earlier or later along one axis."""
    for position, axis in enumerate(case.layer.axes):
        for start in range(max(case.layer.start[position] - 8, 0), case.layer.start[position] + 9):
            if start != case.layer.start[position]:
                moved = tuple(start if k == position else now for k, now in enumerate(case.layer.start))
                says = f"start {case.layer.start[position]} of axis {axis}, but start {start}"
                yield with_keys(case, says, start=moved)


def found_indices(case: Case) -> Iterator[Variant]:
    """Each element of the result looked up in the input."""
    axis = axis_number(case.layer.axis, case.inputs[0].ndim)
    if case.inputs[0].ndim != case.reference.ndim:
        return
    source, target = (np.moveaxis(array, axis, 0) for array in (case.inputs[0], case.reference))
    equal = [[np.array_equal(ours, theirs) for ours in source] for theirs in target]
    if all(any(row) for row in equal):
        indices = tuple(row.index(True) for row in equal)
        yield with_keys(case, f"indices {list(case.layer.indices)}, but indices {list(indices)}", indices=indices)


def sampling(case: Case) -> Iterator[Variant]:
    """Coordinates, rounding and interpolation of a resize; those that differ in one of them before the others."""
    now = (case.layer.mode, case.layer.coordinates, case.layer.rounding)
    ways = [*product(("nearest",), COORDINATES, ROUNDINGS), *product(("bilinear",), COORDINATES, (None,))]
    for way in sorted(ways, key=lambda each: sum(a != b for a, b in zip(each, now)))[1:]:
        mode, coordinates, rounding = way
        yield with_keys(case, f"{_say(now)}, but {_say(way)}", mode=mode, coordinates=coordinates, rounding=rounding)


def _say(way: Tuple[str, str, Optional[str]]) -> str:
    return " ".join(word for word in way if word is not None)
