"""Frozen graphs against TensorFlow's own parser, and what is said of the other files that hold a graph."""

from __future__ import annotations

import numpy as np
import pytest

from spec.errors import CheckpointError
from weights import open_checkpoint
from weights.tf_graph import recognise
from weights.tf_protos import parse
from weights.tf_tensor import FIELDS, tensor_value

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="session")
def frozen(tmp_path_factory):
    """Directory with frozen.pb, graph.pb (not frozen), model.ckpt.meta and saved_model/saved_model.pb."""
    import tensorflow as tf

    v1, directory = tf.compat.v1, tmp_path_factory.mktemp("frozen")
    with v1.Graph().as_default() as graph, v1.Session() as session:
        image = v1.placeholder("float32", (1, 5, 7, 3), name="image")
        kernel = v1.get_variable("conv1/kernel", initializer=RANDOM.normal(size=(3, 2, 3, 5)).astype("f"))
        half = tf.constant(RANDOM.normal(size=(5,)).astype("float16"), name="half")
        brain = tf.cast(tf.constant(np.full((5,), 0.5, "float32"), name="same"), "float32") * tf.constant(
            2.0, name="two"
        )
        net = tf.nn.conv2d(image, kernel, 1, "SAME") + tf.cast(half, "float32") + brain
        tf.reshape(net, tf.constant([1, -1]), name="out")
        session.run(v1.global_variables_initializer())
        tf.io.write_graph(graph.as_graph_def(), str(directory), "graph.pb", as_text=False)
        tf.io.write_graph(graph.as_graph_def(), str(directory), "graph.pbtxt")
        v1.train.Saver().save(session, str(directory / "model.ckpt"), write_state=False)
        v1.saved_model.simple_save(session, str(directory / "saved_model"), {"image": image}, {"out": net})
        constants = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["out"])
    tf.io.write_graph(constants, str(directory), "frozen.pb", as_text=False)
    return directory


def reference(path):
    """GraphDef of the file, parsed by TensorFlow."""
    import tensorflow as tf

    return tf.compat.v1.GraphDef.FromString(path.read_bytes())


@pytest.mark.parametrize("file, some", [("frozen.pb", {"conv1/kernel", "half"}), ("graph.pb", {"half", "same"})])
def test_float_constants_of_rank_one_or_more_are_the_tensors(frozen, file, some):
    from tensorflow import make_ndarray

    checkpoint, nodes = open_checkpoint(frozen / file), reference(frozen / file).node
    constants = {node.name: make_ndarray(node.attr["value"].tensor) for node in nodes if node.op == "Const"}
    wanted = {name: array for name, array in constants.items() if array.dtype.kind == "f" and array.ndim}
    assert checkpoint.format == "tf_graph" and some <= set(checkpoint) == set(wanted) < set(constants)
    for name, array in wanted.items():
        assert checkpoint.tensors[name] == (array.shape, array.dtype.name)
        np.testing.assert_array_equal(checkpoint[name], array, strict=True)


@pytest.mark.parametrize("dtype", sorted(FIELDS))
@pytest.mark.parametrize("value", [[[1, 0, 1], [0, 0, 1]], [[1, 1, 1], [1, 1, 1]], [[0, 0], [0, 0]], 1])
def test_tensors_written_as_numbers(dtype, value):
    import tensorflow as tf

    array = tf.cast(tf.constant(value), dtype).numpy()
    for written in (tf.make_tensor_proto(array), tf.make_tensor_proto(array.tolist(), dtype, array.shape)):
        found = tensor_value(parse("TensorProto", written.SerializeToString(), "here"), "here")
        np.testing.assert_array_equal(found, array, strict=True)


def test_our_messages_leave_tensorflows_alone(frozen):
    """Parsing with TensorFlow before and after ours, in one process."""
    before = reference(frozen / "frozen.pb")
    assert [array.size for array in open_checkpoint(frozen / "frozen.pb").values()]
    assert reference(frozen / "frozen.pb") == before


@pytest.mark.parametrize(
    "name, message",
    [
        ("graph.pb", None),
        ("graph.pbtxt", "a text file"),
    ],
)
def test_graphs_without_weights(frozen, name, message, tmp_path):
    import tensorflow as tf

    if message is None:
        with tf.compat.v1.Graph().as_default() as graph:
            tf.compat.v1.get_variable("w", (2, 3))
            tf.io.write_graph(graph.as_graph_def(), str(tmp_path), "graph.pb", as_text=False)
        with pytest.raises(CheckpointError, match="not a frozen one - name the checkpoint the graph was saved with"):
            open_checkpoint(tmp_path / "graph.pb")
    else:
        with pytest.raises(CheckpointError, match=message):
            open_checkpoint(frozen / name)


@pytest.mark.parametrize(
    "file, message",
    [
        ("saved_model/saved_model.pb", "a SavedModel graph without its variables - copy variables/ beside it"),
        ("model.ckpt.meta", r"the graph of a checkpoint without its tensors - copy model.ckpt.index and .data-\* "),
    ],
)
def test_a_graph_whose_weights_are_elsewhere(frozen, tmp_path, file, message):
    alone = tmp_path / (frozen / file).name
    alone.write_bytes((frozen / file).read_bytes())
    assert not recognise(alone)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(alone)


def test_cut_frozen_graph(frozen, tmp_path):
    (tmp_path / "cut.pb").write_bytes((frozen / "frozen.pb").read_bytes()[:-40])
    with pytest.raises(CheckpointError, match="cut.pb: damaged: cut short after a node of the graph"):
        open_checkpoint(tmp_path / "cut.pb")


def test_damaged_node(frozen, tmp_path):
    data = bytearray((frozen / "frozen.pb").read_bytes())
    data[3:12] = b"\xff" * 9
    (tmp_path / "flip.pb").write_bytes(data)
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / "flip.pb")


@pytest.mark.parametrize("data", [b"", b"\x0a", b"\x0a\x05hello", bytes(4096), b"\xff" * 4096, b"{}", b"\x08\x01"])
def test_other_bytes_are_no_graph(data, tmp_path):
    (tmp_path / "file").write_bytes(data)
    assert not recognise(tmp_path / "file")
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / "file")
