"""The mistakes that tests/test_diagnose.py makes on purpose, with what the diagnosis has to say; only rows.

The right value in each `says` is the framework's own, as tests/diagnosed_*.py give it to TensorFlow, Keras or PyTorch.
"""

from __future__ import annotations

from typing import Callable, Dict, NamedTuple, Tuple

import numpy as np


class Mistake(NamedTuple):
    """A wrong fact of a config: the network, the layer, its wrong keys, and the diagnosis that must come first."""

    network: str
    layer: str
    keys: str
    says: str


CONFIG_MISTAKES = [
    # padding
    Mistake("tensorflow", "conv1", "padding=2", "padding 2 symmetric, but 1 before and 2 after (SAME upper) agrees"),
    Mistake("tensorflow", "conv1", "padding=same_lower", "2 before and 1 after (SAME lower), but 1 before and 2 after"),
    Mistake("tensorflow", "activated", "padding=valid", "padding 0 (VALID), but [[0, 1], 1] (SAME upper) agrees"),
    Mistake("tensorflow", "pool1", "padding=1", "padding 1 symmetric, but [1, [0, 1]] (SAME upper) agrees exactly"),
    Mistake(
        "tensorflow", "pool1", "padding=same_lower", "[1, [1, 0]] (SAME lower), but [1, [0, 1]] (SAME upper) agrees"
    ),
    Mistake("tensorflow", "average", "padding=1", "padding 1 symmetric, but 0 before and 1 after (SAME upper) agrees"),
    Mistake("tensorflow", "depthwise", "padding=[[2, 0], [1, 1]]", "padding [[2, 0], 1], but 1 symmetric (SAME upper)"),
    Mistake("tensorflow", "up", "padding=same_lower", "1 before and 0 after (SAME lower), but 0 before and 1 after"),
    Mistake(
        "tensorflow",
        "up",
        "padding=1 output_padding=1",
        "padding 1 symmetric, but 0 before and 1 after (SAME upper) and output_padding 0 agrees",
    ),
    Mistake(
        "torch",
        "conv1",
        "padding=[[0, 1], [0, 1]]",
        "padding 0 before and 1 after, but 1 symmetric (SAME upper) agrees",
    ),
    Mistake("torch", "strided", "padding=same", "padding 0 before and 1 after (SAME upper), but 1 symmetric agrees"),
    Mistake("torch", "strided", "padding=0", "padding 0, but 1 symmetric agrees"),
    Mistake("torch", "wide", "padding=0", "padding 0, but 2 symmetric agrees"),
    Mistake(
        "torch",
        "up",
        "padding=same output_padding=0",
        "0 before and 1 after (SAME upper), but 1 symmetric and output_padding 1 agrees",
    ),
    Mistake(
        "torch", "avgpool", "padding=[[2, 0], [1, 1]]", "padding [[2, 0], 1], but 1 symmetric (SAME upper), counted,"
    ),
    # strides, dilations, windows
    Mistake("torch", "strided", "stride=1", "stride 1, but stride 2 (is it on another layer of the block?) agrees"),
    Mistake("torch", "rounded", "stride=3", "stride 3, but stride 2 (is it on another layer of the block?) agrees"),
    Mistake("tensorflow", "conv3", "dilation=1", "dilation 1, but dilation 2 agrees"),
    Mistake("torch", "rounded", "ceil=false", "output size rounded down, but rounded up (ceil) agrees exactly"),
    Mistake("torch", "even", "ceil=false", "output size rounded down, but rounded up (ceil) agrees exactly"),
    Mistake("torch", "rounded", "window=2 stride=2", "window 2, but window 3 agrees exactly"),
    Mistake(
        "torch", "avgpool", "count_padding=false", "an average that leaves padding out, but one that counts padding"
    ),
    Mistake(
        "tensorflow", "average", "count_padding=true", "that counts padding, but one that leaves padding out agrees"
    ),
    Mistake(
        "tensorflow",
        "average",
        "padding=1 count_padding=true",
        "padding 1 symmetric, but 0 before and 1 after (SAME upper), not counted, agrees",
    ),
    Mistake("torch", "avgpool", "function=max", "function max, but average that counts padding agrees"),
    Mistake("tensorflow", "pool1", "function=average count_padding=false", "function average, but max agrees exactly"),
    # batch norm, scale, LRN
    Mistake("tensorflow", "bn2", "epsilon=1.0e-5", "epsilon 1e-05, but epsilon 1.001e-05 agrees"),
    Mistake("torch", "bn1", "epsilon=1.001e-5", "epsilon 1.001e-05, but epsilon 1e-05 agrees"),
    Mistake("torch", "bn1", "epsilon=1.0e-3", "epsilon 0.001, but epsilon 1e-05 agrees"),
    Mistake("cubes torch", "bn", "epsilon=1.0e-3", "epsilon 0.001, but epsilon 0.0042 agrees"),
    Mistake("tensorflow", "halved", "scale=1.0 shift=0.5", "x * 1 + 0.5, but x * 0.5 - 0.25 agrees"),
    Mistake("tensorflow", "norm1", "alpha_of=mean", "alpha of the mean, but of the sum agrees"),
    Mistake("torch", "lrn", "alpha_of=sum", "alpha of the sum, but of the mean agrees"),
    Mistake("tensorflow", "norm1", "alpha=0.002", "alpha 0.002, but alpha 0.02 agrees"),
    Mistake("tensorflow", "norm1", "window=3", "window 3, but window 5 agrees"),
    Mistake("torch", "lrn", "window=1", "window 1, but window 3 (1 is a depth radius), alpha of the mean, agrees"),
    Mistake("tensorflow", "norm1", "beta=0.5", "beta 0.5, but beta 0.75 agrees"),
    Mistake("tensorflow", "norm1", "k=1.0", "k 1, but k 2 agrees"),
    # activations
    Mistake("tensorflow", "leaky", "alpha=0.01", "alpha 0.01, but alpha 0.2 agrees"),
    Mistake("torch", "leaky", "alpha=0.3", "alpha 0.3, but alpha 0.01 agrees"),
    Mistake("torch", "elu", "alpha=1.0", "alpha 1, but alpha 0.7 agrees"),
    Mistake("torch", "hard_sigmoid", "alpha=0.2", "alpha 0.2, beta 0.5, but alpha 0.16667, beta 0.5 agrees"),
    Mistake("torch", "gelu", "approximate=false", "approximate false, but approximate true agrees"),
    Mistake("torch", "clip", "maximum=0.6", "minimum -0.5, maximum 0.6, but minimum -0.5, maximum 0.8 agrees"),
    Mistake("tensorflow", "relu1", "function=sigmoid", "function sigmoid, but function relu agrees exactly"),
    Mistake("torch", "relu", "function=relu6", "function relu6, but function relu agrees exactly"),
    Mistake(
        "torch", "leaky", "function=relu alpha=null", "function relu, but function leaky_relu with alpha 0.01 agrees"
    ),
    # order of inputs, of axes, of numbers
    Mistake(
        "torch", "ratio", "inputs=[avgpool, prelu]", "inputs avgpool, prelu, but in the order prelu, avgpool agrees"
    ),
    Mistake(
        "tensorflow", "joined", "inputs=[conv3, difference]", "conv3, difference, but in the order difference, conv3"
    ),
    Mistake("torch", "ratio", "inputs=[prelu, lrn]", "it reads lrn, but reading avgpool it agrees exactly"),
    Mistake("tensorflow", "difference", "function=sum", "function sum, but sub agrees exactly"),
    Mistake("torch", "joined", "axis=h", "axis h, but axis c agrees exactly"),
    Mistake("tensorflow", "flat", "order=NCHW", "order NCHW, but order NHWC agrees exactly"),
    Mistake("torch", "flat", "order=NHWC", "order NHWC, but order NCHW agrees exactly"),
    Mistake("tensorflow", "reshaped", "order=NCHW", "order NCHW, but order NHWC agrees exactly"),
    Mistake("tensorflow", "reshaped", "shape=[6,24]", "shape [6, 24], but shape [12, 12] agrees exactly"),
    Mistake("torch", "spread", "axis=c", "axis c, but axis w agrees"),
    Mistake("torch", "best", "axis=h", "axis h, but axis c agrees exactly"),
    Mistake("torch", "top", "largest=false", "the smallest, but the largest agrees exactly"),
    Mistake("torch", "top", "axis=w", "axis w, but axis h agrees exactly"),
    Mistake("torch", "mean", "function=max", "function max, but mean agrees"),
    Mistake("torch", "mean", "axes=[c, h]", "axes c, h, but axes h, w agrees"),
    Mistake("torch", "mean", "keep_dims=true", "keep_dims true, but false agrees"),
    Mistake("torch", "turned", "axes=[0, 1, 2, 3]", "axes [0, 1, 2, 3], but axes [0, 1, 3, 2] agrees exactly"),
    Mistake("torch", "bgr", "indices=[0, 1, 2]", "indices [0, 1, 2], but indices [2, 1, 0] agrees exactly"),
    Mistake("torch", "cropped", "start=[1, 1]", "start 1 of axis h, but start 2 agrees exactly"),
    Mistake("torch", "edge", "mode=reflect", "mode reflect, but mode edge agrees exactly"),
    Mistake("torch", "filled", "value=0.0", "mode constant 0, but mode constant 0.75 agrees exactly"),
    Mistake("tensorflow", "mirrored", "mode=edge", "mode edge, but mode reflect agrees exactly"),
    Mistake("torch", "edge", "pad=[[1, 2], [0, 1]]", "pad [[1, 2], [0, 1]], but pad [[2, 1], [1, 0]] agrees exactly"),
    Mistake("tensorflow", "resized", "coordinates=half_pixel", "bilinear half_pixel, but bilinear asymmetric agrees"),
    Mistake("torch", "bilinear", "coordinates=align_corners", "bilinear align_corners, but bilinear half_pixel agrees"),
    Mistake(
        "torch", "nearest", "rounding=ceil", "nearest asymmetric ceil, but nearest asymmetric floor agrees exactly"
    ),
    Mistake(
        "torch", "bilinear", "mode=nearest rounding=floor", "nearest half_pixel floor, but bilinear half_pixel agrees"
    ),
]

