"""Definition + builder configuration -> each of TensorRT's layers on the DLA, or on the GPU if the DLA refuses it."""

from __future__ import annotations

from typing import Any

from engine.dla.asking import asked_layers
from engine.network import Definition
from spec.errors import UsageError, listed


def place_layers(definition: Definition, config: Any, gpu_fallback: bool) -> None:
    """Puts what the DLA cannot run on the GPU, layer by layer.

    Raises:
        UsageError: there are such layers and the GPU is not allowed, or no layer is left for the DLA.
    """
    layers = asked_layers(definition)
    refused = [added for added in layers if not config.can_run_on_DLA(added)]
    if len(refused) == len(layers):
        raise UsageError("--dla-core: no layer can run on the DLA; it computes in fp16, see `run.py dla`")
    if refused and not gpu_fallback:
        names = listed([added.name for added in refused])
        raise UsageError(
            f"--dla-core: {len(refused)} of {len(layers)} layers cannot run on the DLA: {names}; see `run.py dla`, or "
            "let the GPU run them with --gpu-fallback"
        )
    for added in refused:
        config.set_device_type(added, definition.tensorrt.module.DeviceType.GPU)
