"""TensorRT's own answer, where there is a DLA: can_run_on_DLA for each of its layers, and the devices set by it."""

from __future__ import annotations

from typing import Any, Dict, List

from engine.network import Definition
from spec.errors import UsageError

NEUTRAL = ("CONSTANT", "CAST", "QUANTIZE", "DEQUANTIZE")
"""TensorRT's layers that are folded or fused away, so that their device says nothing of our layer's."""


def ask(definition: Definition, config: Any) -> Dict[str, str]:
    """What TensorRT says of each of our layers: "", or which of its own layers it refuses.

    Args:
        config: a builder configuration with the precision's flags and the DLA set.
    """
    refused: Dict[str, List[str]] = {layer.name: [] for layer in definition.graph.layers}
    for added in definition.network:
        name = _ours(added.name, refused)
        if name is not None and added.type.name not in NEUTRAL and not config.can_run_on_DLA(added):
            refused[name].append(added.name)
    return {name: f"TensorRT refuses {', '.join(parts)}" if parts else "" for name, parts in refused.items()}


def _ours(name: str, known: Dict[str, List[str]]) -> Any:
    """Our layer behind TensorRT's `name/part`; None where it belongs to an input."""
    while name not in known:
        name, slash, _ = name.rpartition("/")
        if not slash:
            return None
    return name


def place_layers(definition: Definition, config: Any, gpu_fallback: bool) -> None:
    """Puts what the DLA cannot run on the GPU, layer by layer.

    Raises:
        UsageError: there are such layers and the GPU is not allowed, or no layer is left for the DLA.
    """
    layers = [added for added in definition.network if added.type.name not in NEUTRAL]
    refused = [added for added in layers if not config.can_run_on_DLA(added)]
    if len(refused) == len(layers):
        raise UsageError("--dla-core: no layer can run on the DLA; it computes in fp16, see `run.py dla`")
    if refused and not gpu_fallback:
        shown = ", ".join(added.name for added in refused[:5]) + (", ..." if len(refused) > 5 else "")
        raise UsageError(
            f"--dla-core: {len(refused)} of {len(layers)} layers cannot run on the DLA: {shown}; see `run.py dla`, or "
            "let the GPU run them with --gpu-fallback"
        )
    for added in refused:
        config.set_device_type(added, definition.tensorrt.module.DeviceType.GPU)
