"""References in TensorFlow: which op is our layer's output, graphs of TensorFlow 1, checkpoints as people name them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Callable, Dict

import numpy as np
import pytest

tensorflow = pytest.importorskip("tensorflow")

from small_graphs import CONVOLUTION, IMAGE, RELU, case, convolution, variable, written  # noqa: E402
from small_reference import assert_close, config, opened, random_image  # noqa: E402

from spec.errors import ConfigError, UsageError, VerificationError  # noqa: E402
from verify.reference import reference_names, unresolved  # noqa: E402

tf = tensorflow.compat.v1
TRAINING = Path(__file__).parent / "data" / "tf_1_15_training"
NETWORK = [
    CONVOLUTION.replace("bias: true", "bias: false"),
    "batch_norm: {name: bn, epsilon: 1.0e-3}",
    "activation: {name: relu, function: relu}",
    "pooling: {name: pool, function: max, window: 2, stride: 2, padding: valid}",
    "flatten: {name: flatten, order: NHWC}",
    "dense: {name: hidden, units: 6, bias: true}",
    "activation: {name: hidden/relu, function: relu}",
    "dense: {name: logits, units: 3, bias: true}",
    "softmax: {name: prob}",
]


# which op


def one_scope(x):
    with tf.variable_scope("conv"):
        tf.identity(convolution(x), name="out")


def op_of_the_name(x):
    tf.nn.relu(x, name="conv")


def fused_activation(x):
    with tf.variable_scope("conv"):
        y = tf.nn.relu(convolution(x))
    tf.reduce_mean(y, name="mean")


def last_without_reader(x):
    with tf.variable_scope("conv"):
        tf.nn.relu(convolution(x))


def slim(x):
    """tf.contrib.slim puts batch norm and activation into the convolution's own scope."""
    with tf.variable_scope("conv"):
        y = tf.nn.conv2d(x, variable("weights", 3, 3, 3, 4), strides=2, padding="SAME", name="Conv2D")
        with tf.variable_scope("BatchNorm"):
            ones = tf.ones([4])
            y = tf.nn.fused_batch_norm(y, ones, ones, ones, ones, is_training=False)[0]
        y = tf.nn.relu(y)
    tf.reduce_mean(y, name="mean")


def with_training(x):
    """Gradients read the convolution too, a histogram and a moving average of it stand in its own scope."""
    with tf.variable_scope("conv"):
        y = convolution(x)
        mean = tf.reduce_mean(y, [0, 1, 2])
        tf.assign_sub(variable("moving_mean", 4), 0.1 * (mean - variable("offset", 4)), name="AssignMovingAvg")
        tf.summary.histogram("activations", y)
    loss = tf.reduce_mean(tf.nn.sigmoid(tf.nn.relu(y, name="relu")), name="loss")
    tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)


def with_a_cond(x):
    """Switch and Merge, as TensorFlow 1 writes tf.cond."""
    tf.disable_control_flow_v2()
    try:
        phase = tf.placeholder(tf.bool, [], name="is_training")
        with tf.variable_scope("conv"):
            y = convolution(x)
        with tf.variable_scope("bn"):
            y = tf.cond(phase, lambda: y + 1.0, lambda: y * 2.0)
        tf.nn.relu(y, name="relu")
    finally:
        tf.enable_control_flow_v2()


def with_a_functional_cond(x):
    """The op `If`, as TensorFlow 2 writes tf.cond."""
    phase = tf.placeholder(tf.bool, [], name="is_training")
    with tf.variable_scope("conv"):
        y = convolution(x)
    with tf.variable_scope("bn"):
        y = tf.cond(phase, lambda: y + 1.0, lambda: y * 2.0)
    tf.nn.relu(y, name="relu")


def two_ways_out(x):
    with tf.variable_scope("conv"):
        y = convolution(x)
        one, two = tf.exp(y, name="one"), tf.square(y, name="two")
    tf.add(one, two, name="sum")


def read_by_shape_only(x):
    """A shape that is taken of a tensor is no use of its numbers."""
    with tf.variable_scope("conv"):
        y = convolution(x)
        z = tf.nn.relu(y)
    tf.reshape(z, [tf.shape(y)[0], -1], name="flat")


