"""ModelSpec: what a YAML file says, validated, before any layer list is expanded.

name, inputs, batch, weights, outputs, reference, precision      the same for every model
architecture: the options of one row of builders.ARCHITECTURES   (`plain`: the layer list itself)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from annotated_types import MinLen
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, WithJsonSchema, model_validator
from typing_extensions import Annotated, Literal

from spec.layers.fields import Flag, Integer, Names, Number, Numbers, Positive
from spec.precision import PrecisionSpec
from spec.shapes import Shape
from spec.yaml_file import TYPED


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Preprocessing(_Section):
    """What the user's pipeline leaves to the engine: (pixel * scale - mean) / std, after reordering the channels."""

    scale: Number = 1.0
    mean: Numbers = (0.0,)
    std: Numbers = (1.0,)
    swap_channels: Flag = Field(False, description="reverse the channel order: an RGB image for a BGR network, or back")

    @model_validator(mode="after")
    def _divisible(self) -> "Preprocessing":
        if 0 in self.std:
            raise ValueError(f"std {list(self.std)} divides by zero")
        return self


class InputSpec(_Section):
    """One input of the engine, as the user's pipeline feeds it."""

    shape: Tuple[Integer, ...] = Field(min_length=2, max_length=8, description="with the batch first; -1: see `batch`")
    dtype: Literal["uint8", "float32", "float16"]
    layout: Optional[Literal["NHWC", "NCHW"]] = Field(None, description="of an image; needed for inputs of four axes")
    preprocessing: Optional[Preprocessing] = None

    @model_validator(mode="after")
    def _consistent(self) -> "InputSpec":
        if min(self.shape[1:]) < 1 or self.shape[0] < 1 and self.shape[0] != -1:
            raise ValueError(f"shape {list(self.shape)} must be positive; only the batch in front may be -1")
        if (len(self.shape) == 4) != (self.layout is not None):
            raise ValueError("an input of four axes needs layout: NHWC or NCHW, any other has none")
        if self.preprocessing is not None and self.layout is None:
            raise ValueError("preprocessing is for images (four axes and a layout)")
        for key in ("mean", "std"):
            count = len(getattr(self.preprocessing, key)) if self.preprocessing else 1
            if count not in (1, self.channels):
                raise ValueError(f"preprocessing.{key} has {count} numbers, the image has {self.channels} channels")
        return self

    @property
    def channels(self) -> int:
        """Length of the channel axis of an image, of the last axis of anything else."""
        return self.shape[1] if self.layout == "NCHW" else self.shape[-1]


class Batch(_Section):
    """A dynamic batch: the sizes the engine must take and the one it is tuned for."""

    min: Positive
    opt: Positive
    max: Positive

    @model_validator(mode="after")
    def _ordered(self) -> "Batch":
        if not self.min <= self.opt <= self.max:
            raise ValueError(f"needs min <= opt <= max, has {self.min}, {self.opt}, {self.max}")
        return self


class WeightsSpec(_Section):
    """Where the numbers come from, and what of it is left behind on purpose."""

    path: str = Field(min_length=1, description="file, TensorFlow prefix or directory; relative to the YAML file")
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
    ignore: Names = Field((), description="glob patterns of tensors that are left behind")


def _fed_value(value: Any) -> Any:
    """A number, true or false, or a list of them; nothing becomes another type."""
    each = value if isinstance(value, (list, tuple)) else [value]
    if not each or not all(isinstance(item, (int, float)) and abs(item) <= sys.float_info.max for item in each):
        raise ValueError(f"found {str(value)[:60]}, wanted a number, true or false, or a list of them")
    return value


_FED_ITEM: Dict[str, Any] = {"anyOf": [{"type": "number"}, {"type": "boolean"}]}
FedValue = Annotated[
    Any,  # no union: each branch of one would complain in its own words
    BeforeValidator(_fed_value),
    WithJsonSchema({"anyOf": [*_FED_ITEM["anyOf"], {"type": "array", "items": _FED_ITEM, "minItems": 1}]}),
]


class ReferenceSpec(_Section):
    """How to get the source framework's own activations; exactly one of the first four."""

    graph: Optional[str] = Field(
        None, description="TensorFlow: .meta, frozen .pb or SavedModel; variables are in weights.path"
    )
    keras: Optional[str] = Field(None, description="Keras: a full model, .keras or .h5")
    callable: Optional[str] = Field(
        None, description="PyTorch: module:function that returns the torch.nn.Module, which gets weights.path's weights"
    )
    activations: Optional[str] = Field(None, description="what `run.py record` wrote, .safetensors")
    feed: Literal["raw", "preprocessed"] = Field(
        "raw", description="whether the source model takes the input as the engine does, or after our preprocessing"
    )
    feeds: Dict[str, FedValue] = Field(
        default_factory=dict, description="TensorFlow: placeholder: its value at inference, for example keep_prob: 1.0"
    )
    tensors: Dict[str, str] = Field(default_factory=dict, description="our layer: the reference's own tensor name")

    @model_validator(mode="after")
    def _one_source(self) -> "ReferenceSpec":
        given = [key for key in ("graph", "keras", "callable", "activations") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"needs one of graph, keras, callable, activations; has {' and '.join(given) or 'none'}")
        if self.feeds and self.graph is None:
            raise ValueError(f"feeds is for the placeholders of a TensorFlow graph, {given[0]} has none - take it out")
        return self


class ModelSpec(_Section):
    """One model: what goes in, which layers, which weights, what comes out."""

    name: str = Field(pattern=r"^\w[\w.-]*$", description="names the output directory")
    description: str = ""
    inputs: Dict[Annotated[str, MinLen(1)], InputSpec] = Field(min_length=1)
    batch: Optional[Batch] = Field(None, description="makes the batch dynamic")
    weights: WeightsSpec
    outputs: Names = Field(min_length=1, description="layers whose tensors the engine returns")
    sample: Optional[str] = Field(
        None, description="the sample script that can write the checkpoint: `run.py sample NAME`"
    )
    reference: Optional[ReferenceSpec] = Field(None, description="what every layer is compared with")
    precision: PrecisionSpec = Field(PrecisionSpec(), description="a word for all layers, or a default and exceptions")
    ranges: Optional[str] = Field(None, description="int8: the JSON of `run.py calibrate`; relative to the YAML")
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
        """The checkpoint."""
        return self.beside(self.weights.path, "weights", "path")

    @property
    def ranges_path(self) -> Optional[Path]:
        """The JSON of int8 ranges, if there is one."""
        return None if self.ranges is None else self.beside(self.ranges, "ranges")

    def beside(self, path: str, *keys: str) -> Path:
        """A path that stands at these keys: relative to the YAML file, or, from `--set`, to the working directory."""
        typed = self.place(*keys).startswith(TYPED)
        return (Path() if typed else self._path.parent).joinpath(path).resolve()

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


__all__: List[str] = ["Batch", "InputSpec", "ModelSpec", "Preprocessing", "ReferenceSpec", "WeightsSpec"]
