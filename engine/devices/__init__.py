"""The GPU behind a few calls, on whichever binding is installed: pycuda, or cuda-python.

    open_device() -> Device: allocate, pinned, copy_in, copy_out, streams, events, CUDA graphs where it has them
"""

from __future__ import annotations

import importlib
from typing import Dict, Tuple

from engine.devices.device import Device
from spec.errors import UsageError

BINDINGS: Dict[str, Tuple[str, str]] = {
    # name: (the package that must import, our module); in the order of trial
    "cuda-python": ("cuda", "engine.devices.cuda_python_device"),
    "pycuda": ("pycuda", "engine.devices.pycuda_device"),
}


def open_device(binding: str = "auto", index: int = 0) -> Device:
    """The first GPU through the first binding that is installed, or through the one named.

    Raises:
        UsageError: no binding is installed, or the one named is not.
        DeviceError: the driver reports an error.
    """
    wanted = list(BINDINGS) if binding == "auto" else [binding]
    for name in wanted:
        package, module = BINDINGS[name]
        try:
            importlib.import_module(package)
            return importlib.import_module(module).open_device(index)
        except ModuleNotFoundError:
            continue
    raise UsageError(f"{' and '.join(wanted)} cannot be imported; running a plan needs one: pip install cuda-python")
