"""What TensorFlow, Keras, PyTorch and ONNX call our layers, for a message: `Conv2D` is our `convolution`."""

from __future__ import annotations

from typing import Dict

from spec.layers.activation import NEEDS

_WHERE_GLOBAL = "where its output is 1 x 1; where it is as large as the input, leave it out"

MEANT: Dict[str, str] = {
    # in small letters, without `_`, `-` and a final `2d`: the row to write
    "conv": "convolution: {...}",
    "depthwise": "depthwise_convolution: {...}",
    "depthwiseconv": "depthwise_convolution: {...}",
    "convtranspose": "deconvolution: {...}",
    "transposedconv": "deconvolution: {...}",
    "linear": "dense: {...}",
    "fc": "dense: {...}",
    "fullyconnected": "dense: {...}",
    "gemm": "dense: {...}",
    "matmul": "dense: {...}",
    "bn": "batch_norm: {...}",
    "fusedbatchnorm": "batch_norm: {...}",
    "batchnormalization": "batch_norm: {...}",
    "localresponsenorm": "lrn: {...}",
    "localresponsenormalization": "lrn: {...}",
    "concat": "concatenation: {...}",
    "cat": "concatenation: {...}",
    "concatenate": "concatenation: {...}",
    "maxpool": "pooling: {function: max, ...}",
    "maxpooling": "pooling: {function: max, ...}",
    "avgpool": "pooling: {function: average, ...}",
    "averagepool": "pooling: {function: average, ...}",
    "averagepooling": "pooling: {function: average, ...}",
    "globalaveragepooling": "pooling: {function: average, window: global, ...}",
    "globalaveragepool": "pooling: {function: average, window: global, ...}",
    "adaptivepool": f"pooling: {{function: ..., window: global, ...}} {_WHERE_GLOBAL}",
    "adaptivepooling": f"pooling: {{function: ..., window: global, ...}} {_WHERE_GLOBAL}",
    "adaptiveavgpool": f"pooling: {{function: average, window: global, ...}} {_WHERE_GLOBAL}",
    "adaptiveaveragepool": f"pooling: {{function: average, window: global, ...}} {_WHERE_GLOBAL}",
    "adaptiveaveragepooling": f"pooling: {{function: average, window: global, ...}} {_WHERE_GLOBAL}",
    "adaptivemaxpool": f"pooling: {{function: max, window: global, ...}} {_WHERE_GLOBAL}",
    "adaptivemaxpooling": f"pooling: {{function: max, window: global, ...}} {_WHERE_GLOBAL}",
    "globalmaxpool": "pooling: {function: max, window: global, ...}",
    "globalmaxpooling": "pooling: {function: max, window: global, ...}",
    "channelshuffle": "reshape: {...} into groups, transpose: {...}, reshape: {...} back",
    "split": "slice: {...} for each part",
    "chunk": "slice: {...} for each part",
    "separableconv": "depthwise_convolution: {...}, then convolution: {kernel: 1, ...}",
    "separableconvolution": "depthwise_convolution: {...}, then convolution: {kernel: 1, ...}",
    "add": "elementwise: {function: sum, ...}",
    "sub": "elementwise: {function: sub, ...}",
    "subtract": "elementwise: {function: sub, ...}",
    "mul": "elementwise: {function: product, ...}",
    "multiply": "elementwise: {function: product, ...}",
    "upsample": "resize: {...}",
    "upsampling": "resize: {...}",
    "interpolate": "resize: {...}",
    "pad": "padding: {...}",
    "zeropadding": "padding: {...}",
    "permute": "transpose: {...}",
    "silu": "activation: {function: swish, ...}",
    **{word.replace("_", ""): f"activation: {{function: {word}, ...}}" for word in NEEDS},
}


IDLE = ("dropout", "spatialdropout", "alphadropout", "gaussiandropout", "gaussiannoise", "droppath", "identity", "noop",
        "stopgradient")  # fmt: skip
"""Layers that do nothing at inference, spelled as in MEANT."""


def meant(word: str) -> str:
    """`; write - dense: {...}`, `; leave it out: ...`, or an empty string for a word that no framework has."""
    plain = word.lower().replace("_", "").replace("-", "")
    plain = plain[:-2] if plain.endswith("2d") else plain
    if plain in IDLE:
        return "; leave it out: at inference it does nothing"
    row = MEANT.get(plain)
    return f"; write - {row}" if row else ""
