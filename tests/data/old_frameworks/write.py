"""Writes the files beside it with TensorFlow 1.15.5 and Keras 2.2.4, and the values they must give (expected.npz).

    Python 3.7: pip install tensorflow==1.15.5 protobuf==3.20.3 h5py==2.10.0 keras==2.2.4 "numpy<1.19" "scipy<1.6"
    python write.py

Keys of expected.npz are `<file>:<tensor name>`. Values are random, batch-norm statistics too.
"""

import os

import h5py
import keras
import numpy as np
import tensorflow as tf
from tensorflow.contrib import slim

RANDOM = np.random.RandomState(0)


def write_saver_checkpoints(expected):
    """slim.v2 (V2), slim.v1 (V1): convolution with batch norm, momentum slot, moving average, a partitioned kernel."""
    with tf.Graph().as_default(), tf.Session() as session:
        build_slim_network()
        session.run(tf.global_variables_initializer())
        for variable in tf.global_variables():
            variable.load(random_like(session.run(variable)), session)
        values = session.run({variable.op.name: variable for variable in tf.global_variables()})
        # The parts of a partitioned variable are saved as one.
        parts = [values.pop("net/fc/weights/part_%d" % part) for part in range(2)]
        values["net/fc/weights"] = np.concatenate(parts)
        for name, version in (("slim.v2", tf.train.SaverDef.V2), ("slim.v1", tf.train.SaverDef.V1)):
            # Saver's graph file is of no use here: it is ten times as large as the tensors.
            tf.train.Saver(write_version=version).save(session, "./" + name, write_meta_graph=False, write_state=False)
            expected.update({name + ":" + key: value for key, value in values.items()})


def build_slim_network():
    images = tf.zeros((2, 5, 7, 3))
    step = tf.train.get_or_create_global_step()
    with tf.variable_scope("net"):
        net = slim.conv2d(images, 4, (3, 2), normalizer_fn=slim.batch_norm, scope="conv1")
        net = slim.separable_conv2d(net, None, (3, 3), 1, scope="depthwise")
        with tf.variable_scope("fc", partitioner=tf.fixed_size_partitioner(2)):
            weights = tf.get_variable("weights", (5 * 7 * 4, 3), use_resource=False)
        loss = tf.reduce_sum(tf.matmul(tf.reshape(net, (2, -1)), weights))
    kernel = [variable for variable in tf.trainable_variables() if variable.op.name == "net/conv1/weights"]
    tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss, global_step=step, var_list=kernel)
    tf.train.ExponentialMovingAverage(0.9).apply(kernel)


def write_keras(library, path, expected):
    """A full model: nested model, shared layer, depthwise convolution, batch norm without gamma, optimizer weights."""
    layers = library.layers
    inner_input = layers.Input((5, 7, 4))
    inner_output = layers.BatchNormalization(scale=False, name="ibn")(layers.Conv2D(3, 2, name="ic")(inner_input))
    inner = library.models.Model(inner_input, inner_output, name="inner")
    image = layers.Input((5, 7, 3), name="image")
    shared = layers.Conv2D(4, 1, name="shared", use_bias=False)
    x = layers.Conv2D(4, 3, padding="same", name="conv1")(image)
    x = shared(shared(layers.DepthwiseConv2D(3, padding="same", name="dw")(x)))
    x = layers.Dense(2, name="fc")(layers.Flatten(name="flat")(inner(x)))
    model = library.models.Model(image, x)
    model.set_weights([random_like(value) for value in model.get_weights()])
    model.compile("sgd", "mse")
    model.train_on_batch(RANDOM.rand(2, 5, 7, 3), RANDOM.rand(2, 2))
    model.save(path)
    for layer in model.layers:
        for variable, value in zip(layer.weights, layer.get_weights()):
            *_, scope, role = variable.name.split(":")[0].split("/")
            # The second model in one session finds its names taken: its layers are conv1 and ic, its variables
            # conv1_1/kernel and ic_1/kernel. The file tells the layer name conv1, but not the nested one.
            scope = "inner/" + scope if layer.name == "inner" else layer.name
            expected["%s:%s/%s" % (path, scope, role)] = value


def random_like(value):
    # Positive, so that they can also be variances.
    return RANDOM.uniform(0.5, 2, np.shape(value)).astype(np.asarray(value).dtype)


if __name__ == "__main__":
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    values = {}
    write_saver_checkpoints(values)
    write_keras(keras, "keras_2_2_4.h5", values)
    write_keras(tf.keras, "tf_keras_1_15.weights.h5", values)  # a full model under a misleading name
    for file in ("keras_2_2_4.h5", "tf_keras_1_15.weights.h5"):
        with h5py.File(file, "r") as stored:
            assert "model_weights" in stored
    np.savez_compressed("expected.npz", **values)
