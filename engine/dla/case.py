"""A layer that a rule judges, and the accelerator it is judged for."""

from __future__ import annotations

from typing import NamedTuple, Sequence, Tuple

from spec.layers import Layer, TensorType
from spec.shapes import Shape, show


class Accelerator(NamedTuple):
    """A DLA: `xavier` or `orin`, and the TensorRT that drives it."""

    generation: str
    tensorrt: Tuple[int, ...]


class Case(NamedTuple):
    """A layer with the tensors that it reads and makes, to run in fp16 on a DLA."""

    layer: Layer
    inputs: Tuple[TensorType, ...]
    output: TensorType
    accelerator: Accelerator

    @property
    def shape(self) -> Shape:
        return self.inputs[0].shape


def outside(what: str, values: Sequence[int], least: int, most: int) -> str:
    """"" where all values are in the range, else the sentence that says so."""
    within = least <= min(values) and max(values) <= most
    return "" if within else f"{what} {show(tuple(values))}: a DLA takes {least} to {most}"
