"""Protocol PZ: thick slices made as fine as their pixels, and other factors, against interpolation and three planes.

    python Testing/grading/thick_slices.py MODEL [NAME=FILE ...] --public-data FOLDER --out FOLDER [--planes light]

writes rows.json and table.md; with --into-card a model file with the rows in its card. `make bench-quality` runs it.

A scan of PZ x3 (or x5) has slices that are each the mean of three (five) fine ones, pixels as fine as the truth's, and
2 % of noise; one of P3 is blurred and halved along all axes; the other factors are blurred as P3's scans are, in voxels
of the scan. `--planes` names a model of slices, enlarged along all axes (planes isotropic), whose result is averaged
within and interpolated across slices to the truth's voxels where the factors differ from 2; thick slices it refuses.
The last tables are flat tissue with noise: what is left of it, and whether the lattice of the scan, or a pattern of
every second voxel, shows. Worker-side: needs torch.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import numpy as np
from scipy.ndimage import map_coordinates

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from CBCTSuperResLib.acquisition.anatomy import STANDARD_LEVELS
from CBCTSuperResLib.acquisition.estimate import FWHM
from CBCTSuperResLib.acquisition.scanner import ALL_AXES, IN_PLANE, P2, P3, block_mean, correlated_noise
from CBCTSuperResLib.apply.run import super_resolve
from CBCTSuperResLib.core.atomic import write_text
from CBCTSuperResLib.core.errors import SuperResError
from CBCTSuperResLib.core.interpolate import enlarge
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.measure.catalogue import MEASURES, Truth, View
from CBCTSuperResLib.measure.fidelity import gradient_energy
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.train.data.block_scan import scan_weights

from grading.cases import Case, held_out_cases
from grading.grading import named_models
from grading.tables import with_results

NOISE = P2.noise
USUAL_BLUR = P3.blur / 2  # of the scan's voxels
EDGE = 160  # of the part of a case that is measured, in fine voxels
FEWEST = 5  # coarse slices
MEASURED = ("psnr", "ssim_3d", "fsc")
FLAT_SHAPE = (24, 48, 48)
LATTICE = 10.0  # times the power around it: what noise alone exceeds once in a thousand times


@dataclass(frozen=True)
class Coarser:
    """How a scan is coarser than the truth.

    Attributes
    ----------
    name : str
    factors : (k, j, i)
        Fine voxels along a coarse one.
    blur : float
        Standard deviation of the blur before the mean over a voxel, in coarse voxels, where the factor is not 1.
    """

    name: str
    factors: tuple[float, float, float]
    blur: float = 0.0

    def counts(self, shape: Sequence[int]) -> list[int]:
        """Coarse voxels that fit into a fine image."""
        return [int(length / factor + 1e-6) for length, factor in zip(shape, self.factors, strict=True)]

    def part(self, truth: np.ndarray) -> np.ndarray:
        """What of a fine image the scan's voxels cover, in whole fine voxels."""
        counts = self.counts(truth.shape)
        return truth[tuple(slice(0, round(n * f)) for n, f in zip(counts, self.factors, strict=True))]

    def scan(self, truth: np.ndarray, seed: int) -> np.ndarray:
        """The scan of a fine image whose extent is that of `part`."""
        coarse = truth
        for axis, length in enumerate(truth.shape):
            count = round(length / self.factors[axis])
            factor = length / count
            if factor == 1:
                continue
            margin = int(5 * self.blur * factor + factor) + 1
            before = [(margin, margin) if n == axis else (0, 0) for n in range(3)]
            weights = scan_weights(count, factor, self.blur, length + 2 * margin, margin)
            padded = np.pad(coarse, before, mode="symmetric")
            coarse = np.moveaxis(np.tensordot(weights, padded, (1, axis)), 0, axis)
        return np.clip(coarse + correlated_noise(coarse.shape, NOISE, P2.noise_smooth, IN_PLANE, seed), 0, 1)


PZ = (Coarser("PZ x3", (3, 1, 1)), Coarser("PZ x5", (5, 1, 1)))
ALL_ALIKE = Coarser("P3", (2, 2, 2), USUAL_BLUR)
OTHERS = tuple(
    Coarser(name, factors, USUAL_BLUR)
    for name, factors in (
        ("x1.5", (1.5,) * 3),
        ("x2.7", (2.7,) * 3),
        ("x3.3", (3.3,) * 3),
        ("1 x 1 x 2.2", (2.2, 1, 1)),
    )
)
Method = Callable[[np.ndarray, Coarser, tuple[int, ...]], np.ndarray | None]  # None: it cannot


def linear(scan: np.ndarray, coarser: Coarser, shape: tuple[int, ...]) -> np.ndarray:
    """Trilinear interpolation."""
    return _spline(scan, shape, 1)


def b_spline(scan: np.ndarray, coarser: Coarser, shape: tuple[int, ...]) -> np.ndarray:
    """Cubic B-splines through the scan's voxels, in space."""
    return _spline(scan, shape, 3)


