"""Measuring side by side: interleaved rounds, medians, ratios round by round, memory of a fresh process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import torch

MIB = 2**20


def load() -> str:
    """The load average of the last minute, and what it is to be compared with."""
    if not hasattr(os, "getloadavg"):
        return "unknown"
    return f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def interleaved(
    arms: Mapping[str, Callable], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each arm in each round; in a round every arm runs once, so that a busy machine slows all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, work in arms.items():
            start = clock()
            work()
            seconds[name].append(clock() - start)
    return seconds


def compare(seconds: Mapping[str, list[float]], slow: str, fast: str) -> str:
    """How much faster one arm is: the median of the rounds' ratios, and the ratio of the best rounds."""
    ratios = [a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)]
    best = min(seconds[slow]) / min(seconds[fast])
    return (
        f"{slow} {median(seconds[slow]):.3g} s, {fast} {median(seconds[fast]):.3g} s: "
        f"x{median(ratios):.2f} (min/min x{best:.2f}, {len(ratios)} rounds)"
    )


def agrees(found: np.ndarray, expected: np.ndarray, tolerance: float, of: float | None = None) -> tuple[bool, str]:
    """Whether two results are equal, by their largest difference over the expected range (or over `of`)."""
    span = of or float(expected.max() - expected.min())
    error = float(np.abs(found - expected).max()) / span
    right = error <= tolerance
    return right, f"max difference {error:.1e} of the range, allowed {tolerance:.0e}{'' if right else ': WRONG'}"


@contextmanager
def threads(count: int):
    """Let torch use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_fresh_process(work: Callable, *arguments):
    """Call a function of a module in a new process, whose memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def added_peak(work: Callable[[], object]) -> int | None:
    """By how many bytes this process grows while it works; None where the system (not Linux) cannot tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    Path("/proc/self/clear_refs").write_text("5")
    before = _kilobytes(status, "VmRSS")
    work()
    return 1024 * (_kilobytes(status, "VmHWM") - before)


def _kilobytes(status: Path, name: str) -> int:
    (line,) = [line for line in status.read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1])


def mib(size: int | None) -> str:
    return "not measured on this system" if size is None else f"{size / MIB:.0f} MiB"
