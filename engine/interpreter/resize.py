"""Resize: each axis by itself, every output position a weighted sum of a few input positions (taps).

    output index --coordinate transformation--> position --nearest | linear | cubic--> taps (indices, weights)

Formulas: ONNX Resize, which TensorRT 8.5.3.1 follows without antialiasing (nearest bit-equal, linear 7e-7).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Callable, Dict, List, Optional, Tuple

import numpy as np

from engine.interpreter.layer import Layer
from spec.errors import TensorRTError

# Input indices (taps, length) and their weights (taps, length).
Taps = Tuple[np.ndarray, np.ndarray]


def resize(layer: Layer, x: np.ndarray, shape: Optional[np.ndarray] = None) -> np.ndarray:
    """x to the layer's shape, a shape given as second input, or floor(x.shape * scales)."""
    for axis, length in enumerate(_target(layer, x.shape, shape)):
        if length != x.shape[axis]:
            x = _resize_axis(x, axis, length, layer.fields)
    return x


def _target(layer: Layer, source: Tuple[int, ...], shape: Optional[np.ndarray]) -> List[int]:
    if shape is not None:
        return shape.tolist()
    if layer.fields.shape is not None:
        return list(layer.fields.shape)
    products = [length * factor for length, factor in zip(source, layer.fields.scales)]
    lengths = [int(np.floor(np.float32(value))) for value in products]
    if layer.fields.coordinate_transformation != "ALIGN_CORNERS" and not np.allclose(lengths, products, rtol=1e-6):
        raise TensorRTError(
            f"layer '{layer.name}' (RESIZE): {source} times scales {layer.fields.scales} is not whole, and whether"
            " TensorRT then samples by scale or by ratio of lengths is not measured; set the layer's shape instead"
        )
    return lengths


def _resize_axis(x: np.ndarray, axis: int, length: int, fields: SimpleNamespace) -> np.ndarray:
    """Weighted sum of x taken at the taps along one axis."""
    coordinates = _coordinates(x.shape[axis], length, fields)
    indices, weights = METHODS[fields.resize_mode](coordinates, x.shape[axis], fields)
    if len(indices) == 1:
        return x.take(indices[0], axis=axis)
    weights = weights.astype(x.dtype).reshape(weights.shape + (1,) * (x.ndim - 1 - axis))
    y = x.take(indices[0], axis=axis)
    y *= weights[0]
    for index, weight in zip(indices[1:], weights[1:]):
        y += x.take(index, axis=axis) * weight
    return y


def _coordinates(source: int, target: int, fields: SimpleNamespace) -> np.ndarray:
    """Position in the input of each output index, one division of whole numbers so that ties stay exact."""
    index = np.arange(target, dtype=np.int64)
    if target == 1 and fields.selector_for_single_pixel == "UPPER":
        return np.zeros(1)
    if fields.coordinate_transformation == "HALF_PIXEL":
        return ((2 * index + 1) * source - target) / (2 * target)
    if fields.coordinate_transformation == "ASYMMETRIC":
        return index * source / target
    return index * (source - 1) / max(target - 1, 1)


def _nearest(coordinates: np.ndarray, size: int, fields: SimpleNamespace) -> Taps:
    indices = np.clip(ROUNDINGS[fields.nearest_rounding](coordinates), 0, size - 1).astype(np.intp)
    return indices[None], np.ones((1, len(indices)))


def _linear(coordinates: np.ndarray, size: int, fields: SimpleNamespace) -> Taps:
    inside = np.clip(coordinates, 0, size - 1)
    low = np.floor(inside).astype(np.intp)
    fraction = inside - low
    return np.stack([low, np.minimum(low + 1, size - 1)]), np.stack([1 - fraction, fraction])


def _cubic(coordinates: np.ndarray, size: int, fields: SimpleNamespace) -> Taps:
    """Keys' cubic convolution with coefficient a: taps at distance 1 + t, t, 1 - t, 2 - t."""
    a, low = fields.cubic_coeff, np.floor(coordinates)
    t = coordinates - low
    weights = np.stack([_keys_far(1 + t, a), _keys_near(t, a), _keys_near(1 - t, a), _keys_far(2 - t, a)])
    indices = np.stack([low - 1, low, low + 1, low + 2]).astype(np.intp)
    if fields.exclude_outside:
        weights = weights * ((indices >= 0) & (indices < size))
        weights = weights / weights.sum(axis=0)
    return np.clip(indices, 0, size - 1), weights


def _keys_near(d: np.ndarray, a: float) -> np.ndarray:
    return ((a + 2) * d - (a + 3)) * d * d + 1


def _keys_far(d: np.ndarray, a: float) -> np.ndarray:
    return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a


ROUNDINGS: Dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "FLOOR": np.floor,
    "CEIL": np.ceil,
    "HALF_DOWN": lambda position: np.ceil(position - 0.5),
    "HALF_UP": lambda position: np.floor(position + 0.5),
}

METHODS: Dict[str, Callable[[np.ndarray, int, SimpleNamespace], Taps]] = {
    "NEAREST": _nearest,
    "LINEAR": _linear,
    "CUBIC": _cubic,
}
