"""Activations of the source framework, by our tensor names: the truth that every layer is compared with.

    ModelSpec.reference ─open_reference()─> Reference ─reference_names()─> our layer: its tensor
    inputs of the engine ─source_inputs()─> what the source model takes ─Reference.activations()─> its tensors ─> ours

Whatever the framework, output k > 0 of an operation is `name:k`, and the k-th of several calls of a layer `name#k`.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Container, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from spec.errors import ConfigError, did_you_mean
from spec.graph import Graph
from spec.layers import Layer, WeightedLayer
from spec.model import ModelSpec
from verify.image_layout import arranged
from verify.source_inputs import input_tensors, layout_of, source_inputs
from verify.tensor_guess import guess
from verify.verification import Activations

# key of ReferenceSpec -> the module whose `open_source(model)` returns its Reference; a graph's takes a checkpoint too
SOURCES: Dict[str, str] = {
    "graph": "verify.tensorflow_reference",
    "keras": "verify.keras_reference",
    "callable": "verify.torch_reference",
    "activations": "verify.recorded",
}


class Reference:
    """Parent of what every row of SOURCES opens.

    Attributes:
        title: for people, "TensorFlow 2.21.0, inference.meta with model.ckpt-2".
        image_layout: NHWC or NCHW, the axis order of its rank-4 tensors.
        recorded: its tensors are ours already (names, layouts, inputs), recorded for one input.
        is_sequence: its names are what it computes, in order, and nothing else: what follows a tensor reads it, mostly.
        inputs: the engine's inputs that a recorded reference brings along; None where any input may be given.
    """

    title: str
    image_layout: str
    recorded: bool = False
    is_sequence: bool = False
    inputs: Optional[Dict[str, np.ndarray]] = None

    def names(self) -> Sequence[str]:
        """Every tensor it can give, in execution order where known."""
        raise NotImplementedError

    def shape(self, name: str) -> Optional[Tuple[int, ...]]:
        """A tensor's, in its own layout; -1 where free, None where unknown."""
        return None

    def function(self, name: str) -> Optional[str]:
        """`relu` or `relu6` where that makes a tensor, which numbers up to 6 do not tell; else None."""
        return None

    def takes(self, name: str) -> Tuple[Optional[Tuple[int, ...]], str]:
        """Shape, -1 where free, None where unknown, and dtype that the source model takes for our input `name`."""
        raise NotImplementedError

    def casts(self, name: str) -> bool:
        """Whether the source model first casts our uint8 input `name`, and takes floats behind that cast instead."""
        return False

    def by_rule(self, layers: Sequence[Layer]) -> Dict[str, str]:
        """Our layer -> its tensor, by the framework's own habits of naming; layers without one are absent."""
        raise NotImplementedError

    def find(self, name: str) -> Optional[str]:
        """The tensor that a person calls `name`, or None."""
        return name if name in self.names() else None

    def original(self, name: str) -> str:
        """The source framework's name of a tensor, where a recorded one has ours."""
        return name

    def activations(self, inputs: Mapping[str, np.ndarray], names: Iterable[str]) -> Dict[str, np.ndarray]:
        """Tensors by its own names in its own layout, from one run on inputs in its own layout, by our input names."""
        raise NotImplementedError


def spellings(layer: Layer) -> List[str]:
    """What the source may call a layer: its name, then its scope in the checkpoint where that is another."""
    scope = layer.scope if isinstance(layer, WeightedLayer) else None
    return [layer.name] if scope in (None, layer.name) else [layer.name, scope]


def open_reference(model: ModelSpec, checkpoint: Optional[Path] = None) -> Reference:
    """The reference that the config names.

    Args:
        checkpoint: the prefix that the files of a TensorFlow checkpoint share, where `weights.path` names a directory
            or one of the files: weights.tf_paths finds it, for the transplant and for this.

    Raises:
        ConfigError: the config has none, or one that cannot be.
        UsageError: a file or a framework is missing.
        VerificationError: a file is damaged, or does not fit the model.
    """
    if model.reference is None:
        known = ", ".join(SOURCES)
        raise ConfigError(f"{model.path}: nothing to compare with - say reference: {{...}} with one of {known}")
    key = next(key for key in SOURCES if getattr(model.reference, key) is not None)
    source = importlib.import_module(SOURCES[key])
    return source.open_source(model, checkpoint) if key == "graph" else source.open_source(model)


