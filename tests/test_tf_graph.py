"""Frozen graphs, and graph files read for their nodes, against TensorFlow's own parser."""

from __future__ import annotations

import numpy as np
import pytest

from spec.errors import CheckpointError
from weights import open_checkpoint
from weights.tf_graph import constant_value, read_graph, read_meta_graph, recognise
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
    from tensorflow.core.protobuf import saved_model_pb2

    data = path.read_bytes()
    if path.suffix == ".meta":
        return tf.compat.v1.MetaGraphDef.FromString(data).graph_def
    if path.name == "saved_model.pb":
        return saved_model_pb2.SavedModel.FromString(data).meta_graphs[0].graph_def
    return tf.compat.v1.GraphDef.FromString(data)


def test_float_constants_of_rank_one_or_more_are_the_tensors(frozen):
    from tensorflow import make_ndarray

    checkpoint = open_checkpoint(frozen / "frozen.pb")
    nodes = {node.name: node for node in reference(frozen / "frozen.pb").node}
    assert checkpoint.format == "tf_graph" and set(checkpoint) == {"conv1/kernel", "half", "same"}
    for name in checkpoint:
        wanted = make_ndarray(nodes[name].attr["value"].tensor)
        assert checkpoint.tensors[name] == (wanted.shape, wanted.dtype.name)
        np.testing.assert_array_equal(checkpoint[name], wanted, strict=True)


@pytest.mark.parametrize("name", ["frozen.pb", "graph.pb", "model.ckpt.meta", "saved_model/saved_model.pb"])
def test_nodes_equal_tensorflows(frozen, name):
    found, wanted = read_graph(frozen / name), reference(frozen / name)
    assert len(found.node) == len(wanted.node) > 5
    for ours, theirs in zip(found.node, wanted.node):
        assert (ours.name, ours.op, list(ours.input)) == (theirs.name, theirs.op, list(theirs.input))
        assert {key: value.WhichOneof("value") for key, value in ours.attr.items()} == {
            key: value.WhichOneof("value") for key, value in theirs.attr.items()
        }
    conv = next(node for node in found.node if node.op == "Conv2D")
    assert list(conv.attr["strides"].list.i) == [1, 1, 1, 1] and conv.attr["padding"].s == b"SAME"


def test_constants_of_every_kind_equal_tensorflows(frozen):
    from tensorflow import make_ndarray

    found, wanted = read_graph(frozen / "graph.pb"), reference(frozen / "graph.pb")
    constants = [(ours, theirs) for ours, theirs in zip(found.node, wanted.node) if theirs.op == "Const"]
    assert len(constants) >= 4
    for ours, theirs in constants:
        np.testing.assert_array_equal(constant_value(ours, "graph.pb"), make_ndarray(theirs.attr["value"].tensor))


@pytest.mark.parametrize("dtype", sorted(FIELDS))
@pytest.mark.parametrize("value", [[[1, 0, 1], [0, 0, 1]], [[1, 1, 1], [1, 1, 1]], [[0, 0], [0, 0]], 1])
def test_tensors_written_as_numbers(dtype, value):
    import tensorflow as tf

    array = tf.cast(tf.constant(value), dtype).numpy()
    for written in (tf.make_tensor_proto(array), tf.make_tensor_proto(array.tolist(), dtype, array.shape)):
        found = tensor_value(parse("TensorProto", written.SerializeToString(), "here"), "here")
        np.testing.assert_array_equal(found, array, strict=True)


def test_signatures(frozen):
    signature = read_meta_graph(frozen / "saved_model/saved_model.pb").signature_def["serving_default"]
    assert signature.inputs["image"].name == "image:0"


def test_our_messages_leave_tensorflows_alone(frozen):
    """Parsing with TensorFlow before and after ours, in one process."""
    before = reference(frozen / "frozen.pb")
    read_graph(frozen / "frozen.pb")
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


def test_saved_model_without_variables(frozen, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes((frozen / "saved_model/saved_model.pb").read_bytes())
    with pytest.raises(CheckpointError, match="a SavedModel graph without its variables - copy variables/ beside it"):
        open_checkpoint(tmp_path / "saved_model.pb")


def test_cut_frozen_graph(frozen, tmp_path):
    (tmp_path / "cut.pb").write_bytes((frozen / "frozen.pb").read_bytes()[:-40])
    with pytest.raises(CheckpointError, match="cut.pb: damaged: cut short after a node of the graph"):
        open_checkpoint(tmp_path / "cut.pb")


def test_damaged_node(frozen, tmp_path):
    data = bytearray((frozen / "frozen.pb").read_bytes())
    data[3:12] = b"\xff" * 9
    (tmp_path / "flip.pb").write_bytes(data)
    with pytest.raises(CheckpointError):
        read_graph(tmp_path / "flip.pb")


@pytest.mark.parametrize("data", [b"", b"\x0a", b"\x0a\x05hello", bytes(4096), b"\xff" * 4096, b"{}", b"\x08\x01"])
def test_other_bytes_are_no_graph(data, tmp_path):
    (tmp_path / "file").write_bytes(data)
    assert not recognise(tmp_path / "file")
    with pytest.raises(CheckpointError, match="no TensorFlow graph"):
        read_graph(tmp_path / "file")
