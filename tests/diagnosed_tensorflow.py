"""A small TensorFlow graph with something in it for every mistake, and the config that describes it rightly.

    image uint8 n 14 12 3 ─ preprocessing, BGR ─ conv1 ─ relu1 ─ norm1 ─ pool1 ─ conv2 ─ bn2 ─ leaky ─ depthwise ─ ...
                                                                                            leaves: every other op

Sides are such that SAME has an odd pixel under stride 2; one variance is near zero, so that an epsilon shows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

CONFIG = """\
name: broken
architecture: plain
inputs:
  image:
    shape: [2, 14, 12, 3]
    dtype: uint8
    layout: NHWC
    preprocessing: {scale: 1/255, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], swap_channels: true}
weights: {path: net.ckpt, ignore: []}
reference:
  graph: net.ckpt.meta
  tensors: {image/cast: to_float, image/swap: swapped, image/normalised: normalised}
layers:
  - convolution: {name: conv1, filters: 9, kernel: 5, stride: 2, padding: same, bias: true}
  - activation: {name: relu1, function: relu}
  - lrn: {name: norm1, window: 5, alpha: 0.02, beta: 0.75, k: 2.0, alpha_of: sum}
  - pooling: {name: pool1, function: max, window: 3, stride: 2, padding: same}
  - convolution: {name: conv2, filters: 3, kernel: 3, padding: same, bias: false}
  - batch_norm: {name: bn2, epsilon: 1.001e-5}
  - activation: {name: leaky, function: leaky_relu, alpha: 0.2}
  - convolution: {name: conv3, filters: 3, kernel: 3, padding: same, dilation: 2, bias: true}
  - depthwise_convolution: {name: depthwise, kernel: 3, multiplier: 3, padding: same, bias: true}
  - deconvolution: {name: up, filters: 9, kernel: 3, stride: 2, padding: same, bias: true}
  - pooling: {name: average, function: average, window: 3, stride: 2, padding: same, count_padding: false}
  - elementwise: {name: difference, function: sub, inputs: [average, depthwise]}
  - concatenation: {name: joined, inputs: [difference, conv3]}
  - flatten: {name: flat, order: NHWC}
  - dense: {name: fc1, units: 16, bias: true}
  - dense: {name: fc2, units: 16, bias: true}
  - softmax: {name: prob}
  - resize: {name: resized, mode: bilinear, size: [7, 5], coordinates: asymmetric, input: joined}
  - padding: {name: mirrored, pad: [[1, 2], [0, 1]], mode: reflect, input: joined}
  - reshape: {name: reshaped, shape: [12, 12], order: NHWC, input: joined}
  - scale: {name: halved, scale: 0.5, shift: -0.25, input: joined}
  - convolution: {name: activated, filters: 4, kernel: 3, stride: 2, padding: same, bias: true, input: joined}
  - activation: {name: activated/relu, function: relu}
