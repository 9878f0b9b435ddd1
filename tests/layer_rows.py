"""A row for each layer type and kind of key: networks of one layer, for tests here and for a check on a GPU.

It needs no pytest, so that a GPU machine without one can run the rows too (benchmarks/gpu/layers.py).
"""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from engine.network import Definition, define
from engine.tensorrt_api import TensorRT
from spec.layers import LAYERS
from spec.layers.activation import NEEDS
from tests.small_models import graph_of, random_arrays

IMAGE, FLAT = (1, 4, 7, 9), (1, 6)
KERNEL = {"kernel": [3, 2], "padding": "same", "bias": True}
VALUES = {"alpha": 0.2, "beta": 0.5, "minimum": -1.0, "maximum": 2.0, "approximate": True}

# (layer type, its keys, the shapes it reads), each row a network of one layer.
ROWS: List[Tuple[str, Dict[str, Any], Tuple[Tuple[int, ...], ...]]] = [
    ("convolution", {**KERNEL, "filters": 3}, (IMAGE,)),
    ("convolution", {**KERNEL, "filters": 6, "groups": 2, "stride": [2, 1], "bias": False}, (IMAGE,)),
    ("convolution", {**KERNEL, "filters": 5, "dilation": [1, 2], "padding": "same_lower"}, (IMAGE,)),
    ("convolution", {**KERNEL, "filters": 3, "padding": [[0, 2], [1, 0]]}, (IMAGE,)),
    ("depthwise_convolution", {**KERNEL, "multiplier": 2}, (IMAGE,)),
    ("deconvolution", {**KERNEL, "filters": 6, "stride": 2}, (IMAGE,)),
    ("deconvolution", {**KERNEL, "filters": 6, "groups": 2, "stride": 3, "padding": "valid"}, (IMAGE,)),
    ("deconvolution", {**KERNEL, "filters": 2, "stride": 2, "padding": 0, "output_padding": 1}, (IMAGE,)),
    ("dense", {"units": 5, "bias": True}, (FLAT,)),
    ("dense", {"units": 5, "bias": False}, (FLAT,)),
    ("pooling", {"function": "max", "window": 3, "stride": 2, "padding": "same"}, (IMAGE,)),
    ("pooling", {"function": "max", "window": [2, 3], "stride": [3, 2], "padding": [1, 0], "ceil": True}, (IMAGE,)),
    ("pooling", {"function": "average", "window": 3, "padding": 1, "count_padding": True, "ceil": True}, (IMAGE,)),
    ("pooling", {"function": "average", "window": 3, "padding": "same", "count_padding": False}, (IMAGE,)),
    ("pooling", {"function": "average", "window": "global"}, (IMAGE,)),
    ("batch_norm", {"epsilon": 1e-3}, (IMAGE,)),
    ("batch_norm", {"epsilon": 1e-3, "gamma": False, "beta": False}, (FLAT,)),
    ("scale", {"scale": 0.5, "shift": [1.0, 2.0, 3.0, 4.0]}, (IMAGE,)),
    ("scale", {"learned": ["scale"], "power": 2.0}, (FLAT,)),
    ("lrn", {"window": 5, "alpha": 1e-3, "beta": 0.75, "k": 2.0, "alpha_of": "sum"}, (IMAGE,)),
    ("prelu", {}, (IMAGE,)),
    ("prelu", {"shared": False}, (IMAGE,)),
    ("softmax", {}, (IMAGE,)),
    ("softmax", {"axis": -1}, (FLAT,)),
    ("reduce", {"function": "mean", "axes": ["h", "w"]}, (IMAGE,)),
    ("reduce", {"function": "max", "axes": ["c"], "keep_dims": True}, (IMAGE,)),
    ("argmax", {}, (IMAGE,)),
    ("argmax", {"keep_dims": True}, (FLAT,)),
    ("top_k", {"k": 2}, (FLAT,)),
    ("top_k", {"k": 3, "axis": "h", "largest": False}, (IMAGE,)),
    ("cast", {"dtype": "float16"}, (IMAGE,)),
    ("cast", {"dtype": "int32"}, (FLAT,)),
    ("concatenation", {}, (IMAGE, (1, 2, 7, 9), IMAGE)),
    ("concatenation", {"axis": -1}, (FLAT, FLAT)),
    ("flatten", {"order": "NHWC"}, (IMAGE,)),
    ("flatten", {"order": "NCHW"}, (IMAGE,)),
    ("reshape", {"shape": [9, 28], "order": "NHWC"}, (IMAGE,)),
    ("reshape", {"shape": [3, 1, 2], "order": "NHWC"}, (FLAT,)),
    ("transpose", {"axes": [0, 3, 1, 2]}, (IMAGE,)),
    ("squeeze", {"axes": ["h", "w"]}, ((1, 4, 1, 1),)),
    ("padding", {"pad": [[1, 2], [0, 3]]}, (IMAGE,)),
    ("padding", {"pad": 1, "value": -2.5}, (IMAGE,)),
    ("padding", {"pad": [1, 2], "mode": "reflect"}, (IMAGE,)),
    ("padding", {"pad": [1, 2], "mode": "edge"}, (IMAGE,)),
    ("slice", {"axes": ["h", "c"], "start": [1, 0], "size": [3, 2], "stride": [2, 3]}, (IMAGE,)),
    ("gather", {"axis": "c", "indices": [3, 0, 0]}, (IMAGE,)),
    ("resize", {"mode": "bilinear", "scale": [2, 3], "coordinates": "half_pixel"}, (IMAGE,)),
    ("resize", {"mode": "nearest", "size": 5, "coordinates": "asymmetric", "rounding": "floor"}, (IMAGE,)),
]  # fmt: skip
ROWS += [
    ("activation", {"function": function, **{key: VALUES[key] for key in needs}}, (IMAGE,))
    for function, needs in NEEDS.items()
]
ROWS += [("activation", {"function": "gelu", "approximate": False}, (FLAT,))]
ROWS += [
    ("elementwise", {"function": function}, (IMAGE, (1, 4, 1, 1)))
    for function in ("sum", "product", "max", "min", "sub", "div")
]
ROWS += [("elementwise", {"function": "sum"}, (IMAGE, IMAGE, IMAGE))]


def network_of_rows(rows: Any, dynamic: bool, tensorrt: TensorRT) -> Definition:
    """One network with a layer `L<number>` for each row, reading inputs of its own, all tensors put out."""
    layers, inputs = [], {}
    for number, (word, keys, shapes) in enumerate(rows):
        names = [f"in{number}_{position}" for position in range(len(shapes))]
        inputs.update(zip(names, shapes))
        layers.append((word, {"name": f"L{number}", "inputs": names, **keys}))
    outputs = [name for word, keys in layers for name in LAYERS[word](**keys).tensor_names]
    graph = graph_of(layers, inputs, outputs, batch={"min": 1, "opt": 2, "max": 5} if dynamic else None)
    return define(graph, random_arrays(graph), tensorrt)
