"""A layer of a network definition as plain values, nothing of TensorRT left in them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple, Optional, Tuple


class Tensor(NamedTuple):
    """A tensor of the network: unique name, TensorRT's name of its data type, shape with -1 where it is dynamic."""

    name: str
    dtype: str
    shape: Tuple[int, ...]


class Layer(NamedTuple):
    """A layer as read back: TensorRT's own names for type and fields; an input that is not set is None."""

    name: str
    type: str
    inputs: Tuple[Optional[Tensor], ...]
    outputs: Tuple[Tensor, ...]
    fields: SimpleNamespace
