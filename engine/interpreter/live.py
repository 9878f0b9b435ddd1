"""The tensors alive during one run: each is freed after its last reading, or lent to that reader to be overwritten.

    uses: readings still to come, plus one for a tensor to be returned
    spare(layer): the array of an input read for the last time here, owned by this run alone, seen through no other name
"""

from __future__ import annotations

from collections import Counter
from typing import Dict, Iterable, List, Mapping, Optional, Sequence

import numpy as np

from engine.interpreter.layer import Layer
from engine.interpreter.order import input_names


class LiveTensors:
    """Arrays by tensor name, for one run over `plan`.

    Args:
        given: arrays of the caller, never overwritten.
        plan: the layers about to run.
        wanted: tensor names to be returned, kept to the end.
    """

    def __init__(self, given: Mapping[str, np.ndarray], plan: Iterable[Layer], wanted: Sequence[str]) -> None:
        self.arrays: Dict[str, np.ndarray] = dict(given)
        self._uses = Counter(name for layer in plan for name in input_names(layer))
        self._uses.update(wanted)
        self._kept = set(given)

    def inputs(self, layer: Layer) -> List[Optional[np.ndarray]]:
        """The layer's input arrays, None where an input is not set."""
        return [None if tensor is None else self.arrays[tensor.name] for tensor in layer.inputs]

    def spare(self, layer: Layer) -> Optional[np.ndarray]:
        """An input the layer may overwrite, or None."""
        for name in input_names(layer):
            if self._is_spare(name):
                return self.arrays[name]
        return None

    def store(self, layer: Layer, results: Sequence[np.ndarray]) -> None:
        """Keeps the layer's results and lets go of the inputs nobody reads any more."""
        for tensor, result in zip(layer.outputs, results):
            self._protect_shared(layer, tensor.name, result)
            if self._uses[tensor.name] and tensor.name not in self.arrays:  # a fed array wins over a computed one
                self.arrays[tensor.name] = result
        for name in input_names(layer):
            self._uses[name] -= 1
            if self._uses[name] == 0:
                self.arrays.pop(name, None)

    def _is_spare(self, name: str) -> bool:
        return self._uses[name] == 1 and name not in self._kept and self.arrays[name].flags.writeable

    def _protect_shared(self, layer: Layer, output: str, result: np.ndarray) -> None:
        """A reshaped or sliced view shares memory with its input: then both are kept, unless both end here."""
        for name in set(input_names(layer)):
            if not self._is_spare(name) and np.may_share_memory(result, self.arrays[name]):
                self._kept.update((name, output))
