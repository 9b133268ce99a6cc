"""Where a network runs: the device, its free memory, and how numbers are rounded on it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from .errors import DeviceError
from .memory import available_memory

# The words of Linux and macOS, of Windows, and of CUDA's libraries.
OUT_OF_MEMORY_SIGNS = ("allocate memory", "not enough memory", "ALLOC_FAILED")
FASTER = 0.8  # of the time in float32, that bfloat16 may take at most
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of a tensor's axes
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """Turn "auto", "cpu", "cuda" or "cuda:N" into a device that is there.

    Raises
    ------
    DeviceError
        If the named device is absent; nothing falls back silently.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        if "," in name:
            what = f"{name!r} are several devices, and this is computed on one."
            raise DeviceError(what, "Choose one of them.") from None
        raise DeviceError(f"There is no device {name!r}.", "Choose auto, cpu, cuda or cuda:N.") from None
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise DeviceError(f"Devices of type {device.type!r} are not supported.", "Choose auto, cpu, cuda or cuda:N.")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        found = f"only {count} CUDA device(s)" if count else "no CUDA device"
        raise DeviceError(f"{name!r} was asked for, but {found} can be used here.", "Choose auto or cpu.")
    return device


def free_memory(device: torch.device) -> int:
    """Bytes that may still be allocated on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_memory()


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 faster than float32 (AVX512-BF16, AMX, or NEON's).

    Where it does not, torch computes it all the same, several times slower.
    """
    try:
        known = torch.cpu.get_capabilities()
    except AttributeError:  # older torch
        return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    return any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


@cache
def bfloat16_pays() -> bool:
    """Whether a usual convolution is faster in bfloat16 than in float32 here: what `cpu_has_bfloat16` says, measured.

    Of a convolution of 64 features, because its answer is far from the limit on every processor; that of a small
    network would depend on what else the machine does, and results with it. Takes some 50 ms, once a process.
    """
    if not cpu_has_bfloat16():
        return False
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    with torch.inference_mode():
        for dtype, taken in seconds.items():
            x = torch.zeros(1, 64, 96, 96, dtype=dtype).to(memory_format=torch.channels_last)
            convolution = torch.nn.Conv2d(64, 64, 3, padding=1).to(dtype=dtype, memory_format=torch.channels_last)
            for _ in range(4):  # the first prepares
                start = time.process_time()
                convolution(x)
                taken.append(time.process_time() - start)
    return min(seconds[torch.bfloat16]) < FASTER * min(seconds[torch.float32])


def describe_device(device: torch.device) -> str:
    """A line for the report."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} of {os.cpu_count()} cores)"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that an allocation failed, on any device."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in OUT_OF_MEMORY_SIGNS)


@contextmanager
def rounding(precision: str) -> Iterator[None]:
    """TensorFloat-32 only where it was asked for; the previous setting comes back afterwards."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
