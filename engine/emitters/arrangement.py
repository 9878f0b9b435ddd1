"""Emitters of the layers that move numbers, and of resize. The batch is never spelled out, so it may be dynamic."""

from __future__ import annotations

from typing import Any, Sequence, Tuple

import numpy as np

from engine.emission import Emission
from spec.layers import Concatenation, Flatten, Gather, Padding, Reshape, Resize, Slice, Squeeze, Transpose
from spec.layers.arrangement import TO_NCHW, TO_NHWC
from spec.layers.layer import axis_number


def concatenation(emission: Emission, layer: Concatenation, *sources: Any) -> None:
    axis = axis_number(layer.axis, len(sources[0].shape))
    added = emission.setting(emission.network.add_concatenation(list(sources)), axis=axis)
    emission.tensors[layer.name] = emission.whole(added)


def flatten(emission: Emission, layer: Flatten, source: Any) -> None:
    """An IShuffleLayer; for NHWC behind a transpose, so that the dense kernel keeps the order it was trained in.

    Two layers where one would do: TensorRT 8.5.3.1 makes one kernel of a shuffle that only transposes and of those that
    reshape behind it, the dense layer's own included, as the ONNX road writes them, but two of one that does both
    (benchmarks/results/gpu/profiles.jsonl).
    """
    flat = (0,) + layer.output_shape(tuple(source.shape))[1:]
    if layer.order == "NHWC" and len(source.shape) == 4:
        transposing = emission.network.add_shuffle(source)
        transposing.first_transpose = emission.trt.Permutation(TO_NHWC)
        source = emission.part("nhwc", transposing)
    emission.tensors[layer.name] = emission.whole(emission.reshape(source, flat))


def reshape(emission: Emission, layer: Reshape, source: Any) -> None:
    """One IShuffleLayer: to the source framework's axis order, reshape, and back."""
    target = layer.target(tuple(source.shape))
    added = emission.reshape(source, (0,) + tuple(target[1:]))
    if layer.order == "NHWC" and len(source.shape) == 4:
        added.first_transpose = emission.trt.Permutation(TO_NHWC)
    if layer.order == "NHWC" and len(target) == 4:
        added.second_transpose = emission.trt.Permutation(TO_NCHW)
    emission.tensors[layer.name] = emission.whole(added)


def transpose(emission: Emission, layer: Transpose, source: Any) -> None:
    added = emission.network.add_shuffle(source)
    added.first_transpose = emission.trt.Permutation(layer.axes)
    emission.tensors[layer.name] = emission.whole(added)


def squeeze(emission: Emission, layer: Squeeze, source: Any) -> None:
    kept = layer.output_shape(tuple(source.shape))
    emission.tensors[layer.name] = emission.whole(emission.reshape(source, (0,) + tuple(kept[1:])))


def padding(emission: Emission, layer: Padding, source: Any) -> None:
    """Zeros are an IPaddingLayer; other values and modes are a slice that starts outside the image."""
    (top, bottom), (left, right) = layer.pad
    if layer.mode == "constant" and not layer.value:
        added = emission.network.add_padding_nd(source, (top, left), (bottom, right))
    else:
        mode = {"constant": "FILL", "reflect": "REFLECT", "edge": "CLAMP"}[layer.mode]
        size = layer.output_shape(tuple(source.shape))
        added = _sliced(emission, source, (0, 0, -top, -left), size, (1, 1, 1, 1), mode)
        if layer.mode == "constant":
            added.set_input(4, emission.constant("value", emission.typed(np.full((), layer.value), source)))
    emission.tensors[layer.name] = emission.whole(added)


def slice_(emission: Emission, layer: Slice, source: Any) -> None:
    added = _sliced(emission, source, *layer.bounds(tuple(source.shape)), "STRICT_BOUNDS")
    emission.tensors[layer.name] = emission.whole(added)


def _sliced(
    emission: Emission, source: Any, start: Sequence[int], size: Sequence[int], stride: Sequence[int], mode: str
) -> Any:
    """An ISliceLayer; a dynamic batch is read from the tensor, since a slice must say how much it takes."""
    dynamic = size[0] < 0
    static: Tuple[int, ...] = (1,) + tuple(size[1:]) if dynamic else tuple(size)
    added = emission.network.add_slice(source, tuple(start), static, tuple(stride))
    emission.setting(added, mode=getattr(emission.trt.SampleMode, mode))
    if dynamic:
        added.set_input(2, emission.runtime_shape(source, tuple(size)))
    return added


def gather(emission: Emission, layer: Gather, source: Any) -> None:
    indices = emission.constant("indices", np.array(layer.indices, np.int32))
    axis = axis_number(layer.axis, len(source.shape))
    emission.tensors[layer.name] = emission.whole(emission.network.add_gather(source, indices, axis))


COORDINATES = {"half_pixel": "HALF_PIXEL", "asymmetric": "ASYMMETRIC", "align_corners": "ALIGN_CORNERS"}
ROUNDING = {"floor": "FLOOR", "ceil": "CEIL", "half_down": "HALF_DOWN", "half_up": "HALF_UP"}


def resize(emission: Emission, layer: Resize, source: Any) -> None:
    trt, size = emission.trt, layer.output_shape(tuple(source.shape))
    # before the resize is added: TensorRT 8.5 infers the whole network when a shape is read, and this would lack one
    wanted = emission.runtime_shape(source, size) if size[0] < 0 else None
    added = emission.network.add_resize(source)
    interpolation = trt.InterpolationMode.NEAREST if layer.mode == "nearest" else trt.InterpolationMode.LINEAR
    transformation = getattr(trt.ResizeCoordinateTransformation, COORDINATES[layer.coordinates])
    emission.setting(added, resize_mode=interpolation, coordinate_transformation=transformation)
    if layer.rounding is not None:
        emission.setting(added, nearest_rounding=getattr(trt.ResizeRoundMode, ROUNDING[layer.rounding]))
    if wanted is None:
        emission.setting(added, shape=size)
    else:
        added.set_input(1, wanted)
    emission.tensors[layer.name] = emission.whole(added)
