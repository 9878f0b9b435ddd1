"""What is got wrong about parameters: the order of a stored tensor's axes, a bias too many or too few, RGB for BGR."""

from __future__ import annotations

from itertools import islice
from typing import Iterator

import numpy as np

from verify.hypotheses.case import Case, Variant, say_numbers, with_arrays, with_inputs

KERNELS = 32
"""Kernels of other layers tried."""


def kernel_readings(case: Case) -> Iterator[Variant]:
    """The kernel's stored axes named in another order, or turned by 180 degrees."""
    for says, array in case.readings("kernel"):
        yield with_arrays(case, f"kernel {says}", kernel=array)


def other_kernels(case: Case) -> Iterator[Variant]:
    """Another layer's kernel of the same shape: two scopes exchanged."""
    own = case.arrays.get("kernel")
    alike = (
        (layer, array)
        for (layer, role), array in case.stored.items()
        if role == "kernel" and layer != case.layer.name and own is not None and array.shape == own.shape
    )
    for layer, array in islice(alike, KERNELS):
        asks = "are two scopes exchanged?"
        yield with_arrays(case, f"its own kernel, but that of {layer}", kernel=array)._replace(asks=asks)


def slope_readings(case: Case) -> Iterator[Variant]:
    """The same for the alpha of a PReLU."""
    for says, array in case.readings("alpha"):
        yield with_arrays(case, f"alpha {says}", alpha=array)


def reversed_channels(case: Case) -> Iterator[Variant]:
    """RGB for BGR: the input's channels in the other order."""
    image = case.inputs[0]
    if image.ndim == 4 and image.shape[1] == 3:
        says = "input channels as they come, but in reversed order (RGB and BGR)"
        yield with_inputs(case, says, np.ascontiguousarray(image[:, ::-1]))


def biases(case: Case) -> Iterator[Variant]:
    """No bias where there is one; else the bias that the reference's own numbers give."""
    if case.layer.bias:
        arrays = {role: array for role, array in case.arrays.items() if role != "bias"}
        without = case.layer.model_copy(update={"bias": False})
        yield Variant("a bias, but no bias", without, arrays, case.inputs)
    if case.candidate is None:
        return
    missing = _mean_by_channel(case.reference) - _mean_by_channel(case.candidate)
    stored = case.arrays.get("bias", np.zeros_like(missing))
    now = f"bias {say_numbers(stored)}" if case.layer.bias else "no bias"
    layer = case.layer.model_copy(update={"bias": True})
    arrays = {**case.arrays, "bias": (stored + missing).astype(np.float32)}
    yield Variant(f"{now}, but bias {say_numbers(arrays['bias'])}", layer, arrays, case.inputs)


def _mean_by_channel(array: np.ndarray) -> np.ndarray:
    """In float64; n c and n c h w alike."""
    return np.moveaxis(array.astype(np.float64), 1, 0).reshape(array.shape[1], -1).mean(1)
