"""Small files written in 2019's TensorFlow 1.15.5 and Keras 2.2.4 (data/old_frameworks/write.py), read today."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from weights import open_checkpoint

DIRECTORY = Path(__file__).parent / "data" / "old_frameworks"


@pytest.mark.parametrize(
    "file, format, detail, count",
    [
        ("slim.v2", "tf_bundle", "V2 checkpoint, 1 data file; 1 partitioned variables merged", 10),
        ("slim.v1", "tf_v1", "V1 checkpoint, one file", 10),
        ("keras_2_2_4.h5", "keras_hdf5", "full model, Keras 2.2.4; optimizer variables not listed", 12),
        ("tf_keras_1_15.weights.h5", "keras_hdf5", "full model, Keras 2.2.4-tf; optimizer variables not listed", 12),
    ],
)
def test_every_tensor(file, format, detail, count):
    expected = np.load(DIRECTORY / "expected.npz")
    wanted = {key.split(":")[1]: expected[key] for key in expected.files if key.startswith(f"{file}:")}
    checkpoint = open_checkpoint(DIRECTORY / file)
    assert checkpoint.format == format and checkpoint.detail.endswith(detail)
    assert len(wanted) == count and set(checkpoint) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(checkpoint[name], value, err_msg=name, strict=True)
