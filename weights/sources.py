"""Where each convention keeps each role: spellings behind the scope, and the way from its axes to ours.

    (layer type, role)              TENSORFLOW                KERAS                     TORCH
    ("convolution", "kernel")       conv1/weights  h w i o    conv1/kernel  h w i o     conv1.weight  o i h w

Axes: n batch, c channels, h height, w width, i input channels, o output channels, m channel multiplier.
Kernel axes: tf.nn.conv2d, tf.nn.depthwise_conv2d, tf.nn.conv2d_transpose; torch.nn.Conv2d, ConvTranspose2d, Linear.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Tuple

from .checkpoint import Source

Sources = Dict[Tuple[str, str], Source]


class Convention(NamedTuple):
    """How a framework names parameters: `scope + separator + name`, and the axis order of each."""

    separator: str
    sources: Sources


# TensorFlow variables have the names their author gave them: tf.layers says kernel, TF-Slim weights, tutorials w or W.
_TF_KERNEL = ("kernel", "weights", "weight", "w", "W")
_TF_BIAS = ("bias", "biases", "b")

TENSORFLOW: Sources = {
    ("convolution", "kernel"): Source((*_TF_KERNEL, "pointwise_kernel", "pointwise_weights"), "h w i o -> o i h w"),
    ("convolution", "bias"): Source(_TF_BIAS, "o -> o"),
    ("depthwise_convolution", "kernel"): Source(
        ("depthwise_kernel", "depthwise_weights", *_TF_KERNEL), "h w c m -> (c m) 1 h w"
    ),
    ("depthwise_convolution", "bias"): Source(_TF_BIAS, "o -> o"),
    ("deconvolution", "kernel"): Source(_TF_KERNEL, "h w o i -> i o h w"),
    ("deconvolution", "bias"): Source(_TF_BIAS, "o -> o"),
    ("dense", "kernel"): Source(_TF_KERNEL, "i o -> o i"),
    ("dense", "bias"): Source(_TF_BIAS, "o -> o"),
    ("batch_norm", "gamma"): Source(("gamma",), "c -> c"),
    ("batch_norm", "beta"): Source(("beta",), "c -> c"),
    ("batch_norm", "mean"): Source(("moving_mean", "mean"), "c -> c"),
    ("batch_norm", "variance"): Source(("moving_variance", "variance"), "c -> c"),
    ("scale", "scale"): Source(("scale", "gamma"), "c -> c"),
    ("scale", "shift"): Source(("shift", "offset", "beta"), "c -> c"),
    ("prelu", "alpha"): Source(("alpha", "alphas"), "h w c -> c h w"),
    ("constant", "value"): Source(("value",), "..."),
}

KERAS: Sources = {
    ("convolution", "kernel"): Source(("kernel", "pointwise_kernel"), "h w i o -> o i h w"),
    ("convolution", "bias"): Source(("bias",), "o -> o"),
    # Keras 2 says depthwise_kernel; Keras 3 kernel, but depthwise_kernel in SeparableConv2D.
    ("depthwise_convolution", "kernel"): Source(("depthwise_kernel", "kernel"), "h w c m -> (c m) 1 h w"),
    ("depthwise_convolution", "bias"): Source(("bias",), "o -> o"),
    ("deconvolution", "kernel"): Source(("kernel",), "h w o i -> i o h w"),
    ("deconvolution", "bias"): Source(("bias",), "o -> o"),
    ("dense", "kernel"): Source(("kernel",), "i o -> o i"),
    ("dense", "bias"): Source(("bias",), "o -> o"),
    ("batch_norm", "gamma"): Source(("gamma",), "c -> c"),
    ("batch_norm", "beta"): Source(("beta",), "c -> c"),
    ("batch_norm", "mean"): Source(("moving_mean",), "c -> c"),
    ("batch_norm", "variance"): Source(("moving_variance",), "c -> c"),
    ("scale", "scale"): Source(("scale", "gamma"), "c -> c"),
    ("scale", "shift"): Source(("shift", "beta"), "c -> c"),
    ("prelu", "alpha"): Source(("alpha",), "h w c -> c h w"),
    ("constant", "value"): Source(("value",), "..."),
}

TORCH: Sources = {
    ("convolution", "kernel"): Source(("weight",), "o i h w -> o i h w"),
    ("convolution", "bias"): Source(("bias",), "o -> o"),
    ("depthwise_convolution", "kernel"): Source(("weight",), "(c m) 1 h w -> (c m) 1 h w"),
    ("depthwise_convolution", "bias"): Source(("bias",), "o -> o"),
    ("deconvolution", "kernel"): Source(("weight",), "i o h w -> i o h w"),
    ("deconvolution", "bias"): Source(("bias",), "o -> o"),
    ("dense", "kernel"): Source(("weight",), "o i -> o i"),
    ("dense", "bias"): Source(("bias",), "o -> o"),
    ("batch_norm", "gamma"): Source(("weight",), "c -> c"),
    ("batch_norm", "beta"): Source(("bias",), "c -> c"),
    ("batch_norm", "mean"): Source(("running_mean",), "c -> c"),
    ("batch_norm", "variance"): Source(("running_var",), "c -> c"),
    ("scale", "scale"): Source(("scale", "weight"), "c -> c"),
    ("scale", "shift"): Source(("shift", "bias"), "c -> c"),
    ("prelu", "alpha"): Source(("weight",), "c -> c 1 1"),
    ("constant", "value"): Source(("value",), "..."),
}

CONVENTIONS: Dict[str, Convention] = {
    "tensorflow": Convention("/", TENSORFLOW),
    "keras": Convention("/", KERAS),
    "torch": Convention(".", TORCH),
}
