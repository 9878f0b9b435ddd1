"""Writes a genuine TF-Slim ResNet-50 with TensorFlow 1.15: graph, checkpoint and the epsilon that is in the graph.

Runs in an environment of its own, Python 3.7, for benchmarks/foreign_models.py:

    pip install tensorflow==1.15.5 protobuf==3.20.3 h5py==2.10.0 "numpy<1.19"
    python benchmarks/foreign_slim.py DIRECTORY SIZE
"""

import json
import sys

import numpy as np


def randomised(name, shape, random):
    """As benchmarks/foreign_models.py draws them: statistics far from 0 and 1, every sixteenth channel nearly dead."""
    if name.endswith(("gamma", "moving_variance")):
        low, high, dead = (0.3, 0.9, 0.01) if name.endswith("gamma") else (0.5, 2.0, 1e-4)
        numbers = random.uniform(low, high, shape)
        numbers[::16] = dead
        return numbers
    if len(shape) == 1:
        return random.uniform(-0.3, 0.3, shape)
    return random.standard_normal(size=shape) * (2.0 / np.prod(shape[:-1])) ** 0.5


def main(directory, size):
    import tensorflow as tf
    from tensorflow.contrib import slim
    from tensorflow.contrib.slim.nets import resnet_v1

    image = tf.placeholder(tf.float32, (None, size, size, 3), name="image")
    with slim.arg_scope(resnet_v1.resnet_arg_scope()):
        resnet_v1.resnet_v1_50(image, num_classes=1000, is_training=False)
    random = np.random.RandomState(0)
    with tf.Session() as session:
        for variable in tf.global_variables():
            variable.load(randomised(variable.op.name, variable.shape.as_list(), random).astype("f"), session)
        tf.train.Saver().save(session, directory + "/resnet_v1_50.ckpt", write_state=False)
    nodes = tf.get_default_graph().as_graph_def().node
    epsilons = {node.attr["epsilon"].f for node in nodes if node.op.startswith("FusedBatchNorm")}
    with open(directory + "/graph.json", "w") as file:
        json.dump({"tensorflow": tf.__version__, "epsilons": sorted("%.6g" % each for each in epsilons)}, file)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