RULES: Dict[Callable, Dict[str, str]] = {
    one_scope: {"conv": "conv/out"},
    op_of_the_name: {"conv": "conv"},
    fused_activation: {"conv": "conv/BiasAdd", "conv/relu": "conv/Relu"},
    last_without_reader: {"conv": "conv/BiasAdd", "conv/relu": "conv/Relu"},
    slim: {"conv": "conv/Conv2D", "conv/BatchNorm": "conv/BatchNorm/FusedBatchNormV3", "conv/relu": "conv/Relu"},
    with_training: {"conv": "conv/BiasAdd", "relu": "relu"},
    with_a_cond: {"conv": "conv/BiasAdd", "bn": "bn/cond/Merge", "relu": "relu"},
    with_a_functional_cond: {"conv": "conv/BiasAdd", "bn": "bn/cond/Identity", "relu": "relu"},
    two_ways_out: {},
    read_by_shape_only: {"conv": "conv/BiasAdd", "conv/relu": "conv/Relu"},
}
ROWS = [
    CONVOLUTION,
    "batch_norm: {name: bn, epsilon: 1.0e-3}",
    "batch_norm: {name: conv/BatchNorm, epsilon: 1.0e-3}",
    "activation: {name: conv/relu, function: relu}",
    RELU,
]


@pytest.mark.parametrize("build", RULES, ids=lambda build: build.__name__)
def test_which_op_is_the_layers_output(build, tmp_path):
    found = case(tmp_path, build, ROWS)
    assert reference_names(*found) == RULES[build]


def test_a_prefix_of_the_checkpoint_is_one_of_the_graph(tmp_path):
    def build(x):
        with tf.variable_scope("net/conv"):
            convolution(x)

    assert reference_names(*case(tmp_path, build, [CONVOLUTION], "path: net, prefix: net/")) == {
        "conv": "net/conv/BiasAdd"
    }


def test_the_scope_of_a_layer_counts_too(tmp_path):
    def build(x):
        with tf.variable_scope("net/conv_7"):
            convolution(x)

    row = CONVOLUTION.replace("name: conv,", "name: conv, scope: net/conv_7,")
    assert reference_names(*case(tmp_path, build, [row])) == {"conv": "net/conv_7/BiasAdd"}


def test_given_names_come_first_and_may_end_in_0(tmp_path):
    found = case(tmp_path, one_scope, [CONVOLUTION], more=", tensors: {conv: 'conv/Conv2D:0'}")
    assert reference_names(*found) == {"conv": "conv/Conv2D"}
    wrong = case(tmp_path, one_scope, [CONVOLUTION], more=", tensors: {conv: conv/Conv2d}")
    with pytest.raises(ConfigError, match="m.yaml:6: reference.tensors: layer 'conv': .*did you mean 'conv/Conv2D'?"):
        reference_names(*wrong)


def test_several_outputs_of_an_op(tmp_path):
    found = case(tmp_path, lambda x: tf.nn.top_k(x, 2, name="best"), ["top_k: {name: best, k: 2}"])
    image = random_image(1, 9, 7, 3)
    activations = found.run(image=image)
    assert (activations.names["best"], activations.names["best/indices"]) == ("best", "best:1")
    assert_close(activations.arrays["best"], -np.sort(-image, axis=3)[..., :2].transpose(0, 3, 1, 2))
    assert_close(activations.arrays["best/indices"], np.argsort(-image, axis=3)[..., :2].transpose(0, 3, 1, 2))


def test_dead_branches_are_not_offered(tmp_path):
    found = case(tmp_path, with_a_cond, ROWS)
    names = found.reference.names()
    assert "bn/cond/Merge" in names and not [name for name in names if "Switch" in name or "bn/cond/mul" in name]
    found.reference.activations({"image": random_image(1, 9, 7, 3)}, names)  # every one of them can be fetched


# what runs


def test_a_training_graph_of_tensorflow_1_15(tmp_path):
    """Written by TensorFlow 1.15.5: its activations on the same input are in expected.npz."""
    expected = np.load(TRAINING / "expected.npz")
    image = IMAGE.replace("[1,", "[2,")
    files = f"path: {TRAINING / 'training'}", f"graph: {TRAINING / 'training.meta'}"
    path = config(tmp_path / "m.yaml", image, *files, NETWORK)
    found = opened(path)
    activations = found.run(image=expected["image"])
    assert list(activations.arrays) == found.layer_names and len(found.layer_names) == 1 + len(NETWORK)
    assert activations.title.endswith("training.meta with training, is_training = False")
    for name in found.layer_names[1:]:
        wanted = expected[f"layer:{name}"]
        wanted = wanted.transpose(0, 3, 1, 2) if wanted.ndim == 4 else wanted
        # TensorFlow 1.15.5 against the one installed here: other kernels, other order of sums
        assert np.abs(activations.arrays[name] - wanted).max() <= 2e-6 * np.abs(wanted).max(), name
    assert unresolved(found.graph, found.reference, activations.names) == []


def test_plainly_importing_that_graph_fails():
    """The reason for taking out `_output_shapes`; when TensorFlow accepts them, the workaround can go."""
    with tensorflow.Graph().as_default(), pytest.raises(ValueError, match="_output_shapes attribute inconsistent"):
        tf.train.import_meta_graph(str(TRAINING / "training.meta"))