RULE_MISTAKES = [
    # convention, layer, (type, role), the rule in the place of that of weights/sources.py, what the diagnosis says
    ("tensorflow", "conv", ("convolution", "kernel"), "w h i o -> o i h w", "kernel read as w h i o, but h w i o"),
    ("tensorflow", "conv", ("convolution", "kernel"), "h w o i -> o i h w", "kernel read as h w o i, but h w i o"),
    ("tensorflow", "conv", ("convolution", "kernel"), "o i h w -> o i h w", "kernel read as o i h w, but h w i o"),
    ("tensorflow", "depthwise", ("depthwise_convolution", "kernel"), "w h c m -> (c m) 1 h w", "w h c m, but h w c m"),
    ("tensorflow", "depthwise", ("depthwise_convolution", "kernel"), "h w m c -> (c m) 1 h w", "h w m c, but h w c m"),
    ("tensorflow", "up", ("deconvolution", "kernel"), "h w i o -> i o h w", "kernel read as h w i o, but h w o i"),
    ("tensorflow", "up", ("deconvolution", "kernel"), "w h o i -> i o h w", "kernel read as w h o i, but h w o i"),
    ("tensorflow", "fc", ("dense", "kernel"), "o i -> o i", "kernel read as o i, but i o"),
    ("tensorflow", "slopes", ("prelu", "alpha"), "w h c -> c h w", "alpha read as w h c, but h w c"),
    ("keras", "conv", ("convolution", "kernel"), "h w o i -> o i h w", "kernel read as h w o i, but h w i o"),
    ("keras", "depthwise", ("depthwise_convolution", "kernel"), "h w m c -> (c m) 1 h w", "h w m c, but h w c m"),
    ("keras", "up", ("deconvolution", "kernel"), "h w i o -> i o h w", "kernel read as h w i o, but h w o i"),
    ("keras", "fc", ("dense", "kernel"), "o i -> o i", "kernel read as o i, but i o"),
    ("keras", "slopes", ("prelu", "alpha"), "c h w -> c h w", "alpha read as c h w, but h w c"),
    ("torch", "conv", ("convolution", "kernel"), "i o h w -> o i h w", "kernel read as i o h w, but o i h w"),
    ("torch", "conv", ("convolution", "kernel"), "h w i o -> o i h w", "kernel read as h w i o, but o i h w"),
    (
        "torch",
        "depthwise",
        ("depthwise_convolution", "kernel"),
        "(m c) 1 h w -> (c m) 1 h w",
        "(m c) 1 h w, but (c m) 1",
    ),
    ("torch", "up", ("deconvolution", "kernel"), "o i h w -> i o h w", "kernel read as o i h w, but i o h w"),
    ("torch", "fc", ("dense", "kernel"), "i o -> o i", "kernel read as i o, but o i"),
]

