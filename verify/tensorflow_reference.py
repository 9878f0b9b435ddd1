"""References in TensorFlow: a graph as TensorFlow 1 writes it, run by TensorFlow itself.

    reference.graph ─open_graph()─> session ─> any tensor, all in one run
    fed: our inputs; is_training and its like, False; `reference.feeds`, {keep_prob: 1.0}

Tensors are called by their op, `conv1/BiasAdd`, outputs behind the first one `op:1`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from spec.errors import ConfigError, VerificationError, did_you_mean
from spec.layers import Layer
from spec.layers.arrangement import TO_NCHW, TO_NHWC
from spec.model import FedValue, InputSpec, ModelSpec
from spec.shapes import show
from verify.image_layout import fits
from verify.reference import Reference
from verify.tensorflow_graph import Dataflow
from verify.tensorflow_session import Opened, open_graph, reason

_NEEDS_A_VALUE = ("Placeholder", "PlaceholderV2")
_PLACEHOLDERS = (*_NEEDS_A_VALUE, "PlaceholderWithDefault")


def open_source(model: ModelSpec, checkpoint: Optional[Path] = None) -> Reference:
    """Imports the graph of `reference.graph` and restores its variables; see verify.reference.open_reference."""
    return TensorFlowReference(open_graph(model, checkpoint or model.weights_path), model)


class TensorFlowReference(Reference):
    """A graph in a session; its variables have their values."""

    def __init__(self, opened: Opened, model: ModelSpec) -> None:
        self._opened, self._prefix = opened, model.weights.prefix
        self._inputs = _input_tensors(opened, model)
        flow = Dataflow(opened.graph, [tensor.op for tensor in self._inputs.values()])
        self._tensors = {name: tensor for op in flow.fetchable() for name, tensor in _outputs(op)}
        self._flow = flow
        self.image_layout = "NCHW" if any(map(_channels_first, flow.operations.values())) else "NHWC"
        self._fixed = {**_phases(opened.graph), **_given_feeds(opened.graph, model, self._inputs)}
        self.title = opened.title + "".join(f", {name} = {value}" for name, value in self._fixed.items())

    def names(self) -> Sequence[str]:
        return list(self._tensors)

    def find(self, name: str) -> Optional[str]:
        """`conv1/BiasAdd:0`, as TensorFlow itself calls it, is `conv1/BiasAdd`."""
        name = name[: -len(":0")] if name.endswith(":0") else name
        return name if name in self._tensors else None

    def takes(self, name: str) -> Tuple[Optional[Tuple[int, ...]], str]:
        tensor = self._inputs[name]
        return _shape(tensor), tensor.dtype.name

    def shape(self, name: str) -> Optional[Tuple[int, ...]]:
        return _shape(self._tensors[name])

    def function(self, name: str) -> Optional[str]:
        return {"Relu": "relu", "Relu6": "relu6"}.get(self._tensors[name].op.type)

    def casts(self, name: str) -> bool:
        return all(op.type == "Cast" for op in self._inputs[name].consumers())

    def by_rule(self, layers: Sequence[Layer]) -> Dict[str, str]:
        """The op of the layer's name; else the one op of the scope of its name that leads out of the scope."""
        found = self._flow.outputs_of(layers, self._prefix)
        return {layer: name for layer, name in found.items() if name in self._tensors}

    def activations(self, inputs: Mapping[str, np.ndarray], names: Iterable[str]) -> Dict[str, np.ndarray]:
        fetched = {name: self._tensors[name] for name in names}
        feeds = {fed.name: inputs[name] for name in self._inputs for fed in self._fed(name, inputs[name].dtype)}
        feeds.update((f"{name}:0", value) for name, value in self._fixed.items())
        try:
            return self._opened.session.run(fetched, feeds)
        except (self._opened.tensorflow.errors.OpError, ValueError) as error:
            found = f"{self._opened.place}: {self.title} fails: {reason(error)}"
            raise VerificationError(f"{found}{_cure(error, fetched.values(), feeds)}") from error

    def _fed(self, name: str, dtype: Any) -> List[Any]:
        """The tensors that our input feeds: its placeholder, or what would cast it where it is floats already."""
        tensor = self._inputs[name]
        if tensor.dtype.is_integer and np.issubdtype(dtype, np.floating):
            return [op.outputs[0] for op in tensor.consumers()]
        return [tensor]


# what is fed


def _input_tensors(opened: Opened, model: ModelSpec) -> Dict[str, Any]:
    """The tensor of the graph that each of our inputs feeds."""
    found, problems = {}, []
    for name in model.inputs:
        tensor = _input_tensor(opened.graph, model, name)
        if tensor is None:
            known = [op.name for op in _placeholders(opened.graph)]
            hint = did_you_mean(name, known) or f"; it has {', '.join(known) or 'none'}"
            cure = f"say reference: {{tensors: {{{name}: PLACEHOLDER}}}}"
            problems.append(f"{opened.place}: no placeholder '{name}' in the graph{hint} - {cure}")
        found[name] = tensor
    if problems:
        raise ConfigError(problems)
    return found


