"""Whether this computer has a GPU that networks can use, found without torch: the driver's own library is asked."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import lru_cache

DRIVERS = ("nvml.dll",) if sys.platform == "win32" else ("libnvidia-ml.so.1", "libnvidia-ml.so")
HIDING = "CUDA_VISIBLE_DEVICES"


def count_gpus() -> int:
    """How many CUDA devices a process started now would see; 0 without a driver."""
    hidden = os.environ.get(HIDING)
    shown = [name.strip() for name in hidden.split(",")] if hidden is not None else None
    if shown is not None and shown[0] in ("", "-1", "NoDevFiles"):
        return 0
    there = _driver_count()
    return there if shown is None else min(there, len(shown))


@lru_cache
def _driver_count() -> int:
    """What NVIDIA's management library counts; asking it makes no context on any GPU."""
    for name in DRIVERS:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        count = ctypes.c_uint(0)
        try:
            if library.nvmlInit_v2() == 0:
                library.nvmlDeviceGetCount_v2(ctypes.byref(count))
                library.nvmlShutdown()
        except AttributeError:  # a library of another kind under this name
            continue
        return int(count.value)
    return 0
