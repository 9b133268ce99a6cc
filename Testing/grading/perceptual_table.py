"""The four models of the perceptual-loss table, trained again on honest data, with their checkerboards measured.

    python Testing/grading/perceptual_table.py --out FOLDER [--feature-weights vgg16-397923af.pth]
        [--public-data FOLDER] [--quick]

trains Resources/Configurations/perceptual-*.json one after the other (those with the perceptual loss only where the
file with VGG16's weights is given) and measures PSNR and SSIM on drawn slices of other seeds and, where public scans
are, on slices of the tooth and of bone. The target lies in [0, 1] and so does what the networks give, unlike in the
published program, whose table therefore tells nothing. Writes table.md and rows.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from CBCTSuperResLib.core.atomic import write_text
from CBCTSuperResLib.core.errors import SuperResError
from CBCTSuperResLib.core.resources import resource
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.train.data.degradation import imresize
from CBCTSuperResLib.train.data.public import public_scans
from CBCTSuperResLib.train.data.source import open_images
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.run import train
from CBCTSuperResLib.train.validation import Enlarger, border_of, enlarge_cubic, measure

from grading.cases import in_robust_window

MODELS = ("vgg-ts", "vgg-nn", "mse-ts", "mse-nn")
QUICK = (
    "network_G.nf=12",
    "num_epoch=8",
    "epoch_size=480",
    "datasets.train.procedural=60",
    "datasets.val.procedural=6",
)
SLICES = 6  # of each public scan
NEAR, FAR = 1, 4  # bins around a frequency: its peak, and where what surrounds it begins
WIDTH = 5  # bins of the surroundings


def checkerboard(image: np.ndarray, factor: int) -> float:
    """How far the spectrum stands out at the frequencies of a lattice of `factor` pixels, in dB; 0 if it does not.

    A network that treats the pixels of each coarse pixel differently repeats that difference from pixel to pixel: its
    power lies at multiples of 1 / factor cycles a pixel. There it is compared with the power around.

    Parameters
    ----------
    image : ndarray, shape (rows, columns)
        Of what the network adds to the truth, or of the result itself; multiples of `factor` pixels.
    """
    rows, columns = (n - n % factor for n in image.shape)
    part = image[:rows, :columns] - image[:rows, :columns].mean()
    window = np.hanning(rows)[:, None] * np.hanning(columns)
    power = np.abs(np.fft.fft2(part * window)) ** 2
    ratios = []
    for i, j in product(range(factor), repeat=2):
        if (i, j) == (0, 0):
            continue
        row, column = i * rows // factor, j * columns // factor
        offsets = range(-FAR - WIDTH, FAR + WIDTH + 1)
        around = power[np.ix_([(row + n) % rows for n in offsets], [(column + n) % columns for n in offsets])]
        distance = np.maximum(*np.abs(np.meshgrid(offsets, offsets)))
        ratios.append(around[distance <= NEAR].mean() / max(around[distance >= FAR].mean(), 1e-30))
    return float(10 * np.log10(np.mean(ratios)))


def images_of(options, public_data: Path | None) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(kind, coarse, fine) of drawn slices of other seeds, and of public scans."""
    images = open_images(options.dataset("val"), options)
    found = [("drawn slices", pair.LR, pair.HR) for pair in images]
    if public_data is None:
        return found
    scans = public_scans()
    for name, kind in (("tooth", "human molar"), ("trabecular", "held-out bone")):
        scan = scans[name]
        fine = in_robust_window(scan.read(public_data), scan.train_slices[1] if scan.train_slices else 0)
        for image in fine[:: max(1, len(fine) // SLICES)][:SLICES]:
            rows, columns = (n - n % (2 * options.scale) for n in image.shape)
            truth = np.ascontiguousarray(image[:rows, :columns], np.float32)
            found.append((kind, np.clip(imresize(truth, 1 / options.scale), 0, 1), truth))
    return found


def row_of(name: str, out: Path, feature_weights: Path | None, public_data: Path | None, quick: bool) -> dict:
    """Train one model and measure it; a model that cannot be trained says why."""
    changes = [f"path.root={json.dumps(str(out))}", *(QUICK if quick else ())]
    if name.startswith("vgg"):
        if feature_weights is None:
            return {"model": name, "why_not": "needs VGG16's weights (--feature-weights)"}
        changes.append(f"path.feature_weights={json.dumps(str(feature_weights))}")
    options = read_options(resource(f"Configurations/perceptual-{name}.json"), changes)
    start = time.perf_counter()
    folder = train(options, resume="auto").folder
    seconds = time.perf_counter() - start
    model = Model.load(folder / "models" / "latest_G.safetensors")
    enlarge, rows = Enlarger(model.network, "cpu"), {}
    for kind, low, high in images_of(options, public_data):
        sr, border = enlarge(low), border_of(high, options.scale)
        found = measure(sr, high, border)
        cubic = measure(enlarge_cubic(low, options.scale), high, border)
        row = [found["psnr"], found["ssim"], cubic["psnr"], cubic["ssim"], checkerboard(sr - high, options.scale)]
        rows.setdefault(kind, []).append(row)
    means = {kind: [float(v) for v in np.mean(values, axis=0)] for kind, values in rows.items()}
    return {"model": name, "minutes": seconds / 60, "iterations": options.train.niter, "measures": means}


def as_table(rows: Sequence[dict]) -> str:
    """Markdown."""
    head = ["model", "data", "PSNR (dB)", "cubic", "SSIM", "cubic", "checkerboard (dB)", "training (min)"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        if "why_not" in row:
            lines.append(f"| {row['model']} | not trained: {row['why_not']} |" + " |" * (len(head) - 2))
        for kind, (psnr, ssim, cubic_psnr, cubic_ssim, board) in row.get("measures", {}).items():
            cells = [row["model"], kind, f"{psnr:.2f}", f"{cubic_psnr:.2f}", f"{ssim:.3f}", f"{cubic_ssim:.3f}"]
            lines.append(f"| {' | '.join([*cells, f'{board:.1f}', format(row['minutes'], '.1f')])} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--feature-weights", type=Path, help="torchvision's vgg16-397923af.pth")
    parser.add_argument("--public-data", type=Path, help="folder of the public scans")
    parser.add_argument("--quick", action="store_true", help="12 features, 240 iterations")
    parsed = parser.parse_args(arguments)
    try:
        parsed.out.mkdir(parents=True, exist_ok=True)
        rows = [row_of(n, parsed.out, parsed.feature_weights, parsed.public_data, parsed.quick) for n in MODELS]
    except SuperResError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    write_text(parsed.out / "rows.json", json.dumps(rows, indent=1))
    write_text(parsed.out / "table.md", as_table(rows))
    print(as_table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
