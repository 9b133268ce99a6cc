"""Whether this computer has a graphics card that can compute; PyTorch is not imported to find out."""

from __future__ import annotations

import ctypes
import sys
from functools import cache


@cache
def has_graphics_card() -> bool:
    """Whether NVIDIA's driver is there and counts a device; whether PyTorch can use it only PyTorch knows."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except (OSError, AttributeError):
        return False
