"""The interpreter against TensorRT 8.5.3.1 itself: 68 one-layer engines recorded on a GPU (fp32, TF32 off).

tests/data/trt85_semantics.npz holds `CASE|x` and `CASE|y0`, `CASE|y1`; kernels are W1 W2 W3 (4 maps of 8 channels) and
D3 D4 (8 channels to 4 maps). A case's name carries kernel k, stride s, padding p, dilation d.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest

from tests.one_layer import configured, constant, outputs_of, relative_error, trt

RECORDED = dict(np.load(Path(__file__).parent / "data" / "trt85_semantics.npz"))
CASES = sorted(key[:-2] for key in RECORDED if key.endswith("|x"))
ALPHA, BETA = 0.3, 1.7


def number(case: str, letter: str, default: int = 0) -> int:
    """The number behind k, s, p or d in a case's name."""
    found = re.search(rf"_[a-z0-9]*{letter}(\d)", case)
    return int(found.group(1)) if found else default


def padding_mode(case: str) -> Any:
    for word, mode in (("samelower", "SAME_LOWER"), ("same", "SAME_UPPER"), ("ceil", "EXPLICIT_ROUND_UP")):
        if word in case:
            return getattr(trt.PaddingMode, mode)
    return trt.PaddingMode.EXPLICIT_ROUND_DOWN


def lrn(case: str, network: Any, x: Any) -> Any:
    window, alpha, beta, k = case.split("_")[1:]
    return network.add_lrn(x, int(window), float(alpha), float(beta), float(k))


def pooling(case: str, network: Any, x: Any) -> Any:
    kind = trt.PoolingType.MAX if case.startswith("max") else trt.PoolingType.AVERAGE
    layer = network.add_pooling_nd(x, kind, (number(case, "k"),) * 2)
    if kind == trt.PoolingType.AVERAGE:
        configured(layer, average_count_excludes_padding="exclTrue" in case)
    padding = (number(case, "p"),) * 2
    stride = (number(case, "s"),) * 2
    return configured(layer, stride_nd=stride, padding_nd=padding, padding_mode=padding_mode(case))


def convolution(case: str, network: Any, x: Any) -> Any:
    window = number(case, "k")
    layer = network.add_convolution_nd(x, 4, (window, window), RECORDED[f"W{window}"])
    dilation, stride = (number(case, "d", 1),) * 2, (number(case, "s"),) * 2
    return configured(layer, stride_nd=stride, dilation_nd=dilation, padding_mode=padding_mode(case))


def deconvolution(case: str, network: Any, x: Any) -> Any:
    window, pads = number(case, "k"), case.split("_")[2]
    layer = configured(network.add_deconvolution_nd(x, 4, (window, window), RECORDED[f"D{window}"]), stride_nd=(2, 2))
    if pads == "same":
        return configured(layer, padding_mode=trt.PaddingMode.SAME_UPPER)
    return configured(layer, pre_padding=(int(pads[0]),) * 2, post_padding=(int(pads[1]),) * 2)


def activation(case: str, network: Any, x: Any) -> Any:
    layer = network.add_activation(x, getattr(trt.ActivationType, case[len("act_") :]))
    layer.alpha, layer.beta = ALPHA, BETA
    return layer


def scale(case: str, network: Any, x: Any) -> Any:
    shift, power = np.full(8, 0.25, np.float32), np.full(8, 2, np.float32)
    return network.add_scale(x, trt.ScaleMode.CHANNEL, shift, RECORDED["scale_s"], power)


def quantize_dequantize(case: str, network: Any, x: Any) -> Any:
    one = constant(network, 1.0)
    quantized = network.add_quantize(x, one, trt.int8).get_output(0)
    return network.add_dequantize(quantized, one, trt.float32)


def resize(case: str, network: Any, x: Any) -> Any:
    words = re.match(r"resize_(lin|near)_(?:down_)?(HALF_PIXEL|ASYMMETRIC|ALIGN_CORNERS)_?(.*)", case).groups()
    mode = trt.InterpolationMode.LINEAR if words[0] == "lin" else trt.InterpolationMode.NEAREST
    transformation = getattr(trt.ResizeCoordinateTransformation, words[1])
    layer = configured(network.add_resize(x), resize_mode=mode, coordinate_transformation=transformation)
    if words[2]:
        configured(layer, nearest_rounding=getattr(trt.ResizeRoundMode, words[2]))
    return configured(layer, shape=RECORDED[f"{case}|y0"].shape)


def top_k(case: str, network: Any, x: Any) -> Any:
    return network.add_topk(x, trt.TopKOperation.MAX, 3, 0b10)


def reduce(case: str, network: Any, x: Any) -> Any:
    return network.add_reduce(x, trt.ReduceOperation.AVG, 0b1100, True)


def padding(case: str, network: Any, x: Any) -> Any:
    return network.add_padding_nd(x, (1, 2), (3, 0))


FAMILIES: Dict[str, Callable[[str, Any, Any], Any]] = {
    "act": activation, "avg": pooling, "conv": convolution, "dec": deconvolution, "int8": quantize_dequantize,
    "lrn": lrn, "max": pooling, "pad": padding, "reduce": reduce, "resize": resize, "scale": scale, "topk": top_k,
}  # fmt: skip

# Families whose results are copied, compared or rounded input values: no arithmetic, so no error either.
EXACT = ("int8", "max", "pad", "resize_near", "topk", "act_RELU", "act_CLIP", "act_THRESHOLDED_RELU")
# The GPU approximates these; errors of max|y| as measured against the formula: 3.4e-6, 6.4e-6, 4.1e-6.
APPROXIMATED = {"act_SIGMOID": 3.5e-6, "act_TANH": 6.5e-6, "act_SCALED_TANH": 4.2e-6}


def tolerance(case: str) -> float:
    return 0.0 if case.startswith(EXACT) else APPROXIMATED.get(case, 1e-6)


def computed(case: str, dtype: Any) -> List[np.ndarray]:
    build = FAMILIES[case.split("_")[0]]
    x = RECORDED[f"{case}|x"]
    return outputs_of(lambda network, tensor: build(case, network, tensor), dtype, x=x)


def test_every_recorded_case_is_run():
    assert len(CASES) == 68
    assert {case.split("_")[0] for case in CASES} == set(FAMILIES)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("case", CASES)
def test_computes_what_tensorrt_computed(case, dtype):
    outputs = computed(case, dtype)
    assert f"{case}|y{len(outputs)}" not in RECORDED
    errors = [relative_error(y, RECORDED[f"{case}|y{index}"]) for index, y in enumerate(outputs)]
    assert max(errors) <= tolerance(case), errors


def test_a_window_in_the_padding_holds_the_lowest_float():
    (y,) = computed("max_k2s3p1_ceil", np.float32)
    assert (y == np.finfo(np.float32).min).any()
    assert np.array_equal(y, RECORDED["max_k2s3p1_ceil|y0"])
