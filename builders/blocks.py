"""The blocks that networks are made of, verbs on a Network: each appends layers and returns the last tensor's name."""

from __future__ import annotations

from typing import List

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import Literal

from spec.layers import Activation, BatchNorm, Convolution, Elementwise, Layer
from spec.layers.fields import PaddingField, Pair, Positive


class Network(List[Layer]):
    """A layer list being written: `add` appends one and returns the name of its tensor."""

    def add(self, layer: Layer) -> str:
        self.append(layer)
        return layer.name


class Stem(BaseModel):
    """The first convolution."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    filters: Positive
    kernel: Pair
    stride: Pair
    padding: PaddingField


class Stage(BaseModel):
    """Blocks of one width; the first one strides."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    blocks: Positive = Field(le=1000)
    width: Positive = Field(description="filters inside a block; a bottleneck puts out four times as many")
    stride: Positive


Block = Literal["bottleneck", "basic"]
EXPANSION = {"bottleneck": 4, "basic": 1}


def conv_bn(
    network: Network,
    source: str,
    convolution: str,
    norm: str,
    filters: int,
    kernel: int,
    epsilon: float,
    stride: int = 1,
    padding: object = 0,
    bias: bool = False,
) -> str:
    """Convolution, then batch norm."""
    keys = {"filters": filters, "kernel": kernel, "stride": stride, "padding": padding, "bias": bias}
    tensor = network.add(Convolution(name=convolution, inputs=(source,), **keys))
    return network.add(BatchNorm(name=norm, inputs=(tensor,), epsilon=epsilon))


def relu(network: Network, source: str, name: str) -> str:
    return network.add(Activation(name=name, inputs=(source,), function="relu"))


def add_relu(network: Network, branch: str, shortcut: str, add: str, out: str) -> str:
    """The end of a residual block: relu(branch + shortcut). He et al., 2015, arXiv:1512.03385, figure 2."""
    total = network.add(Elementwise(name=add, inputs=(branch, shortcut), function="sum"))
    return relu(network, total, out)
