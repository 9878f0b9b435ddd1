"""plain: every layer written out in the YAML file."""

from __future__ import annotations

from typing import List, Tuple

from pydantic import Field

from builders.architecture import Architecture
from spec.layers import Layer


class Plain(Architecture):
    """A layer list, one row a layer: `- convolution: {name: conv1, ...}`."""

    layers: Tuple[Layer, ...] = Field(min_length=1)

    def expand(self, image: str) -> List[Layer]:
        return list(self.layers)
