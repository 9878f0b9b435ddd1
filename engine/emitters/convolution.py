"""Emitters of the layers with a kernel or a window. Padding is spelled out, so no TensorRT rounds its own way."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.emission import Emission
from engine.emitters.arithmetic import add_channel_scale
from spec.layers import Convolution, Deconvolution, Dense, DepthwiseConvolution, Pooling
from spec.shapes import resolve_padding


def convolution(emission: Emission, layer: Convolution, source: Any) -> None:
    emission.tensors[layer.name] = emission.whole(_convolving(emission, layer, source, layer.groups))


def depthwise_convolution(emission: Emission, layer: DepthwiseConvolution, source: Any) -> None:
    emission.tensors[layer.name] = emission.whole(_convolving(emission, layer, source, groups=source.shape[1]))


def _convolving(emission: Emission, layer: Any, source: Any, groups: int) -> Any:
    filters = layer.output_shape(tuple(source.shape))[1]
    height, width = layer.windows(tuple(source.shape))
    added = _with_kernel(emission, layer, source, filters, layer.kernel)
    return emission.setting(
        added,
        num_groups=groups,
        stride_nd=layer.stride,
        dilation_nd=layer.dilation,
        pre_padding=(height.before, width.before),
        post_padding=(height.after, width.after),
    )


def _with_kernel(emission: Emission, layer: Any, source: Any, filters: int, window: Any) -> Any:
    """A convolution with its kernel, as weights or as a tensor, and its bias; not yet named."""
    weights, tensor = emission.kernel(source)
    bias = [emission.weights("bias", emission.array("bias", source))] if layer.bias else []
    added = emission.network.add_convolution_nd(source, filters, window, weights, *bias)
    if added is None:
        raise emission.refusal(layer.name)
    if tensor is not None:
        added.set_input(1, tensor)
    return added


def deconvolution(emission: Emission, layer: Deconvolution, source: Any) -> None:
    """Crops are pre- and post-padding; zeros to append (negative crops) and then the bias are layers of their own."""
    (top, bottom), (left, right) = layer.crops()
    extend = min(bottom, right) < 0
    kernel = emission.weights("kernel", emission.array("kernel", source))
    bias = [emission.weights("bias", emission.array("bias", source))] if layer.bias else []
    own_bias = [] if extend else bias
    added = emission.network.add_deconvolution_nd(source, layer.filters, layer.kernel, kernel, *own_bias)
    emission.setting(
        added,
        num_groups=layer.groups,
        stride_nd=layer.stride,
        dilation_nd=layer.dilation,
        pre_padding=(top, left),
        post_padding=(max(bottom, 0), max(right, 0)),
    )
    if not extend:
        emission.tensors[layer.name] = emission.whole(added)
        return
    tensor = emission.part("deconvolution", added)
    added = emission.network.add_padding_nd(tensor, (0, 0), (max(-bottom, 0), max(-right, 0)))
    if layer.bias:
        ones = emission.weights("ones", emission.typed(np.ones(layer.filters), source))
        added = add_channel_scale(emission, emission.part("extended", added), ones, *bias)
    emission.tensors[layer.name] = emission.whole(added)


def dense(emission: Emission, layer: Dense, source: Any) -> None:
    """n i -> n i 1 1 -> 1x1 convolution -> n o.

    A convolution rather than a matrix product: TensorRT-RTX compiles no FP32 product for Turing, and TensorRT 8's
    fully connected layer is gone from 10.
    """
    image = emission.part("image", emission.reshape(source, (0, source.shape[1], 1, 1)))
    product = emission.part("convolution", _with_kernel(emission, layer, image, layer.units, (1, 1)))
    emission.tensors[layer.name] = emission.whole(emission.reshape(product, (0, layer.units)))


def pooling(emission: Emission, layer: Pooling, source: Any) -> None:
    """Max or average pooling with the padding spelled out.

    PyTorch counts its padding in an average but not the pixels that ceil_mode adds behind it, TensorRT counts both or
    neither; there the counted padding becomes a layer and the rest stays uncounted.
    """
    height, width = layer.windows(tuple(source.shape))
    before, after = (height.before, width.before), (height.after, width.after)
    counted = bool(layer.count_padding)
    if layer.ceil and layer.function == "average" and counted:
        sizes = source.shape[2:]
        real = [
            resolve_padding(layer.padding, axis, sizes[axis], window.kernel, window.stride, 1)[1]
            for axis, window in enumerate((height, width))
        ]
        source = emission.part("padded", emission.network.add_padding_nd(source, before, tuple(real)))
        before, after, counted = (0, 0), tuple(a - r for a, r in zip(after, real)), False
    kind = emission.trt.PoolingType.MAX if layer.function == "max" else emission.trt.PoolingType.AVERAGE
    added = emission.network.add_pooling_nd(source, kind, (height.kernel, width.kernel))
    emission.setting(added, stride_nd=(height.stride, width.stride), pre_padding=before, post_padding=after)
    if layer.function == "average":
        emission.setting(added, average_count_excludes_padding=not counted)
    emission.tensors[layer.name] = emission.whole(added)
