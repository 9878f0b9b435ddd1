"""ModelSpec: what a YAML file says, validated, before any layer list is expanded.

name, inputs, batch, weights, outputs, reference, precision      the same for every model
architecture: the options of one row of builders.ARCHITECTURES   (`plain`: the layer list itself)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from typing_extensions import Annotated, Literal

from spec.layers.layer import Number, Numbers
from spec.shapes import Shape


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Preprocessing(_Section):
    """What the user's pipeline leaves to the engine: (pixel * scale - mean) / std, after reordering the channels."""

    scale: Number = 1.0
    mean: Numbers = (0.0,)
    std: Numbers = (1.0,)
    swap_channels: bool = Field(False, description="reverse the channel order: an RGB image for a BGR network, or back")


class InputSpec(_Section):
    """One input of the engine, as the user's pipeline feeds it."""

    shape: Tuple[int, ...] = Field(min_length=2, max_length=8, description="with the batch first; -1: see `batch`")
    dtype: Literal["uint8", "float32", "float16"]
    layout: Optional[Literal["NHWC", "NCHW"]] = Field(None, description="of an image; needed for inputs of four axes")
    preprocessing: Optional[Preprocessing] = None

    @model_validator(mode="after")
    def _consistent(self) -> "InputSpec":
        if min(self.shape[1:]) < 1 or self.shape[0] < 1 and self.shape[0] != -1:
            raise ValueError(f"shape {list(self.shape)} must be positive; only the batch in front may be -1")
        if (len(self.shape) == 4) != (self.layout is not None):
            raise ValueError("an input of four axes needs layout: NHWC or NCHW, any other has none")
        return self


class Batch(_Section):
    """A dynamic batch: the sizes the engine must take and the one it is tuned for."""

    min: int = Field(ge=1)
    opt: int = Field(ge=1)
    max: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> "Batch":
        if not self.min <= self.opt <= self.max:
            raise ValueError(f"needs min <= opt <= max, has {self.min}, {self.opt}, {self.max}")
        return self


class WeightsSpec(_Section):
    """Where the numbers come from, and what of it is left behind on purpose."""

    path: str = Field(description="file, TensorFlow prefix or directory; relative to the YAML file")
    key: Optional[str] = Field(
        None, description="PyTorch: where in the file the state_dict lies, for example state_dict"
    )
    prefix: str = Field("", description="what every tensor name starts with, for example 'module.'")
    convention: Optional[Literal["tensorflow", "keras", "torch"]] = Field(
        None, description="whose names and axis orders; the format's own where left out"
    )
    average: Optional[str] = Field(
        None, description="take NAME/<average> instead of NAME where it exists: ExponentialMovingAverage"
    )
    ignore: Tuple[str, ...] = Field((), description="glob patterns of tensors that are left behind")


class ModelSpec(_Section):
    """One model: what goes in, which layers, which weights, what comes out."""

    name: str = Field(pattern=r"^[\w.-]+$", description="names the output directory")
    description: str = ""
    inputs: Annotated[Dict[str, InputSpec], Field(min_length=1)]
    batch: Optional[Batch] = Field(None, description="makes the batch dynamic")
    weights: WeightsSpec
    outputs: Tuple[str, ...] = Field(min_length=1, description="layers whose tensors the engine returns")
    sample: Optional[str] = Field(
        None, description="the sample script that can write the checkpoint: `run.py sample NAME`"
    )
    precision: Literal["fp32"] = "fp32"
    architecture: str = Field(description="a row of builders.ARCHITECTURES, whose own keys stand beside this one")
    _options: Any = PrivateAttr(None)
    _path: Path = PrivateAttr(Path("."))
    _places: Dict[Tuple[Any, ...], str] = PrivateAttr(default_factory=dict)

    @property
    def options(self) -> Any:
        """The architecture's own keys, an instance of its options class."""
        return self._options

    @property
    def path(self) -> Path:
        """The YAML file."""
        return self._path

    @property
    def weights_path(self) -> Path:
        """The checkpoint, relative to the YAML file where it is not absolute."""
        return (self._path.parent / self.weights.path).resolve()

    def place(self, *keys: Any) -> str:
        """`file:line` of a key, or of the nearest key above it."""
        while keys and keys not in self._places:
            keys = keys[:-1]
        return self._places.get(keys, str(self._path))

    def input_shapes(self) -> Dict[str, Shape]:
        """Shapes as the engine takes them, in the input's own layout; -1 in front for a dynamic batch."""
        return {
            name: ((-1,) if self.batch else spec.shape[:1]) + tuple(spec.shape[1:])
            for name, spec in self.inputs.items()
        }

    def loaded(self, options: Any, path: Path, places: Dict[Tuple[Any, ...], str]) -> "ModelSpec":
        """This model, knowing its architecture's options and the file it came from."""
        self._options, self._path, self._places = options, path, places
        return self


__all__: List[str] = ["Batch", "InputSpec", "ModelSpec", "Preprocessing", "WeightsSpec"]