def cubic(scan: np.ndarray, coarser: Coarser, shape: tuple[int, ...]) -> np.ndarray:
    """Cubic interpolation, as everywhere else in our tables."""
    return enlarge(scan, shape)


BASELINES: dict[str, Method] = {"linear": linear, "cubic B-spline": b_spline, "cubic": cubic}


def any_size(model: Model, is_told: bool = False) -> Method:
    """What Apply makes of a scan with a model of any factor; it estimates the scanner's blur, or is told it."""

    def super_resolved(scan: np.ndarray, coarser: Coarser, shape: tuple[int, ...]) -> np.ndarray:
        factors = tuple(n / m for n, m in zip(shape, scan.shape, strict=True))
        volume = _volume(scan, factors)
        steps = zip(factors[::-1], volume.grid.spacing, strict=True)
        given = tuple(FWHM * coarser.blur * step if f > 1 else 0.0 for f, step in steps) if is_told else None
        options = Options(window=(0.0, 1.0), blank="none", scale=factors[::-1], scanner_blur=given)
        return super_resolve(volume, model, options).voxels

    return super_resolved


def three_planes(model: Model) -> Method:
    """A model of slices along all axes, x2, and from there by means and interpolation to the truth's voxels."""

    def super_resolved(scan: np.ndarray, coarser: Coarser, shape: tuple[int, ...]) -> np.ndarray | None:
        factors = tuple(n / m for n, m in zip(shape, scan.shape, strict=True))
        options = Options(window=(0.0, 1.0), blank="none", planes="isotropic")
        try:
            image = super_resolve(_volume(scan, factors), model, options).voxels
        except SuperResError:  # slices that are much thicker than pixels are refused
            return None
        for axis in ALL_AXES:
            if image.shape[axis] == 2 * shape[axis]:
                image = block_mean(image, (axis,))
        return enlarge(image, shape)

    return super_resolved


def _volume(scan: np.ndarray, factors: Sequence[float]) -> Volume:
    return Volume(np.ascontiguousarray(scan, np.float32), Grid(scan.shape[::-1], tuple(0.1 * f for f in factors[::-1])))


def _spline(scan: np.ndarray, shape: Sequence[int], order: int) -> np.ndarray:
    places = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(scan.shape, shape, strict=True)]
    return map_coordinates(scan, np.meshgrid(*places, indexing="ij"), order=order, mode="mirror").astype(np.float32)


def grade_case(
    case: Case, methods: Mapping[str, Method], coarser: Coarser, measured: Sequence[str] = MEASURED
) -> list[dict]:
    """The measures of all methods on one scan; none where the scan would have hardly any slices."""
    truth = coarser.part(case.truth)
    if coarser.counts(truth.shape)[0] < FEWEST:
        return []
    scan = coarser.scan(truth, crc32(f"{case.name} {coarser.name}".encode()))
    known = Truth(truth, case.spacing_mm and case.spacing_mm[::-1])
    values: dict[str, dict[str, float]] = {}
    for name, method in methods.items():
        start = time.perf_counter()
        image = method(scan, coarser, truth.shape)
        seconds = time.perf_counter() - start
        if image is None:
            continue
        view = View(image, known)
        found = {measure.name: measure.of(view) for measure in MEASURES if measure.name in measured}
        energies = zip(gradient_energy(view.image), gradient_energy(truth), strict=True)
        across, *within = (mine / (true or np.nan) for mine, true in energies)
        found |= {"energy_across": across, "energy_within": float(np.mean(within)), "seconds": seconds}
        for metric, value in found.items():
            row = values.setdefault(metric, dict.fromkeys(methods))
            row[name] = None if np.isnan(value) else round(float(value), 3)
    return [{"data": case.name, "protocol": coarser.name, "metric": metric, **row} for metric, row in values.items()]


def grade_flat(methods: Mapping[str, Method], coarser: Coarser) -> list[dict]:
    """Flat tissue with noise: nothing may appear in it, and the scan's lattice may not show."""
    outputs = tuple(round(n * f) for n, f in zip(FLAT_SHAPE, coarser.factors, strict=True))
    truth = np.full(outputs, STANDARD_LEVELS.soft, np.float32)
    scan = coarser.scan(truth, seed=14)
    midpoint = (STANDARD_LEVELS.soft + STANDARD_LEVELS.bone) / 2
    left, beyond, lattice = {}, {}, {}
    for name, method in methods.items():
        image = method(scan, coarser, outputs)
        if image is None:
            left[name] = beyond[name] = lattice[name] = None
            continue
        left[name] = round(100 * float(image.std()), 2)
        beyond[name] = int(np.count_nonzero(image > midpoint))
        lattice[name] = round(lattice_power(image, coarser.factors), 1)
    row = {"data": f"flat tissue, noise {100 * NOISE:g} %", "protocol": coarser.name}
    return [
        {**row, "metric": metric, **found}
        for metric, found in (("noise_left", left), ("voxels_beyond", beyond), ("lattice", lattice))
    ]


