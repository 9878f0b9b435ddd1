"""Per-channel arithmetic: batch norm, scale, local response normalisation."""

from __future__ import annotations

from typing import ClassVar, Optional, Tuple

from pydantic import Field, model_validator
from typing_extensions import Literal

from spec.layers.fields import Flag, Number, Numbers, Positive, PositiveNumber
from spec.layers.layer import Layer, Slot, WeightedLayer, image
from spec.shapes import Shape, ShapeError, show


def _channels(shape: Shape) -> int:
    if len(shape) not in (2, 4):
        raise ShapeError(f"takes n c or n c h w, its input is {show(shape)}")
    return shape[1]


class BatchNorm(WeightedLayer):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta per channel, with the statistics of training.

    Ioffe and Szegedy, 2015, arXiv:1502.03167, algorithm 2. The epsilon has no default: Keras has 1e-3, PyTorch 1e-5,
    keras.applications 1.001e-5, and TensorFlow 1.15 writes 1.001e-5 where its user said 1e-5.
    """

    type: ClassVar[str] = "batch_norm"
    epsilon: PositiveNumber
    gamma: Flag = Field(True, description="false where the checkpoint holds none (Keras scale=False): gamma is 1")
    beta: Flag = Field(True, description="false where the checkpoint holds none (Keras center=False): beta is 0")

    def output_shape(self, shape: Shape) -> Shape:
        _channels(shape)
        return shape

    def slots(self, shape: Shape) -> Tuple[Slot, ...]:
        roles = ("gamma",) * self.gamma + ("beta",) * self.beta + ("mean", "variance")
        return tuple(Slot(role, "c", {"c": shape[1]}) for role in roles)


class Scale(WeightedLayer):
    """(x * scale + shift) ^ power, each one number or one per channel, written out or taken from the checkpoint."""

    type: ClassVar[str] = "scale"
    scale: Optional[Numbers] = None
    shift: Optional[Numbers] = None
    power: Optional[Number] = None
    learned: Tuple[Literal["scale", "shift"], ...] = Field((), description="which of them the checkpoint holds")

    @model_validator(mode="after")
    def _one_source(self) -> "Scale":
        for role in self.learned:
            if getattr(self, role) is not None:
                raise ValueError(f"{role} is both written out and learned; keep one")
        if self.scale is None and self.shift is None and self.power is None and not self.learned:
            raise ValueError("needs scale, shift, power or learned")
        return self

    def output_shape(self, shape: Shape) -> Shape:
        channels = _channels(shape)
        for role in ("scale", "shift"):
            values = getattr(self, role)
            if values is not None and len(values) not in (1, channels):
                raise ShapeError(f"{role} has {len(values)} values, the input has {channels} channels")
        return shape

    def slots(self, shape: Shape) -> Tuple[Slot, ...]:
        return tuple(Slot(role, "c", {"c": shape[1]}) for role in ("scale", "shift") if role in self.learned)


class LocalResponseNorm(Layer):
    """x / (k + alpha * S) ^ beta, where S is the sum, or the mean, of x^2 over a window of channels.

    Krizhevsky et al., 2012, section 3.3. TensorFlow takes the sum (window = 2 * depth_radius + 1, k = bias), PyTorch,
    Caffe and TensorRT the mean, so `alpha_of` must be said.
    """

    type: ClassVar[str] = "lrn"
    window: Positive = Field(le=15, description="channels, odd; TensorFlow: 2 * depth_radius + 1")
    alpha: Number
    beta: Number
    k: PositiveNumber = Field(description="TensorFlow's bias")
    alpha_of: Literal["sum", "mean"] = Field(description="sum: TensorFlow; mean: PyTorch, Caffe, TensorRT")

    @model_validator(mode="after")
    def _odd(self) -> "LocalResponseNorm":
        if self.window % 2 == 0:
            raise ValueError(f"window {self.window} is even; TensorRT takes odd windows only")
        return self

    def output_shape(self, shape: Shape) -> Shape:
        return image(shape)
