"""How well blur and noise are estimated from scans whose scanner is known: object by blur by noise.

    python Testing/grading/scanner_estimates.py [--public-data FOLDER] [--out FOLDER] [--quick]

prints a line for each scan, a summary for each object, and writes rows.json. Blur is in fine pixels, two to a voxel of
a scan; noise in per cent of the window. An object that is itself softer than drawn edges is seen as more blur.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from CBCTSuperResLib.acquisition.estimate import estimate
from CBCTSuperResLib.acquisition.phantom import FINE_BLUR, jaw_phantom
from CBCTSuperResLib.acquisition.scanner import ALL_AXES, Acquisition, gaussian_blur
from CBCTSuperResLib.core.atomic import write_text
from CBCTSuperResLib.train.data.public import public_scans

from grading.cases import Case, held_out_bone, in_robust_window

BLURS = (0.4, 0.85, 1.2, 1.6, 2.0)  # fine pixels
NOISES = (0.0, 0.01, 0.02, 0.03)  # of the window
PHANTOMS = {"jaw, 0.07 mm": (0.07, 903), "jaw, 0.10 mm": (0.10, 901), "jaw, 0.15 mm": (0.15, 902)}


def objects(public_data: Path | None, shape: tuple[int, int, int]) -> Iterator[Case]:
    """Drawn jaws, with what the window would clip, and, where they are, a molar, a shoulder, bone."""
    for name, (spacing, seed) in PHANTOMS.items():
        yield Case(name, gaussian_blur(jaw_phantom(shape, spacing, seed), FINE_BLUR, ALL_AXES), (spacing,) * 3)
    if public_data is None:
        return
    scans = public_scans()
    yield Case("molar", in_robust_window(scans["tooth"].read(public_data)), (0.1,) * 3)
    shoulder = scans["shoulder"]
    yield Case("shoulder", in_robust_window(shoulder.read(public_data)), shoulder.spacing_mm)
    bone = scans["trabecular"]
    yield from held_out_bone(bone.read(public_data), bone.train_slices[1])


def rows_of(case: Case, blurs: Sequence[float], noises: Sequence[float]) -> Iterator[dict]:
    """One row a scan: what it was made with, and what was estimated."""
    for planes, blur, noise in product(("axial", "isotropic"), blurs, noises):
        acquisition = Acquisition(planes, blur, noise)
        scan = acquisition.degrade(acquisition.even(case.truth), seed=11, clip=False)
        fine = case.spacing_mm
        spacing = (2 * fine[0], 2 * fine[1], fine[2] * (1 if planes == "axial" else 2))
        found = estimate(scan, spacing, (0.0, 1.0))
        yield {
            "object": case.name,
            "protocol": acquisition.protocol,
            "blur": blur,
            "noise": noise,
            "found_blur": [None if axis.sd is None else round(2 * axis.sd, 3) for axis in found.blur[1:]],
            "is_sure": [axis.is_sure for axis in found.blur[1:]],
            "found_noise": found.noise and round(found.noise.sd, 5),
            "voxels_read": found.voxels_read,
        }


def summary(rows: Sequence[dict]) -> dict:
    """Median and 95th percentile of the blur's errors, of all that was found and of what was sure; noise beside it."""
    pairs = [
        (abs(found - row["blur"]), sure)
        for row in rows
        for found, sure in zip(row["found_blur"], row["is_sure"], strict=True)
        if found is not None
    ]
    noise = [abs(r["found_noise"] / r["noise"] - 1) for r in rows if r["noise"] and r["found_noise"]]

    def of(errors: list[float]) -> list[float] | None:
        return [round(float(v), 3) for v in np.percentile(errors, (50, 95))] if errors else None

    return {
        "estimates": len(pairs),
        "of": 2 * len(rows),
        "error": of([error for error, _ in pairs]),
        "sure": sum(sure for _, sure in pairs),
        "error_of_sure": of([error for error, sure in pairs if sure]),
        "noise_error": of(noise),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--public-data", type=Path, help="folder with the public scans")
    parser.add_argument("--out", type=Path, help="folder for rows.json")
    parser.add_argument("--quick", action="store_true", help="smaller phantoms, two blurs, two noises")
    parsed = parser.parse_args(arguments)
    blurs, noises = (BLURS[1::2], NOISES[::2]) if parsed.quick else (BLURS, NOISES)
    every: list[dict] = []
    for case in objects(parsed.public_data, (48, 160, 160) if parsed.quick else (96, 256, 256)):
        rows = []
        for row in rows_of(case, blurs, noises):
            found = " ".join(
                "   -  " if value is None else f"{value:5.2f}{' ' if sure else '?'}"
                for value, sure in zip(row["found_blur"], row["is_sure"], strict=True)
            )
            noise = "-" if row["found_noise"] is None else f"{100 * row['found_noise']:.2f}"
            print(
                f"{row['object']:34} {row['protocol']}  blur {row['blur']:4.2f} -> {found}   "
                f"noise {100 * row['noise']:.1f} -> {noise}",
                flush=True,
            )
            rows.append(row)
        print(f"{case.name}: {summary(rows)}", flush=True)
        every += rows
    print(f"all: {summary(every)}")
    if parsed.out:
        parsed.out.mkdir(parents=True, exist_ok=True)
        write_text(parsed.out / "rows.json", json.dumps(every, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
