"""References in TensorFlow: a graph as TensorFlow 1 writes it, run by TensorFlow itself, on the CPU.

    P.meta + checkpoint P ┐
                          ├─> tf.Graph in a session ─> any tensor, all in one run
    frozen graph .pb ─────┘

Tensors are called by their op, `conv1/BiasAdd`, outputs behind the first one `op:1`.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from spec.errors import ConfigError, UsageError, VerificationError, did_you_mean
from spec.layers import Layer
from spec.layers.arrangement import TO_NCHW, TO_NHWC
from spec.model import InputSpec, ModelSpec
from verify.frameworks import first_line, import_framework
from verify.image_layout import fits
from verify.reference import Reference
from verify.tensorflow_graph import Dataflow

_PLACEHOLDERS = ("Placeholder", "PlaceholderWithDefault", "PlaceholderV2")
_FILE_OF_A_CHECKPOINT = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")


class _Source(NamedTuple):
    """An imported graph: TensorFlow, the tf.Graph, its Saver (None where it has no variables), where it stands."""

    tensorflow: ModuleType
    graph: Any
    saver: Any
    place: str


def open_source(model: ModelSpec) -> Reference:
    """Imports the graph of `reference.graph` and restores its variables; see verify.reference.open_reference."""
    place = f"{model.place('reference', 'graph')}: reference.graph"
    path = model.beside(model.reference.graph, "reference", "graph")
    if not path.is_file():
        raise UsageError(f"{place}: no file {path} - wanted a .meta or a frozen .pb")
    source = _import(import_framework("tensorflow", place), path, place)
    session, restored = _session(source, model)
    title = f"TensorFlow {source.tensorflow.__version__}, {path.name}{restored}"
    return TensorFlowReference(source, session, title, model)


class TensorFlowReference(Reference):
    """A graph in a session; its variables have their values."""

    def __init__(self, source: _Source, session: Any, title: str, model: ModelSpec) -> None:
        self._source, self._session, self._prefix = source, session, model.weights.prefix
        self._inputs = _input_tensors(source, model)
        flow = Dataflow(source.graph, [tensor.op for tensor in self._inputs.values()])
        self._tensors = {name: tensor for op in flow.fetchable() for name, tensor in _outputs(op)}
        self._flow = flow
        self.image_layout = "NCHW" if any(map(_channels_first, flow.operations.values())) else "NHWC"
        self._phases = _phases(source.graph)
        self.title = title + "".join(f", {phase.op.name} = False" for phase in self._phases)

    def names(self) -> Sequence[str]:
        return list(self._tensors)

    def find(self, name: str) -> Optional[str]:
        """`conv1/BiasAdd:0`, as TensorFlow itself calls it, is `conv1/BiasAdd`."""
        name = name[: -len(":0")] if name.endswith(":0") else name
        return name if name in self._tensors else None

    def takes(self, name: str) -> Tuple[Optional[Tuple[int, ...]], str]:
        tensor = self._inputs[name]
        return _shape(tensor), tensor.dtype.name

    def casts(self, name: str) -> bool:
        return all(op.type == "Cast" for op in self._inputs[name].consumers())

    def by_rule(self, layers: Sequence[Layer]) -> Dict[str, str]:
        """The op of the layer's name; else the one op of the scope of its name that leads out of the scope."""
        found = self._flow.outputs_of(layers, self._prefix)
        return {layer: name for layer, name in found.items() if name in self._tensors}

    def activations(self, inputs: Mapping[str, np.ndarray], names: Iterable[str]) -> Dict[str, np.ndarray]:
        feeds = {fed: inputs[name] for name in self._inputs for fed in self._fed(name, inputs[name].dtype)}
        feeds.update((phase, False) for phase in self._phases)
        errors = self._source.tensorflow.errors
        try:
            return self._session.run({name: self._tensors[name] for name in names}, feeds)
        except (errors.OpError, ValueError) as error:
            raise VerificationError(f"{self._source.place}: {self.title} fails: {_reason(error)}") from error


    def _fed(self, name: str, dtype: Any) -> List[Any]:
        """The tensors that our input feeds: its placeholder, or what would cast it where it is floats already."""
        tensor = self._inputs[name]
        if tensor.dtype.is_integer and np.issubdtype(dtype, np.floating):
            return [op.outputs[0] for op in tensor.consumers()]
        return [tensor]


# opening


def _import(tensorflow: ModuleType, path: Path, place: str) -> _Source:
    """The graph of a file, in a tf.Graph of its own."""
    from google.protobuf.message import DecodeError

    v1, graph = tensorflow.compat.v1, tensorflow.Graph()
    try:
        with graph.as_default():
            if path.suffix == ".meta":
                meta = v1.MetaGraphDef.FromString(path.read_bytes())
                _forget_shapes(meta.graph_def)
                saver = v1.train.import_meta_graph(meta, clear_devices=True)
            else:
                definition = v1.GraphDef.FromString(path.read_bytes())
                _forget_shapes(definition)
                saver = v1.import_graph_def(definition, name="")
    except DecodeError as error:
        raise VerificationError(f"{place}: {path} is no TensorFlow graph, or damaged ({error})") from error
    except (ValueError, KeyError, tensorflow.errors.OpError) as error:
        raise VerificationError(f"{place}: TensorFlow cannot import {path}: {first_line(error)}") from error
    return _Source(tensorflow, graph, saver, place)


