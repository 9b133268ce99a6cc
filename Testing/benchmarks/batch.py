"""Scans an hour: the batch of version 0.1.0 against ours, and one process against Dask's workers.

    python Testing/benchmarks/run.py batch [--quick]

Forty scans of 160 x 160 x 48 (quick: six of 128 x 128 x 32), as noisy as a CBCT is, go four ways through the public
commands, ten (three) at a time in turn, so that other work on the machine slows all of them; the load is printed. CPU
time is that of all processes together: on a busy machine it says more than wall time, but not how well the cores are
used. What our batches write must be the same bits. Version 0.1.0 is taken from the history of this repository.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from CBCTSuperResLib.acquisition.phantom import jaw_phantom, to_grey
from CBCTSuperResLib.core.processes import TUNABLES
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume

from benchmarks.measure import load

ROOT = Path(__file__).resolve().parents[2]
VERSION_0_1_0 = "8432216"
SPACING_MM = 0.25
NOISE = 0.02  # of the window
OLD, MANY, ONE, DASK = (
    "the batch of 0.1.0",
    "batch, as many workers as the machine carries",
    "batch, one process of all cores",
    "batch, two Dask workers of half of the cores",
)
OURS = {MANY: (), ONE: ("--workers", "1"), DASK: ("--cluster", "local:2")}


def run(quick: bool) -> bool:
    """Time the four ways; whether the batches' results are equal."""
    count, at_a_time, shape = (6, 3, (32, 128, 128)) if quick else (40, 10, (48, 160, 160))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        groups = _scans(folder / "scans", count, at_a_time, shape)
        environment = {key: value for key, value in os.environ.items() if key != TUNABLES}  # as users start commands
        environment["CBCT_SUPERRES_MODELS"] = str(folder / "models")
        outs = {way: folder / f"results {number}" for number, way in enumerate((OLD, *OURS))}
        old = _version_0_1_0(folder / "0.1.0")
        seconds: dict[str, list[float]] = {way: [0.0, 0.0] for way in outs if way != OLD or old}
        for group in groups:
            for way in seconds:
                given = ["--output-folder", str(outs[way]), "--device", "cpu", "--model", "light"]
                if way == OLD:
                    words, library = ["CBCTSuperResLib.batch", "--input", str(group), *given], old
                else:
                    words, library = ["CBCTSuperResLib.cli", "batch", str(group), *given, *OURS[way]], None
                wall, cpu = _timed(words, environment | ({"PYTHONPATH": str(library)} if library else {}))
                seconds[way][0] += wall
                seconds[way][1] += cpu
            print(f"  {group.name} (load {load()})", flush=True)
        for way, (wall, cpu) in seconds.items():
            print(f"  {way}: {wall:.1f} s, CPU {cpu:.1f} s, {3600 * count / wall:.0f} scans an hour")
        for slow, fast, goal in ((OLD, MANY, 2.5), (ONE, DASK, 0.9)):
            if slow in seconds:
                wall, cpu = (a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))
                print(f"  {fast} against {slow}: {wall:.2f}x (goal {goal}x), by CPU time {cpu:.2f}x")
        results = [[path.read_bytes() for path in sorted(outs[way].glob("*.nrrd"))] for way in OURS]
        is_equal = all(len(found) == count for found in results) and results[0] == results[1] == results[2]
        print(f"  the same bits: {'yes' if is_equal else 'NO'}")
    return is_equal


def _scans(folder: Path, count: int, at_a_time: int, shape: Sequence[int]) -> list[Path]:
    """Folders with so many scans each."""
    for number in range(count):
        field = jaw_phantom(shape, SPACING_MM, number)
        noisy = np.clip(field + np.random.default_rng(number).normal(0, NOISE, shape), 0, 1).astype(field.dtype)
        group = folder / f"scans {number // at_a_time + 1}"
        group.mkdir(parents=True, exist_ok=True)
        grid = Grid(tuple(shape[::-1]), (SPACING_MM,) * 3)
        Volume(to_grey(noisy), grid).write(group / f"scan {number:02}.nrrd")
    return sorted(folder.iterdir())


def _version_0_1_0(folder: Path) -> Path | None:
    """The folder of its library; None where the history is not here."""
    packed = subprocess.run(
        ["git", "-C", ROOT, "archive", VERSION_0_1_0, "CBCTSuperRes", "Resources"], capture_output=True, check=False
    )
    if packed.returncode:
        print(f"  {OLD} is left out: commit {VERSION_0_1_0} is not in the history that is here")
        return None
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "CBCTSuperRes"


def _timed(words: Sequence[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall time and CPU time of a command and all that it starts, in seconds."""
    before, start = _cpu_seconds(), time.perf_counter()
    subprocess.run([sys.executable, "-m", *words], check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, _cpu_seconds() - before


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
