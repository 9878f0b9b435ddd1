"""The classic mistakes, by layer type: HYPOTHESES lists what a failing layer might have meant instead.

    Case (a layer that differs) --hypothesis--> Variant, Variant, ... (one fact changed, with words for it)

Trying them is the job of verify/diagnose.py; here is only what people get wrong, the likely before the unlikely.
"""

from __future__ import annotations

from typing import Dict, Tuple

from verify.hypotheses import activations, arrangement, kernels, normalization, windows, wiring
from verify.hypotheses.case import Case, Hypothesis, Readings, Variant

__all__ = ["AT_FIRST", "AT_LAST", "HYPOTHESES", "Case", "Hypothesis", "Readings", "Variant"]

_CONVOLUTION = (
    windows.usual_paddings,
    windows.unusual_paddings,
    windows.strides,
    kernels.kernel_readings,
    kernels.reversed_channels,
    windows.dilations,
    kernels.biases,
    activations.activated,
)

HYPOTHESES: Dict[str, Tuple[Hypothesis, ...]] = {
    "convolution": _CONVOLUTION,
    "depthwise_convolution": _CONVOLUTION,
    "deconvolution": _CONVOLUTION,
    "dense": (kernels.kernel_readings, kernels.biases, activations.activated),
    "pooling": (
        windows.counting,
        windows.paddings_and_rounding,
        windows.unusual_paddings,
        windows.strides,
        windows.pooling_functions,
        windows.window_sizes,
    ),
    "batch_norm": (normalization.epsilons, normalization.exchanged_statistics, activations.activated),
    "scale": (kernels.reversed_channels, normalization.fitted_scale),
    "lrn": (normalization.lrn_readings,),
    "activation": (activations.functions,),
    "prelu": (kernels.slope_readings,),
    "softmax": (arrangement.axes,),
    "elementwise": (wiring.input_orders, arrangement.other_functions, activations.activated),
    "reduce": (arrangement.other_functions, arrangement.reduced_axes, arrangement.kept_axes),
    "argmax": (arrangement.axes, arrangement.kept_axes),
    "top_k": (arrangement.smallest, arrangement.axes),
    "constant": (),
    "cast": (),
    "concatenation": (wiring.input_orders, arrangement.axes),
    "flatten": (arrangement.orders,),
    "reshape": (arrangement.orders, arrangement.shapes),
    "transpose": (arrangement.transposes,),
    "squeeze": (),
    "padding": (arrangement.edges, arrangement.added_pixels),
    "slice": (arrangement.starts,),
    "gather": (arrangement.found_indices,),
    "resize": (arrangement.sampling,),
}

AT_FIRST: Hypothesis = wiring.unchanged
"""Of every layer, before its own: another layer is to blame."""

AT_LAST: Tuple[Hypothesis, ...] = (wiring.other_inputs, kernels.other_kernels, activations.missing_before)
"""Of every layer, where none of its own explains it."""