@pytest.mark.parametrize("named", ["net", "net.index", "net.meta", "net.data-00000-of-00001", "", "checkpoint"])
def test_checkpoints_as_people_name_them(named, tmp_path):
    written(tmp_path, one_scope)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "net"\n')
    path = config(tmp_path / "m.yaml", IMAGE, f"path: ./{named}", "graph: net.meta", [CONVOLUTION])
    assert opened(path).run(image=random_image(1, 9, 7, 3)).title.endswith("net.meta with net")


@pytest.mark.parametrize("state", ["/home/somebody/run/net", "C:\\\\run\\\\net"])
def test_a_copied_directory_whose_state_file_is_stale(state, tmp_path):
    """TensorFlow 1 writes absolute paths into it; the transplant finds the files beside it, so must the reference."""
    folder = tmp_path / "copied"
    folder.mkdir()
    written(folder, one_scope)
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{state}"\n')
    path = config(tmp_path / "m.yaml", IMAGE, "path: copied", "graph: copied/net.meta", [CONVOLUTION])
    assert opened(path).run(image=random_image(1, 9, 7, 3)).title.endswith("net.meta with net")


@pytest.mark.parametrize("graph", ["saved", "saved/saved_model.pb"])
@pytest.mark.parametrize("weights", ["saved", "saved/saved_model.pb", "net"])
def test_saved_model_of_tensorflow_1(graph, weights, tmp_path):
    written(tmp_path, one_scope)
    with tf.Graph().as_default() as whole, tf.Session() as session:
        tf.train.import_meta_graph(str(tmp_path / "net.meta")).restore(session, str(tmp_path / "net"))
        image, conv = (whole.get_tensor_by_name(f"{name}:0") for name in ("image", "conv/out"))
        tf.saved_model.simple_save(session, str(tmp_path / "saved"), {"image": image}, {"conv": conv})
    pixels = random_image(1, 9, 7, 3)
    plain = config(tmp_path / "plain.yaml", IMAGE, "path: net", "graph: net.meta", [CONVOLUTION])
    path = config(tmp_path / "m.yaml", IMAGE, f"path: {weights}", f"graph: {graph}", [CONVOLUTION])
    found = opened(path).run(image=pixels)
    np.testing.assert_array_equal(found.arrays["conv"], opened(plain).run(image=pixels).arrays["conv"])
    assert np.abs(found.arrays["conv"]).max() > 0.1
    assert found.title.endswith("saved_model.pb with net" if weights == "net" else "saved_model.pb with variables")


def test_saved_model_of_tensorflow_2_says_what_to_export(tmp_path):
    class Network(tensorflow.Module):
        @tensorflow.function(input_signature=[tensorflow.TensorSpec((None, 9, 7, 3), name="image")])
        def __call__(self, image):
            return tensorflow.nn.relu(image, name="relu")

    network = Network()
    tensorflow.saved_model.save(network, str(tmp_path / "saved"))
    with pytest.raises(VerificationError, match="saved_model.pb is a SavedModel of TensorFlow 2, .* reference.keras"):
        opened(config(tmp_path / "m.yaml", IMAGE, "path: saved", "graph: saved", [RELU]))
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(network.__call__.get_concrete_function())  # what the message advises
    (tmp_path / "net.pb").write_bytes(frozen.graph.as_graph_def().SerializeToString())
    image = random_image(1, 9, 7, 3)
    found = opened(config(tmp_path / "m.yaml", IMAGE, "path: net.pb", "graph: net.pb", [RELU])).run(image=image)
    np.testing.assert_array_equal(found.arrays["relu"], image.clip(0).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("tags, works", [(["tpu"], True), (["serve", "train"], True), (["train", "serve tpu"], False)])
def test_which_graph_of_a_saved_model(tags, works, tmp_path):
    """The one that serves; a training graph beside it has the same names."""
    builder = tf.saved_model.Builder(str(tmp_path / "saved"))
    for number, tag in enumerate(tags):
        with tf.Graph().as_default(), tf.Session() as session:
            tf.nn.relu(tf.placeholder(tf.float32, [None, 9, 7, 3], name="image") + float(number), name="relu")
            variable("elsewhere", 1)
            session.run(tf.global_variables_initializer())
            add = builder.add_meta_graph if number else builder.add_meta_graph_and_variables
            add(*([tag.split()] if number else [session, tag.split()]))
    builder.save()
    path = config(tmp_path / "m.yaml", IMAGE, "path: saved", "graph: saved", [RELU])
    if works:
        image = random_image(1, 9, 7, 3)
        found = opened(path).run(image=image).arrays["relu"]
        np.testing.assert_array_equal(found, image.clip(0).transpose(0, 3, 1, 2))
    else:
        with pytest.raises(VerificationError, match=r"graphs are tagged train, serve\+tpu - wanted one tagged serve"):
            opened(path)


def test_frozen_graph(tmp_path):
    written(tmp_path, one_scope)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.train.import_meta_graph(str(tmp_path / "net.meta")).restore(session, str(tmp_path / "net"))
        frozen = tf.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["conv/out"])
    (tmp_path / "net.pb").write_bytes(frozen.SerializeToString())
    image = random_image(1, 9, 7, 3)
    runs = [
        opened(config(tmp_path / "m.yaml", IMAGE, f"path: {weights}", f"graph: {graph}", [CONVOLUTION])).run(
            image=image
        )
        for weights, graph in (("net", "net.meta"), ("net", "net.pb"), ("net.pb", "net.meta"))
    ]
    assert [run.title.split(", ")[1] for run in runs] == ["net.meta with net", "net.pb", "net.meta with net.pb"]
    for run in runs[1:]:
        np.testing.assert_array_equal(run.arrays["conv"], runs[0].arrays["conv"])
    assert np.abs(runs[0].arrays["conv"]).max() > 0.1


