"""What the choice of the window is worth: gain over cubic interpolation, in the object and where it is bright.

    python Testing/grading/windows.py [MODEL] --public-data FOLDER

prints a table for scans that are simulated by protocol P2, in grey values, nothing clipped, and enlarged as Apply does,
with the window that Apply chooses and with others. Worker-side: needs torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from CBCTSuperResLib.acquisition.phantom import FINE_BLUR, WINDOW, jaw_phantom, to_grey
from CBCTSuperResLib.acquisition.scanner import ALL_AXES, IN_PLANE, P2, gaussian_blur
from CBCTSuperResLib.apply.run import super_resolve
from CBCTSuperResLib.core.interpolate import enlarge
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.measure.fidelity import psnr
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.train.data.public import public_scans

SLICES = 12
ROBUST = (0.5, 99.8)
TIGHT, TO_ENAMEL = "0.5 to 99.8 %", "0.01 to 99.99 %"
COLUMNS = ("chosen", TIGHT, TO_ENAMEL)
OBJECT, BRIGHT = 0.25, 0.6  # of the robust range above its lower end
EDGE = 0.05  # of it a pixel


def fine_scans(public_data: Path | None) -> Iterator[tuple[str, np.ndarray]]:
    """Names and fine scans in grey values, float32 (k, j, i) with even j and i, that no training has seen."""
    for spacing, seed, metal in ((0.10, 901, False), (0.15, 902, False), (0.15, 903, True)):
        field = gaussian_blur(jaw_phantom((SLICES, 256, 256), spacing, seed, metal=metal), FINE_BLUR, ALL_AXES)
        name = f"jaw phantom, {spacing:.2f} mm{', with a metal crown' if metal else ''}"
        yield name, to_grey(field, WINDOW, "float32")
    if public_data is not None:
        scans = public_scans()
        for name, middle in (("tooth", 100), ("trabecular", 170)):
            voxels = scans[name].read(public_data).voxels[middle - SLICES // 2 : middle + SLICES // 2]
            rows, columns = (n - n % 2 for n in voxels.shape[1:])
            yield scans[name].title, voxels[:, :rows, :columns].astype(np.float32)


def gains(truth: np.ndarray, model: Model, seed: int = 7) -> dict[str, tuple[float, float]]:
    """PSNR over cubic interpolation, in dB, in the object and on its bright edges, for each window."""
    low, high = np.percentile(truth, ROBUST)
    width = high - low
    coarse = (P2.degrade((truth - low) / width, seed, clip=False) * width + low).astype(np.float32)
    windows = {
        "chosen": None,
        TIGHT: tuple(np.percentile(coarse, ROBUST)),
        TO_ENAMEL: tuple(np.percentile(coarse, (0.01, 99.99))),
    }
    soft = gaussian_blur(truth, 1.0, IN_PLANE)
    slope = np.hypot(*np.gradient(soft, axis=(1, 2))) / width
    inside = gaussian_blur((truth > low + OBJECT * width).astype(np.float32), 2.0, IN_PLANE) > 0.1
    regions = (inside, (slope > EDGE) & (soft > low + BRIGHT * width))

    volume = Volume(coarse, Grid(coarse.shape[::-1], (0.25, 0.25, 0.125)))
    cubic = [psnr(enlarge(coarse, truth.shape) / width, truth / width, mask=region) for region in regions]
    found = {}
    for name, window in windows.items():
        voxels = super_resolve(volume, model, Options(window=window, blank="none")).voxels
        after = [psnr(voxels / width, truth / width, mask=region) for region in regions]
        found[name] = tuple(a - b for a, b in zip(after, cubic, strict=True))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure what the choice of the window is worth.")
    parser.add_argument("model", nargs="?", default="light", metavar="MODEL")
    parser.add_argument("--public-data", type=Path, metavar="FOLDER", help="folder with the scans of sources.json")
    given = parser.parse_args(arguments)
    model = Model.load(given.model)
    print("| scan | " + " | ".join(COLUMNS) + " |", "| --- |" + " --- |" * len(COLUMNS), sep="\n")
    for name, truth in fine_scans(given.public_data):
        found = gains(truth, model)
        cells = (f"{inside:+.1f} / {bright:+.1f}" for inside, bright in (found[column] for column in COLUMNS))
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
