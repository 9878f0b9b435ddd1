"""The weights of a network definition, each under a name of its own, which is how a refit finds it in an engine.

array, name --keep--> trt.Weights for an add_* call          all of them --tell--> INetworkDefinition.set_weights_name
"""

from __future__ import annotations

from typing import Any, Dict, Set

import numpy as np

from engine.tensorrt_api import TensorRT


class NamedWeights:
    """Arrays that live as long as the definition: TensorRT reads their memory when it builds.

    Attributes:
        arrays: by name, in the dtype and order that TensorRT was given.
    """

    def __init__(self, tensorrt: TensorRT, network: Any) -> None:
        self.tensorrt, self.network = tensorrt, network
        self.arrays: Dict[str, np.ndarray] = {}
        self._addresses: Set[int] = set()

    def keep(self, name: str, array: np.ndarray, layer: str) -> Any:
        """trt.Weights of an array, which is copied where other weights have its memory, and renamed where the name.

        TensorRT knows weights by their address alone, and one tensor of a checkpoint may fill slots of several layers.
        """
        if array.ctypes.data in self._addresses:
            array = array.copy()
        while name in self.arrays:
            name = f"{name} of {layer}"
        self.arrays[name] = array
        self._addresses.add(array.ctypes.data)
        return self.tensorrt.module.Weights(array)

    def tell(self) -> None:
        """Names the weights in the network, once its layers hold them; other plans' bytes are the same without names.

        A refused name is no failure here: a refit asks the engine for its names and says which it lacks.
        """
        for name, array in self.arrays.items():
            if not self.network.set_weights_name(self.tensorrt.module.Weights(array), name):
                self.tensorrt.log.take()
