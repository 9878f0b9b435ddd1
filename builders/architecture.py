"""Architecture: the options of one network family, and the layers they expand to."""

from __future__ import annotations

from typing import List

from pydantic import BaseModel, ConfigDict

from spec.layers import Layer


class Architecture(BaseModel):
    """Parent of every row of ARCHITECTURES: its fields are YAML keys, `layers` writes the network down."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def expand(self, image: str) -> List[Layer]:
        """The network as layers, reading the input tensor `image`."""
        raise NotImplementedError
