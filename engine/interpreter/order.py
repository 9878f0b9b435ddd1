"""Which layers run, and in what order: insertion order is not evaluation order, and a fed tensor needs no producer.

    needed(layers, given={"conv1"}, wanted={"relu1"})  ->  only the layers between given and wanted
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import Collection, Dict, FrozenSet, Iterable, List, Sequence, Tuple

from engine.interpreter.layer import Layer
from spec.errors import TensorRTError


def input_names(layer: Layer) -> Tuple[str, ...]:
    """Names of the tensors a layer reads, one for each reading."""
    return tuple(tensor.name for tensor in layer.inputs if tensor is not None)


def sort(layers: Sequence[Layer], network_inputs: Iterable[str]) -> Tuple[Layer, ...]:
    """`layers` with every producer before its consumers, otherwise in the order given.

    Raises:
        TensorRTError: a tensor is read that nothing makes.
    """
    _check_producers(layers, network_inputs)
    producer = {tensor.name: index for index, layer in enumerate(layers) for tensor in layer.outputs}
    consumers: Dict[int, List[int]] = defaultdict(list)
    waiting = []
    for index, layer in enumerate(layers):
        sources = {producer[name] for name in input_names(layer) if name in producer}
        waiting.append(len(sources))
        for source in sources:
            consumers[source].append(index)
    ready = [index for index, count in enumerate(waiting) if count == 0]
    ordered = []
    while ready:
        index = heapq.heappop(ready)
        ordered.append(layers[index])
        for consumer in consumers[index]:
            waiting[consumer] -= 1
            if waiting[consumer] == 0:
                heapq.heappush(ready, consumer)
    return tuple(ordered)


def _check_producers(layers: Sequence[Layer], network_inputs: Iterable[str]) -> None:
    made = set(network_inputs).union(tensor.name for layer in layers for tensor in layer.outputs)
    problems = [
        f"layer '{layer.name}' ({layer.type}): reads tensor '{name}', which no layer makes and is no network input"
        for layer in layers
        for name in input_names(layer)
        if name not in made
    ]
    if problems:
        raise TensorRTError(problems)


def constant_tensors(layers: Iterable[Layer]) -> FrozenSet[str]:
    """Names of the tensors that depend on no network input; `layers` sorted."""
    constant = set()
    for layer in layers:
        if constant.issuperset(input_names(layer)):
            constant.update(tensor.name for tensor in layer.outputs)
    return frozenset(constant)


def needed(layers: Sequence[Layer], given: Collection[str], wanted: Iterable[str]) -> Tuple[Layer, ...]:
    """The layers to evaluate, in order, to have every wanted tensor when the given ones are there.

    Raises:
        TensorRTError: network inputs that are needed and not given.
    """
    missing = set(wanted).difference(given)
    chosen = []
    for layer in reversed(layers):
        if missing.intersection(tensor.name for tensor in layer.outputs):
            chosen.append(layer)
            missing.difference_update(tensor.name for tensor in layer.outputs)
            missing.update(name for name in input_names(layer) if name not in given)
    if missing:
        raise TensorRTError(
            [f"network input '{name}': not fed, but needed for what is fetched; feed it, or a tensor behind it"
             for name in sorted(missing)]
        )
    return tuple(reversed(chosen))
