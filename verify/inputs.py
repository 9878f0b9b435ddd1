"""What a comparison feeds: an image, an array, random numbers or a made-up image of a seed; as the engine takes it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Dict, Tuple

import numpy as np

from spec.errors import UsageError
from spec.graph import Graph
from spec.shapes import show
from verify.structured_images import structured_inputs
from verify.unseen import LOUDER

Inputs = Dict[str, np.ndarray]


def make_inputs(graph: Graph, wish: str) -> Tuple[Inputs, str]:
    """Arrays by input name, and a sentence that says where they came from.

    Args:
        wish: `random:SEED`, `loud:SEED` (the same times LOUDER, as floats), `structured:SEED` (see
            structured_images.py), an `.npy` file, an `.npz` with one array an input, or an image file of its size.

    Raises:
        UsageError: the file cannot be read, or does not fit; nothing is resized or cast.
    """
    if wish.startswith("random:") and wish[7:].isdigit():
        return _random(graph, int(wish[7:])), f"random numbers of seed {wish[7:]}"
    if wish.startswith("loud:") and wish[5:].isdigit():
        return _louder(_random(graph, int(wish[5:]))), f"random numbers of seed {wish[5:]}, {LOUDER} times as loud"
    if wish.startswith("structured:") and wish[11:].isdigit():
        seeds = [(int(wish[11:]), number) for number in range(batch_size(graph))]
        return structured_inputs(graph, seeds), f"structured images of seed {wish[11:]}"
    path = Path(wish)
    if not os.path.isfile(wish):  # Path.is_file raises where a name is too long
        known = "random:SEED, structured:SEED, an .npy, .npz or image file"
        raise UsageError(f"--input {wish}: no such file; wanted {known}")
    arrays = read_inputs(path, graph)
    for name, array in arrays.items():
        check_input(graph, wish, name, array)
    missing = [name for name in graph.inputs if name not in arrays]
    if missing:
        raise UsageError(f"--input {wish}: holds nothing for {', '.join(missing)}; an .npz names each input")
    return arrays, str(path)


def _louder(inputs: Inputs) -> Inputs:
    """Times LOUDER; for whole numbers, which have no room, as floats: what a network has behind its cast."""
    floats = {name: array.astype(np.float32) if array.dtype == np.uint8 else array for name, array in inputs.items()}
    return {name: array * array.dtype.type(LOUDER) for name, array in floats.items()}


def _random(graph: Graph, seed: int) -> Inputs:
    """All 256 levels for uint8, standard normal numbers for floats: every channel and pixel differs."""
    generator = np.random.default_rng(seed)
    inputs: Inputs = {}
    for name, spec in graph.inputs.items():
        shape = (batch_size(graph),) + tuple(spec.shape[1:])
        if spec.dtype == "uint8":
            inputs[name] = generator.integers(0, 256, shape, dtype=np.uint8)
        else:
            inputs[name] = generator.standard_normal(shape, dtype=np.float32).astype(spec.dtype)
    return inputs


def batch_size(graph: Graph) -> int:
    """The fixed batch, or for a dynamic one the least that is above 1 if it may be: a batch of one hides mistakes."""
    if graph.batch is not None:
        return max(graph.batch.min, min(2, graph.batch.max))
    return graph.tensors[next(iter(graph.inputs))].shape[0]


def read_inputs(path: Path, graph: Graph) -> Inputs:
    first = next(iter(graph.inputs))
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if path.suffix == ".npy":
            return {first: np.load(path, allow_pickle=False)}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f"--input {path}: is no NumPy file: {error}; wanted what numpy.save writes") from None
    return {first: _image(path, graph, first)}


def _image(path: Path, graph: Graph, name: str) -> np.ndarray:
    """The pixels of a picture in the input's own layout and dtype, batch 1."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ModuleNotFoundError:
        raise UsageError(f"--input {path}: reading images needs Pillow: pip install pillow; or give an .npy") from None
    spec = graph.inputs[name]
    try:
        with Image.open(path) as picture:
            channels = spec.shape[3] if spec.layout == "NHWC" else spec.shape[1]
            pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise UsageError(f"--input {path}: is no image that Pillow reads: {error}") from None
    pixels = pixels.reshape(pixels.shape[0], pixels.shape[1], -1)[np.newaxis]
    if spec.layout == "NCHW":
        pixels = pixels.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(pixels).astype(spec.dtype)


def check_input(graph: Graph, wish: str, name: str, array: np.ndarray) -> None:
    """Raises UsageError unless the array is what the engine's input takes."""
    if name not in graph.inputs:
        raise UsageError(f"--input {wish}: '{name}' is no input; inputs: {', '.join(graph.inputs)}")
    wanted = graph.tensors[name]
    fits = len(array.shape) == len(wanted.shape) and all(w in (-1, s) for w, s in zip(wanted.shape, array.shape))
    batch = graph.batch
    if fits and batch is not None and not batch.min <= array.shape[0] <= batch.max:
        fits = False
    if not fits or str(array.dtype) != wanted.dtype:
        bounds = f" with N from {batch.min} to {batch.max}" if batch is not None else ""
        raise UsageError(
            f"--input {wish}: '{name}' is {array.dtype} {show(array.shape)}, "
            f"wanted {wanted.dtype} {show(wanted.shape)}{bounds}; resize or convert it first"
        )
