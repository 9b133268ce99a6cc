"""Denoising without enlarging (`--scale 1`) against the noisy scan itself and non-local means, on drawn jaws.

    python Testing/grading/denoise.py [MODEL ...] [--out FOLDER]

A drawn jaw is blurred as a scanner does and gets noise; the truth is the same scan without the noise, with the blur,
which denoising is to leave. Models are used as Apply does, told nothing; non-local means (Buades et al. 2005, of
scikit-image, in three dimensions) are told the true noise, with the better of two strengths. Writes rows.json and
table.md. Worker-side: needs torch and scikit-image.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from skimage.restoration import denoise_nl_means

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from CBCTSuperResLib.acquisition.phantom import jaw_phantom
from CBCTSuperResLib.acquisition.scanner import ALL_AXES, IN_PLANE, correlated_noise, gaussian_blur
from CBCTSuperResLib.apply.run import super_resolve
from CBCTSuperResLib.core.atomic import json_text, write_text
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.measure.fidelity import gradient_correlation, psnr
from CBCTSuperResLib.models.model import Model

SHAPE, SPACING_MM, SEED = (32, 112, 112), 0.25, 311
BLUR = 0.6  # voxels
NOISES = (0.01, 0.02, 0.04, 0.06)  # of the window
SMOOTHS = {0.0: 0.0, 0.6: 0.7}  # correlation of neighbours within slices, and the Gaussian that makes it
STRENGTHS = (0.7, 1.0)  # of non-local means, times the noise
BORDER = 8

Method = Callable[[np.ndarray, float], np.ndarray]


def scan_without_noise(shape: Sequence[int] = SHAPE) -> np.ndarray:
    """A drawn jaw as the scanner would show it if it had no noise, float32 in [0, 1]."""
    return np.clip(gaussian_blur(jaw_phantom(shape, SPACING_MM, SEED), BLUR, ALL_AXES), 0, 1)


def noisy(truth: np.ndarray, noise: float, correlation: float) -> np.ndarray:
    added = correlated_noise(truth.shape, 1.0, SMOOTHS[correlation], IN_PLANE, SEED)
    return truth + np.float32(noise) * added.astype(np.float32)


def non_local_means(strength: float) -> Method:
    """Of a strength times the noise, which it is told."""

    def denoised(scan: np.ndarray, noise: float) -> np.ndarray:
        given = {"patch_size": 3, "patch_distance": 4, "sigma": noise, "h": strength * noise, "fast_mode": True}
        return denoise_nl_means(scan, **given)

    return denoised


def as_apply(model: Model, device: str = "cpu") -> Method:
    """What Apply makes of a scan with `--scale 1`."""

    def denoised(scan: np.ndarray, noise: float) -> np.ndarray:
        volume = Volume(np.ascontiguousarray(scan, np.float32), Grid(scan.shape[::-1], (SPACING_MM,) * 3))
        options = Options(window=(0.0, 1.0), blank="none", scale=1.0, device=device)
        return super_resolve(volume, model, options).voxels

    return denoised


def grade(
    models: Mapping[str, Method],
    noises: Sequence[float] = NOISES,
    correlations: Sequence[float] = tuple(SMOOTHS),
    shape: Sequence[int] = SHAPE,
) -> list[dict]:
    """A row for each noise: PSNR against the scan without it, and correlation of the gradients, of each method."""
    truth, rows = scan_without_noise(shape), []
    inner = tuple(slice(BORDER, n - BORDER) for n in shape)

    def figures(image: np.ndarray) -> dict:
        a, b = truth[inner], np.clip(image[inner], 0, 1)
        return {"psnr": psnr(b, a, 1.0), "gradient_correlation": gradient_correlation(b, a)}

    for noise, correlation in product(noises, correlations):
        scan = noisy(truth, noise, correlation)
        means = [figures(non_local_means(strength)(scan, noise)) for strength in STRENGTHS]
        found = {"noisy scan": figures(scan), "non-local means": max(means, key=lambda row: row["psnr"])}
        found |= {name: figures(method(scan, noise)) for name, method in models.items()}
        rows.append({"noise": noise, "correlation": correlation, "methods": found})
    return rows


def as_table(rows: Sequence[dict]) -> str:
    """PSNR in dB and correlation of gradients, a line for each noise."""
    names = list(rows[0]["methods"])
    lines = [["noise (% of the window)", "correlation", *names], ["---"] * (2 + len(names))]
    for row in rows:
        cells = [f"{m['psnr']:.1f} dB, {m['gradient_correlation']:.3f}" for m in row["methods"].values()]
        lines.append([f"{100 * row['noise']:g}", f"{row['correlation']:g}", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", default=["any-size"], metavar="MODEL")
    parser.add_argument("--out", type=Path, metavar="FOLDER")
    parsed = parser.parse_args(arguments)
    rows = grade({name: as_apply(Model.load(name)) for name in parsed.models})
    print(as_table(rows))
    if parsed.out:
        parsed.out.mkdir(parents=True, exist_ok=True)
        write_text(parsed.out / "table.md", as_table(rows))
        write_text(parsed.out / "rows.json", json_text(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
