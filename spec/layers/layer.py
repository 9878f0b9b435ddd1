"""Layer: what every row of a YAML layer list has in common; the types of its keys are in fields.py.

inputs (TensorType, ...) --Layer.outputs()--> {tensor name: TensorType}
                         --Layer.slots()----> (Slot, ...)   the parameters that a checkpoint must fill
"""

from __future__ import annotations

from typing import ClassVar, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr
from typing_extensions import Literal

from spec.layers.fields import Names
from spec.shapes import Shape, ShapeError, show

DataType = Literal["float32", "float16", "uint8", "int8", "int32", "bool"]
FLOATS = ("float32", "float16")


class TensorType(NamedTuple):
    """Shape (batch first) and dtype of a tensor between layers."""

    shape: Shape
    dtype: str


class Slot(NamedTuple):
    """One parameter of one layer, to be filled from a checkpoint.

    `layout` names the axes of our array, `o i h w` for a kernel; `sizes` gives the length of each named axis.
    """

    role: str
    layout: str
    sizes: Dict[str, int]


class Layer(BaseModel):
    """One row of a layer list: a name, the tensors it reads, and the keys of its type.

    Inside the network images are n c h w, whatever layout the engine's inputs have.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    type: ClassVar[str]
    input_count: ClassVar[Tuple[int, Optional[int]]] = (1, 1)
    accepts: ClassVar[Tuple[str, ...]] = FLOATS

    name: str = Field(min_length=1, description="unique; the layer's scope in the checkpoint and its name in TensorRT")
    inputs: Names = Field((), alias="input", description="the tensors it reads; the layer before where left out")
    reference: Names = Field((), description="the source framework's names for the tensor, where not the layer's own")
    _place: str = PrivateAttr("")

    @property
    def place(self) -> str:
        """`file:line` this layer was written in, or expanded from."""
        return self._place

    def at(self, place: str) -> "Layer":
        """This layer, knowing where it was written."""
        self._place = place
        return self

    @property
    def tensor_names(self) -> Tuple[str, ...]:
        """The tensors this layer makes, its own name first."""
        return (self.name,)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Shape of the output; raises ShapeError where the inputs do not fit."""
        raise NotImplementedError

    def output_dtype(self, *dtypes: str) -> str:
        """Data type of the output: that of the first input unless a layer says otherwise."""
        return dtypes[0]

    def outputs(self, inputs: Sequence[TensorType]) -> Dict[str, TensorType]:
        """Every tensor this layer makes; raises ShapeError where the inputs do not fit."""
        self._check_inputs(inputs)
        shape = self.output_shape(*(tensor.shape for tensor in inputs))
        return {self.name: TensorType(shape, self.output_dtype(*(tensor.dtype for tensor in inputs)))}

    def slots(self, *shapes: Shape) -> Tuple[Slot, ...]:
        """The parameters to take from the checkpoint, in the order Keras creates them."""
        return ()

    def _check_inputs(self, inputs: Sequence[TensorType]) -> None:
        least, most = self.input_count
        if len(inputs) < least or (most is not None and len(inputs) > most):
            wanted = str(least) if least == most else f"{least} or more" if most is None else f"{least} to {most}"
            wanted += " input" if wanted == "1" else " inputs"
            raise ShapeError(f"{self.type} takes {wanted}, this one has {len(inputs)}")
        for tensor in inputs:
            if tensor.dtype not in self.accepts:
                wanted = " or ".join(self.accepts)
                raise ShapeError(f"{self.type} takes {wanted}, its input is {tensor.dtype}; put a cast before it")
        if len({tensor.dtype for tensor in inputs}) > 1:
            raise ShapeError(f"its inputs have different types: {', '.join(tensor.dtype for tensor in inputs)}")


class WeightedLayer(Layer):
    """A layer whose parameters come from the checkpoint."""

    scope: Optional[str] = Field(None, description="scope in the checkpoint where it differs from the name")
    tensors: Dict[str, str] = Field(default_factory=dict, description="role: full tensor name, where it is irregular")


def image(shape: Shape) -> Tuple[int, int, int, int]:
    """The n, c, h, w of an image tensor; raises ShapeError for any other rank."""
    if len(shape) != 4:
        raise ShapeError(f"takes an image (n c h w), its input is {show(shape)}")
    return shape  # type: ignore[return-value]


def axis_number(axis: Union[str, int], rank: int) -> int:
    """Position of a named or numbered axis; raises ShapeError for the batch, or where the rank has no such axis."""
    if isinstance(axis, str):
        if axis in "hw" and rank != 4:
            raise ShapeError(f"axis '{axis}' is of images (n c h w), the input has {rank} axes")
        axis = "nchw".index(axis)
    number = axis + rank if axis < 0 else axis
    if not 0 <= number < rank:
        raise ShapeError(f"axis {axis} is outside the {rank} axes of the input")
    if number == 0:
        raise ShapeError("axis 0 is the batch; layers leave it alone")
    return number


def axis_numbers(axes: Sequence[Union[str, int]], rank: int) -> List[int]:
    """Positions of several distinct axes."""
    numbers = [axis_number(axis, rank) for axis in axes]
    if len(set(numbers)) != len(numbers):
        raise ShapeError(f"axes {list(axes)} name one axis twice")
    return numbers
