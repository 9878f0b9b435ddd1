"""The few questions that NVIDIA's driver answers without a binding: how many GPUs there are, and of which kind.

    libcuda through ctypes, the CUDA driver API ─> gpu_count() ─> 1        compute_capability() ─> (8, 7)
"""

from __future__ import annotations

import ctypes
from typing import Any, Optional, Tuple

LIBRARIES = ("libcuda.so.1", "nvcuda.dll")

_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h."""


def load_driver() -> Any:
    """The driver's library, initialised; None where there is none or no GPU answers it."""
    for library in LIBRARIES:
        try:
            driver = ctypes.CDLL(library)
        except OSError:
            continue
        if driver.cuInit(0) == 0:
            return driver
    return None


def gpu_count() -> int:
    """CUDA devices that the driver answers for; 0 without a driver."""
    driver, count = load_driver(), ctypes.c_int(0)
    answered = driver is not None and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if answered else 0


def compute_capability() -> Optional[Tuple[int, int]]:
    """(major, minor) of the first GPU; None where none answers."""
    driver, device = load_driver(), ctypes.c_int(0)
    if driver is None or driver.cuDeviceGet(ctypes.byref(device), 0) != 0:
        return None
    major, minor = ctypes.c_int(0), ctypes.c_int(0)
    for value, attribute in ((major, _MAJOR), (minor, _MINOR)):
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device) != 0:
            return None
    return major.value, minor.value
