"""B6: samples a second of the data pipeline against what a training step asks for, and its memory.

Speeds of one thread and demands are by CPU time, so that a busy machine does not change them.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.networks import build_network
from CBCTSuperResLib.train.data.batches import Batches
from CBCTSuperResLib.train.data.source import open_source
from CBCTSuperResLib.train.options_file import read_options

from .cases import SMALL
from .measure import added_peak, in_fresh_process, mib, threads

TARGET = 5
GPU_DEMAND = 320  # samples a second: batches of 32, ten steps a second
SCAN = (160, 400, 400)
SETTINGS = {
    "pairs, contrast": {"mode": "LRHR"},
    "bicubic, contrast": {"degradation": "bicubic"},
    "physical, contrast": {"degradation": "physical"},
}


def run(quick: bool) -> bool:
    slices = SCAN[0] // 4 if quick else SCAN[0]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        _write_scans(root, slices)
        demands = {
            "batch 8, HR 64, nf 32, nb 23": (64, 8, _demand(8, 64, dict(nf=32, nb=23))),
            "small UNetSPSR, batch 8, HR 72": (72, 8, _demand(8, 72, SMALL)),
        }
        fast = True
        for title, (size, batch, demand) in demands.items():
            print(f"{title}: a step on {os.cpu_count()} cores takes at most {demand:.1f} samples/s (generator alone)")
            for setting, train in SETTINGS.items():
                rate = _rate(root, size, batch, train, quick)
                fast &= rate >= TARGET * demand
                print(f"  {setting}: {rate:.0f} samples/s of one core, x{rate / demand:.0f} (target x{TARGET})")
        print(f"a GPU with batches of 32 at HR 128 and ten steps a second takes {GPU_DEMAND} samples/s")
        for setting, train in SETTINGS.items():
            alone = _rate(root, 128, 32, train, quick)
            two = _rate(root, 128, 32, train, quick, workers=2)
            print(f"  {setting}: {alone:.0f} samples/s of one core; two threads, by the clock: {two:.0f}")
        for where, limit in (("memory", 10), ("a mapped file", 0)):
            peak = in_fresh_process(_peak_of_opening, root, limit)
            print(
                f"opening {slices} slices of 400 x 400, kept in {where}: {mib(peak)}, decoded {mib(slices * 320_000)}"
            )
    return fast


def _write_scans(root: Path, slices: int) -> None:
    voxels = np.random.default_rng(0).integers(26000, 46000, (slices, *SCAN[1:]), np.uint16)
    for name, part in (("HR", voxels), ("LR", voxels[:, ::2, ::2])):
        Volume(np.ascontiguousarray(part), Grid(part.shape[::-1], (0.1, 0.1, 0.1))).write(root / f"{name}.nrrd")


def _options(root: Path, size: int, batch: int, train: dict):
    train = {"mode": "HR", "dataroot_HR": str(root / "HR.nrrd"), "normalization_range": [26000, 46000], **train}
    if train["mode"] == "LRHR":
        train["dataroot_LR"] = str(root / "LR.nrrd")
    train |= {"HR_size": size, "batch_size": batch}
    return read_options({"name": "bench", "scale": 2, "path": {"root": str(root)}, "datasets": {"train": train}})


def _rate(root: Path, size: int, batch: int, train: dict, quick: bool, workers: int = 0) -> float:
    """Samples a second: of CPU time in the caller's thread, or by the clock with workers."""
    clock = time.perf_counter if workers else time.process_time
    options = _options(root, size, batch, train)
    source = open_source(options.dataset("train"), options)
    count = (10 if quick else 40) * max(1, workers)
    with threads(1), Batches(source, batch, seed=0, workers=workers) as batches:
        batches.start()
        for _ in range(4):
            next(batches)
        start = clock()
        for _ in range(count):
            next(batches)
        seconds = clock() - start
    source.close()
    return count * batch / seconds


def _demand(batch: int, size: int, network: dict) -> float:
    """Samples a second of the generator's forward and backward pass on all cores: more than a whole step takes."""
    generator = build_network("unetspsr", **network)
    images = torch.rand(batch, 1, size // 2, size // 2)
    best = np.inf
    with threads(1):
        for _ in range(2):
            start = time.process_time()
            generator(images)["sr"].mean().backward()
            best = min(best, time.process_time() - start)
    return batch / best * os.cpu_count()


def _peak_of_opening(root: Path, limit: float) -> int | None:
    options = _options(root, 128, 32, {"cache_gb": limit})
    return added_peak(lambda: open_source(options.dataset("train"), options))
