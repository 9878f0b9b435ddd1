"""One network in three frameworks whose kernels are as long as wide as deep, so that no shape tells axis orders apart.

image float32 n 3 3 3 ─ conv 3x3x3x3 ─ bn ─ slopes ─ depthwise 3x3x3x3 ─ up 3x3x9x9 ─ flat ─ fc 81x81
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np

CONFIG = """\
name: cubes
architecture: plain
inputs:
  image: {{shape: [2, 3, 3, 3], dtype: float32, layout: {layout}}}
weights: {{path: {weights}}}
reference: {{{reference}}}
layers:
  - convolution: {{name: conv, filters: 3, kernel: 3, padding: same, bias: true}}
  - batch_norm: {{name: bn, epsilon: 4.2e-3}}
  - prelu: {{name: slopes, shared: {shared}}}
  - depthwise_convolution: {{name: depthwise, kernel: 3, multiplier: 3, padding: same, bias: true}}
  - deconvolution: {{name: up, filters: 9, kernel: 3, padding: {crop}, bias: true}}
  - flatten: {{name: flat, order: {layout}}}
  - dense: {{name: fc, units: 81, bias: true}}
outputs: [fc]
"""


def write_tensorflow(directory: Path) -> Path:
    """net.ckpt and cubes.yaml; returns the config."""
    import tensorflow

    tf, rng = tensorflow.compat.v1, np.random.default_rng(0)
    with tensorflow.Graph().as_default(), tf.Session() as session:

        def variable(name: str, *shape: int) -> Any:
            return tf.Variable(_numbers(rng, shape), name=name, use_resource=False)

        x = tf.placeholder(tf.float32, (None, 3, 3, 3), name="image")
        with tf.name_scope("conv/"):
            x = tf.nn.conv2d(x, variable("kernel", 3, 3, 3, 3), 1, "SAME") + variable("bias", 3)
        with tf.name_scope("bn/"):
            gamma, beta, mean, variance = map(variable, ("gamma", "beta", "moving_mean", "moving_variance"), [3] * 4)
            x = tf.nn.fused_batch_norm(x, gamma, beta, mean, variance, epsilon=4.2e-3, is_training=False)[0]
        with tf.name_scope("slopes/"):
            x = tf.nn.relu(x) - variable("alpha", 3, 3, 3) * tf.nn.relu(-x)
        with tf.name_scope("depthwise/"):
            kernel = variable("depthwise_kernel", 3, 3, 3, 3)
            x = tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME") + variable("bias", 9)
        with tf.name_scope("up/"):
            x = tf.nn.conv2d_transpose(x, variable("kernel", 3, 3, 9, 9), (2, 3, 3, 9), 1, "SAME") + variable("bias", 9)
        x = tf.reshape(x, [-1, 81], name="flat")
        with tf.name_scope("fc/"):
            x = tf.matmul(x, variable("kernel", 81, 81)) + variable("bias", 81)
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(directory / "net.ckpt"), write_state=False)
    return _config(directory, "net.ckpt", "graph: net.ckpt.meta")


def write_keras(directory: Path) -> Path:
    """net.h5 and cubes.yaml; returns the config."""
    import keras

    layers = keras.layers
    image = x = keras.Input((3, 3, 3), name="image")
    for layer in (
        layers.Conv2D(3, 3, padding="same", name="conv"),
        layers.BatchNormalization(epsilon=4.2e-3, name="bn"),
        layers.PReLU(name="slopes"),
        layers.DepthwiseConv2D(3, padding="same", depth_multiplier=3, name="depthwise"),
        layers.Conv2DTranspose(9, 3, padding="same", name="up"),
        layers.Flatten(name="flat"),
        layers.Dense(81, name="fc"),
    ):
        x = layer(x)
    model, rng = keras.Model(image, x), np.random.default_rng(0)
    model.set_weights([_numbers(rng, each.shape) for each in model.get_weights()])
    model.save(directory / "net.h5")
    return _config(directory, "net.h5", "keras: net.h5")


def build_torch() -> Any:
    """The same in PyTorch."""
    from torch import nn

    network = nn.Sequential()
    network.add_module("conv", nn.Conv2d(3, 3, 3, padding=1))
    network.add_module("bn", nn.BatchNorm2d(3, eps=4.2e-3))
    network.add_module("slopes", nn.PReLU(3))
    network.add_module("depthwise", nn.Conv2d(3, 9, 3, padding=1, groups=3))
    network.add_module("up", nn.ConvTranspose2d(9, 9, 3, padding=1))
    network.add_module("flat", nn.Flatten())
    network.add_module("fc", nn.Linear(81, 81))
    return network


def write_torch(directory: Path) -> Path:
    """net.pth and cubes.yaml; returns the config."""
    import torch

    state, rng = build_torch().state_dict(), np.random.default_rng(0)
    state = {name: torch.from_numpy(_numbers(rng, each.shape)) for name, each in state.items() if each.ndim}
    torch.save({**state, "bn.num_batches_tracked": torch.tensor(0)}, directory / "net.pth")
    config = _config(directory, "net.pth", 'callable: "tests.diagnosed_cubes:build_torch"', layout="NCHW", crop="1")
    text = config.read_text().replace("net.pth}", 'net.pth, ignore: ["*.num_batches_tracked"]}')
    config.write_text(text)
    return config


WRITERS: Dict[str, Callable[[Path], Path]] = {
    "tensorflow": write_tensorflow,
    "keras": write_keras,
    "torch": write_torch,
}


def _numbers(rng: np.random.Generator, shape: Any) -> np.ndarray:
    """Positive, so that a mean may stand where a variance should, and of such a size that activations stay near 1."""
    return (rng.uniform(0.1, 1.0, tuple(shape)) / max(np.prod(tuple(shape)[:-1]), 1) ** 0.5).astype(np.float32)


def _config(directory: Path, weights: str, reference: str, layout: str = "NHWC", crop: str = "same") -> Path:
    shared = "true" if layout == "NCHW" else "false"
    path = directory / "cubes.yaml"
    path.write_text(CONFIG.format(weights=weights, reference=reference, layout=layout, crop=crop, shared=shared))
    return path
