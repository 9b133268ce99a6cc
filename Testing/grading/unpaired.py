"""SR-CycleGAN on two drawn scanners whose grey values differ, with a truth that the training never sees.

    python Testing/grading/unpaired.py --out FOLDER [--steps N] [--set KEY=VALUE ...]

The clinic's scanner has pixels four times as wide as the micro-CT's, more blur and noise, and other grey values. Both
see drawn jaws, never the same. Trains Resources/Configurations/srcyclegan.json on them, and measures: PSNR of the proxy
(fine slices whose coarse ones are simulated) beside cubic interpolation; and of an unseen jaw in the clinic's scanner,
enlarged, the bone volume fraction beside the truth's, and components of bone for each cm3 where the truth has none.
Writes unpaired.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from scipy import ndimage

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from CBCTSuperResLib.acquisition.phantom import jaw_phantom
from CBCTSuperResLib.acquisition.scanner import IN_PLANE, block_mean, correlated_noise, gaussian_blur
from CBCTSuperResLib.apply.run import super_resolve
from CBCTSuperResLib.core.atomic import write_text
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.core.resources import resource
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.measure.bone import bone_threshold, bone_volume_fraction
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.train.export import export_run
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.run import train

SCALE, SPACING = 4, 0.1  # mm, of the micro-CT
SHAPE = (12, 256, 256)
CLINIC, MICRO = (-1000.0, 3000.0), (2000.0, 52000.0)  # grey values of 0 and 1
LEAST_VOXELS = 8  # of a component that counts


def jaw(seed: int) -> np.ndarray:
    """The object, in units of the window."""
    return jaw_phantom(SHAPE, SPACING, seed)


def clinics_scan(field: np.ndarray, seed: int) -> Volume:
    """Blurred, averaged over four by four pixels, noisy, in Hounsfield units."""
    image = gaussian_blur(field.astype(np.float32), 2.0, IN_PLANE)
    image = block_mean(image, IN_PLANE, SCALE)
    image = image + correlated_noise(image.shape, 0.02, 0.5, IN_PLANE, seed)
    return as_volume(image, CLINIC, "int16", SCALE * SPACING)


def micro_ct(field: np.ndarray, seed: int) -> Volume:
    """Slightly blurred and noisy, in 16 bit."""
    image = gaussian_blur(field.astype(np.float32), 0.4, IN_PLANE)
    return as_volume(image + np.random.default_rng(seed).normal(0, 0.004, image.shape), MICRO, "uint16", SPACING)


def as_volume(image: np.ndarray, window: tuple[float, float], dtype: str, spacing: float) -> Volume:
    grey = window[0] + (window[1] - window[0]) * image
    limits = np.iinfo(dtype)
    voxels = np.clip(np.rint(grey), limits.min, limits.max).astype(dtype)
    return Volume(voxels, Grid(voxels.shape[::-1], (spacing, spacing, SPACING)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--jaws", type=int, default=4, help="of either scanner")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    parsed = parser.parse_args()
    out = parsed.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    roots: dict[str, list[str]] = {"LR": [], "HR": []}
    for number in range(parsed.jaws):
        for role, make, seed in (("LR", clinics_scan, number), ("HR", micro_ct, 100 + number)):
            roots[role].append(str(make(jaw(seed), seed).write(out / f"{role}-{number}.nrrd")))
    held_out = str(micro_ct(jaw(199), 199).write(out / "micro held out.nrrd"))
    options = read_options(
        resource("Configurations/srcyclegan.json"),
        [
            f"path.root={out}",
            f"train.niter={parsed.steps}",
            f"train.fine_range={json.dumps(MICRO)}",
            f"datasets.train.normalization_range={json.dumps(CLINIC)}",
            f"datasets.train.dataroot_LR={json.dumps(roots['LR'])}",
            f"datasets.train.dataroot_HR={json.dumps(roots['HR'])}",
            f"datasets.val.dataroot_HR={json.dumps(held_out)}",
            *parsed.set,
        ],
    )
    result = train(options, resume="auto")
    model = Model.load(export_run(result.folder, out / "unpaired.safetensors", device="cpu"))
    field = jaw(50)
    enlarged = super_resolve(clinics_scan(field, 50), model, Options(window=CLINIC, dtype="float32"))
    found = (enlarged.voxels - MICRO[0]) / (MICRO[1] - MICRO[0])
    threshold = bone_threshold(field)
    truth, bone = field > threshold, found > threshold
    names, count = ndimage.label(bone & ~ndimage.binary_dilation(truth, iterations=2))
    sizes = np.bincount(names.ravel())[1:]
    cubic_centimetres = field.size * SPACING**3 / 1000
    figures = {
        "steps": parsed.steps,
        "proxy": result.results["latest"],
        "bone_volume_fraction": {"truth": bone_volume_fraction(truth), "unpaired": bone_volume_fraction(bone)},
        "invented_components_per_cm3": float((sizes >= LEAST_VOXELS).sum() / cubic_centimetres),
        "components": int(count),
    }
    write_text(out / "unpaired.json", json.dumps(figures, indent=2))
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
