"""By how much an engine's outputs may differ from the source framework's, by the coarsest precision in it.

Relative to the largest magnitude of the output. Measured on an H200 with TensorRT 8.5.3.1, relative L2 of the sample
models: fp32 2e-7 to 1.4e-6, tf32 4.5e-4 (model4), fp16 7e-4 to 1.4e-2, int8 7e-3 (model1); benchmarks/results/gpu.
"""

from __future__ import annotations

from typing import Dict, Iterable, NamedTuple


class OutputTolerance(NamedTuple):
    """|c - r| <= rtol max|r|, and why so much."""

    rtol: float
    why: str


OUTPUT_TOLERANCES: Dict[str, OutputTolerance] = {
    "fp32": OutputTolerance(1e-5, "float32 with TF32 off only adds in another order; Polygraphy's default too"),
    "tf32": OutputTolerance(5e-3, "factors are rounded to 10 bits of mantissa, as in fp16"),
    "fp16": OutputTolerance(5e-3, "10 bits of mantissa; Torch-TensorRT's tolerance too"),
    "int8": OutputTolerance(1e-1, "sample models lose up to 0.07 on images like those that they were calibrated on"),
}


def coarsest(words: Iterable[str]) -> str:
    """The least exact of several precisions."""
    return max(words, key=lambda word: OUTPUT_TOLERANCES[word].rtol)


def output_rtol(words: Iterable[str]) -> float:
    """The tolerance of an engine that computes in these precisions."""
    return OUTPUT_TOLERANCES[coarsest(words)].rtol