SWAPPED = [("gamma", "beta"), ("mean", "variance"), ("gamma", "variance")]

STORED_MISTAKES: Dict[str, Tuple[str, str, Callable[[np.ndarray], np.ndarray], str]] = {
    # of Keras' file, the reference keeping the right one: layer, tensor, what happened to it, what the diagnosis says
    "turned kernel": ("conv", "kernel", lambda k: k[::-1, ::-1], "kernel as stored, but turned by 180 degrees"),
    "turned depthwise kernel": ("depthwise", "kernel", lambda k: k[::-1, ::-1], "but turned by 180 degrees"),
    "turned deconvolution kernel": ("up", "kernel", lambda k: k[::-1, ::-1], "but turned by 180 degrees"),
    "RGB for BGR": ("conv", "kernel", lambda k: k[:, :, ::-1], "input channels as they come, but in reversed order"),
    "no bias": ("fc", "bias", np.zeros_like, "bias 0, but bias ["),
}

INPUT = "inputs.image.preprocessing"
INPUT_MISTAKES = {
    "mean": ([f"{INPUT}.mean=0.5"], "but x * [0.017125, 0.017507, 0.017429] + [-2.1179, -2.0357, -1.8044] agrees"),
    "std": (
        [f"{INPUT}.std=1.0"],
        "x * 0.0039216 + [-0.485, -0.456, -0.406], but x * [0.017125, 0.017507, 0.017429] + [-2.1179",
    ),
    "scale": ([f"{INPUT}.scale=1.0"], "but x * [0.017125, 0.017507, 0.017429] + [-2.1179, -2.0357, -1.8044] agrees"),
    "channels": (
        [f"{INPUT}.swap_channels=false", "reference.tensors={image/cast: to_float, image/normalised: normalised}"],
        "input channels as they come, but in reversed order (RGB and BGR) agrees",
    ),
}
