"""resnet_slim: TF-Slim's ResNets (version 1), under the scopes that tf.contrib.slim gives them.

    SCOPE/conv1 SCOPE/pool1  SCOPE/block1/unit_1/bottleneck_v1/{shortcut,conv1,conv2,conv3} ... SCOPE/pool5 SCOPE/logits

tensorflow/contrib/slim/python/slim/nets/resnet_v1.py, TensorFlow 1.15: the LAST unit of a block strides, in its 3x3
convolution; a convolution that strides pads explicitly and is VALID (conv2d_same), any other is SAME.
"""

from __future__ import annotations

from typing import List, Tuple

from pydantic import Field

from builders.architecture import Architecture
from builders.blocks import EXPANSION, Network, Stage, add_relu, conv_bn, relu
from spec.layers import Convolution, Layer, Padding, Pooling, Reduce, Softmax
from spec.layers.fields import Positive, PositiveNumber


class ResNetSlim(Architecture):
    """resnet_v1_50, 101 and 152 of TF-Slim."""

    scope: str = Field(min_length=1, description="the outermost variable scope, for example resnet_v1_50")
    stages: Tuple[Stage, ...] = Field(min_length=1, description="Slim's blocks; the last unit of each strides")
    stem_filters: Positive
    epsilon: PositiveNumber = Field(description="of the graph: TensorFlow 1.15 writes 1.001e-5 for Slim's 1e-5")
    classes: Positive

    def expand(self, image: str) -> List[Layer]:
        network = Network()
        padded = network.add(Padding(name=f"{self.scope}/Pad", inputs=(image,), pad=3))
        tensor = self._step(network, padded, f"{self.scope}/conv1", self.stem_filters, 7, 2)
        keys = {"function": "max", "window": 3, "stride": 2, "padding": "same"}
        tensor = network.add(Pooling(name=f"{self.scope}/pool1", inputs=(tensor,), **keys))
        channels = self.stem_filters
        for number, stage in enumerate(self.stages, 1):
            for unit in range(1, stage.blocks + 1):
                scope = f"{self.scope}/block{number}/unit_{unit}/bottleneck_v1"
                stride = stage.stride if unit == stage.blocks else 1
                tensor = self._unit(network, tensor, scope, channels, stage.width, stride)
                channels = stage.width * EXPANSION["bottleneck"]
        self._head(network, tensor)
        return network

    def _head(self, network: Network, source: str) -> None:
        """The logits are an image of one pixel, since contrib's Slim squeezes nothing."""
        keys = {"function": "mean", "axes": ("h", "w"), "keep_dims": True}
        tensor = network.add(Reduce(name=f"{self.scope}/pool5", inputs=(source,), **keys))
        keys = {"filters": self.classes, "kernel": 1, "padding": "same", "bias": True}
        tensor = network.add(Convolution(name=f"{self.scope}/logits", inputs=(tensor,), **keys))
        network.add(Softmax(name=f"{self.scope}/predictions", inputs=(tensor,)))

    def _unit(self, network: Network, source: str, scope: str, channels: int, width: int, stride: int) -> str:
        filters = width * EXPANSION["bottleneck"]
        branch = self._step(network, source, f"{scope}/conv1", width, 1)
        if stride > 1:
            branch = network.add(Padding(name=f"{scope}/Pad", inputs=(branch,), pad=1))
        branch = self._step(network, branch, f"{scope}/conv2", width, 3, stride)
        branch = self._conv_bn(network, branch, f"{scope}/conv3", filters, 1)
        shortcut = self._shortcut(network, source, f"{scope}/shortcut", channels, filters, stride)
        return add_relu(network, branch, shortcut, f"{scope}/add", f"{scope}/Relu")

    def _shortcut(self, network: Network, source: str, scope: str, channels: int, filters: int, stride: int) -> str:
        """Projected where channels change; else subsampled by a pooling of one pixel, where the unit strides."""
        if channels != filters:
            return self._conv_bn(network, source, scope, filters, 1, stride)
        if stride == 1:
            return source
        keys = {"function": "max", "window": 1, "stride": stride}
        return network.add(Pooling(name=scope, inputs=(source,), **keys))

    def _step(self, network: Network, source: str, scope: str, filters: int, kernel: int, stride: int = 1) -> str:
        tensor = self._conv_bn(network, source, scope, filters, kernel, stride)
        return relu(network, tensor, f"{scope}/Relu")

    def _conv_bn(self, network: Network, source: str, scope: str, filters: int, kernel: int, stride: int = 1) -> str:
        names, padding = (scope, f"{scope}/BatchNorm"), "valid" if stride > 1 else "same"
        return conv_bn(network, source, *names, filters, kernel, self.epsilon, stride, padding)
