"""V2 checkpoints written by TensorFlow here, every tensor compared with TensorFlow's own reader."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from spec.errors import CheckpointError
from weights import open_checkpoint, tf_bundle

DTYPES = ("float16", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
RANDOM = np.random.default_rng(0)


def build_training_graph(tf):
    """Variables of every dtype, partitioned ones, slots of two optimizers, an average, global_step."""
    v1 = tf.compat.v1
    kernel = v1.get_variable("conv1/kernel", initializer=RANDOM.normal(size=(3, 2, 3, 5)).astype("f"))
    for columns, dtype in enumerate((*DTYPES, "bool", "complex64", "complex128"), start=1):
        v1.get_variable(f"dtypes/{dtype}", initializer=tf.cast(tf.constant(RANDOM.integers(0, 2, (3, columns))), dtype))
    normal = v1.random_normal_initializer(seed=1)
    v1.get_variable("rows", (70000, 3), initializer=normal, partitioner=v1.fixed_size_partitioner(4))
    v1.get_variable("columns", (5, 700), initializer=normal, partitioner=v1.fixed_size_partitioner(3, axis=1))
    v1.get_variable("empty", (0, 3))
    v1.get_variable("scalar", initializer=3.5)
    v1.get_variable("text", initializer=tf.constant(["a", "bcd"]))
    step, loss = v1.train.get_or_create_global_step(), tf.reduce_sum(kernel**2)
    v1.train.MomentumOptimizer(0.1, 0.9).minimize(loss, global_step=step, var_list=[kernel])
    v1.train.AdamOptimizer().minimize(loss, var_list=[kernel])
    tf.compat.v1.train.ExponentialMovingAverage(0.9).apply([kernel])


@pytest.fixture(scope="session")
def saver(tmp_path_factory):
    """Prefix of a Saver's checkpoint in one data file; `sharded` beside it has two."""
    import tensorflow as tf

    v1, directory = tf.compat.v1, tmp_path_factory.mktemp("saver")
    with v1.Graph().as_default():
        with tf.device("/cpu:0"):
            build_training_graph(tf)
        with tf.device("/cpu:1"):
            v1.get_variable("elsewhere", initializer=np.arange(6.0, dtype="float32").reshape(2, 3))
        with v1.Session(config=v1.ConfigProto(device_count={"CPU": 2})) as session:
            session.run(v1.global_variables_initializer())
            v1.train.Saver(sharded=True).save(session, str(directory / "sharded"), write_state=False)
            v1.train.Saver().save(session, str(directory / "model.ckpt"))
    return directory / "model.ckpt"


@pytest.fixture(scope="session")
def objects(tmp_path_factory):
    """Directory with TensorFlow 2 object checkpoints and SavedModels of tf.Module, Keras 3 and tf_keras."""
    import keras
    import tensorflow as tf
    import tf_keras

    directory = tmp_path_factory.mktemp("objects")
    module = tf.Module()
    module.first = tf.Variable(RANDOM.normal(size=(2, 3)))
    module.others = [tf.Variable([1.0, 2.0]), tf.Variable([3.0, 4.0], name="named")]
    tf.train.Checkpoint(module=module).write(str(directory / "module"))
    for name, library in (("keras3", keras), ("tf_keras", tf_keras)):
        model = trained_model(library)
        tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(directory / name))
        np.savez(directory / f"{name}.npz", **{short_name(variable): variable.numpy() for variable in model.weights})
        if library is keras:
            model.export(str(directory / "keras3_export"), verbose=False)
        else:
            model.save(str(directory / "tf_keras_saved_model"), save_format="tf")
    return directory


def short_name(variable):
    """Layer and role of a Keras variable, without the model's name and `:0`."""
    return "/".join(getattr(variable, "path", variable.name).split(":")[0].split("/")[-2:])


def trained_model(library):
    layers = library.layers
    model = library.Sequential([
        library.Input((5, 7, 3)),
        layers.Conv2D(4, 3, name="conv1"),
        layers.BatchNormalization(name="bn1"),
        layers.Flatten(),
        layers.Dense(2, name="fc"),
    ])  # fmt: skip
    model.compile("adam", "mse")
    model.fit(RANDOM.normal(size=(2, 5, 7, 3)), RANDOM.normal(size=(2, 2)), verbose=0)
    return model


@pytest.mark.parametrize("name", ["model.ckpt", "sharded"])
def test_every_tensor_equals_tensorflows_reader(saver, name):
    import tensorflow as tf

    prefix = saver.with_name(name)
    checkpoint, reader = open_checkpoint(prefix), tf.train.load_checkpoint(str(prefix))
    assert checkpoint.format == "tf_bundle" and len(checkpoint.files) == (2 if name == "model.ckpt" else 3)
    assert set(reader.get_variable_to_shape_map()) - {"text"} == set(checkpoint)
    assert {"conv1/kernel/Momentum", "conv1/kernel/Adam_1", "conv1/kernel/ExponentialMovingAverage"} <= set(checkpoint)
    for tensor in checkpoint:
        wanted, found = reader.get_tensor(tensor), checkpoint[tensor]
        assert found.dtype == wanted.dtype and checkpoint.tensors[tensor] == (wanted.shape, wanted.dtype.name)
        np.testing.assert_array_equal(found, wanted, err_msg=tensor, strict=True)


