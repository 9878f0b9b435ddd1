"""How an architecture becomes layers: ARCHITECTURES maps the YAML word to the class whose fields are its options."""

from __future__ import annotations

from typing import Dict, List, Type

from builders.architecture import Architecture
from builders.plain import Plain
from builders.resnet_keras import ResNetKeras
from builders.resnet_slim import ResNetSlim
from builders.resnet_tf import ResNetTF
from builders.resnet_torch import ResNetTorch
from spec.layers import Layer
from spec.model import ModelSpec

ARCHITECTURES: Dict[str, Type[Architecture]] = {
    "plain": Plain,
    "resnet_torch": ResNetTorch,
    "resnet_keras": ResNetKeras,
    "resnet_tf": ResNetTF,
    "resnet_slim": ResNetSlim,
}


def expand(model: ModelSpec) -> List[Layer]:
    """The layers of a model, each knowing the line it comes from."""
    place = model.place("architecture")
    layers = model.options.expand(next(iter(model.inputs)))
    return [layer if layer.place else layer.at(place) for layer in layers]
