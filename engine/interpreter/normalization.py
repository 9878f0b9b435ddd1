"""Normalisation over neighbours: across channels (LRN), or over axes with mean and variance (instance, group)."""

from __future__ import annotations

from typing import Tuple

import numpy as np

from engine.interpreter.layer import Layer
from engine.interpreter.reduction import axes_of, mean


def lrn(layer: Layer, x: np.ndarray) -> np.ndarray:
    """x / (k + alpha / window * sum of squares)^beta over a window of channels (axis 1); PyTorch's rule, on 8.5.3.1.

    TensorFlow does not divide alpha by the window.
    """
    fields = layer.fields
    half, channels = fields.window_size // 2, x.shape[1]
    squares = np.zeros((x.shape[0], channels + 2 * half) + x.shape[2:], x.dtype)
    np.square(x, out=squares[:, half : half + channels])
    y = squares[:, :channels].copy()
    for start in range(1, fields.window_size):
        y += squares[:, start : start + channels]
    y *= fields.alpha / fields.window_size
    y += fields.k
    np.power(y, -fields.beta, out=y)
    y *= x
    return y


def normalization(layer: Layer, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, over the layer's axes and, with groups, a group's channels.

    gamma and beta broadcast to x, or (add_normalization, superseded in TensorRT 10.15) have one value per group.
    """
    axes, groups = axes_of(layer.fields.axes, x.ndim), layer.fields.num_groups
    if groups == 1:
        return _standardize(x, axes, layer.fields.epsilon) * gamma + beta
    split = x.reshape((x.shape[0], groups, -1) + x.shape[2:])
    inner = (2,) + tuple(axis + 1 for axis in axes if axis > 1)
    y = _standardize(split, inner, layer.fields.epsilon).reshape(x.shape)
    return y * _per_channel(gamma, x.shape[1]) + _per_channel(beta, x.shape[1])


def _standardize(x: np.ndarray, axes: Tuple[int, ...], epsilon: float) -> np.ndarray:
    centred = x - mean(x, axes, keep_dims=True)
    return centred / np.sqrt(mean(np.square(centred), axes, keep_dims=True) + epsilon)


def _per_channel(weights: np.ndarray, channels: int) -> np.ndarray:
    """(1, groups, ...) repeated to (1, channels, ...); already per channel, unchanged."""
    return np.repeat(weights, channels // weights.shape[1], axis=1)
