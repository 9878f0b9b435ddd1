"""Images with structure, for want of photographs: smooth fields, gradients, stripes and shapes, with a little noise.

    seed -> layers of COMPONENTS, blended -> pixels 0 to 1 -> the input's own range, dtype and layout

Noise alone excites a network like nothing it was trained on: after a few layers every noise image looks the same.
"""

from __future__ import annotations

from typing import Callable, Dict, Sequence, Tuple

import numpy as np

from spec.graph import Graph
from spec.model import InputSpec

Component = Callable[[np.random.Generator, Tuple[int, int, int]], np.ndarray]


def structured_inputs(graph: Graph, seeds: Sequence[Tuple[int, ...]]) -> Dict[str, np.ndarray]:
    """Arrays by input name, an image for each seed.

    Pixels are 0 to 255 for uint8 and for inputs with preprocessing that expects them, 0 to 1 for preprocessing that
    does not scale and subtracts means below 1, and else normalised, -2 to 2.
    """
    inputs = {}
    for position, (name, spec) in enumerate(graph.inputs.items()):
        images = [structured_image(_size(spec), (*seed, position)) for seed in seeds]
        inputs[name] = _as_input(np.stack(images), spec)
    return inputs


def structured_image(size: Tuple[int, int, int], seed: Tuple[int, ...]) -> np.ndarray:
    """An image h w c of float64 from 0 to 1, darkest 0 and brightest 1."""
    generator = np.random.default_rng(seed)
    image = smooth_field(generator, size)
    for _ in range(generator.integers(2, 5)):
        component = COMPONENTS[list(COMPONENTS)[generator.integers(len(COMPONENTS))]]
        weight = generator.uniform(0.3, 1.0)
        image = (1 - weight) * image + weight * component(generator, size)
    image = image + generator.normal(0, generator.uniform(0.0, 0.05), size)
    return (image - image.min()) / (np.ptp(image) or 1.0)


def smooth_field(generator: np.random.Generator, size: Tuple[int, int, int]) -> np.ndarray:
    """A coarse grid of random colours, interpolated bilinearly."""
    cells = generator.integers(2, 7, 2)
    grid = generator.random((cells[0], cells[1], size[2]))
    rows, columns = (np.linspace(0, cells[axis] - 1, size[axis]) for axis in (0, 1))
    along = _interpolated(grid, rows)
    return _interpolated(along.transpose(1, 0, 2), columns).transpose(1, 0, 2)


def gradient(generator: np.random.Generator, size: Tuple[int, int, int]) -> np.ndarray:
    """From one colour to another along a random direction."""
    first, last = generator.random((2, size[2]))
    slope = _plane(generator, size)[..., np.newaxis]
    slope = (slope - slope.min()) / (np.ptp(slope) or 1.0)
    return first + slope * (last - first)


def stripes(generator: np.random.Generator, size: Tuple[int, int, int]) -> np.ndarray:
    """A sine wave of two colours along a random direction, 2 to 24 periods across."""
    first, last = generator.random((2, size[2]))
    wave = np.sin(2 * np.pi * generator.uniform(2, 24) * _plane(generator, size))[..., np.newaxis]
    return first + (0.5 + 0.5 * wave) * (last - first)


def shapes(generator: np.random.Generator, size: Tuple[int, int, int]) -> np.ndarray:
    """Rectangles and ellipses of one colour each, later ones over earlier ones."""
    image = np.broadcast_to(generator.random(size[2]), size).copy()
    y, x = np.mgrid[0:1 : size[0] * 1j, 0:1 : size[1] * 1j]
    for _ in range(generator.integers(3, 12)):
        (cy, cx), (ry, rx) = generator.random(2), generator.uniform(0.05, 0.4, 2)
        dy, dx = np.abs(y - cy) / ry, np.abs(x - cx) / rx
        inside = dy**2 + dx**2 < 1 if generator.random() < 0.5 else np.maximum(dy, dx) < 1
        image[inside] = generator.random(size[2])
    return image


COMPONENTS: Dict[str, Component] = {
    "smooth field": smooth_field,
    "gradient": gradient,
    "stripes": stripes,
    "shapes": shapes,
}


def _plane(generator: np.random.Generator, size: Tuple[int, int, int]) -> np.ndarray:
    """Distances h w along a random direction; the image is 1 high and 1 wide."""
    angle = generator.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:1 : size[0] * 1j, 0:1 : size[1] * 1j]
    return np.cos(angle) * x + np.sin(angle) * y


def _interpolated(grid: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Rows of a grid at fractional places."""
    low = np.minimum(places.astype(int), len(grid) - 2)
    part = (places - low)[:, np.newaxis, np.newaxis]
    return (1 - part) * grid[low] + part * grid[low + 1]


def _size(spec: InputSpec) -> Tuple[int, int, int]:
    """h w c; what is no image is one row of one channel."""
    if spec.layout is None:
        return 1, int(np.prod(spec.shape[1:])), 1
    _, *rest = spec.shape
    return (rest[0], rest[1], rest[2]) if spec.layout == "NHWC" else (rest[1], rest[2], rest[0])


def _as_input(pixels: np.ndarray, spec: InputSpec) -> np.ndarray:
    """n h w c, 0 to 1 -> what the engine takes."""
    low, high = pixel_range(spec)
    scaled = low + pixels * (high - low)
    if spec.layout is None:
        scaled = scaled.reshape(len(scaled), *spec.shape[1:])
    elif spec.layout == "NCHW":
        scaled = scaled.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(np.rint(scaled) if spec.dtype == "uint8" else scaled).astype(spec.dtype)


def pixel_range(spec: InputSpec) -> Tuple[float, float]:
    """What an input's pixels lie between, see `structured_inputs`."""
    before = spec.preprocessing
    if spec.dtype == "uint8" or before is not None and (before.scale != 1.0 or max(before.mean) > 1.0):
        return 0.0, 255.0
    return (-2.0, 2.0) if before is None else (0.0, 1.0)
