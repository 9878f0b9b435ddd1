"""Activation ranges for int8: the largest magnitude that each quantized tensor should still represent.

    images -> interpreter, or the GPU -> |activations| -> Histogram per tensor -> range by method -> ranges.json

The scale of a tensor is range / 127; what lies beyond saturates.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Sequence

import numpy as np

from engine.atomic_file import json_bytes, write_whole
from spec.errors import ConfigError, UsageError, VerificationError

BINS = 2048
LEVELS = 128
"""Magnitudes that int8 tells apart: 0 to 127."""


class Histogram:
    """Counts of |x| in BINS equal bins from 0 to the largest seen; the bins widen by doubling when x grows."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.width = 0.0
        self.largest = 0.0

    def add(self, values: np.ndarray) -> None:
        magnitudes = np.abs(values, dtype=np.float32).reshape(-1)
        if not np.isfinite(magnitudes).all():
            raise VerificationError("an activation is NaN or infinite: are the images right?")
        self.largest = max(self.largest, float(magnitudes.max(initial=0.0)))
        if self.largest == 0.0:
            self.counts[0] += magnitudes.size
            return
        if self.width == 0.0:
            self.width = self.largest / BINS
        while self.width * BINS < self.largest:
            self._widen()
        self.counts += np.histogram(magnitudes, BINS, (0.0, self.width * BINS))[0]

    def _widen(self) -> None:
        """Two bins become one; the upper half is empty again."""
        self.counts[: BINS // 2] = self.counts.reshape(-1, 2).sum(1)
        self.counts[BINS // 2 :] = 0
        self.width *= 2


def min_max(histogram: Histogram) -> float:
    """Nothing saturates."""
    return histogram.largest


def percentile(histogram: Histogram) -> float:
    """99.99 % of the numbers fit; outliers saturate."""
    reached = np.cumsum(histogram.counts) >= 0.9999 * histogram.counts.sum()
    return min((int(reached.argmax()) + 1) * histogram.width, histogram.largest)


def entropy(histogram: Histogram) -> float:
    """The range that loses the least information, by Kullback-Leibler divergence.

    For each candidate range, P is the histogram with all beyond it in its last bin, Q is P in 128 levels spread back
    over its non-empty bins. Migacz, 8-bit Inference with TensorRT, GTC 2017.
    """
    candidates = range(LEVELS, BINS + 1, 16)
    divergences = [_divergence(histogram.counts, bins) for bins in candidates]
    return min(candidates[int(np.argmin(divergences))] * histogram.width, histogram.largest)


def _divergence(counts: np.ndarray, bins: int) -> float:
    kept = counts[:bins].astype(np.float64)
    reference = kept.copy()
    reference[-1] += counts[bins:].sum()
    level = np.arange(bins) * LEVELS // bins
    filled = np.bincount(level, kept > 0, LEVELS)
    quantized = (np.bincount(level, kept, LEVELS) / np.maximum(filled, 1))[level] * (kept > 0)
    p, q = reference / max(reference.sum(), 1), quantized / max(quantized.sum(), 1)
    both = (p > 0) & (q > 0)
    lost = p[(p > 0) & (q == 0)].sum()
    return float((p[both] * np.log(p[both] / q[both])).sum()) + float(lost) * 20.0


METHODS: Dict[str, Callable[[Histogram], float]] = {"min_max": min_max, "percentile": percentile, "entropy": entropy}


def calibrate(
    run: Callable[[Mapping[str, np.ndarray], Sequence[str]], Mapping[str, np.ndarray]],
    batches: Iterable[Mapping[str, np.ndarray]],
    tensors: Sequence[str],
    method: str,
) -> Dict[str, float]:
    """Ranges by tensor name.

    Args:
        run: (inputs, tensor names) -> arrays; the interpreter's `run`, or a marked engine's.
        batches: inputs by name.
        tensors: what will be quantized.
        method: a row of METHODS.
    """
    histograms = {name: Histogram() for name in tensors}
    for inputs in batches:
        for name, array in run(inputs, tensors).items():
            histograms[name].add(array)
    return {name: METHODS[method](histogram) for name, histogram in histograms.items()}


def write_ranges(path: Path, ranges: Mapping[str, float], about: Mapping[str, Any]) -> None:
    """Readable and editable JSON: what it was made from, then one line a tensor."""
    write_whole(path, json_bytes({"about": dict(about), "ranges": dict(ranges)}))


def read_ranges(path: Path) -> Dict[str, float]:
    """The ranges of a file.

    Raises:
        UsageError: the file cannot be read.
        ConfigError: it holds something else, or a range that is not above 0.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; write it with `run.py calibrate`") from None
    except ValueError as error:
        raise ConfigError(f"{path}: is no JSON: {error}") from None
    ranges = content.get("ranges") if isinstance(content, dict) else None
    if not isinstance(ranges, dict):
        raise ConfigError(f"{path}: holds no `ranges`; `run.py calibrate` writes them")
    problems: List[str] = [
        f"{path}: the range of '{name}' is {value!r}; wanted a finite number from 0 on"
        for name, value in ranges.items()
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf")
    ]
    if problems:
        raise ConfigError(problems)
    return {name: float(value) for name, value in ranges.items()}
