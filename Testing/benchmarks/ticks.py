"""What a tick of the panel takes, with a result of 800 voxels an edge, against copying it all at once."""

from __future__ import annotations

import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from CBCTSuperResLib.core.memory import available_memory

from .measure import in_fresh_process

ROOT = Path(__file__).resolve().parents[2]
EDGE, QUICK_EDGE = 400, 200
BYTES_PER_VOXEL = 8 * 2 * 5  # of the result, in the file, in the worker's and Slicer's memory, and some room
TARGET = "no tick above 0.2 s of CPU time"


def run(quick: bool) -> bool:
    edge = QUICK_EDGE if quick else EDGE
    if missing := [name for name in ("slicer", "PySide6") if find_spec(name) is None]:
        print(f"not measured: {' and '.join(missing)} missing")
        return True
    if available_memory() < BYTES_PER_VOXEL * edge**3:
        print(f"not measured: it takes {BYTES_PER_VOXEL * edge**3 / 1e9:.0f} GB of memory")
        return True
    count, longest, on_the_clock, at_once, right = in_fresh_process(_measure, edge)
    print(
        f"{count} ticks, the longest {longest:.3f} s of CPU time ({on_the_clock:.3f} s on the clock), "
        f"x{at_once / longest:.1f} shorter than copying the result at once ({at_once:.2f} s); target: {TARGET}"
        + ("" if right else "; the result is WRONG")
    )
    return right


def _measure(edge: int) -> tuple[int, float, float, float, bool]:
    """How many ticks, the longest in CPU time and on the clock, a copy of the result; whether the result is right."""
    sys.path += [str(ROOT / "Testing" / folder) for folder in ("support", "standin")]
    import slicer
    import slicerapp

    slicerapp.start()
    module = slicerapp.loadModule(str(ROOT / "CBCTSuperRes" / "CBCTSuperRes.py"))
    from CBCTSuperResLib.panels import dialogs
    from CBCTSuperResLib.scene import logic
    from panel_ticks import ReadyResult, add_large_scan, apply_in_ticks

    dialogs.ensurePackages, logic.Job = lambda *_, **__: None, ReadyResult
    widget, busy, real = slicerapp.showWidget(module), [], []

    def tick(action) -> None:
        began, spent = time.perf_counter(), time.thread_time()
        action()
        busy.append(time.thread_time() - spent)
        real.append(time.perf_counter() - began)

    with tempfile.TemporaryDirectory() as folder:
        type(slicer.app).temporaryPath = folder
        job = apply_in_ticks(widget.panel, add_large_scan((edge,) * 3), tick)
        began = time.thread_time()
        whole = slicer.util.arrayFromVolume(job.outputVolume).copy()
        at_once = time.thread_time() - began
        right = job.error is None and np.array_equal(whole[:, 0, 0], np.arange(2 * edge))
    widget.cleanup()
    return len(busy), max(busy), max(real), at_once, right
