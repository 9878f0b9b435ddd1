"""Whether this machine can build a bundle: what its TensorRT has, room on the disk; asked before anything is built."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from deploy.device_memory import size
from engine.tensorrt_api import Capability
from spec.errors import TensorRTError, UsageError
from spec.graph import Graph

NEEDS: Dict[str, Capability] = {
    # word of the manifest: the attribute of TensorRT's module that proves it, and who has it
    "tensors by name": Capability("ICudaEngine.num_io_tensors", first="8.5"),
    "uint8 inputs": Capability("DataType.UINT8", first="8.5"),
    "quantize layers": Capability("INetworkDefinition.add_quantize", first="8.0"),
}

PLAN_COPIES = 2
"""Of the float32 weights, for the disk: plans measured were 1.0 to 1.25 times their weights."""


def needs_of(graph: Graph, words: Sequence[str]) -> List[str]:
    """The rows of NEEDS that a graph in these precisions asks for."""
    uint8 = any(tensor.dtype == "uint8" for tensor in graph.tensors.values())
    return ["tensors by name"] + ["uint8 inputs"] * uint8 + ["quantize layers"] * ("int8" in words)


def check_needs(needs: Sequence[str], module: Any, title: str) -> None:
    """Raises TensorRTError where a TensorRT module lacks what a bundle needs; says who has it."""
    problems = [
        f"the bundle needs {need}, which this program does not know: use the bundle's own run.py"
        for need in needs
        if need not in NEEDS
    ]
    problems += [
        f"the bundle needs {need}: {title} has none; that takes {NEEDS[need].versions}"
        for need in needs
        if need in NEEDS and not _has(module, NEEDS[need].attribute)
    ]
    if problems:
        raise TensorRTError(problems)


def check_disk(directory: Path, weights: int, free: Optional[int] = None) -> str:
    """`12.0 GB free in out`; raises UsageError where the plan would not fit.

    Args:
        weights: bytes of the parameters in float32.
        free: bytes, asked of the system where left out.
    """
    if free is None:
        nearest = next(each for each in (directory.absolute(), *directory.absolute().parents) if each.exists())
        free = shutil.disk_usage(nearest).free
    needed = PLAN_COPIES * weights
    if free < needed:
        raise UsageError(f"{directory}: {size(free)} free, the plan may need {size(needed)} - choose another --output")
    return f"{size(free)} free in {directory}"


def _has(module: Any, attribute: str) -> bool:
    for part in attribute.split("."):
        module = getattr(module, part, None)
    return module is not None
