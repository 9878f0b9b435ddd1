"""Model 2: ResNet50 of keras.applications with two long skips, saved by Keras in its three formats.

    conv2 ─┬─ conv3 ── concat ─ conv bn relu ─┬─ conv4 ── concat ─ conv bn relu ─ conv5 ─ avg_pool ─ predictions
           └─ average pool ┘                  └─ max pool ──┘
              skip3_*                            skip4_*
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List

import numpy as np

from samples import command, seeded

FULL_MODEL = "resnet50_skips.h5"
FILES = (FULL_MODEL, "resnet50_skips.weights.h5", "resnet50_skips.keras")
LOGITS_GAIN = 0.5


def build():
    """float32 image [n, 224, 224, 3] -> predictions [n, 1000]; weights as Keras initialises them."""
    from keras.src.applications.resnet import ResNet

    return ResNet(stages, preact=False, use_bias=True, weights=None, name="resnet50_skips")


def stages(x):
    """The four stages: [n, 56, 56, 64] -> [n, 7, 7, 2048]."""
    from keras import layers
    from keras.src.applications.resnet import stack_residual_blocks_v1

    conv2 = stack_residual_blocks_v1(x, 64, 3, stride1=1, name="conv2")
    conv3 = stack_residual_blocks_v1(conv2, 128, 4, name="conv3")
    skip3 = long_skip("skip3", conv3, layers.AveragePooling2D(2, strides=2, name="skip3_pool")(conv2), filters=512)
    conv4 = stack_residual_blocks_v1(skip3, 256, 6, name="conv4")
    skip4 = long_skip("skip4", conv4, layers.MaxPooling2D(2, strides=2, name="skip4_pool")(skip3), filters=1024)
    return stack_residual_blocks_v1(skip4, 512, 3, name="conv5")


def long_skip(name: str, x, pooled, filters: int):
    """Join a stage's output [n, h, w, c] and its pooled input [n, h, w, d], project to [n, h, w, filters]."""
    from keras import layers

    x = layers.Concatenate(name=f"{name}_concat")([x, pooled])
    x = layers.Conv2D(filters, 1, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(epsilon=1.001e-5, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def write(directory: Path, seed: int = 0) -> List[Path]:
    """Write the full model in HDF5 (Keras 2 layout), the weights alone (Keras 3 layout) and the .keras archive."""
    directory.mkdir(parents=True, exist_ok=True)
    model = build()
    set_random_weights(model, seed)
    full, weights, archive = [directory / name for name in FILES]
    model.save(full)
    model.save_weights(weights)
    model.save(archive)
    return [full, weights, archive]


def set_random_weights(model, seed: int) -> None:
    """Every convolution here is followed by the batch norm of its name: `conv1_conv` by `conv1_bn`."""
    from keras.layers import BatchNormalization

    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, BatchNormalization):
            set_convolution_and_norm(rng, model.get_layer(layer.name.replace("_bn", "_conv")), layer)
    predictions = model.get_layer("predictions")
    kernel = seeded.kernel(rng, predictions.kernel.shape, gain=LOGITS_GAIN)
    predictions.set_weights([kernel, seeded.bias(rng, predictions.units)])


def set_convolution_and_norm(rng: np.random.Generator, convolution, norm) -> None:
    """Kernel [h, w, i, o] and bias [o] of the convolution, then the four arrays [o] of the batch norm behind it."""
    arrays = seeded.batch_norm(rng, convolution.filters)
    gain = seeded.RESIDUAL_GAIN if convolution.name.endswith("_3_conv") else 1.0
    kernel = seeded.normalised_kernel(rng, convolution.kernel.shape, arrays, gain=gain)
    convolution.set_weights([kernel, seeded.bias(rng, convolution.filters) * np.sqrt(arrays.variance)])
    norm.set_weights(list(arrays))


def run(directory: Path, image: np.ndarray) -> np.ndarray:
    """predictions [n, 1000] of float32 images [n, 224, 224, 3], from the full model in HDF5."""
    import keras

    model = keras.saving.load_model(directory / FULL_MODEL, compile=False)
    return np.asarray(model(image, training=False))


def random_image(seed: int, batch: int = 1) -> np.ndarray:
    """float32 [n, 224, 224, 3] in -1..1."""
    return 2.0 * seeded.image(seed, batch, 224, 224) - 1.0


def main() -> None:
    """Write the checkpoint and run one random image."""
    command.main(sys.modules[__name__])


if __name__ == "__main__":
    main()