def _forget_shapes(definition: Any) -> None:
    """TensorFlow 2 refuses the shapes that TensorFlow 1.15 noted for FusedBatchNormGradV3, which nothing needs."""
    for node in definition.node:
        if "_output_shapes" in node.attr:
            del node.attr["_output_shapes"]


def _session(source: _Source, model: ModelSpec) -> Tuple[Any, str]:
    """A session on the CPU with restored variables, and ` with CHECKPOINT` for the title."""
    v1 = source.tensorflow.compat.v1
    session = v1.Session(graph=source.graph, config=v1.ConfigProto(device_count={"GPU": 0}))
    if source.saver is None:
        return session, ""
    place = f"{model.place('weights', 'path')}: weights.path"
    checkpoint = _checkpoint(source.tensorflow, model.weights_path)
    try:
        with source.graph.as_default():
            if model.weights_path.suffix == ".pb":
                _assign_constants(source, session, model.weights_path)
            else:
                _saver(source, model, checkpoint).restore(session, checkpoint)
    except (ValueError, source.tensorflow.errors.OpError) as error:
        wanted = "wanted the checkpoint of reference.graph; a frozen graph goes into both"
        raise VerificationError(
            f"{place}: the graph cannot restore {checkpoint}: {first_line(error)} - {wanted}"
        ) from error
    return session, f" with {Path(checkpoint).name}"


def _checkpoint(tensorflow: ModuleType, path: Path) -> str:
    """The prefix of the checkpoint that a path names: prefix, one of its files, or the directory with it."""
    if path.is_dir() or path.name == "checkpoint":
        return tensorflow.train.latest_checkpoint(str(path if path.is_dir() else path.parent)) or str(path)
    return str(path.with_name(_FILE_OF_A_CHECKPOINT.sub("", path.name)))


def _saver(source: _Source, model: ModelSpec, checkpoint: str) -> Any:
    """The graph's own Saver; with `weights.average` one that reads the averages, as the transplant does."""
    if model.weights.average is None:
        return source.saver
    stored = source.tensorflow.train.load_checkpoint(checkpoint).get_variable_to_shape_map()
    variables = {}
    for variable in source.tensorflow.compat.v1.global_variables():
        average = f"{variable.op.name}/{model.weights.average}"
        if not variable.op.name.endswith(f"/{model.weights.average}"):
            variables[average if average in stored else variable.op.name] = variable
    return source.tensorflow.compat.v1.train.Saver({name: each for name, each in variables.items() if name in stored})


def _assign_constants(source: _Source, session: Any, path: Path) -> None:
    """The values of a frozen graph, where a constant stands for each variable, by its name."""
    definition = source.tensorflow.compat.v1.GraphDef.FromString(path.read_bytes())
    constants = {node.name: node.attr["value"].tensor for node in definition.node if node.op == "Const"}
    for variable in source.tensorflow.compat.v1.global_variables():
        if variable.op.name in constants:
            value = source.tensorflow.make_ndarray(constants[variable.op.name])
            session.run(variable.initializer, {variable.initializer.inputs[1]: value})


# what is fed


def _input_tensors(source: _Source, model: ModelSpec) -> Dict[str, Any]:
    """The tensor of the graph that each of our inputs feeds."""
    found, problems = {}, []
    for name in model.inputs:
        tensor = _input_tensor(source.graph, model, name)
        if tensor is None:
            known = [op.name for op in _placeholders(source.graph)]
            hint = did_you_mean(name, known) or f"; it has {', '.join(known) or 'none'}"
            cure = f"say reference: {{tensors: {{{name}: PLACEHOLDER}}}}"
            problems.append(f"{source.place}: no placeholder '{name}' in the graph{hint} - {cure}")
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


def _phases(graph: Any) -> List[Any]:
    """Scalar bool placeholders, such as is_training: a reference is inference, so they are fed False."""
    found = [op.outputs[0] for op in _placeholders(graph)]
    return [each for each in found if each.dtype.name == "bool" and not each.shape.rank and each.consumers()]


# tensors


def _outputs(op: Any) -> Iterator[Tuple[str, Any]]:
    """The tensors of an op that hold numbers, by our names for them."""
    for number, tensor in enumerate(op.outputs):
        if tensor.dtype.is_floating or tensor.dtype.is_integer or tensor.dtype.is_bool:
            yield f"{op.name}:{number}" if number else op.name, tensor


def _shape(tensor: Any) -> Optional[Tuple[int, ...]]:
    """-1 where a length is free, None where nothing is known."""
    return None if tensor.shape.rank is None else tuple(-1 if size is None else size for size in tensor.shape)


def _reason(error: Exception) -> str:
    """The one line of an error in a graph that says what is wrong: it follows the name of the node."""
    found = re.search(r"^Node: .*\n(.+)", str(error), re.MULTILINE)
    return found.group(1) if found else first_line(error)


def _channels_first(op: Any) -> bool:
    return "data_format" in op.node_def.attr and op.node_def.attr["data_format"].s == b"NCHW"
