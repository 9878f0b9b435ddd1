"""Writes the training graph and checkpoint beside it with TensorFlow 1.15.5, and activations of it (expected.npz).

    Python 3.7: pip install tensorflow==1.15.5 protobuf==3.20.3 "numpy<1.19"
    python write.py

A convolution with fused batch norm whose phase is a placeholder (Switch and Merge), and Adam, whose gradient ops carry
the `_output_shapes` that TensorFlow 2 refuses. Batch statistics are random.
"""

import os

import numpy as np
import tensorflow as tf

LAYERS = {  # our layer -> the tensor of TensorFlow
    "conv": "conv/Conv2D:0",
    "bn": "bn/cond/Merge:0",
    "relu": "relu:0",
    "pool": "pool/MaxPool:0",
    "flatten": "flatten/Reshape:0",
    "hidden": "hidden/BiasAdd:0",
    "hidden/relu": "hidden/Relu:0",
    "logits": "logits/BiasAdd:0",
    "prob": "prob:0",
}


def network(image, phase):
    net = tf.layers.conv2d(image, 4, 3, strides=2, padding="same", use_bias=False, name="conv")
    net = tf.nn.relu(tf.layers.batch_normalization(net, training=phase, name="bn"), name="relu")
    net = tf.layers.flatten(tf.layers.max_pooling2d(net, 2, 2, name="pool"), name="flatten")
    net = tf.layers.dense(net, 6, activation=tf.nn.relu, name="hidden")
    logits = tf.layers.dense(net, 3, name="logits")
    tf.nn.softmax(logits, name="prob")
    return logits


def main():
    random = np.random.RandomState(0)
    image = tf.placeholder(tf.float32, (None, 9, 7, 3), name="image")
    labels = tf.placeholder(tf.int64, (None,), name="labels")
    phase = tf.placeholder(tf.bool, (), name="is_training")
    loss = tf.losses.sparse_softmax_cross_entropy(labels, network(image, phase))
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        tf.train.AdamOptimizer().minimize(loss)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for variable in tf.global_variables():
            variable.load(random.uniform(0.2, 1.0, variable.shape.as_list()).astype(np.float32), session)
        tf.train.Saver().save(session, "./training", write_state=False)
        pixels = random.uniform(-1, 1, (2, 9, 7, 3)).astype(np.float32)
        values = session.run(LAYERS, {image: pixels, phase: False})
    np.savez_compressed("expected.npz", image=pixels, **{"layer:" + name: value for name, value in values.items()})


if __name__ == "__main__":
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    main()
