"""What TensorFlow, Keras, PyTorch and ONNX call our layers, for a message: `Conv2D` is our `convolution`."""

from __future__ import annotations

from typing import Dict

from spec.layers.activation import NEEDS

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
    "adaptiveavgpool": "pooling: {function: average, window: global, ...}",
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


def meant(word: str) -> str:
    """`; write - dense: {...}`, or an empty string for a word that no framework has."""
    plain = word.lower().replace("_", "").replace("-", "")
    row = MEANT.get(plain[:-2] if plain.endswith("2d") else plain)
    return f"; write - {row}" if row else ""
