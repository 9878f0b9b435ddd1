"""Whether a build fits into this machine's memory, said before it starts: on a Jetson the system kills it in silence.

    8.0 GB, 5.1 GB free; weights 98 MB; workspace 512 MB; all layers 187 MB; the build needs about 1.7 GB
"""

from __future__ import annotations

import ctypes
import re
from math import prod
from pathlib import Path
from typing import Any, Iterator, NamedTuple, Optional, Tuple

import numpy as np

from spec.errors import UsageError
from spec.graph import Graph

WORKSPACE = 512 << 20
"""Bytes of scratch memory a build may use where --workspace says nothing: on a Jetson it is everybody's RAM."""

FIXED, WEIGHT_COPIES = 256 << 20, 4
"""Python with TensorRT loaded, and how many times its float32 weights a build holds: the mapped file, TensorRT's own
copies, the plan. benchmarks/device_build.py measured 268 MB in all for 6 MB of weights, 564 MB for 102 MB."""

HOST_LAYERS, GPU_LAYERS = 2, 1
"""How many times a comparison of all layers holds their tensors: a Runner's page-locked buffers and the arrays it
returns; its buffers on the GPU. On a Jetson all three are in the same memory."""

_M_MMAP_THRESHOLD = -3
"""malloc.h of glibc."""


class Memory(NamedTuple):
    """Bytes of this machine.

    Attributes:
        shared: whether a GPU takes its memory from the host's.
        gpu_total, gpu_free: of a GPU with memory of its own.
    """

    total: int
    free: int
    shared: bool = False
    gpu_total: Optional[int] = None
    gpu_free: Optional[int] = None


CGROUPS = (
    # a container's limit, what it takes of it, and how much of that is files that can go: version 2, version 1
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)


def read_memory(
    gpu: Any,
    meminfo: Path = Path("/proc/meminfo"),
    board: Path = Path("/proc/device-tree/compatible"),
    cgroup: Path = Path("/sys/fs/cgroup"),
) -> Optional[Memory]:
    """The Memory of this machine, or None where the system does not tell.

    Args:
        gpu: the engine.devices.device.DeviceFacts of the GPU, None without one.
        board: names the board; a Tegra's GPU has no memory of its own.
        cgroup: where a container's limit stands, which /proc/meminfo does not know.
    """
    try:
        found = dict(re.findall(r"^(\w+):\s+(\d+) kB$", meminfo.read_text(), re.MULTILINE))
        total, free = (int(found[key]) << 10 for key in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError):
        return None
    for limit, used in _limits(cgroup):
        total, free = min(total, limit), min(free, max(limit - used, 0))
    if gpu is None:
        return Memory(total, free)
    if board.is_file() and b"tegra" in board.read_bytes():
        return Memory(total, free, shared=True)
    return Memory(total, free, False, gpu.total_bytes, gpu.free_bytes)


def _limits(cgroup: Path) -> Iterator[Tuple[int, int]]:
    """(limit, used) in bytes, where the container has one; `max` is none."""
    for names in CGROUPS:
        try:
            limit, used, stat = ((cgroup / name).read_text().strip() for name in names)
        except OSError:
            continue
        files = re.findall(r"^(?:total_)?inactive_file (\d+)$", stat, re.MULTILINE)[-1:]
        if limit.isdigit() and used.isdigit():
            yield int(limit), int(used) - sum(map(int, files))


def tensor_bytes(graph: Graph, batch: int) -> int:
    """Of every layer's tensors together, with this batch where it is dynamic."""
    types = (graph.tensors[name] for name in graph.made)
    return sum(
        prod(batch if size == -1 else size for size in shape) * np.dtype(dtype).itemsize for shape, dtype in types
    )


def memory_words(memory: Optional[Memory], weights: int, workspace: int, layers: int = 0) -> str:
    """What a person reads before the build starts.

    Args:
        weights: bytes of the parameters in float32.
        layers: bytes of all layers' tensors where a GPU is to be asked for them.
    """
    if memory is None:
        return "not known on this system"
    own = "" if memory.gpu_free is None else f"; the GPU's {size(memory.gpu_total or 0)}, {size(memory.gpu_free)} free"
    compared = f"; all layers {size(layers)}" if layers else ""
    needs = f"the build needs about {size(_host_bytes(memory, weights, workspace) + _host_layers(memory, layers))}"
    free = f"{size(memory.total)}, {size(memory.free)} free{own}"
    return f"{free}; weights {size(weights)}; workspace {size(workspace)}{compared}; {needs}"


def check_memory(memory: Optional[Memory], weights: int, workspace: int, layers: int = 0) -> None:
    """Raises UsageError where a build is likely to be killed half way; arguments as `memory_words` has them."""
    if memory is None:
        return
    rows = [("memory", memory.free, _host_bytes(memory, weights, workspace), _host_layers(memory, layers))]
    if memory.gpu_free is not None:
        rows.append(("GPU memory", memory.gpu_free, FIXED + 2 * weights + workspace, GPU_LAYERS * layers))
    problems = [
        _too_little(name, free, build, compared) for name, free, build, compared in rows if free < build + compared
    ]
    if problems:
        raise UsageError(problems)


def return_freed_memory() -> None:
    """Lets glibc give every large block back to the system as soon as it is freed, now and later.

    Once a large block was freed, glibc keeps later ones up to 32 MB in its heap: after the layers were run on the CPU a
    ResNet-50's build then takes 40 to 100 MB more. Elsewhere than on glibc nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 128 << 10)


def size(count: int) -> str:
    """Bytes as people say them; powers of two, as a board's label has them."""
    return f"{count / (1 << 30):.1f} GB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MB"


def _too_little(name: str, free: int, build: int, compared: int) -> str:
    """What is missing where, and what to do about it."""
    needs = f"{name}: {size(free)} free, the build needs about {size(build + compared)}"
    cure = "close programs (a desktop takes 1 GB), add swap, lower --workspace"
    if not compared:
        return f"{needs} - {cure}, or try it with --force-memory"
    without = "leave the comparison out with --no-verify"
    return f"{needs}, {size(compared)} of it to compare the layers - {cure}, {without}, or try it with --force-memory"


def _host_layers(memory: Memory, layers: int) -> int:
    """What a comparison of all layers takes of the host's memory; the GPU's share too where that is the same."""
    return (HOST_LAYERS + (GPU_LAYERS if memory.shared else 0)) * layers


def _host_bytes(memory: Memory, weights: int, workspace: int) -> int:
    """What a build takes of the host's memory; the GPU's share too where that is the same."""
    return FIXED + WEIGHT_COPIES * weights + (workspace if memory.shared else 0)
