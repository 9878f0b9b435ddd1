"""The memory of an engine's inputs and outputs: a block on the GPU and a page-locked one on the host for each tensor.

    array -> host(name, shape) -> copy_in -> [GPU] -> copy_out -> host(name, shape)       both as large as it ever gets
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Dict, NamedTuple, Sequence

import numpy as np

from engine.devices.device import Device
from spec.shapes import Shape


class IOTensor(NamedTuple):
    """An input or output of an engine.

    Attributes:
        shape: as the engine states it; a dynamic batch is -1.
        optimum: the shape the plan is tuned for.
        most: the shape at the largest batch.
    """

    name: str
    is_input: bool
    dtype: str
    shape: Shape
    optimum: Shape
    most: Shape

    @property
    def bytes(self) -> int:
        """Bytes at the largest batch."""
        return int(np.prod(self.most)) * np.dtype(self.dtype).itemsize


class _Block(NamedTuple):
    address: int
    pinned: np.ndarray
    dtype: str


class Buffers:
    """Blocks of every tensor, by name; all are given back when `stack` closes.

    Raises:
        DeviceError: not enough memory on the GPU or the host.
    """

    def __init__(self, device: Device, tensors: Sequence[IOTensor], stack: ExitStack) -> None:
        self._blocks: Dict[str, _Block] = {}
        for tensor in tensors:
            address = device.kept(device.allocate(tensor.bytes), stack)
            pinned = device.kept(device.pinned(tensor.bytes), stack)
            self._blocks[tensor.name] = _Block(address, pinned, tensor.dtype)

    def address(self, name: str) -> int:
        """Where the tensor lies on the GPU."""
        return self._blocks[name].address

    def host(self, name: str, shape: Shape) -> np.ndarray:
        """The tensor's page-locked host memory, as an array of this shape; gone when the stack closes."""
        block = self._blocks[name]
        size = int(np.prod(shape)) * np.dtype(block.dtype).itemsize
        return block.pinned[:size].view(block.dtype).reshape(shape)
