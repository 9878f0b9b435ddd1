"""What is got wrong about batch norm, scales and local response normalisation; some facts follow from the numbers."""

from __future__ import annotations

from itertools import permutations
from typing import Iterator, Optional, Tuple

import numpy as np

from verify.hypotheses.case import Case, Variant, say_keys, say_numbers, with_arrays, with_keys

EPSILONS = (1e-3, 1e-5, 1.001e-5, 1e-4, 2e-5, 1e-6, 1e-7, 1e-8, 1e-12)
"""Keras 1e-3, PyTorch 1e-5, keras.applications' ResNets and TensorFlow 1.15's fused kernel 1.001e-5.

The usual ones first: of those that agree alike, a person copies the first.
"""

NEARLY = 1e-2
"""An epsilon fitted to float32 numbers is this inexact at times: a listed one as near that agrees is the one meant."""


def epsilons(case: Case) -> Iterator[Variant]:
    """The frameworks' defaults, then the one that the reference's own numbers give."""
    now, fitted = case.layer.epsilon, _fitted_epsilon(case)
    for epsilon in EPSILONS:
        if epsilon != now:
            yield with_keys(case, _say_epsilons(now, epsilon), epsilon=epsilon)
    if fitted not in (0.0, now, *EPSILONS):
        near = (listed for listed in EPSILONS if abs(fitted - listed) <= NEARLY * listed)
        variant = with_keys(case, _say_epsilons(now, fitted), epsilon=fitted)
        yield variant._replace(unless=tuple(_say_epsilons(now, listed) for listed in near))


def _say_epsilons(now: float, epsilon: float) -> str:
    return f"epsilon {now:.4g}, but epsilon {epsilon:.4g}"


def _fitted_epsilon(case: Case) -> float:
    """epsilon = (gamma / slope)^2 - variance, in the channel of the least variance: there it shows most. 0 if none."""
    if case.candidate is None:
        return 0.0
    slope, _ = fitted_line(case.inputs[0], case.reference)
    gamma = np.asarray(case.arrays.get("gamma", np.ones_like(slope)), np.float64)
    variance = np.asarray(case.arrays["variance"], np.float64)
    with np.errstate(all="ignore"):
        found = np.square(gamma / slope) - variance
    usable = np.isfinite(found) & (found > 0) & (variance >= 0)
    if not usable.any():
        return 0.0
    least = np.where(usable, variance, np.inf).argmin()
    return float(f"{found[least]:.4g}")


def exchanged_statistics(case: Case) -> Iterator[Variant]:
    """gamma, beta, mean and variance in each other's place: pairs first."""
    roles = list(case.arrays)
    orders = sorted(permutations(roles), key=lambda order: sum(a != b for a, b in zip(order, roles)))
    for order in orders[1:]:
        moved = [role for role, source in zip(roles, order) if role != source]
        pair = "each in the other's place"
        truly = pair if len(moved) == 2 else "read from " + ", ".join(each for each in order if each in moved)
        says = f"{' and '.join(moved) if len(moved) == 2 else ', '.join(moved)} as named, but {truly}"
        yield with_arrays(case, says, **{role: case.arrays[source] for role, source in zip(roles, order)})


def fitted_scale(case: Case) -> Iterator[Variant]:
    """Mean, std or factor of the input: the line that the reference's own numbers lie on."""
    if case.candidate is None:
        return
    channels = case.inputs[0].shape[1]

    def numbers(role: str, neutral: float) -> np.ndarray:
        written = getattr(case.layer, role)
        if written is None:
            written = case.arrays.get(role, neutral)
        return np.broadcast_to(np.asarray(written, np.float64), (channels,))

    now = numbers("scale", 1.0), numbers("shift", 0.0)
    slope, offset = fitted_line(case.inputs[0], case.reference)
    keys = {"scale": tuple(slope.tolist()), "shift": tuple(offset.tolist()), "power": None, "learned": ()}
    variant = with_keys(case, f"{_say_line(*now)}, but {_say_line(slope, offset)}", **keys)
    yield variant._replace(arrays={})


def _say_line(slope: np.ndarray, offset: np.ndarray) -> str:
    return f"x * {say_numbers(slope)} + {say_numbers(offset)}".replace("+ -", "- ")


def fitted_line(source: np.ndarray, target: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """(slope, offset) per channel (axis 1) of target over source, by least squares in float64."""
    x = np.moveaxis(source.astype(np.float64), 1, 0).reshape(source.shape[1], -1)
    y = np.moveaxis(target.astype(np.float64), 1, 0).reshape(target.shape[1], -1)
    centred = x - x.mean(1, keepdims=True)
    power = np.square(centred).sum(1)
    slope = (centred * y).sum(1) / np.where(power > 0, power, 1.0)
    return slope, y.mean(1) - slope * x.mean(1)


def lrn_readings(case: Case) -> Iterator[Variant]:
    """alpha of the sum or of the mean; a depth radius taken for a window; then what the reference's numbers give."""
    layer, now = case.layer, case.layer.window
    other = "mean" if layer.alpha_of == "sum" else "sum"
    yield with_keys(case, f"alpha of the {layer.alpha_of}, but of the {other}", alpha_of=other)
    for alpha_of in (layer.alpha_of, other):
        says = f"window {now}, but window {2 * now + 1} ({now} is a depth radius), alpha of the {alpha_of},"
        yield with_keys(case, says, window=2 * now + 1, alpha_of=alpha_of)
    for window in dict.fromkeys((layer.window, 3, 5, 7, 9, 11)):
        for beta in dict.fromkeys((layer.beta, 0.75, 0.5, 1.0)):
            yield from _fitted_lrn(case, window, beta)


def _fitted_lrn(case: Case, window: int, beta: float) -> Iterator[Variant]:
    """(x / y)^(1 / beta) = k + alpha * S is a line over S, so that k and alpha follow; only what changed is said."""
    line = _line_of_squares(case, window, beta)
    if line is None:
        return
    alpha, k = line
    layer = case.layer
    alpha_of_layer = alpha * (window if layer.alpha_of == "mean" else 1)
    keys = {"window": window, "beta": beta, "alpha": float(f"{alpha_of_layer:.4g}"), "k": float(f"{k:.4g}")}
    changed = {key: value for key, value in keys.items() if abs(value - getattr(layer, key)) > 1e-3 * abs(value)}
    if changed and keys["k"] > 0:
        now = {key: getattr(layer, key) for key in changed}
        yield with_keys(case, f"{say_keys(now)}, but {say_keys(changed)}", **changed)


def _line_of_squares(case: Case, window: int, beta: float) -> Optional[Tuple[float, float]]:
    """(alpha, k) by least squares over all elements that are not small, alpha of the sum; None without such."""
    if case.candidate is None:
        return None
    x, y = case.inputs[0].astype(np.float64), case.reference.astype(np.float64)
    usable = np.abs(y) > 1e-3 * np.abs(y).max()
    if np.count_nonzero(usable) < 2:
        return None
    padded = np.pad(np.square(x), ((0, 0), (window // 2, window // 2), (0, 0), (0, 0)))
    total = sum(padded[:, start : start + x.shape[1]] for start in range(window))
    with np.errstate(all="ignore"):
        line = np.polyfit(total[usable], np.power(x[usable] / y[usable], 1 / beta), 1)
    return (float(line[0]), float(line[1])) if np.isfinite(line).all() else None