def test_text_is_reported_and_not_listed(saver):
    assert "not a numeric tensor: text (string)" in open_checkpoint(saver).detail
    assert "2 partitioned variables merged" in open_checkpoint(saver).detail


def test_whole_tensors_are_views_of_the_file(saver):
    kernel = open_checkpoint(saver)["conv1/kernel"]
    assert not kernel.flags.owndata and not kernel.flags.writeable and kernel.flags.aligned


@pytest.mark.parametrize(
    "named", ["model.ckpt", "model.ckpt.index", "model.ckpt.meta", "model.ckpt.data-00000-of-00001", ".", "checkpoint"]
)
def test_any_file_of_a_checkpoint_names_it(saver, named):
    assert "conv1/kernel" in open_checkpoint(saver.parent / named)


def test_stale_absolute_path_in_the_checkpoint_file(saver, tmp_path):
    copy = shutil.copytree(saver.parent, tmp_path / "moved")
    (copy / "checkpoint").write_text('model_checkpoint_path: "/gone/elsewhere/model.ckpt"\n')
    assert open_checkpoint(copy).files[0] == copy / "model.ckpt.index"


@pytest.mark.parametrize(
    "name, scope",
    [("keras3", "sequential/"), ("tf_keras", ""), ("tf_keras_saved_model", ""), ("keras3_export", "sequential/")],
)
def test_object_checkpoints_show_layer_names(objects, name, scope):
    checkpoint = open_checkpoint(objects / name)
    wanted = np.load(objects / ("keras3.npz" if name.startswith("keras3") else "tf_keras.npz"))
    assert len(wanted.files) == 8 and "object checkpoint" in checkpoint.detail
    # Keras 3 counts the models of the process: sequential, sequential_1, ...
    names = {tensor.split("/", 1)[1] if scope else tensor: tensor for tensor in checkpoint}
    for tensor in wanted.files:
        np.testing.assert_array_equal(checkpoint[names[tensor]], wanted[tensor], strict=True)


def test_export_lists_each_variable_once(objects):
    assert len(open_checkpoint(objects / "keras3_export")) == 8
    assert list(open_checkpoint(objects / "keras3_export" / "saved_model.pb")) == list(
        open_checkpoint(objects / "keras3_export")
    )


def test_names_that_are_not_unique_fall_back_to_the_path(objects):
    checkpoint = open_checkpoint(objects / "module")
    assert set(checkpoint) == {"module/first", "module/others/0", "named"}
    assert checkpoint["named"].tolist() == [3.0, 4.0]


def damaged(saver: Path, directory: Path, file: str, change) -> Path:
    copy = shutil.copytree(saver.parent, directory / "copy")
    target = copy / file
    target.write_bytes(change(bytearray(target.read_bytes())))
    return copy / "model.ckpt"


def flip(position: int):
    def change(data: bytearray) -> bytearray:
        data[position] ^= 1
        return data

    return change


DATA, INDEX = "model.ckpt.data-00000-of-00001", "model.ckpt.index"


@pytest.mark.parametrize(
    "file, change, message",
    [
        (DATA, lambda data: data[:-100], "cut short: it needs bytes"),
        (DATA, lambda data: b"", "of a file of 0"),
        (INDEX, lambda data: data[:-10], "does not end as a sorted string table"),
        (INDEX, lambda data: b"", "does not end as a sorted string table"),
        (INDEX, flip(30), "the checksum of the block at byte 0 differs"),
    ],
)
def test_damaged_files(saver, tmp_path, file, change, message):
    prefix = damaged(saver, tmp_path, file, change)
    with pytest.raises(CheckpointError, match=message):
        checkpoint = open_checkpoint(prefix)
        for tensor in checkpoint:
            checkpoint[tensor]


def test_a_flipped_bit_names_tensor_and_file_and_spares_the_others(saver, tmp_path):
    kernel = open_checkpoint(saver)["conv1/kernel"]
    place = saver.with_name(DATA).read_bytes().index(kernel.tobytes())
    checkpoint = open_checkpoint(damaged(saver, tmp_path, DATA, flip(place + 5)))
    with pytest.raises(CheckpointError, match=f"{DATA}: tensor 'conv1/kernel': damaged: its checksum differs"):
        checkpoint["conv1/kernel"]
    assert checkpoint["scalar"] == 3.5


def test_missing_files(saver, tmp_path):
    copy = shutil.copytree(saver.parent, tmp_path / "copy")
    (copy / DATA).unlink()
    with pytest.raises(CheckpointError, match=f"its data file {DATA} is missing - copy it beside the index"):
        open_checkpoint(copy / "model.ckpt")
    (copy / INDEX).unlink()
    with pytest.raises(CheckpointError, match="graph of a checkpoint without its tensors - copy model.ckpt.index"):
        open_checkpoint(copy / "model.ckpt.meta")
    shutil.copy(saver.with_name(DATA), copy)
    with pytest.raises(CheckpointError, match="model.ckpt.index is missing"):
        open_checkpoint(copy / DATA)


def test_unknown_tensor_names_the_nearest(saver):
    with pytest.raises(CheckpointError, match="no tensor 'conv1/kernl'; did you mean 'conv1/kernel'?"):
        open_checkpoint(saver)["conv1/kernl"]


def test_recognise_needs_the_index(saver, tmp_path):
    assert tf_bundle.recognise(saver) and not tf_bundle.recognise(tmp_path) and not tf_bundle.recognise(tmp_path / "no")
