"""A small Keras model with every layer that has weights, and the config that describes it rightly.

image float32 n 3 3 3 ─ conv ─ bn ─ slopes ─ depthwise ─ up ─ flat ─ fc
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

CONFIG = """\
name: broken
architecture: plain
inputs:
  image: {shape: [2, 3, 3, 3], dtype: float32, layout: NHWC}
weights: {path: net.h5}
reference: {keras: net.h5}
layers:
  - convolution: {name: conv, filters: 3, kernel: 3, padding: same, bias: true}
  - batch_norm: {name: bn, epsilon: 4.2e-3}
  - prelu: {name: slopes, shared: false}
  - depthwise_convolution: {name: depthwise, kernel: 3, multiplier: 3, padding: same, bias: true}
  - deconvolution: {name: up, filters: 9, kernel: 3, stride: 2, padding: same, bias: true}
  - flatten: {name: flat, order: NHWC}
  - dense: {name: fc1, units: 8, bias: true}
  - dense: {name: fc2, units: 8, bias: true}
outputs: [fc2]
"""


def write(directory: Path) -> Path:
    """net.h5 (all numbers random) and broken.yaml; returns the config."""
    import keras

    layers = keras.layers
    image = x = keras.Input((3, 3, 3), name="image")
    for layer in (
        layers.Conv2D(3, 3, padding="same", name="conv"),
        layers.BatchNormalization(epsilon=4.2e-3, name="bn"),
        layers.PReLU(name="slopes"),
        layers.DepthwiseConv2D(3, padding="same", depth_multiplier=3, name="depthwise"),
        layers.Conv2DTranspose(9, 3, strides=2, padding="same", name="up"),
        layers.Flatten(name="flat"),
        layers.Dense(8, name="fc1"),
        layers.Dense(8, name="fc2"),
    ):
        x = layer(x)
    model = keras.Model(image, x)
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.1, 1.0, each.shape).astype(np.float32) for each in model.get_weights()])
    model.save(directory / "net.h5")
    (directory / "broken.yaml").write_text(CONFIG)
    return directory / "broken.yaml"
