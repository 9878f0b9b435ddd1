"""Graphs of TensorFlow 1 written for a test: what a function puts behind the placeholder `image`, with a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, List

import pytest
from small_reference import Case, config, opened

tf = pytest.importorskip("tensorflow").compat.v1
IMAGE = "shape: [1, 9, 7, 3], dtype: float32, layout: NHWC"
CONVOLUTION = "convolution: {name: conv, filters: 4, kernel: 3, stride: 2, padding: same, bias: true}"
RELU = "activation: {name: relu, function: relu}"


def variable(name: str, *shape: int):
    return tf.get_variable(name, shape, initializer=tf.random_uniform_initializer(0.1, 0.5, seed=1), use_resource=True)


def convolution(x, filters: int = 4):
    kernel = variable("weights", 3, 3, int(x.shape[-1]), filters)
    return tf.nn.bias_add(tf.nn.conv2d(x, kernel, strides=2, padding="SAME"), variable("biases", filters))


def written(folder: Path, build: Callable) -> None:
    """net.meta and its checkpoint, from what `build(image)` puts into a graph."""
    with tf.Graph().as_default(), tf.Session() as session:
        build(tf.placeholder(tf.float32, [None, 9, 7, 3], name="image"))
        variable("elsewhere", 1)  # a Saver wants at least one
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(folder / "net"), write_state=False)


def case(folder: Path, build: Callable, layers: List[str], weights: str = "path: net", more: str = "") -> Case:
    written(folder, build)
    return opened(config(folder / "m.yaml", IMAGE, weights, f"graph: net.meta{more}", layers))
