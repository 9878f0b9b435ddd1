"""Activations: element-wise functions, PReLU with its learned slope, softmax."""

from __future__ import annotations

from typing import ClassVar, Dict, Optional, Tuple

from pydantic import Field, model_validator
from typing_extensions import Literal

from spec.layers.fields import Axis, Flag, Number
from spec.layers.layer import Layer, Slot, WeightedLayer, axis_number, image
from spec.shapes import Shape

NEEDS: Dict[str, Tuple[str, ...]] = {
    # the parameters a function takes; those that frameworks disagree on have no default
    "relu": (),
    "relu6": (),
    "clip": ("minimum", "maximum"),
    "leaky_relu": ("alpha",),  # Keras 0.3, tf.nn 0.2, PyTorch 0.01
    "elu": ("alpha",),
    "selu": (),
    "sigmoid": (),
    "hard_sigmoid": ("alpha", "beta"),  # clip(alpha x + beta, 0, 1): Keras 2 has 0.2, 0.5, Keras 3 and PyTorch 1/6, 0.5
    "tanh": (),
    "softplus": (),
    "softsign": (),
    "swish": (),
    "hard_swish": (),
    "gelu": ("approximate",),
}


class Activation(Layer):
    """One function on every element; the shape stays."""

    type: ClassVar[str] = "activation"
    function: Literal[
        "relu", "relu6", "clip", "leaky_relu", "elu", "selu", "sigmoid", "hard_sigmoid", "tanh", "softplus",
        "softsign", "swish", "hard_swish", "gelu",
    ]  # fmt: skip
    alpha: Optional[Number] = Field(
        None, description="leaky_relu, elu: slope; hard_sigmoid: clip(alpha x + beta, 0, 1)"
    )
    beta: Optional[Number] = None
    minimum: Optional[Number] = Field(None, description="clip: lower bound")
    maximum: Optional[Number] = Field(None, description="clip: upper bound")
    approximate: Optional[Flag] = Field(None, description="gelu: the tanh formula (true) or the exact one (false)")

    @model_validator(mode="after")
    def _parameters(self) -> "Activation":
        wanted = NEEDS[self.function]
        for key in ("alpha", "beta", "minimum", "maximum", "approximate"):
            given = getattr(self, key) is not None
            if given and key not in wanted:
                raise ValueError(f"{self.function} takes no {key}")
            if not given and key in wanted:
                raise ValueError(f"{self.function} needs {key}")
        if self.function == "clip" and self.minimum >= self.maximum:
            raise ValueError(f"clip needs minimum < maximum, has {self.minimum} and {self.maximum}")
        return self

    def output_shape(self, shape: Shape) -> Shape:
        return shape


class ParametricRelu(WeightedLayer):
    """x where x > 0, alpha * x elsewhere, alpha learned per channel or element. He et al., 2015, arXiv:1502.01852."""

    type: ClassVar[str] = "prelu"
    shared: Flag = Field(True, description="one slope a channel (PyTorch; Keras shared_axes=[1, 2]), or one an element")

    def output_shape(self, shape: Shape) -> Shape:
        return image(shape)

    def slots(self, shape: Shape) -> Tuple[Slot, ...]:
        _, channels, height, width = image(shape)
        sizes = {"c": channels, "h": 1, "w": 1} if self.shared else {"c": channels, "h": height, "w": width}
        return (Slot("alpha", "c h w", sizes),)


class Softmax(Layer):
    """exp(x) / sum(exp(x)) along one axis; the shape stays."""

    type: ClassVar[str] = "softmax"
    axis: Axis = "c"

    def output_shape(self, shape: Shape) -> Shape:
        axis_number(self.axis, len(shape))
        return shape
