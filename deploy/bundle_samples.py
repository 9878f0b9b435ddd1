"""Recorded activations of a bundle: of every layer some elements, chosen by a rule, and sums over all its elements.

samples.safetensors    layer:NAME   elements (k * step) mod size, k = 0, 1, ...
                       input:NAME   whole: what the engine was fed        output:NAME   whole: what it should return
                       metadata     {KIND: JSON}: titles, and of each layer shape, max|r|, ||r||, mean, rounding

Whole activations are twice a ResNet-50's weights. A wrong channel or a shifted window moves the sums; the step, at the
golden section of the size, spreads the elements over all channels, rows and columns.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Tuple

import numpy as np

from spec.errors import VerificationError

KIND = "trt-transplant samples 1"
COUNTS = (4096, 2048, 1024, 512, 384, 320, 256)
"""Elements recorded of each layer: the most that keep a bundle small."""

_BLOCK = 1 << 13
"""Elements summed at a time, so that their float64 copies stay in the cache."""

_LAYER, _INPUT, _OUTPUT = "layer:", "input:", "output:"


class Sums(NamedTuple):
    """Over all elements of a tensor, in float64: max|r|, sqrt(sum of r^2), mean."""

    largest: float
    norm: float
    mean: float


class LayerSamples(NamedTuple):
    """What is known of one tensor.

    Attributes:
        name: our tensor.
        reference: the source framework's own name for it.
        rounding: what is allowed there beyond the tolerance, of max|r|: the error that float16 weights make, or with
            float32 weights what verify/rounding.py found, mostly 0.
        elements: flat, at `positions(size, count)`.
    """

    name: str
    reference: str
    shape: Tuple[int, ...]
    sums: Sums
    rounding: float
    elements: np.ndarray


class Recording(NamedTuple):
    """One input, and what the source framework makes of it, layers in execution order."""

    title: str
    input_title: str
    layers: Tuple[LayerSamples, ...]
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]


def positions(size: int, count: int) -> np.ndarray:
    """Flat positions of min(size, count) different elements.

    (k * step) mod size with a step that shares no factor with the size, so that no position comes twice, and that is
    near its golden section, so that the first elements of any number are evenly spread (Knuth, The Art of Computer
    Programming, volume 3, section 6.4, theorem S). Nine digits: with 618/1000 positions would gather after a thousand.
    Integers only, so every NumPy agrees.
    """
    step = max(size * 618_033_989 // 10**9, 1)
    while math.gcd(step, size) != 1:
        step += 1
    return np.arange(min(size, count), dtype=np.int64) * step % max(size, 1)


def sums_of(array: np.ndarray) -> Sums:
    """Raises VerificationError where a value is NaN or infinite."""
    flat = array.reshape(-1)
    rows = [_block_sums(flat[start : start + _BLOCK].astype(np.float64)) for start in range(0, flat.size, _BLOCK)]
    squares = math.fsum(row[1] for row in rows)
    if not math.isfinite(squares):
        raise VerificationError(f"holds {np.count_nonzero(~np.isfinite(flat))} values that are NaN or infinite")
    total = math.fsum(row[2] for row in rows)
    return Sums(max((row[0] for row in rows), default=0.0), math.sqrt(squares), total / max(flat.size, 1))


def _block_sums(values: np.ndarray) -> Tuple[float, float, float]:
    """max|x|, sum of x^2, sum of x."""
    return float(np.abs(values).max()), float(values @ values), float(values.sum())


def record_layer(name: str, reference: str, array: np.ndarray, rounding: float) -> LayerSamples:
    """What is recorded of a tensor, with as many elements as ever; raises VerificationError as `sums_of` does."""
    elements = array.reshape(-1)[positions(array.size, COUNTS[0])]
    return LayerSamples(name, reference, array.shape, sums_of(array), rounding, elements)


def thinned(recording: Recording, count: int) -> Recording:
    """The recording with so many elements a layer, the first ones: they too are spread over the whole tensor."""
    layers = (layer._replace(elements=layer.elements[:count]) for layer in recording.layers)
    return recording._replace(layers=tuple(layers))


def to_file(recording: Recording) -> Tuple[Dict[str, np.ndarray], Dict[str, str]]:
    """(tensors, metadata) of samples.safetensors; one key alone, since safetensors writes several in any order."""
    tensors = {_LAYER + layer.name: layer.elements for layer in recording.layers}
    tensors.update({_INPUT + name: np.ascontiguousarray(array) for name, array in recording.inputs.items()})
    tensors.update({_OUTPUT + name: np.ascontiguousarray(array) for name, array in recording.outputs.items()})
    rows: List[Any] = [
        [layer.name, layer.reference, layer.shape, layer.sums, layer.rounding] for layer in recording.layers
    ]
    about = {"title": recording.title, "input": recording.input_title, "layers": rows}
    return tensors, {KIND: json.dumps(about, separators=(",", ":"))}


def from_file(path: Path, tensors: Mapping[str, np.ndarray]) -> Recording:
    """The recording of a file whose tensors are given by their names in it.

    Raises:
        VerificationError: the file holds something else.
    """
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    if KIND not in header.get("__metadata__", {}):
        raise VerificationError(f"{path}: holds no recorded activations, wanted '{KIND}'")
    about = json.loads(header["__metadata__"][KIND])
    layers = tuple(
        LayerSamples(name, reference, tuple(shape), Sums(*sums), rounding, tensors[_LAYER + name])
        for name, reference, shape, sums, rounding in about["layers"]
    )
    return Recording(about["title"], about["input"], layers, _part(tensors, _INPUT), _part(tensors, _OUTPUT))


def _part(tensors: Mapping[str, np.ndarray], start: str) -> Dict[str, np.ndarray]:
    return {key[len(start) :]: tensors[key] for key in tensors if key.startswith(start)}
