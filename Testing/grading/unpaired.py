"""SR-CycleGAN on two drawn scanners whose grey values differ, with a truth that the training never sees.

    python Testing/grading/unpaired.py --out FOLDER [--steps N] [--set KEY=VALUE ...]

The clinic's scanner has pixels four times as wide as the micro-CT's, more blur and noise, and other grey values. Both
see drawn jaws, never the same. Trains Resources/Configurations/srcyclegan.json on them, and measures: PSNR of the proxy
(fine slices whose coarse ones are simulated with the clinic's blur and noise) beside cubic interpolation; and of an
unseen jaw in the clinic's scanner, enlarged, PSNR beside cubic interpolation, the bone volume fraction beside the
truth's, and components of bone for each cm3 where the truth has none. Writes unpaired.json. Called again, it goes on.
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
from CBCTSuperResLib.measure.fidelity import psnr
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.train.export import export_run
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.run import train
from CBCTSuperResLib.train.validation import enlarge_cubic

SCALE, SPACING = 4, 0.1  # mm, of the micro-CT
SHAPE = (12, 256, 256)
CLINIC, MICRO = (-1000.0, 3000.0), (2000.0, 52000.0)  # grey values of 0 and 1
WINDOWS = {"LR": CLINIC, "HR": MICRO}
BLUR, NOISE, NOISE_SMOOTH = 2.0, 0.02, 0.5  # of the clinic: fine pixels, share of the window, coarse pixels
LIKE_THE_CLINIC = {  # blur as the options have it: half coarse pixels
    **{"blur": [2 * BLUR / SCALE] * 2, "anisotropy": 1.0, "shift": 0.0, "noise": [NOISE] * 2, "strong_share": 0.0},
    **{"noise_smooth": [NOISE_SMOOTH] * 2, "grain_share": 0.0},
}
LEAST_VOXELS = 8  # of a component that counts


def jaw(seed: int) -> np.ndarray:
    """The object, in units of the window."""
    return jaw_phantom(SHAPE, SPACING, seed)


def clinics_scan(field: np.ndarray, seed: int) -> Volume:
    """Blurred, averaged over four by four pixels, noisy, in Hounsfield units."""
    image = gaussian_blur(field.astype(np.float32), BLUR, IN_PLANE)
    image = block_mean(image, IN_PLANE, SCALE)
    image = image + correlated_noise(image.shape, NOISE, NOISE_SMOOTH, IN_PLANE, seed)
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
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--jaws", type=int, default=4, help="of either scanner")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    parsed = parser.parse_args()
    out = parsed.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    roots: dict[str, list[str]] = {"LR": [], "HR": [], "mask LR": [], "mask HR": []}
    for number in range(parsed.jaws):
        for role, make, seed in (("LR", clinics_scan, number), ("HR", micro_ct, 100 + number)):
            scan = make(jaw(seed), seed)
            roots[role].append(str(scan.write(out / f"{role}-{number}.nrrd")))
            tissue = Volume((scan.voxels > WINDOWS[role][0]).astype(np.uint8), scan.grid)
            roots[f"mask {role}"].append(str(tissue.write(out / f"mask {role}-{number}.nrrd")))
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
            f"datasets.train.dataroot_mask_LR={json.dumps(roots['mask LR'])}",
            f"datasets.train.dataroot_mask={json.dumps(roots['mask HR'])}",
            f"datasets.val.dataroot_HR={json.dumps(held_out)}",
            "datasets.val.degradation=physical",
            f"datasets.val.degradation_options={json.dumps(LIKE_THE_CLINIC)}",
            *parsed.set,
        ],
    )
    result = train(options, resume="auto")
    model = Model.load(export_run(result.folder, out / "unpaired.safetensors", device="cpu"))
    field = jaw(50)
    scan = clinics_scan(field, 50)
    enlarged = super_resolve(scan, model, Options(window=CLINIC, dtype="float32"))
    found = (enlarged.voxels - MICRO[0]) / (MICRO[1] - MICRO[0])
    coarse = (scan.voxels.astype(np.float32) - CLINIC[0]) / (CLINIC[1] - CLINIC[0])
    cubic = np.stack([enlarge_cubic(plane, SCALE) for plane in coarse])
    shown = {"unpaired": found, "cubic": cubic}
    threshold = bone_threshold(field)
    truth, bone = field > threshold, found > threshold
    names, count = ndimage.label(bone & ~ndimage.binary_dilation(truth, iterations=2))
    sizes = np.bincount(names.ravel())[1:]
    cubic_centimetres = field.size * SPACING**3 / 1000
    figures = {
        "steps": parsed.steps,
        "proxy": result.results["latest"],
        "psnr_of_the_unseen_jaw": {  # within the windows; beyond them, in air, no network works
            name: psnr(*(np.clip(image, 0, 1) for image in (of, field))) for name, of in shown.items()
        },
        "bone_volume_fraction": {
            name: bone_volume_fraction(of > threshold) for name, of in {"truth": field, **shown}.items()
        },
        "invented_components_per_cm3": float((sizes >= LEAST_VOXELS).sum() / cubic_centimetres),
        "components": int(count),
    }
    write_text(out / "unpaired.json", json.dumps(figures, indent=2))
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
