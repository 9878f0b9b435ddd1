"""Model 1: an AlexNet-like chain in TensorFlow 1, written with raw ops and saved by tf.train.Saver.

    image ─ to_float ─ scale ─ shift ─ conv1 relu1 norm1 pool1 ─ conv2 relu2 norm2 pool2 ─ conv3 relu3 ─
    conv4 relu4 pool4 ─ flatten ─ fc1 relu5 ─ fc2 ─ prob

A layer with variables is all that is in the name scope `conv1/`; a layer without is the one op named `relu1`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List

import numpy as np

from samples import command, seeded

FROZEN = "model.pb"
CHECKPOINT = "model.ckpt"
LOGITS_GAIN = 0.8


def network():
    """uint8 image [n, 224, 224, 3] -> prob [n, 100], in the default graph."""
    import tensorflow.compat.v1 as tf

    x = tf.placeholder(tf.uint8, [None, 224, 224, 3], name="image")
    x = tf.cast(x, tf.float32, name="to_float")
    x = tf.multiply(x, 1 / 127.5, name="scale")
    x = tf.subtract(x, 1.0, name="shift")

    x = convolution(x, "conv1", filters=32, kernel=5, stride=2, padding="SAME")
    x = tf.nn.relu(x, name="relu1")
    x = tf.nn.lrn(x, depth_radius=2, bias=2.0, alpha=5e-3, beta=0.75, name="norm1")
    x = tf.nn.max_pool2d(x, ksize=3, strides=2, padding="VALID", name="pool1")

    x = convolution(x, "conv2", filters=64, kernel=5, stride=1, padding="SAME")
    x = tf.nn.relu(x, name="relu2")
    x = tf.nn.lrn(x, depth_radius=3, bias=1.0, alpha=2e-2, beta=0.5, name="norm2")
    x = tf.nn.max_pool2d(x, ksize=3, strides=2, padding="SAME", name="pool2")

    x = convolution(x, "conv3", filters=96, kernel=3, stride=1, padding="VALID")
    x = tf.nn.relu(x, name="relu3")
    x = convolution(x, "conv4", filters=96, kernel=3, stride=2, padding="SAME")
    x = tf.nn.relu(x, name="relu4")
    x = tf.nn.avg_pool2d(x, ksize=3, strides=2, padding="SAME", name="pool4")

    x = tf.reshape(x, [-1, 7 * 7 * 96], name="flatten")
    x = dense(x, "fc1", units=256)
    x = tf.nn.relu(x, name="relu5")
    x = dense(x, "fc2", units=100)
    return tf.nn.softmax(x, name="prob")


def convolution(x, name: str, filters: int, kernel: int, stride: int, padding: str):
    """Convolution [n, h, w, c] -> [n, h', w', filters] and bias, all in the scope `name`."""
    import tensorflow.compat.v1 as tf

    with tf.variable_scope(name):
        weights = variable("weights", [kernel, kernel, x.shape[-1], filters])
        biases = variable("biases", [filters])
        return tf.nn.bias_add(tf.nn.conv2d(x, weights, strides=stride, padding=padding), biases)


def dense(x, name: str, units: int):
    """[n, features] -> [n, units] and bias, all in the scope `name`."""
    import tensorflow.compat.v1 as tf

    with tf.variable_scope(name):
        weights = variable("weights", [x.shape[-1], units])
        biases = variable("biases", [units])
        return tf.nn.bias_add(tf.matmul(x, weights), biases)


def variable(name: str, shape: list):
    """A variable as TensorFlow 1 made it (op VariableV2); get_variable of TensorFlow 2 would make a resource."""
    import tensorflow.compat.v1 as tf

    return tf.get_variable(name, shape, use_resource=False)


def write(directory: Path, seed: int = 0) -> List[Path]:
    """Write the checkpoint (model.ckpt.*) and the same network as a frozen graph (model.pb)."""
    import tensorflow.compat.v1 as tf

    directory.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        network()
        assign_random(session, seed)
        tf.train.Saver(save_relative_paths=True).save(session, str(directory / CHECKPOINT))
        frozen = tf.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["prob"])
    (directory / FROZEN).write_bytes(frozen.SerializeToString())
    return [directory / "checkpoint", *sorted(directory.glob(f"{CHECKPOINT}.*")), directory / FROZEN]


def assign_random(session, seed: int) -> None:
    """Run the variables' initializers with random arrays in place of the initial values."""
    import tensorflow.compat.v1 as tf

    rng = np.random.default_rng(seed)
    variables = tf.global_variables()
    values = [random_value(rng, each.op.name, each.shape.as_list()) for each in variables]
    initial_values = [each.initializer.inputs[1] for each in variables]
    session.run([each.initializer for each in variables], dict(zip(initial_values, values)))


def random_value(rng: np.random.Generator, name: str, shape: List[int]) -> np.ndarray:
    """Biases [o]; kernels [h, w, i, o] and [i, o], the last one small enough to leave the softmax unsaturated."""
    if name.endswith("/biases"):
        return seeded.bias(rng, shape[0])
    return seeded.kernel(rng, shape, gain=LOGITS_GAIN if name == "fc2/weights" else 1.0)


def run(directory: Path, image: np.ndarray) -> np.ndarray:
    """prob [n, 100] of uint8 images [n, 224, 224, 3], from model.ckpt.meta and model.ckpt."""
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default(), tf.Session() as session:
        saver = tf.train.import_meta_graph(str(directory / f"{CHECKPOINT}.meta"))
        saver.restore(session, str(directory / CHECKPOINT))
        return session.run("prob:0", {"image:0": image})


def random_image(seed: int, batch: int = 1) -> np.ndarray:
    """uint8 [n, 224, 224, 3]."""
    return (255 * seeded.image(seed, batch, 224, 224)).astype(np.uint8)


def main() -> None:
    """Write the checkpoint and run one random image."""
    command.main(sys.modules[__name__])


if __name__ == "__main__":
    main()
