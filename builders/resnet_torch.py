"""resnet_torch: ResNets with torchvision's structure and parameter names.

    conv1 bn1 relu maxpool  layer1.0 ... layer4.2  avgpool flatten fc

torchvision/models/resnet.py; He et al., 2015, arXiv:1512.03385, with the stride on the 3x3 convolution ("v1.5").

Parameters have the same names in torchvision and timm; `reference` says what each calls the tensors that have none:
torchvision's blocks call one module `relu` two or three times, timm's have act1, act2, act3.
"""

from __future__ import annotations

from typing import List, Tuple

from pydantic import Field

from builders.architecture import Architecture
from builders.blocks import EXPANSION, Block, Network, Stage, Stem, conv_bn
from spec.layers import Activation, Dense, Elementwise, Flatten, Layer, Pooling
from spec.layers.fields import Positive, PositiveNumber


class ResNetTorch(Architecture):
    """ResNet-18 to ResNet-152 as torchvision and timm write them."""

    block: Block = "bottleneck"
    stem: Stem
    stages: Tuple[Stage, ...] = Field(min_length=1)
    epsilon: PositiveNumber
    classes: Positive

    def expand(self, image: str) -> List[Layer]:
        network = Network()
        stem = self.stem
        tensor = conv_bn(
            network, image, "conv1", "bn1", stem.filters, stem.kernel, self.epsilon, stem.stride, stem.padding
        )
        tensor = _relu(network, tensor, "relu", "relu", "act1")
        tensor = network.add(Pooling(name="maxpool", inputs=(tensor,), function="max", window=3, stride=2, padding=1))
        channels = stem.filters
        for number, stage in enumerate(self.stages, 1):
            for index in range(stage.blocks):
                stride = stage.stride if index == 0 else 1
                tensor = self._block(network, tensor, f"layer{number}.{index}", channels, stage.width, stride)
                channels = stage.width * EXPANSION[self.block]
        self._head(network, tensor)
        return network

    def _head(self, network: Network, source: str) -> None:
        keys = {"function": "average", "window": "global", "reference": ("avgpool", "global_pool.pool")}
        tensor = network.add(Pooling(name="avgpool", inputs=(source,), **keys))
        views = (":flatten", ":view", ":reshape", "global_pool.flatten")
        tensor = network.add(Flatten(name="flatten", inputs=(tensor,), order="NCHW", reference=views))
        network.add(Dense(name="fc", inputs=(tensor,), units=self.classes, bias=True))

    def _block(self, network: Network, source: str, scope: str, channels: int, width: int, stride: int) -> str:
        """A residual block; a 1x1 convolution carries the shortcut where stride or channels change."""

        def step(tensor: str, number: int, filters: int, kernel: int, stride: int = 1) -> str:
            names = (f"{scope}.conv{number}", f"{scope}.bn{number}")
            return conv_bn(network, tensor, *names, filters, kernel, self.epsilon, stride, padding=kernel // 2)

        filters = width * EXPANSION[self.block]
        if self.block == "bottleneck":
            branch = _block_relu(network, step(source, 1, width, 1), scope, 1)
            branch = _block_relu(network, step(branch, 2, width, 3, stride), scope, 2)
            branch = step(branch, 3, filters, 1)
        else:
            branch = _block_relu(network, step(source, 1, width, 3, stride), scope, 1)
            branch = step(branch, 2, filters, 3)
        shortcut = source
        if stride != 1 or channels != filters:
            names = (f"{scope}.downsample.0", f"{scope}.downsample.1")
            shortcut = conv_bn(network, source, *names, filters, 1, self.epsilon, stride)
        total = network.add(Elementwise(name=f"{scope}.add", inputs=(branch, shortcut), function="sum"))
        last = 3 if self.block == "bottleneck" else 2
        return _relu(network, total, f"{scope}.relu", f"{scope}.relu#{last}", f"{scope}.act{last}")


def _block_relu(network: Network, source: str, scope: str, number: int) -> str:
    """The first or second ReLU of a block."""
    return _relu(network, source, f"{scope}.relu{number}", f"{scope}.relu#{number}", f"{scope}.act{number}")


def _relu(network: Network, source: str, name: str, *reference: str) -> str:
    return network.add(Activation(name=name, inputs=(source,), function="relu", reference=reference))
