"""What a trial of a precision measures: some layers kept high, the network run, its tensors against the expected ones.

kept --define--> Definition --interpreter or engine--> tensors of each case --measure--> one number, the largest
"""

from __future__ import annotations

import contextlib
import math
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from engine.build_options import PlanOptions
from engine.devices import open_device
from engine.emulation import interpreter_of
from engine.inside import expose
from engine.interpreter import Interpreter
from engine.network import Definition
from engine.plan import Progress, build_plan
from engine.runner import Runner
from spec.errors import TensorRTError, VerificationError
from spec.graph import Graph
from verify.compare import Difference, Tolerance, difference

Arrays = Mapping[str, np.ndarray]
Define = Callable[[FrozenSet[str]], Definition]

MEASURES: Dict[str, Callable[[Difference], float]] = {
    # ||c - r|| / ||r||; of whole numbers, which are no magnitudes, whether they differ
    "relative_l2": lambda found: found.relative_l2 if found.differing is None else found.error,
    "max": lambda found: found.error,  # max|c - r| / max|r|
}

REUSED_BYTES = 1 << 30
"""Activations that are kept to start trials from; a ResNet-50 at 256x256 has 200 MB an image."""


class Case(NamedTuple):
    """Inputs by name, and the tensors to be judged, by name, as they should be."""

    inputs: Arrays
    expected: Arrays


def check_cases(cases: Sequence[Case]) -> None:
    """Raises VerificationError where there is nothing to be judged by, or numbers that nothing is near to."""
    if not cases:
        raise VerificationError("no inputs to judge by; --images holds fewer than one batch")
    bad = {name for case in cases for name, array in case.expected.items() if not np.isfinite(array).all()}
    if bad:
        raise VerificationError(f"the expected tensors {', '.join(sorted(bad))} hold NaN or infinite values")


def largest_error(found: Arrays, expected: Arrays, measure: str) -> float:
    """The largest error of any expected tensor; infinite where one holds NaN or infinities, or has another shape."""
    errors = []
    for name, array in expected.items():
        try:
            errors.append(MEASURES[measure](difference(found[name], array, Tolerance())))
        except ValueError:
            return math.inf
    return max(errors)


class Trials:
    """Errors of a network by what is kept in higher precision; the common part of both ways to run it.

    Args:
        define: the network with these candidates kept.
        cases: on what it is judged.
        measure: a row of MEASURES.
        refused: told TensorRT's words where a choice cannot be defined or built; its error is infinite.
    """

    def __init__(self, define: Define, cases: Sequence[Case], measure: str, refused: Callable[[str], None]) -> None:
        self.define, self.cases, self._measure, self._refused = define, cases, measure, refused

    def error(self, kept: FrozenSet[str]) -> float:
        """The largest error of any judged tensor in any case."""
        try:
            results = self.results(self.define(kept))
            return max(largest_error(next(results), case.expected, self._measure) for case in self.cases)
        except TensorRTError as refusal:  # weights beyond the range of half, or no kernel for this mixture
            self._refused(str(refusal))
            return math.inf

    def results(self, definition: Definition) -> Iterator[Arrays]:
        """The judged tensors of each case, in order."""
        raise NotImplementedError


class Interpreted(Trials):
    """Trials on the CPU. What stands before the first low layer is the same in every trial, and is computed once.

    Args:
        graph: the graph of the definitions.
        all_kept: every candidate.
    """

    def __init__(self, graph: Graph, all_kept: FrozenSet[str], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._graph = graph
        self._words: Mapping[str, str] = {}
        self._activations: List[Arrays] = []
        with contextlib.suppress(TensorRTError):  # the trial of all kept will say so
            high = self.define(all_kept)
            self._words = high.precision.layers
            self._activations = _activations(interpreter_of(high), graph, self.cases)

    def results(self, definition: Definition) -> Iterator[Arrays]:
        interpreter = interpreter_of(definition)
        shared, rest = self._split(definition.precision.layers)
        for number, case in enumerate(self.cases):
            wanted = {name for layer in rest for name in layer.inputs}.union(case.expected)
            known = self._activations[number] if self._activations else {}
            yield interpreter.run(
                {**case.inputs, **{name: known[name] for name in shared if name in wanted and name in known}},
                case.expected,
            )

    def _split(self, words: Mapping[str, str]) -> Tuple[List[str], Sequence[Any]]:
        """The tensors made before the first layer that is not as in the network of all kept, and the layers behind."""
        layers = self._graph.layers
        low = [position for position, layer in enumerate(layers) if words[layer.name] != self._words.get(layer.name)]
        first = low[0] if low else len(layers)
        return [name for layer in layers[:first] for name in layer.tensor_names], layers[first:]


def _activations(interpreter: Interpreter, graph: Graph, cases: Sequence[Case]) -> List[Arrays]:
    """Every tensor of every case with all candidates kept; none where they would take too much memory."""
    names = graph.made
    found: List[Arrays] = []
    for case in cases:
        found.append(interpreter.run(case.inputs, names))
        if len(cases) * sum(array.nbytes for array in found[0].values()) > REUSED_BYTES:
            return []
    return found


class Built(Trials):
    """Trials on the GPU: each an engine.

    Args:
        options: of every build; a timing cache makes the later ones quick.
    """

    def __init__(self, options: PlanOptions, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._options = options

    def results(self, definition: Definition) -> Iterator[Arrays]:
        if not set(definition.graph.outputs).issuperset(self.cases[0].expected):
            expose(definition, "marked", self.cases[0].expected)
        plan, core = build_plan(definition, self._options, Progress()), self._options.dla_core
        with open_device() as device, Runner(definition.tensorrt, plan, device, core) as runner:
            for case in self.cases:
                yield runner.run(case.inputs)
