"""resnet_tf: a modified ResNet written in TensorFlow, with SAME padding throughout and concatenated shortcuts.

    stem/conv stem/bn stem/relu  pool_max + pool_avg -> pool_concat  stage1/unit1 ... stage4/unit3
    global_pool logits prob

Where a unit strides, its shortcut concatenates the max- and the average-pooled input before the projection.
"""

from __future__ import annotations

from typing import List, Tuple

from pydantic import Field

from builders.architecture import Architecture
from builders.blocks import Network, Stage, Stem, add_relu, conv_bn, relu
from spec.layers import Concatenation, Dense, Layer, Pooling, Reduce, Softmax
from spec.layers.fields import Positive, PositiveNumber


class ResNetTF(Architecture):
    """Bottleneck stages under TensorFlow variable scopes `stageS/unitU`."""

    stem: Stem
    stages: Tuple[Stage, ...] = Field(min_length=1)
    epsilon: PositiveNumber
    classes: Positive

    def expand(self, image: str) -> List[Layer]:
        network = Network()
        stem = self.stem
        names = ("stem/conv", "stem/bn")
        tensor = conv_bn(network, image, *names, stem.filters, stem.kernel, self.epsilon, stem.stride, stem.padding)
        tensor = relu(network, tensor, "stem/relu")
        tensor = _pool_twice(network, tensor, "pool")
        for number, stage in enumerate(self.stages, 1):
            for unit in range(1, stage.blocks + 1):
                stride = stage.stride if unit == 1 else 1
                tensor = self._unit(
                    network, tensor, f"stage{number}/unit{unit}", stage.width, stride, project=unit == 1
                )
        tensor = network.add(Reduce(name="global_pool", inputs=(tensor,), function="mean", axes=("h", "w")))
        tensor = network.add(Dense(name="logits", inputs=(tensor,), units=self.classes, bias=True))
        network.add(Softmax(name="prob", inputs=(tensor,)))
        return network

    def _unit(self, network: Network, source: str, scope: str, width: int, stride: int, project: bool) -> str:
        def step(tensor: str, convolution: str, norm: str, filters: int, kernel: int, stride: int = 1) -> str:
            names = (f"{scope}/{convolution}", f"{scope}/{norm}")
            return conv_bn(network, tensor, *names, filters, kernel, self.epsilon, stride, "same")

        branch = relu(network, step(source, "conv1", "bn1", width, 1), f"{scope}/relu1")
        branch = relu(network, step(branch, "conv2", "bn2", width, 3, stride), f"{scope}/relu2")
        branch = step(branch, "conv3", "bn3", 4 * width, 1)
        shortcut = source
        if stride != 1:
            shortcut = _pool_twice(network, shortcut, f"{scope}/shortcut")
        if project:
            shortcut = step(shortcut, "shortcut_conv", "shortcut_bn", 4 * width, 1)
        return add_relu(network, branch, shortcut, f"{scope}/add", f"{scope}/relu")


def _pool_twice(network: Network, source: str, prefix: str) -> str:
    """Max- and average-pooled 3x3 with stride 2, side by side."""
    keys = {"inputs": (source,), "window": 3, "stride": 2, "padding": "same"}
    highest = network.add(Pooling(name=f"{prefix}_max", function="max", **keys))
    average = network.add(Pooling(name=f"{prefix}_avg", function="average", count_padding=False, **keys))
    return network.add(Concatenation(name=f"{prefix}_concat", inputs=(highest, average)))
