"""Seeded random weights and images: numbers as training leaves them, so that a relative error means something.

    BatchNorm drawn first ─> kernel scaled by sqrt(variance), so the batch norm really normalises its convolution

Fresh weights hide mistakes: with mean 0, variance 1, gamma 1 and beta 0 every wrong use of a batch norm is right.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

RESIDUAL_GAIN = 0.4
"""Scale of a residual branch's last kernel: unscaled, the sum would double at each block (Zhang et al. 2019, Fixup)."""

SMALL_VARIANCE_EVERY = 8
"""One channel in eight is nearly dead, as in trained networks; only there does epsilon 1.001e-5 differ from 1e-5."""


class BatchNorm(NamedTuple):
    """The four arrays [channels] of one batch norm, in the order Keras keeps them."""

    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


def batch_norm(rng: np.random.Generator, channels: int) -> BatchNorm:
    """Other numbers in every channel: gamma 0.5..1.5, variance 0.5..2, or 1e-5..1e-3 where nearly dead."""
    variance = rng.uniform(0.5, 2.0, channels)
    nearly_dead = rng.permutation(channels)[: channels // SMALL_VARIANCE_EVERY]
    variance[nearly_dead] = 10 ** rng.uniform(-5.0, -3.0, nearly_dead.size)
    mean = 0.3 * np.sqrt(variance) * rng.standard_normal(channels)
    arrays = (rng.uniform(0.5, 1.5, channels), 0.2 * rng.standard_normal(channels), mean, variance)
    return BatchNorm(*(array.astype(np.float32) for array in arrays))


def kernel(rng: np.random.Generator, shape: Sequence[int], output_axis: int = -1, gain: float = 1.0) -> np.ndarray:
    """Normal with deviation gain * sqrt(2 / fan-in) (He et al. 2015), which keeps the magnitude across a ReLU."""
    fan_in = np.prod(shape) / shape[output_axis]
    return rng.standard_normal(tuple(shape), dtype=np.float32) * np.float32(gain * np.sqrt(2.0 / fan_in))


def normalised_kernel(
    rng: np.random.Generator, shape: Sequence[int], norm: BatchNorm, output_axis: int = -1, gain: float = 1.0
) -> np.ndarray:
    """A kernel whose output channels have about the variance that the batch norm behind it divides by."""
    per_channel = [1] * len(shape)
    per_channel[output_axis] = -1
    return kernel(rng, shape, output_axis, gain) * np.sqrt(norm.variance).reshape(per_channel)


def bias(rng: np.random.Generator, channels: int) -> np.ndarray:
    """Small, and different in every channel."""
    return 0.1 * rng.standard_normal(channels, dtype=np.float32)


def image(seed: int, batch: int, height: int, width: int) -> np.ndarray:
    """Random images [n, h, w, 3] in 0..1: 8x8 patches of colour under fine noise, float32.

    Noise alone would average to the same grey in every pooled channel, and all images would give one output.
    """
    rng = np.random.default_rng(seed)
    patches = rng.random((batch, 8, 8, 3), dtype=np.float32)
    patches = patches.repeat(height // 8, axis=1).repeat(width // 8, axis=2)
    return 0.8 * patches + 0.2 * rng.random(patches.shape, dtype=np.float32)