outputs: [prob, resized, mirrored, reshaped, halved, activated/relu]
"""


def write(directory: Path, seed: int = 0) -> Path:
    """net.ckpt (all numbers random) and broken.yaml; returns the config."""
    import tensorflow as tf

    with tf.Graph().as_default():
        _network(tf.compat.v1, np.random.default_rng(seed))
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            tf.compat.v1.train.Saver().save(session, str(directory / "net.ckpt"), write_state=False)
    (directory / "broken.yaml").write_text(CONFIG)
    return directory / "broken.yaml"


def _network(tf: Any, rng: Any) -> None:
    def variable(name: str, *shape: int) -> Any:
        numbers = rng.uniform(0.1, 1.0, shape) * rng.choice([-1, 1], shape) / max(np.prod(shape[:-1]), 1) ** 0.5
        return tf.Variable(numbers.astype(np.float32), name=name, use_resource=False)

    def convolution(x: Any, scope: str, *shape: int, bias: bool = True, **keys: Any) -> Any:
        with tf.variable_scope(scope), tf.name_scope(f"{scope}/"):
            x = tf.nn.conv2d(x, variable("kernel", *shape), **keys)
            return tf.nn.bias_add(x, variable("bias", shape[-1])) if bias else x

    x = _trunk(tf, _preprocessed(tf), convolution, variable)
    fine, x = _to_the_join(tf, x, convolution, variable)
    joined = tf.concat([x, fine], 3, name="joined")
    _head(tf, joined, variable)
    tf.image.resize_bilinear(joined, [7, 5], name="resized")
    tf.pad(joined, [[0, 0], [1, 2], [0, 1], [0, 0]], mode="REFLECT", name="mirrored")
    tf.reshape(joined, [-1, 12, 12], name="reshaped")
    tf.add(joined * 0.5, -0.25, name="halved")
    tf.nn.relu(convolution(joined, "activated", 3, 3, 12, 4, strides=2, padding="SAME"), name="activated/relu")


def _preprocessed(tf: Any) -> Any:
    image = tf.placeholder(tf.uint8, (None, 14, 12, 3), name="image")
    x = tf.reverse(tf.cast(image, tf.float32, name="to_float"), [3], name="swapped")
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return tf.divide(x / 255.0 - mean, std, name="normalised")


def _trunk(tf: Any, x: Any, convolution: Any, variable: Any) -> Any:
    x = convolution(x, "conv1", 5, 5, 3, 9, strides=2, padding="SAME")
    x = tf.nn.relu(x, name="relu1")
    x = tf.nn.lrn(x, depth_radius=2, bias=2.0, alpha=0.02, beta=0.75, name="norm1")
    x = tf.nn.max_pool2d(x, 3, 2, "SAME", name="pool1")
    x = convolution(x, "conv2", 3, 3, 9, 3, bias=False, strides=1, padding="SAME")
    with tf.variable_scope("bn2"), tf.name_scope("bn2/"):
        numbers = {
            "gamma": [0.9, 1.2, -0.7],
            "beta": [0.3, -0.4, 0.5],
            "mean": [0.1, 0.3, 0.2],
            "variance": [1e-6, 0.5, 2],
        }
        stored = [tf.Variable(np.float32(value), name=f"moving_{name}" if name in ("mean", "variance") else name)
                  for name, value in numbers.items()]  # fmt: skip
        x = tf.nn.fused_batch_norm(x, *stored, epsilon=1.001e-5, is_training=False)[0]
    return tf.nn.leaky_relu(x, 0.2, name="leaky")


def _to_the_join(tf: Any, x: Any, convolution: Any, variable: Any) -> Any:
    fine = convolution(x, "conv3", 3, 3, 3, 3, strides=1, padding="SAME", dilations=2)
    with tf.variable_scope("depthwise"), tf.name_scope("depthwise/"):
        x = tf.nn.depthwise_conv2d(fine, variable("depthwise_kernel", 3, 3, 3, 3), [1, 1, 1, 1], "SAME")
        before = tf.nn.bias_add(x, variable("bias", 9))
    with tf.variable_scope("up"), tf.name_scope("up/"):
        x = tf.nn.conv2d_transpose(before, variable("kernel", 3, 3, 9, 9), (2, 8, 6, 9), 2, "SAME")
        x = tf.nn.bias_add(x, variable("bias", 9))
    x = tf.nn.avg_pool2d(x, 3, 2, "SAME", name="average")
    return fine, tf.subtract(x, before, name="difference")


def _head(tf: Any, joined: Any, variable: Any) -> None:
    x = tf.reshape(joined, [-1, 4 * 3 * 12], name="flat")
    for name, size in (("fc1", 144), ("fc2", 16)):
        with tf.variable_scope(name), tf.name_scope(f"{name}/"):
            x = tf.nn.bias_add(tf.matmul(x, variable("kernel", size, 16)), variable("bias", 16))
    tf.nn.softmax(x, name="prob")