def test_averages_take_the_place_of_weights(tmp_path):
    def build(x):
        one_scope(x)
        average = tf.train.ExponentialMovingAverage(0.5)
        average.apply(tf.trainable_variables())

    written(tmp_path, build)
    with tf.Graph().as_default(), tf.Session() as session:  # the averages become other numbers than the weights
        saver = tf.train.import_meta_graph(str(tmp_path / "net.meta"))
        saver.restore(session, str(tmp_path / "net"))
        for each in tf.global_variables():
            if "Average" in each.op.name:
                session.run(each.initializer, {each.initializer.inputs[1]: np.full(each.shape, 0.25, np.float32)})
        saver.save(session, str(tmp_path / "net"), write_meta_graph=False, write_state=False)
    path = config(tmp_path / "m.yaml", IMAGE, "path: net", "graph: net.meta", [CONVOLUTION])
    image = random_image(1, 9, 7, 3)
    found = opened(path, ["weights.average=ExponentialMovingAverage"]).run(image=image).arrays["conv"]
    kernel, bias = np.full((3, 3, 3, 4), 0.25, np.float32), np.float32(0.25)
    wanted = tf.nn.conv2d(image, kernel, strides=2, padding="SAME").numpy() + bias
    assert_close(found, wanted.transpose(0, 3, 1, 2))
    assert np.abs(opened(path).run(image=image).arrays["conv"] - found).max() > 0.01


def test_graphs_with_channels_first(tmp_path):
    """Of `data_format: NCHW`, images stay as they are."""

    def build(x):
        x = tf.transpose(x, [0, 3, 1, 2], name="turned")
        tf.nn.max_pool2d(x, 2, 2, "VALID", data_format="NCHW", name="pool")

    rows = ["activation: {name: turned, function: relu}"]
    found = case(tmp_path, build, rows)
    image = random_image(1, 9, 7, 3)
    assert found.reference.image_layout == "NCHW"
    np.testing.assert_array_equal(found.run(image=image).arrays["turned"], image.transpose(0, 3, 1, 2))


# files


def test_files_that_are_no_graph(tmp_path):
    written(tmp_path, one_scope)
    whole = (tmp_path / "net.meta").read_bytes()
    (tmp_path / "cut.meta").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.pb").write_bytes(b"\xff" * 50)
    for file in ("cut.meta", "cut.pb"):
        with pytest.raises(VerificationError, match="m.yaml:6: reference.graph: .*no TensorFlow graph, or damaged"):
            opened(config(tmp_path / "m.yaml", IMAGE, "path: net", f"graph: {file}", [CONVOLUTION]))
    with pytest.raises(UsageError, match=r"no file .*absent\.meta - wanted a \.meta, a frozen \.pb or a Saved"):
        opened(config(tmp_path / "m.yaml", IMAGE, "path: net", "graph: absent.meta", [CONVOLUTION]))


def test_a_checkpoint_that_does_not_fit(tmp_path):
    written(tmp_path, one_scope)
    (tmp_path / "other").mkdir()
    written(tmp_path / "other", lambda x: variable("something/else", 3))
    for weights in ("absent", "other/net"):
        path = config(tmp_path / "m.yaml", IMAGE, f"path: {weights}", "graph: net.meta", [CONVOLUTION])
        with pytest.raises(
            VerificationError, match=r"m\.yaml:5: weights.path: the graph cannot restore .*/(absent|net)"
        ) as caught:
            opened(path)
    assert "/other/net: Key conv/biases not found in checkpoint - wanted the checkpoint of" in str(caught.value)
    shutil.copy(tmp_path / "net.index", tmp_path / "half.index")
    with pytest.raises(VerificationError, match="the graph cannot restore .*/half"):
        opened(config(tmp_path / "m.yaml", IMAGE, "path: half", "graph: net.meta", [CONVOLUTION]))
