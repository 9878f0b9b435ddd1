"""Which op of a TensorFlow graph gives the output of one of our layers.

    conv1/weights  conv1/weights/read ┐
    image ─────────────────────── conv1/Conv2D ─ conv1/BiasAdd ─> relu1 ─> ...      scope `conv1/`: conv1/BiasAdd
                                                      └─ gradients/conv1/BiasAdd_grad/...          is left by it

Only ops that the input flows through count, so the reads of variables do not; training ops do not either. An op belongs
to the deepest scope that is one of our layers: `conv1/BatchNorm/...` to `conv1/BatchNorm`, not to `conv1`.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Set

from spec.layers import Activation, Layer, Softmax, WeightedLayer
from verify.reference import spellings

ACTIVATIONS = frozenset(
    "Relu Relu6 Elu Selu LeakyRelu Sigmoid Tanh Softmax Softplus Softsign".split()
)  # what a layer with weights may end in, and what is then a layer of its own with us
SHAPES = frozenset("Shape ShapeN Size Rank".split())  # tell something of a tensor, without its numbers
OPENS = frozenset("Switch RefSwitch Enter RefEnter".split())  # TensorFlow 1's tf.cond and tf.while_loop:
CLOSES = frozenset("Merge RefMerge Exit RefExit".split())  # what lies between may not have run, and cannot be fetched
_TRAINING_SCOPE = re.compile(r"(^|/)gradients(_\d+)?/")  # tf.gradients' own scope, which every optimizer uses
_STORES = re.compile(r"^(Resource|Sparse)?(Apply|Scatter)|^Assign|Summary(V\d)?$")  # moving averages, histograms


class Dataflow:
    """The ops of a graph that the input flows through on the way to the outputs.

    Args:
        graph: a tf.Graph.
        sources: the ops that are fed.
    """

    def __init__(self, graph: Any, sources: Sequence[Any]) -> None:
        reached = set(_reached(sources))
        in_order = [op for op in graph.get_operations() if op in reached]
        stored = _only_stored(in_order)
        self.operations = {op.name: op for op in in_order if op not in stored}
        self.hidden: Set[str] = set()
        for op in self.operations.values():
            inside = op.type in OPENS or any(tensor.op.name in self.hidden for tensor in op.inputs)
            if inside and op.type not in CLOSES:
                self.hidden.add(op.name)

    def fetchable(self) -> Iterator[Any]:
        """Ops that certainly run, in order."""
        return (op for op in self.operations.values() if op.name not in self.hidden)

    def outputs_of(self, layers: Sequence[Layer], prefix: str) -> Dict[str, str]:
        """Our layer -> the op whose output it is; layers without one, or with several that could be, are absent.

        Args:
            layers: all of ours.
            prefix: what the checkpoint has in front of our names.
        """
        scopes = {scope: layer.name for layer in layers for scope in _scopes(layer, prefix)}
        owned = self._owned(scopes)
        found = {}
        for layer in layers:
            parent = layer.name.rpartition("/")[0]
            op = self._exact(layer, prefix) or self._left_by(layer, owned.get(layer.name, []))
            op = op or self._activation_of(layer, owned.get(parent, []))
            if op is not None and op.name != found.get(parent):
                found[layer.name] = op.name
        return found

    def _owned(self, scopes: Dict[str, str]) -> Dict[str, List[Any]]:
        """The ops of each layer: those whose deepest scope among `scopes` is the layer's."""
        owned: Dict[str, List[Any]] = {}
        for op in self.operations.values():
            scope = op.name
            while scope and scope not in scopes:
                scope = scope.rpartition("/")[0]
            if scope:
                owned.setdefault(scopes[scope], []).append(op)
        return owned

    def _exact(self, layer: Layer, prefix: str) -> Optional[Any]:
        names = [name for name in _scopes(layer, prefix) if name in self.operations and name not in self.hidden]
        return self.operations[names[0]] if names else None

    def _left_by(self, layer: Layer, owned: List[Any]) -> Optional[Any]:
        """The one op that leads out of the scope; before its activation where the layer is one with weights."""
        ends = self._ends(owned)
        if isinstance(layer, WeightedLayer):
            linear = [op for op in ends if op.type not in ACTIVATIONS]
            ends = linear or [tensor.op for op in ends for tensor in op.inputs if tensor.op in owned]
        return ends[0] if len(ends) == 1 else None

    def _activation_of(self, layer: Layer, owned: List[Any]) -> Optional[Any]:
        """For our `X/relu`: the activation that scope `X/` ends in."""
        ends = [op for op in self._ends(owned) if op.type in ACTIVATIONS]
        return ends[0] if isinstance(layer, (Activation, Softmax)) and len(ends) == 1 else None

    def _ends(self, owned: List[Any]) -> List[Any]:
        """Ops that lead out of a scope, without those that lead to another of them inside it."""
        inside = set(owned)
        certain = [op for op in owned if op.name not in self.hidden]
        leaving = [op for op in certain if any(reader not in inside for reader in self._readers(op))]
        leaving = leaving or [op for op in certain if not self._readers(op)]
        earlier = {before for op in leaving for before in _before(op, inside)}
        return [op for op in leaving if op not in earlier]

    def _readers(self, op: Any) -> List[Any]:
        return [reader for reader in _readers(op) if reader.name in self.operations]


def _scopes(layer: Layer, prefix: str) -> List[str]:
    """What a layer may be called in the graph: by its name or its scope, with the checkpoint's prefix or without."""
    names = spellings(layer)
    return list(dict.fromkeys([*names, *(prefix + name for name in names)]))


def _reached(sources: Sequence[Any]) -> Iterator[Any]:
    """The sources, and all that reads them directly or not; training and shapes end the way."""
    waiting, seen = list(sources), set(sources)
    while waiting:
        op = waiting.pop()
        yield op
        found = [reader for reader in _readers(op) if reader not in seen and not _aside(reader)]
        seen.update(found)
        waiting += found


def _readers(op: Any) -> Iterator[Any]:
    return (reader for tensor in op.outputs for reader in tensor.consumers())


def _aside(op: Any) -> bool:
    """Whether an op is no part of the way from input to output."""
    return op.type in SHAPES or bool(_STORES.search(op.type)) or bool(_TRAINING_SCOPE.search(op.name))


def _only_stored(in_order: Sequence[Any]) -> Set[Any]:
    """Ops whose values end in a variable or a summary: a batch norm's batch statistics, on the way to its averages."""
    stored: Set[Any] = set()
    for op in reversed(in_order):
        readers = [reader for reader in _readers(op) if not _TRAINING_SCOPE.search(reader.name)]
        if readers and all(reader in stored or _STORES.search(reader.type) for reader in readers):
            stored.add(op)
    return stored


def _before(op: Any, inside: Set[Any]) -> Iterable[Any]:
    """Ops inside a scope that lead to `op`."""
    waiting, seen = [op], set()  # type: List[Any], Set[Any]
    while waiting:
        found = {tensor.op for tensor in waiting.pop().inputs} & inside - seen
        seen |= found
        waiting += found
    return seen
