"""How much memory this machine has left, without any extra package."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import ResourceError

LESS_MEMORY = {
    "apply": "choose a ROI, smaller tiles or axial planes",
    "preview": "close other programs, or choose a lighter model",
    "train": "choose a smaller batch_size or HR_size, and resume",
    "prepare": "close other programs, or prepare one pair at a time",
}


def less_memory(kind: str | None) -> str:
    """What to do where the memory does not suffice for a kind of job; the rest of a sentence."""
    return LESS_MEMORY.get(kind, "close other programs")


@contextmanager
def memory_for(what: str, advice: str) -> Iterator[None]:
    """Say what memory ran out for, and what helps there, where it does.

    >>> with memory_for("the result, 800 x 800 x 600 voxels of uint16 (768 MB)", "Choose an ROI."):
    ...     voxels = np.empty((600, 800, 800), np.uint16)

    Raises
    ------
    ResourceError
        In place of a MemoryError.
    """
    try:
        yield
    except MemoryError as error:
        raise ResourceError(f"Memory ran out for {what}.", advice) from error


def available_memory() -> int:
    """Bytes that a new process could use without swapping; a cautious guess where the system does not tell."""
    if sys.platform == "win32":
        return _windows_available()
    limits = [value for value in (_linux_available(), _cgroup_available()) if value is not None]
    return min(limits) if limits else _physical() // 2


def _linux_available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None


def _cgroup_available() -> int | None:
    """What a container's limit leaves; its page cache counts as free, as it does for the kernel."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        if limit == "max":
            return None
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        stat = dict(
            line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text(encoding="ascii").splitlines()
        )
        return max(0, int(limit) - used + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):
        return None


def _physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _windows_available() -> int:
    class MemoryStatus(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
            (name, ctypes.c_ulonglong)
            for name in ("total", "available", "page", "page_free", "virtual", "virtual_free", "extended")
        ]

    status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return status.available


def peak_memory() -> int | None:
    """Largest resident size of this process so far, in bytes; None where the system does not tell.

    On Linux not from `getrusage`: a new process takes that over from the one that started it, and a worker would
    report the peak of the application.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak_memory() -> None:
    """Let `peak_memory` begin anew, where the system can (Linux): for the next job of a process that does many."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def readable(size: float) -> str:
    """A size in bytes for people, such as 1.2 GB."""
    if size < 1e6:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"