def lattice_power(image: np.ndarray, factors: Sequence[float]) -> float:
    """Power of the mean profiles at the scan's own frequencies, once and half per voxel, over that around them.

    Noise alone has ratios around 1; a pattern that repeats in every voxel, or every second, stands out. The largest of
    all axes; of those that are not enlarged, a voxel has no room for a pattern of its own, but every second has.
    """
    found = [0.0]
    for axis, factor in enumerate(factors):
        profile = image.mean(tuple(n for n in range(3) if n != axis), dtype=np.float64)
        power = np.abs(np.fft.rfft((profile - profile.mean()) * np.hanning(len(profile)))) ** 2
        for frequency in (1 / factor, 0.5 / factor):
            place = round(frequency * len(profile))
            around = [n for n in range(place - 8, place + 9) if abs(n - place) > 2 and 2 < n < len(power)]
            if place < len(power) and len(around) > 4:
                found.append(float(power[place - 1 : place + 2].max() / np.median(power[around])))
    return max(found)


def _middle(truth: np.ndarray, edge: int) -> np.ndarray:
    starts = [max(0, (n - edge) // 2) for n in truth.shape]
    return np.ascontiguousarray(truth[tuple(slice(s, s + edge) for s in starts)], np.float32)


def grade(
    methods: Mapping[str, Method], cases: Sequence[Case], quick: bool = False, measured: Sequence[str] = MEASURED
) -> Iterator[list[dict]]:
    """A table for each case and kind of scan, then those of flat tissue."""
    for case in cases:
        for coarser in (*PZ, ALL_ALIKE, *(() if quick else OTHERS)):
            yield grade_case(case, methods, coarser, measured)
    for coarser in (*PZ, ALL_ALIKE, *OTHERS):
        yield grade_flat(methods, coarser)


def as_table(rows: Sequence[dict], metric: str) -> str:
    """Markdown of one measure: a line a scan, a column a method."""
    rows = [row for row in rows if row["metric"] == metric]
    names = [name for name in rows[0] if name not in ("data", "protocol", "metric")]
    lines = [["scan", "protocol", *names], ["---"] * (len(names) + 2)]
    for row in rows:
        values = ("" if row[name] is None else f"{row[name]:g}" for name in names)
        lines.append([row["data"], row["protocol"], *values])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def gains(rows: Sequence[dict], model: str) -> Iterator[tuple[str, str, float]]:
    """PSNR of a model over the best of all other methods that are no models of any size: (data, protocol, dB)."""
    for row in rows:
        if row["metric"] == "psnr":
            others = [value for name, value in row.items() if name in BASELINES or name.endswith("three planes")]
            yield row["data"], row["protocol"], row[model] - max(value for value in others if value is not None)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="name or file, or NAME=FILE to call it so")
    parser.add_argument("--public-data", type=Path, metavar="FOLDER", help="folder with the scans of sources.json")
    parser.add_argument("--planes", action="append", default=[], metavar="MODEL", help="a model of slices to compare")
    parser.add_argument("--told", action="store_true", help="each model once more, given the true blur")
    parser.add_argument("--quick", action="store_true", help="PZ and P3 only")
    parser.add_argument("--thickness", action="store_true", help="measure the thickness of bone, too: minutes a scan")
    parser.add_argument("--edge", type=int, default=EDGE, metavar="VOXELS", help="of the part of a case (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for all that is written")
    parser.add_argument("--into-card", type=Path, metavar="FILE", help="write the first model here, with the rows")
    given = parser.parse_args(arguments)
    try:
        models = named_models(given.models)
        methods = BASELINES | {f"{n}, three planes": three_planes(m) for n, m in named_models(given.planes).items()}
        methods |= {name: any_size(model) for name, model in models.items()}
        if given.told:
            methods |= {f"{name}, told": any_size(model, is_told=True) for name, model in models.items()}
        rows = []
        cases = [replace(case, truth=_middle(case.truth, given.edge)) for case in held_out_cases(given.public_data)]
        measured = (*MEASURED, "thickness") if given.thickness else MEASURED
        for table in grade(methods, cases, given.quick, measured):
            rows += table
            for row in table[:1]:
                print(*row.values(), flush=True)
    except SuperResError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    given.out.mkdir(parents=True, exist_ok=True)
    write_text(given.out / "rows.json", json.dumps(rows, indent=1) + "\n")
    metrics = dict.fromkeys(row["metric"] for row in rows)
    write_text(given.out / "table.md", "\n\n".join(f"{m}\n\n{as_table(rows, m)}" for m in metrics) + "\n")
    if given.into_card:
        first = next(iter(models))
        print(with_results(models[first], rows, first).save(given.into_card))
    for name in models:
        print(f"{name} over the best of the others:")
        for data, protocol, gain in gains(rows, name):
            print(f"  {protocol:12} {data}: {gain:+.2f} dB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