def _input_tensor(graph: Any, model: ModelSpec, name: str) -> Any:
    """The tensor that `reference.tensors` names; else the placeholder of the input's name, else the only one that fits.

    Any tensor can be fed, so that a graph that reads files may be fed behind its queue.
    """
    operations = {op.name: op for op in graph.get_operations()}
    given, _, number = model.reference.tensors.get(name, "").partition(":")
    if given:
        return operations[given].outputs[int(number or 0)] if given in operations else None
    if name in operations and operations[name].type in _PLACEHOLDERS:
        return operations[name].outputs[0]
    fitting = [op.outputs[0] for op in _placeholders(graph) if _takes_image(op.outputs[0], model.inputs[name])]
    return fitting[0] if len(fitting) == 1 and len(model.inputs) == 1 else None


def _takes_image(tensor: Any, spec: InputSpec) -> bool:
    """Whether a placeholder has the shape of an input, whatever its batch and its layout."""
    shape = _shape(tensor)
    layouts = [range(len(spec.shape))] if spec.layout is None else [range(4), TO_NCHW, TO_NHWC]
    rows = ([spec.shape[axis] for axis in axes[1:]] for axes in layouts)
    return any(fits(row, shape and shape[1:]) for row in rows)


def _placeholders(graph: Any) -> List[Any]:
    return [op for op in graph.get_operations() if op.type in _PLACEHOLDERS]


def _phases(graph: Any) -> Dict[str, np.ndarray]:
    """Scalar bool placeholders, such as is_training: a reference is inference, so they are fed False."""
    found = [op.outputs[0] for op in _placeholders(graph)]
    bools = [each for each in found if each.dtype.name == "bool" and not each.shape.rank and each.consumers()]
    return {each.op.name: np.array(False) for each in bools}


def _given_feeds(graph: Any, model: ModelSpec, inputs: Mapping[str, Any]) -> Dict[str, np.ndarray]:
    """`reference.feeds`: placeholder -> what it takes."""
    known = {op.name: op.outputs[0] for op in _placeholders(graph)}
    ours = {tensor.op.name: name for name, tensor in inputs.items()}
    found: Dict[str, Any] = {}
    problems = []
    for given, value in model.reference.feeds.items():
        name = given[: -len(":0")] if given.endswith(":0") else given
        place = f"{model.place('reference', 'feeds', given)}: reference.feeds"
        if name not in known:
            hint = did_you_mean(name, known) or f"; it has {', '.join(known) or 'none'}"
            problems.append(f"{place}: no placeholder '{name}' in the graph{hint}")
        elif name in ours:
            problems.append(f"{place}: placeholder '{name}' is fed by our input '{ours[name]}' - leave it out here")
        else:
            found[name] = _as_fed(known[name], value)
            if found[name] is None:
                problems.append(f"{place}: found {name}: {value}, wanted {_kind(known[name])}")
    if problems:
        raise ConfigError(problems)
    return found


def _as_fed(tensor: Any, value: FedValue) -> Optional[np.ndarray]:
    """A value in a placeholder's dtype; None where it does not take that: true is no number, 0.5 no whole one."""
    array = np.array(value)
    if not _holds_numbers(tensor) or tensor.dtype.is_bool != (array.dtype.kind == "b"):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(np.float64).astype(tensor.dtype.as_numpy_dtype)
    kept = np.isfinite(cast) if tensor.dtype.is_floating else cast == array
    return cast if kept.all() and fits(array.shape, _shape(tensor)) else None


def _kind(tensor: Any) -> str:
    """What a placeholder takes: `one float32`, `float32 of shape N x 2`."""
    shape = _shape(tensor)
    if not shape:
        return f"{tensor.dtype.name} of any shape" if shape is None else f"one {tensor.dtype.name}"
    return f"{tensor.dtype.name} of shape {show(shape)}"


def _cure(error: Exception, fetched: Iterable[Any], feeds: Mapping[str, Any]) -> str:
    """How to feed all placeholders that lack a value, where that is what an error is about."""
    missing = _unfed(fetched, feeds) if re.search("must feed a value for placeholder", str(error)) else []
    if not missing:
        return ""
    feeds_of_all = ", ".join(f"{name}: ..." for name in sorted(missing))
    return f" - say its value at inference, 1.0 for a dropout's keep_prob: reference: {{feeds: {{{feeds_of_all}}}}}"


def _unfed(fetched: Iterable[Any], feeds: Mapping[str, Any]) -> List[str]:
    """Placeholders without a value that tensors are computed from."""
    waiting, seen = [tensor.op for tensor in fetched if tensor.name not in feeds], set()
    while waiting:
        op = waiting.pop()
        if op not in seen:
            seen.add(op)
            waiting += [tensor.op for tensor in op.inputs if tensor.name not in feeds]
            waiting += op.control_inputs
    return [op.name for op in seen if op.type in _NEEDS_A_VALUE and op.outputs[0].name not in feeds]


# tensors


def _outputs(op: Any) -> Iterator[Tuple[str, Any]]:
    """The tensors of an op that hold numbers, by our names for them."""
    for number, tensor in enumerate(op.outputs):
        if _holds_numbers(tensor):
            yield f"{op.name}:{number}" if number else op.name, tensor


def _holds_numbers(tensor: Any) -> bool:
    return tensor.dtype.is_floating or tensor.dtype.is_integer or tensor.dtype.is_bool


def _shape(tensor: Any) -> Optional[Tuple[int, ...]]:
    """-1 where a length is free, None where nothing is known."""
    return None if tensor.shape.rank is None else tuple(-1 if size is None else size for size in tensor.shape)


def _channels_first(op: Any) -> bool:
    return "data_format" in op.node_def.attr and op.node_def.attr["data_format"].s == b"NCHW"
