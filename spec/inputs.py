"""From what the user's pipeline feeds to what the network reads: cast, layout and preprocessing as ordinary layers.

    image (uint8, n h w c) -> image/cast -> image/nchw -> image/swap -> image/normalised -> the first layer

Each is there only where it is needed. uint8 can only be cast, and float16 feeds a network that computes in float32, so
both are cast; where the layer list casts the input itself, the layers stand behind that cast.
"""

from __future__ import annotations

from typing import List, Sequence, Tuple

from spec.layers import Cast, Gather, Layer, Scale, Transpose
from spec.layers.arrangement import TO_NCHW
from spec.model import InputSpec, ModelSpec, Preprocessing


def adapt_inputs(model: ModelSpec, layers: Sequence[Layer]) -> List[Layer]:
    """The layers with each input's own layers in front, and what read the input now reading their result."""
    result = list(layers)
    for name, spec in model.inputs.items():
        result = _adapt(name, spec, result, model.place("inputs", name))
    return result


def _adapt(name: str, spec: InputSpec, layers: List[Layer], place: str) -> List[Layer]:
    readers = [position for position, layer in enumerate(layers) if name in layer.inputs]
    if not readers:
        return layers
    own_cast = len(readers) == 1 and isinstance(layers[readers[0]], Cast) and spec.preprocessing is None
    start = readers[0] + 1 if own_cast else 0
    source = layers[readers[0]].name if own_cast else name
    added = [layer.at(place) for layer in _input_layers(name, source, spec, cast=not own_cast)]
    if not added:
        return layers
    moved = [_rewired(layer, source, added[-1].name) for layer in layers[start:]]
    return layers[:start] + added + moved


def _input_layers(name: str, source: str, spec: InputSpec, cast: bool) -> List[Layer]:
    layers: List[Layer] = []

    def append(kind: type, part: str, **keys: object) -> None:
        layers.append(kind(name=f"{name}/{part}", inputs=(layers[-1].name if layers else source,), **keys))

    if spec.dtype != "float32" and cast:
        append(Cast, "cast", dtype="float32")
    if spec.layout == "NHWC":
        append(Transpose, "nchw", axes=TO_NCHW)
    if spec.preprocessing is not None:
        if spec.preprocessing.swap_channels:
            append(Gather, "swap", axis=1, indices=tuple(reversed(range(spec.channels))))
        scale, shift = _scale_and_shift(spec.preprocessing)
        if any(value != 1.0 for value in scale) or any(shift):
            append(Scale, "normalised", scale=scale, shift=shift)
    return layers


def _scale_and_shift(steps: Preprocessing) -> Tuple[Tuple[float, ...], Tuple[float, ...]]:
    """(x * scale - mean) / std as x * (scale / std) - mean / std, one number a channel."""
    count = max(len(steps.mean), len(steps.std))
    mean = steps.mean * count if len(steps.mean) == 1 else steps.mean
    std = steps.std * count if len(steps.std) == 1 else steps.std
    return tuple(steps.scale / each for each in std), tuple(-m / s for m, s in zip(mean, std))


def _rewired(layer: Layer, source: str, target: str) -> Layer:
    """The layer reading `target` wherever it read `source`."""
    if source not in layer.inputs:
        return layer
    inputs = tuple(target if tensor == source else tensor for tensor in layer.inputs)
    return layer.model_copy(update={"inputs": inputs})
