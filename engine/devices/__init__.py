"""The GPU behind a few calls, on whichever binding is installed: cuda-python, or else pycuda.

    with open_device() as device:  allocate, pinned, copy_in, copy_out, streams, events, CUDA graphs where it has them
"""

from __future__ import annotations

import importlib
from typing import Dict

from engine.devices.device import Device
from spec.errors import UsageError

BINDINGS: Dict[str, str] = {
    # name: our module, which imports it; in the order of trial
    "cuda-python": "engine.devices.cuda_python_device",
    "pycuda": "engine.devices.pycuda_device",
}


def open_device(binding: str = "auto", index: int = 0) -> Device:
    """The first GPU through the first binding that is installed, or through the one named.

    Raises:
        UsageError: no binding is installed or can be loaded, or the one named is not.
        DeviceError: the driver reports an error.
    """
    wanted = list(BINDINGS) if binding == "auto" else [binding]
    problems = []
    for name in wanted:
        try:
            module = importlib.import_module(BINDINGS[name])
        except ImportError as error:  # a package `cuda` without its bindings, a pycuda without its libcuda
            problems.append(f"{name}: {error}")
            continue
        return module.open_device(index)
    raise UsageError(f"running a plan needs {' or '.join(wanted)}: {'; '.join(problems)}: pip install cuda-python")
