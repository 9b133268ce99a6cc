"""Scans an hour: a process a scan in float32, as version 0.1.0 did, against a batch and against Dask's workers.

    python Testing/benchmarks/run.py batch [--quick]

Forty scans of 160 x 160 x 48 (quick: six of 128 x 128 x 32) go four ways through the public command, one after the
other, so the machine should be quiet; the load is printed. CPU time is that of all processes together: on a busy
machine it says more than wall time, but not how well the cores are used. What the batches write must be the same bits.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from CBCTSuperResLib.acquisition.phantom import jaw_phantom, to_grey
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume

from benchmarks.measure import load

COMMAND = [sys.executable, "-m", "CBCTSuperResLib.cli"]
SPACING_MM = 0.25


def run(quick: bool) -> bool:
    """Time the four ways; whether the batches' results are equal."""
    count, shape = (6, (32, 128, 128)) if quick else (40, (48, 160, 160))
    with tempfile.TemporaryDirectory() as folder:
        scans = _scans(Path(folder) / "scans", count, shape)
        environment = {**os.environ, "CBCT_SUPERRES_MODELS": str(Path(folder) / "models")}
        outs = {name: Path(folder) / name for name in ("single", "batch", "one", "dask")}
        for out in outs.values():
            out.mkdir()

        def command(*words: object) -> None:
            subprocess.run([*COMMAND, *map(str, words)], check=True, env=environment, stdout=subprocess.DEVNULL)

        def a_process_a_scan() -> None:
            for scan in scans:
                command("apply", scan, outs["single"] / scan.name, "--precision", "fp32", "--device", "cpu", "--quiet")

        def batch(name: str, *words: object) -> Callable[[], None]:
            given = ("batch", scans[0].parent, "--output-folder", outs[name], "--device", "cpu")
            return lambda: command(*given, *words)

        ways = {
            "a process a scan, float32 (0.1.0's way)": a_process_a_scan,
            "batch, as many workers as the machine carries": batch("batch"),
            "batch, one process of all cores": batch("one", "--workers", 1),
            "batch, two Dask workers of half of the cores": batch("dask", "--cluster", "local:2"),
        }
        seconds = [_timed(name, way, count) for name, way in ways.items()]
        print(f"  batch against a process a scan: {seconds[0] / seconds[1]:.2f}x (goal 2.5x)")
        print(f"  two Dask workers against one process of all cores: {seconds[2] / seconds[3]:.2f}x (goal 0.9x)")
        results = [
            [path.read_bytes() for path in sorted(outs[name].glob("*.nrrd"))] for name in ("batch", "one", "dask")
        ]
        is_equal = all(len(found) == count for found in results) and results[0] == results[1] == results[2]
        print(f"  the same bits: {'yes' if is_equal else 'NO'}")
    return is_equal


def _scans(folder: Path, count: int, shape: Sequence[int]) -> list[Path]:
    folder.mkdir()
    paths = []
    for number in range(count):
        grey = to_grey(jaw_phantom(shape, SPACING_MM, number))
        paths.append(Volume(grey, Grid(tuple(shape[::-1]), (SPACING_MM,) * 3)).write(folder / f"scan {number:02}.nrrd"))
    return paths


def _timed(name: str, way: Callable[[], None], count: int) -> float:
    """Wall time in seconds; prints it, the CPU time of all processes, and scans an hour."""
    before, start = _cpu_seconds(), time.perf_counter()
    way()
    wall, cpu = time.perf_counter() - start, _cpu_seconds() - before
    print(
        f"  {name}: {wall:.1f} s, CPU {cpu:.1f} s, {3600 * count / wall:.0f} scans an hour (load {load()})", flush=True
    )
    return wall


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