def reference_names(model: ModelSpec, graph: Graph, reference: Reference) -> Dict[str, str]:
    """Our tensor -> the reference's own name for it; tensors without one are absent.

    Tried in order: `reference.tensors` of the config, the layer's `reference`, the framework's rule.

    Raises:
        ConfigError: `reference.tensors` names a layer or a tensor that does not exist; says the nearest.
    """
    if reference.recorded:
        return {name: name for name in graph.made if reference.find(name)}
    given = _given_names(model, graph, reference)
    by_rule = reference.by_rule(graph.layers)
    names: Dict[str, str] = {}
    for layer in graph.layers:
        first = given.get(layer.name) or _first(reference, layer.reference) or by_rule.get(layer.name)
        if first is not None:
            others = {name: _first(reference, [f"{first}:{k}"]) for k, name in enumerate(layer.tensor_names[1:], 1)}
            names[layer.name] = first
            names.update((name, theirs) for name, theirs in others.items() if theirs is not None)
        names.update((name, given[name]) for name in layer.tensor_names if name in given)
    return names


def _first(reference: Reference, names: Iterable[str]) -> Optional[str]:
    """The first of several names that the reference has."""
    return next((found for found in map(reference.find, names) if found is not None), None)


def _given_names(model: ModelSpec, graph: Graph, reference: Reference) -> Dict[str, str]:
    """`reference.tensors` of the config, checked; what it says of inputs concerns the reference itself."""
    given, problems = {}, []
    ours = graph.made
    for name, theirs in model.reference.tensors.items() if model.reference else ():
        place, found = f"{model.place('reference', 'tensors', name)}: reference.tensors", reference.find(theirs)
        if name not in ours and name not in graph.inputs:
            problems.append(f"{place}: '{name}' is no layer{did_you_mean(name, ours)}")
        elif found is None:
            hint = did_you_mean(theirs, reference.names())
            problems.append(f"{place}: layer '{name}': {reference.title} has no tensor '{theirs}'{hint}")
        elif name in ours:
            given[name] = found
    if problems:
        raise ConfigError(problems)
    return given


def reference_activations(
    model: ModelSpec,
    graph: Graph,
    reference: Reference,
    inputs: Mapping[str, np.ndarray],
    input_title: str,
    wanted: Optional[Container[str]] = None,
) -> Activations:
    """The reference's activations by our tensor names, in our layouts, from one run.

    Images are n c h w, or in the input's layout where ours still are; apart from that axes and shapes are the
    reference's own. Tensors without a reference are absent: see `unresolved`.

    Args:
        inputs: what the engine takes, by input name, in the input's own layout.
        input_title: where it came from, for people.
        wanted: those of our tensors that are fetched; None for all.

    Raises:
        ConfigError: see `reference_names`.
        VerificationError: the reference does not take these inputs, or fails on them.
    """
    names = reference_names(model, graph, reference)
    names = {name: theirs for name, theirs in names.items() if wanted is None or name in wanted}
    fed = inputs if reference.recorded else source_inputs(model, graph, reference, inputs)
    found = reference.activations(fed, list(dict.fromkeys(names.values())))
    at_input = input_tensors(model, graph, inputs)
    arrays, titles = {}, {}
    functions = {name: function for name, theirs in names.items() if (function := reference.function(theirs))}
    for name in graph.made:
        if name in names:
            arrays[name] = _ours(graph, reference, name, found[names[name]])
            titles[name] = reference.original(names[name])
        elif name in at_input:
            arrays[name], titles[name] = at_input[name]
    return Activations(arrays, titles, inputs, reference.title, input_title, functions)


def _ours(graph: Graph, reference: Reference, name: str, array: np.ndarray) -> np.ndarray:
    """A tensor of the reference in the layout that ours has."""
    if reference.recorded:
        return array
    return arranged(array, reference.image_layout, layout_of(graph, name), graph.tensors[name].shape)


def unresolved(graph: Graph, reference: Reference, names: Mapping[str, str]) -> List[str]:
    """A message for each of our tensors that is absent from `names`, with a guess; then all guesses to copy."""
    problems, guesses = [], {}
    for layer in graph.layers:
        for name in (name for name in layer.tensor_names if name not in names):
            found = guess(graph, layer, name, reference, {**names, **guesses})
            guesses.update({name: found} if found else {})
            hint = f"; did you mean '{found}'?" if found else ""
            lacks = f"{layer.place}: layer '{layer.name}': {reference.title} has no tensor for '{name}'{hint}"
            problems.append(f"{lacks} - {_cure(graph, name)}")
    if problems:
        problems.append(f"{reference.title} has, in order: {', '.join(reference.names())}")
    if guesses:
        problems.append(f"if these guesses are right, add to `reference`: tensors: {json.dumps(guesses)}")
    return problems


def _cure(graph: Graph, name: str) -> str:
    """What to write; most models leave the preprocessing of their input to whoever feeds them."""
    by_name = f"name it: reference: {{tensors: {{{name}: ...}}}}"
    preprocessing = [f"{each}/{part}" for each in graph.inputs for part in ("swap", "normalised")]
    if name not in preprocessing:
        return by_name
    return f"if it takes numbers that are preprocessed already, say reference: {{feed: preprocessed}}; else {by_name}"
