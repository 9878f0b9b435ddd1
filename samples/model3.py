"""Model 3: a ResNet50 with pooled shortcuts in TensorFlow 1, trained from scratch, and all that training leaves.

    image ─ to_float scale shift ─ stem ─┬─ pool_max ─┬─ pool_concat ─ stage1 .. stage4 ─ global_pool ─ logits ─ prob
                                         └─ pool_avg ─┘
    unit:  x ─┬─ conv1 bn1 relu1 ─ conv2 bn2 relu2 ─ conv3 bn3 ─┬─ add ─ relu
              └─ (shortcut_max, shortcut_avg, shortcut_concat) ─ shortcut_conv shortcut_bn, in the first unit only

model.ckpt-2 holds momentum slots, moving-average shadows and global_step beside the weights; inference.meta is the
graph without training that restores from it. Variables are resources, as get_variable of TensorFlow 2 makes them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List

import numpy as np

from samples import command, seeded

INFERENCE = "inference.meta"
CHECKPOINT = "model.ckpt"
STEPS = 2
LEARNING_RATE = 1e-8
SHADOW_LAG = 0.98
UNITS = (3, 4, 6, 3)
WIDTHS = (64, 128, 256, 512)
EPSILON = 2e-5
LOGITS_GAIN = 0.15


def network(is_training: bool):
    """uint8 image [n, 224, 224, 3] -> logits [n, 1000], in the default graph; ends in the op `prob`."""
    import tensorflow.compat.v1 as tf

    x = tf.placeholder(tf.uint8, [None, 224, 224, 3], name="image")
    x = tf.cast(x, tf.float32, name="to_float")
    x = tf.divide(x, 127.5, name="scale")
    x = tf.subtract(x, 1.0, name="shift")

    x = convolution(x, "stem/conv", filters=64, kernel=7, stride=2)
    x = batch_norm(x, "stem/bn", is_training)
    x = tf.nn.relu(x, name="stem/relu")
    x = max_and_average(x, "pool_max", "pool_avg", "pool_concat")

    for stage, (units, width) in enumerate(zip(UNITS, WIDTHS), start=1):
        for unit in range(1, units + 1):
            x = bottleneck(x, f"stage{stage}/unit{unit}", width, 2 if stage > 1 and unit == 1 else 1, is_training)

    x = tf.reduce_mean(x, axis=[1, 2], name="global_pool")
    logits = dense(x, "logits", units=1000)
    tf.nn.softmax(logits, name="prob")
    return logits


def bottleneck(x, name: str, width: int, stride: int, is_training: bool):
    """[n, h, w, c] -> [n, h / stride, w / stride, 4 * width]; the 3x3 convolution carries the stride."""
    import tensorflow.compat.v1 as tf

    shortcut = projection(x, name, 4 * width, stride, is_training) if name.endswith("/unit1") else x
    x = convolution(x, f"{name}/conv1", filters=width, kernel=1)
    x = batch_norm(x, f"{name}/bn1", is_training)
    x = tf.nn.relu(x, name=f"{name}/relu1")
    x = convolution(x, f"{name}/conv2", filters=width, kernel=3, stride=stride)
    x = batch_norm(x, f"{name}/bn2", is_training)
    x = tf.nn.relu(x, name=f"{name}/relu2")
    x = convolution(x, f"{name}/conv3", filters=4 * width, kernel=1)
    x = batch_norm(x, f"{name}/bn3", is_training)
    x = tf.add(x, shortcut, name=f"{name}/add")
    return tf.nn.relu(x, name=f"{name}/relu")


def projection(x, name: str, filters: int, stride: int, is_training: bool):
    """Shortcut [n, h, w, c] -> [n, h / stride, w / stride, filters]; a stride is taken by pooling, not by skipping."""
    if stride == 2:
        x = max_and_average(x, f"{name}/shortcut_max", f"{name}/shortcut_avg", f"{name}/shortcut_concat")
    x = convolution(x, f"{name}/shortcut_conv", filters=filters, kernel=1)
    return batch_norm(x, f"{name}/shortcut_bn", is_training)


def max_and_average(x, max_name: str, average_name: str, concat_name: str):
    """[n, h, w, c] -> [n, h / 2, w / 2, 2 c]: both 3x3 poolings side by side."""
    import tensorflow.compat.v1 as tf

    largest = tf.nn.max_pool2d(x, ksize=3, strides=2, padding="SAME", name=max_name)
    average = tf.nn.avg_pool2d(x, ksize=3, strides=2, padding="SAME", name=average_name)
    return tf.concat([largest, average], axis=-1, name=concat_name)


def convolution(x, name: str, filters: int, kernel: int, stride: int = 1):
    """Convolution [n, h, w, c] -> [n, h / stride, w / stride, filters] without bias, all in the scope `name`."""
    import tensorflow.compat.v1 as tf

    with tf.variable_scope(name):
        weights = tf.get_variable("kernel", [kernel, kernel, x.shape[-1], filters], use_resource=True)
        return tf.nn.conv2d(x, weights, strides=stride, padding="SAME")


def batch_norm(x, name: str, is_training: bool):
    """Batch norm over the last axis, all in the scope `name`; in training it also moves the moving statistics."""
    import tensorflow.compat.v1 as tf

    with tf.variable_scope(name):
        gamma, beta, mean, variance = [
            tf.get_variable(role, x.shape[-1:], trainable=role in ("gamma", "beta"), use_resource=True)
            for role in ("gamma", "beta", "moving_mean", "moving_variance")
        ]
        if not is_training:
            return tf.nn.fused_batch_norm(x, gamma, beta, mean, variance, epsilon=EPSILON, is_training=False)[0]
        x, batch_mean, batch_variance = tf.nn.fused_batch_norm(x, gamma, beta, epsilon=EPSILON)
        for moving, batch in ((mean, batch_mean), (variance, batch_variance)):
            tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, tf.assign_sub(moving, 0.003 * (moving - batch)))
        return x


def dense(x, name: str, units: int):
    """[n, features] -> [n, units] and bias, all in the scope `name`."""
    import tensorflow.compat.v1 as tf

    with tf.variable_scope(name):
        weights = tf.get_variable("kernel", [x.shape[-1], units], use_resource=True)
        return tf.nn.bias_add(tf.matmul(x, weights), tf.get_variable("bias", [units], use_resource=True))


def write(directory: Path, seed: int = 0) -> List[Path]:
    """Train for two steps, write the checkpoint (model.ckpt-2.*) and the inference graph (inference.meta)."""
    directory.mkdir(parents=True, exist_ok=True)
    train(directory, seed)
    export_inference(directory)
    return [directory / "checkpoint", directory / INFERENCE, *sorted(directory.glob(f"{CHECKPOINT}-{STEPS}.*"))]


def train(directory: Path, seed: int) -> None:
    """Two steps of momentum on two random images, from random weights; saves everything that the graph holds."""
    import tensorflow.compat.v1 as tf

    # More threads add up gradients in another order, so the bytes would differ from machine to machine. TensorFlow
    # takes the number from the first session of a process only: for the same bytes, write in a fresh process.
    one_thread = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    with tf.Graph().as_default(), tf.Session(config=one_thread) as session:
        logits = network(is_training=True)
        values = random_values({each.op.name: each.shape.as_list() for each in tf.global_variables()}, seed)
        step = training_step(logits)
        saver = tf.train.Saver(save_relative_paths=True)
        initialize(session, {**values, **lagging_shadows(values)})
        for number in range(STEPS):
            session.run(step, {"image:0": random_image(seed + number, batch=2), "labels:0": [3, 7]})
        saver.save(session, str(directory / CHECKPOINT), global_step=tf.train.get_global_step())


def training_step(logits):
    """Loss, momentum, update of the moving batch statistics, then of the moving averages of the weights."""
    import tensorflow.compat.v1 as tf

    labels = tf.placeholder(tf.int64, [None], name="labels")
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    optimizer = tf.train.MomentumOptimizer(LEARNING_RATE, momentum=0.9)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        minimize = optimizer.minimize(loss, global_step=tf.train.get_or_create_global_step())
    with tf.control_dependencies([minimize]):
        return tf.train.ExponentialMovingAverage(decay=0.9).apply(tf.trainable_variables())


def initialize(session, values: dict) -> None:
    """Run all initializers; a variable named in `values` starts with that array in place of its own initial value."""
    import tensorflow.compat.v1 as tf

    known = [each for each in tf.global_variables() if each.op.name in values]
    session.run(tf.global_variables_initializer(), {each.initializer.inputs[1]: values[each.op.name] for each in known})


def lagging_shadows(values: dict) -> dict:
    """Moving averages as far from the weights as after long training; two tiny steps would leave them equal."""
    return {f"{name}/ExponentialMovingAverage": SHADOW_LAG * value for name, value in values.items()}


def random_values(shapes: dict, seed: int) -> dict:
    """Arrays by variable name. Every convolution is followed by the batch norm of its name: `conv2` by `bn2`."""
    rng = np.random.default_rng(seed)
    values = {
        "logits/kernel": seeded.kernel(rng, shapes["logits/kernel"], gain=LOGITS_GAIN),
        "logits/bias": seeded.bias(rng, shapes["logits/bias"][0]),
    }
    for name in sorted(set(shapes) - set(values)):
        if name.endswith("/kernel"):
            values.update(convolution_and_norm(rng, name[: -len("/kernel")], shapes[name]))
    return values


def convolution_and_norm(rng: np.random.Generator, scope: str, shape: List[int]) -> dict:
    """Kernel [h, w, i, o] of the convolution `scope`, and the four arrays [o] of the batch norm behind it."""
    arrays = seeded.batch_norm(rng, shape[-1])
    gain = seeded.RESIDUAL_GAIN if scope.endswith("/conv3") else 1.0
    norm = scope.replace("conv", "bn")
    return {
        f"{scope}/kernel": seeded.normalised_kernel(rng, shape, arrays, gain=gain),
        f"{norm}/gamma": arrays.gamma,
        f"{norm}/beta": arrays.beta,
        f"{norm}/moving_mean": arrays.mean,
        f"{norm}/moving_variance": arrays.variance,
    }


def export_inference(directory: Path) -> None:
    """Write inference.meta: the same variables under the same names, no training."""
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default():
        network(is_training=False)
        tf.train.Saver().export_meta_graph(str(directory / INFERENCE))


def run(directory: Path, image: np.ndarray) -> np.ndarray:
    """prob [n, 1000] of uint8 images [n, 224, 224, 3], from inference.meta and the newest checkpoint."""
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default(), tf.Session() as session:
        saver = tf.train.import_meta_graph(str(directory / INFERENCE))
        saver.restore(session, tf.train.latest_checkpoint(str(directory)))
        return session.run("prob:0", {"image:0": image})


def random_image(seed: int, batch: int = 1) -> np.ndarray:
    """uint8 [n, 224, 224, 3]."""
    return (255 * seeded.image(seed, batch, 224, 224)).astype(np.uint8)


def main() -> None:
    """Write the checkpoint and run one random image."""
    command.main(sys.modules[__name__])


if __name__ == "__main__":
    main()
