"""What the source model is fed, and the layers whose reference is just that: spec/inputs.py put them there, not it.

    feed: raw           engine's input ──────────────────────────────────> the source model, in its own layout and dtype
    feed: preprocessed  engine's input ─ (x * scale - mean) / std, float64 ─> the source model
    either way          image/cast, image/nchw: the engine's input, its numbers unchanged

The formula is spec.model.Preprocessing's, worked out here again on purpose: not with our Scale layer's factors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Mapping, Tuple

import numpy as np

from spec.errors import VerificationError
from spec.graph import Graph
from spec.layers import Cast
from spec.model import InputSpec, ModelSpec
from spec.shapes import show
from verify.image_layout import arranged, fits

if TYPE_CHECKING:
    from verify.reference import Reference


def source_inputs(
    model: ModelSpec, graph: Graph, reference: "Reference", inputs: Mapping[str, np.ndarray]
) -> Dict[str, np.ndarray]:
    """The arrays that the source model takes, by our input names.

    Raises:
        VerificationError: an input has another shape than the source model takes, or a dtype that would lose numbers.
    """
    fed, problems = {}, []
    for name, spec in graph.inputs.items():
        (shape, dtype), place = reference.takes(name), f"{model.place('inputs', name)}: input '{name}'"
        array, layout = _fed(model, spec, inputs[name])
        dtype = array.dtype.name if _behind_cast(spec, array, reference, name) else dtype
        # a preprocessed image is rounded once, a raw input has to arrive as it is
        if not np.can_cast(array.dtype, dtype, "same_kind" if array.dtype == np.float64 else "safe"):
            problems.append(f"{place} is {array.dtype}, {reference.title} takes {dtype}; should reference.feed change?")
        array = arranged(array, layout, reference.image_layout, shape)
        if not fits(array.shape, shape):
            problems.append(f"{place} is {show(array.shape)}, {reference.title} takes {show(shape)}")
        fed[name] = np.ascontiguousarray(array, dtype)
    if problems:
        raise VerificationError(problems)
    return fed


def takes_louder(model: ModelSpec, graph: Graph, reference: "Reference") -> bool:
    """Whether every input may exceed what its type holds: a uint8 one where it is preprocessed, or behind its cast."""
    return all(
        spec.dtype != "uint8" or _preprocessed(model, spec) or reference.casts(name)
        for name, spec in graph.inputs.items()
    )


def _behind_cast(spec: InputSpec, array: np.ndarray, reference: "Reference", name: str) -> bool:
    return spec.dtype == "uint8" and array.dtype == np.float32 and reference.casts(name)


def input_tensors(
    model: ModelSpec, graph: Graph, inputs: Mapping[str, np.ndarray]
) -> Dict[str, Tuple[np.ndarray, str]]:
    """Our tensors in front of the network that are the input itself, with a title for people.

    Casts that read an input, `NAME/nchw`, and with `feed: preprocessed` also `NAME/swap` and `NAME/normalised`.
    """
    found = {}
    for name, spec in graph.inputs.items():
        steps = _steps(spec, inputs[name])
        for layer in graph.layers:
            if isinstance(layer, Cast) and layer.inputs == (name,):
                found[layer.name] = (inputs[name].astype(graph.tensors[layer.name].dtype), f"the input '{name}'")
        found[f"{name}/nchw"] = (steps["nchw"], f"the input '{name}'")
        if _preprocessed(model, spec):
            for part in ("swap", "normalised"):
                found[f"{name}/{part}"] = (steps[part].astype(np.float32), f"the input '{name}', {part}")
    return {name: pair for name, pair in found.items() if name in graph.tensors}


def layout_of(graph: Graph, name: str) -> str:
    """The layout of one of our tensors: an input's own where `INPUT/nchw` reads it, n c h w behind that."""
    for layer in graph.layers:
        spec = graph.inputs.get(layer.name[: -len("/nchw")]) if layer.name.endswith("/nchw") else None
        if spec is not None and name in layer.inputs:
            return spec.layout or "NCHW"
    return "NCHW"


def _preprocessed(model: ModelSpec, spec: InputSpec) -> bool:
    return model.reference is not None and model.reference.feed == "preprocessed" and spec.preprocessing is not None


def _fed(model: ModelSpec, spec: InputSpec, array: np.ndarray) -> Tuple[np.ndarray, str]:
    """What the source model takes, and its layout."""
    if _preprocessed(model, spec):
        return _steps(spec, array)["normalised"], "NCHW"
    return array, spec.layout or "NCHW"


def _steps(spec: InputSpec, array: np.ndarray) -> Dict[str, np.ndarray]:
    """The input after each step of its preprocessing, by the name of our layer for it; images n c h w."""
    image = arranged(array, spec.layout or "NCHW", "NCHW", None)
    steps = {"nchw": image.astype(np.float32)}
    if spec.preprocessing is not None:
        swapped = image[:, ::-1] if spec.preprocessing.swap_channels else image
        mean, std = (np.reshape(numbers, (-1, 1, 1)) for numbers in (spec.preprocessing.mean, spec.preprocessing.std))
        steps["swap"] = swapped
        steps["normalised"] = (swapped.astype(np.float64) * spec.preprocessing.scale - mean) / std
    return steps
