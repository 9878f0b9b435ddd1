"""V1 checkpoints written by TensorFlow here, compared with the running session.

TensorFlow's own reader refuses partitioned variables of this format ("Sliced checkpoints are not supported").
"""

from __future__ import annotations

import numpy as np
import pytest

from spec.errors import CheckpointError
from weights import open_checkpoint

DTYPES = ("float16", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "bool", "complex64", "complex128")
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Path of a V1 checkpoint, and the values by name."""
    import tensorflow as tf

    v1, path = tf.compat.v1, tmp_path_factory.mktemp("v1") / "model.ckpt"
    with v1.Graph().as_default(), v1.Session() as session:
        kernel = RANDOM.normal(size=(3, 2, 3, 5)).astype("float32")
        wanted = {"conv1/kernel": v1.get_variable("conv1/kernel", initializer=kernel, use_resource=False)}
        for columns, dtype in enumerate(DTYPES, start=1):
            value = tf.cast(tf.constant(RANDOM.integers(0, 2, (3, columns))), dtype)
            wanted[f"dtypes/{dtype}"] = v1.get_variable(f"dtypes/{dtype}", initializer=value)
        for name, shape, axis in (("rows", (700, 3), 0), ("columns", (5, 70), 1)):
            normal, partitioner = v1.random_normal_initializer(), v1.fixed_size_partitioner(3, axis=axis)
            wanted[name] = tf.convert_to_tensor(
                v1.get_variable(name, shape, initializer=normal, partitioner=partitioner)
            )
        wanted["scalar"] = v1.get_variable("scalar", initializer=3.5)
        session.run(v1.global_variables_initializer())
        v1.train.Saver(write_version=v1.train.SaverDef.V1).save(session, str(path))
        return path, session.run(wanted)


def test_every_tensor(written):
    path, wanted = written
    checkpoint = open_checkpoint(path)
    assert checkpoint.format == "tf_v1" and set(checkpoint) == set(wanted)
    for name, value in wanted.items():
        assert checkpoint.tensors[name] == (np.shape(value), np.asarray(value).dtype.name)
        np.testing.assert_array_equal(checkpoint[name], np.asarray(value), err_msg=name, strict=True)


@pytest.mark.parametrize("named", ["model.ckpt.meta", ".", "checkpoint"])
def test_any_file_of_a_checkpoint_names_it(written, named):
    assert "conv1/kernel" in open_checkpoint(written[0].parent / named)


def test_a_flipped_bit_is_found(written, tmp_path):
    path, wanted = written
    data = bytearray(path.read_bytes())
    data[data.index(wanted["conv1/kernel"].tobytes()) + 7] ^= 4
    (tmp_path / "model.ckpt").write_bytes(data)
    with pytest.raises(CheckpointError, match="model.ckpt: damaged: the checksum of the block"):
        open_checkpoint(tmp_path / "model.ckpt")["conv1/kernel"]


def test_a_cut_file_beside_its_meta_file(written, tmp_path):
    path, _ = written
    (tmp_path / "model.ckpt").write_bytes(path.read_bytes()[:-30])
    (tmp_path / "model.ckpt.meta").write_bytes(path.with_name("model.ckpt.meta").read_bytes())
    with pytest.raises(CheckpointError, match="cut short or no TensorFlow V1 checkpoint - copy it again"):
        open_checkpoint(tmp_path / "model.ckpt")
