"""A graph as TensorFlow 1 writes it, in a session of TensorFlow's own, on the CPU.

    P.meta ─────────────────┐
    SavedModel of its day ──┼─> tf.Graph ─ its Saver <─ checkpoint of weights.path, or the constants of a frozen graph
    frozen graph .pb ───────┘              (without variables it needs none)
"""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, NamedTuple

from spec.errors import UsageError, VerificationError
from spec.model import ModelSpec
from verify.frameworks import first_line, import_framework

_SAVED_MODEL = b"\x08"  # starts with a number, saved_model_schema_version; GraphDef and MetaGraphDef with a message
_TENSORFLOW_2 = (
    "is a SavedModel of TensorFlow 2, which keeps its layers in functions, where no tensor can be read - name a Keras "
    "file of the model as reference.keras, or freeze it with convert_variables_to_constants_v2 and name that .pb here"
)


class Opened(NamedTuple):
    """A graph that can be run: TensorFlow, the tf.Graph, its session, for people what it is, where the config says so.

    `title` is `TensorFlow 2.21.0, net.meta with net`.
    """

    tensorflow: ModuleType
    graph: Any
    session: Any
    title: str
    place: str


class _Imported(NamedTuple):
    """TensorFlow, a tf.Graph and its Saver, None where it has no variables."""

    tensorflow: ModuleType
    graph: Any
    saver: Any


def open_graph(model: ModelSpec, checkpoint: Path) -> Opened:
    """The graph of `reference.graph`, with the variables of a checkpoint.

    Args:
        checkpoint: the prefix of a checkpoint's files, or a frozen graph.

    Raises:
        UsageError: no such file.
        MissingFramework: no TensorFlow here.
        VerificationError: the graph is damaged, of a kind that cannot be run, or does not fit the checkpoint.
    """
    place = f"{model.place('reference', 'graph')}: reference.graph"
    path = model.beside(model.reference.graph, "reference", "graph")
    path = path / "saved_model.pb" if path.is_dir() else path
    if not path.is_file():
        raise UsageError(f"{place}: no file {path} - wanted a .meta, a frozen .pb or a SavedModel")
    tensorflow = import_framework("tensorflow", place)
    imported = _import(tensorflow, path, place)
    v1 = tensorflow.compat.v1
    session = v1.Session(graph=imported.graph, config=v1.ConfigProto(device_count={"GPU": 0}))
    title = f"TensorFlow {tensorflow.__version__}, {path.name}"
    if imported.saver is not None:
        _restore(imported, session, model, checkpoint)
        title += f" with {checkpoint.name}"
    return Opened(tensorflow, imported.graph, session, title, place)


def reason(error: Exception) -> str:
    """The one line of an error in a graph that says what is wrong: it follows the name of the node."""
    found = re.search(r"^Node: .*\n(.+)", str(error), re.MULTILINE)
    return found.group(1) if found else first_line(error)


# the graph


def _import(tensorflow: ModuleType, path: Path, place: str) -> _Imported:
    """The graph of a file, in a tf.Graph of its own."""
    from google.protobuf.message import DecodeError

    v1, graph = tensorflow.compat.v1, tensorflow.Graph()
    try:
        definition = _definition(v1, path, place)
        is_meta = isinstance(definition, v1.MetaGraphDef)
        _forget_shapes(definition.graph_def if is_meta else definition)
        with graph.as_default():
            if is_meta:
                saver = v1.train.import_meta_graph(definition, clear_devices=True)
            else:
                saver = v1.import_graph_def(definition, name="")
    except DecodeError as error:
        raise VerificationError(f"{place}: {path} is no TensorFlow graph, or damaged ({error})") from error
    except (ValueError, KeyError, tensorflow.errors.OpError) as error:
        raise VerificationError(f"{place}: TensorFlow cannot import {path}: {first_line(error)}") from error
    return _Imported(tensorflow, graph, saver)


def _definition(v1: Any, path: Path, place: str) -> Any:
    """The MetaGraphDef of a .meta or a SavedModel, the GraphDef of a frozen graph."""
    data = path.read_bytes()
    if data.startswith(_SAVED_MODEL):
        message = import_framework("tensorflow.core.protobuf.saved_model_pb2", place).SavedModel
        return _meta_graph(message.FromString(data), f"{place}: {path}")
    return (v1.MetaGraphDef if path.suffix == ".meta" else v1.GraphDef).FromString(data)


def _meta_graph(saved_model: Any, place: str) -> Any:
    """The graph of a SavedModel that serves: it is tagged so, or the only one."""
    tagged = {tuple(meta.meta_info_def.tags): meta for meta in saved_model.meta_graphs}
    meta = next(iter(tagged.values())) if len(tagged) == 1 else tagged.get(("serve",))
    if meta is None:
        tags = ", ".join("+".join(tags) or "none" for tags in tagged) or "none"
        raise VerificationError(f"{place}: a SavedModel whose graphs are tagged {tags} - wanted one tagged serve")
    if meta.HasField("object_graph_def"):
        raise VerificationError(f"{place} {_TENSORFLOW_2}")
    return meta


def _forget_shapes(definition: Any) -> None:
    """TensorFlow 2 refuses the shapes that TensorFlow 1.15 noted for FusedBatchNormGradV3, which nothing needs."""
    for node in definition.node:
        if "_output_shapes" in node.attr:
            del node.attr["_output_shapes"]


# its variables


def _restore(imported: _Imported, session: Any, model: ModelSpec, checkpoint: Path) -> None:
    """Gives the variables of a graph their values."""
    try:
        with imported.graph.as_default():
            if checkpoint.suffix == ".pb" and checkpoint.is_file():
                _assign_constants(imported, session, checkpoint)
            else:
                _saver(imported, model, str(checkpoint)).restore(session, str(checkpoint))
    except (ValueError, imported.tensorflow.errors.OpError) as error:
        place = f"{model.place('weights', 'path')}: weights.path"
        found = f"the graph cannot restore {checkpoint}: {reason(error)}"
        wanted = "wanted the checkpoint of reference.graph; a frozen graph goes into both"
        raise VerificationError(f"{place}: {found} - {wanted}") from error


def _saver(imported: _Imported, model: ModelSpec, checkpoint: str) -> Any:
    """The graph's own Saver; with `weights.average` one that reads the averages, as the transplant does."""
    if model.weights.average is None:
        return imported.saver
    v1 = imported.tensorflow.compat.v1
    stored = imported.tensorflow.train.load_checkpoint(checkpoint).get_variable_to_shape_map()
    variables: Dict[str, Any] = {}
    for variable in v1.global_variables():
        average = f"{variable.op.name}/{model.weights.average}"
        if not variable.op.name.endswith(f"/{model.weights.average}"):
            variables[average if average in stored else variable.op.name] = variable
    return v1.train.Saver({name: each for name, each in variables.items() if name in stored})


def _assign_constants(imported: _Imported, session: Any, path: Path) -> None:
    """The values of a frozen graph, where a constant stands for each variable, by its name."""
    definition = imported.tensorflow.compat.v1.GraphDef.FromString(path.read_bytes())
    constants = {node.name: node.attr["value"].tensor for node in definition.node if node.op == "Const"}
    for variable in imported.tensorflow.compat.v1.global_variables():
        if variable.op.name in constants:
            value = imported.tensorflow.make_ndarray(constants[variable.op.name])
            session.run(variable.initializer, {variable.initializer.inputs[1]: value})
