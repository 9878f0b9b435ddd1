"""What is got wrong between layers: a layer before, the order of inputs, the tensor that is read."""

from __future__ import annotations

from itertools import islice, permutations
from typing import Iterator

from verify.hypotheses.case import Case, Variant, with_inputs, with_keys

ORDERS = 24
"""Orders of inputs tried: all of four."""

TENSORS = 32
"""Tensors tried for each input."""


def unchanged(case: Case) -> Iterator[Variant]:
    """The layer as it is, where only what reaches it has another shape."""
    if case.candidate is None:
        yield with_keys(case, "its inputs have other shapes than the reference's, but on those the layer as it is")


def input_orders(case: Case) -> Iterator[Variant]:
    for order in islice(permutations(range(len(case.inputs))), 1, ORDERS):
        names = [", ".join(case.layer.inputs[position] for position in each) for each in (sorted(order), order)]
        inputs = (case.inputs[position] for position in order)
        yield with_inputs(case, f"inputs {names[0]}, but in the order {names[1]}", *inputs)


def other_inputs(case: Case) -> Iterator[Variant]:
    """One input exchanged for another tensor of its shape: a shortcut that starts one layer too early."""
    for position, (name, array) in enumerate(zip(case.layer.inputs, case.inputs)):
        alike = (each for each in case.others.items() if (each[1].shape, each[1].dtype) == (array.shape, array.dtype))
        foreign = (each for each in alike if each[0] not in (name, case.layer.name))
        for other, found in islice(foreign, TENSORS):
            inputs = (*case.inputs[:position], found, *case.inputs[position + 1 :])
            yield with_inputs(case, f"it reads {name}, but reading {other} it", *inputs)
