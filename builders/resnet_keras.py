"""resnet_keras: keras.applications' ResNets, with optional long shortcuts between stages.

    conv1_pad conv1_conv conv1_bn conv1_relu pool1_pad pool1_pool  conv2_block1 ... conv5_block3  avg_pool predictions

keras/src/applications/resnet.py: every convolution has a bias, the stride sits on the first 1x1 convolution, the stem
pads explicitly. A `skip` takes an earlier tensor, pools it to the stage's size, concatenates and projects.
"""

from __future__ import annotations

from typing import List, Optional, Tuple

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import Literal

from builders.architecture import Architecture
from builders.blocks import Network, Stage, add_relu, conv_bn, relu
from spec.layers import Concatenation, Dense, Layer, Padding, Pooling, Reduce, Softmax
from spec.layers.fields import Positive, PositiveNumber


class Skip(BaseModel):
    """A long shortcut behind a stage: NAME_pool, NAME_concat, NAME_conv, NAME_bn, NAME_relu."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(min_length=1)
    source: str = Field(description="the tensor it starts from")
    pool: Literal["max", "average"]
    window: Positive = Field(description="of the pooling, and its stride")


class SkipStage(Stage):
    """A stage of bottlenecks, maybe with a long shortcut behind it."""

    skip: Optional[Skip] = None


class ResNetKeras(Architecture):
    """ResNet50, 101 and 152 (version 1) of keras.applications."""

    stem_filters: Positive
    stages: Tuple[SkipStage, ...] = Field(min_length=1)
    epsilon: PositiveNumber
    classes: Positive

    def expand(self, image: str) -> List[Layer]:
        network = Network()
        tensor = self._stem(network, image)
        for number, stage in enumerate(self.stages, 2):
            for block in range(1, stage.blocks + 1):
                stride = stage.stride if block == 1 else 1
                tensor = self._block(
                    network, tensor, f"conv{number}_block{block}", stage.width, stride, project=block == 1
                )
            if stage.skip is not None:
                tensor = self._skip(network, tensor, stage.skip, filters=4 * stage.width)
        tensor = network.add(Reduce(name="avg_pool", inputs=(tensor,), function="mean", axes=("h", "w")))
        tensor = network.add(Dense(name="predictions", inputs=(tensor,), units=self.classes, bias=True))
        network.add(Softmax(name="predictions/softmax", inputs=(tensor,)))
        return network

    def _stem(self, network: Network, image: str) -> str:
        tensor = network.add(Padding(name="conv1_pad", inputs=(image,), pad=3))
        tensor = self._conv_bn(network, tensor, "conv1", self.stem_filters, 7, 2, "valid")
        tensor = relu(network, tensor, "conv1_relu")
        tensor = network.add(Padding(name="pool1_pad", inputs=(tensor,), pad=1))
        return network.add(Pooling(name="pool1_pool", inputs=(tensor,), function="max", window=3, stride=2))

    def _conv_bn(
        self, network: Network, source: str, scope: str, filters: int, kernel: int, stride: int, padding: str
    ) -> str:
        names = (f"{scope}_conv", f"{scope}_bn")
        return conv_bn(network, source, *names, filters, kernel, self.epsilon, stride, padding, bias=True)

    def _block(self, network: Network, source: str, scope: str, width: int, stride: int, project: bool) -> str:
        """A bottleneck; the first of a stage projects its shortcut."""
        shortcut = source
        if project:
            shortcut = self._conv_bn(network, source, f"{scope}_0", 4 * width, 1, stride, "valid")
        branch = self._conv_bn(network, source, f"{scope}_1", width, 1, stride, "valid")
        branch = relu(network, branch, f"{scope}_1_relu")
        branch = self._conv_bn(network, branch, f"{scope}_2", width, 3, 1, "same")
        branch = relu(network, branch, f"{scope}_2_relu")
        branch = self._conv_bn(network, branch, f"{scope}_3", 4 * width, 1, 1, "valid")
        return add_relu(network, branch, shortcut, f"{scope}_add", f"{scope}_out")

    def _skip(self, network: Network, source: str, skip: Skip, filters: int) -> str:
        keys = {"function": skip.pool, "window": skip.window}
        pooled = network.add(Pooling(name=f"{skip.name}_pool", inputs=(skip.source,), **keys))
        tensor = network.add(Concatenation(name=f"{skip.name}_concat", inputs=(source, pooled)))
        tensor = self._conv_bn(network, tensor, skip.name, filters, 1, 1, "valid")
        return relu(network, tensor, f"{skip.name}_relu")
