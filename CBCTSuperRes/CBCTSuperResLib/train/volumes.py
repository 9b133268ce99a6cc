"""How good enlarged volumes are, for networks of three dimensions: while they learn, and on test sets.

Measured inside a mask, or wherever the true volume is not blank, beside cubic interpolation of the same coarse volume
along all three axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, pvariance
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from ..acquisition.label_map import read_label_map
from ..acquisition.scanner import ALL_AXES, correlated_noise
from ..apply.file import apply_to_file
from ..core.atomic import replacing
from ..core.errors import Cancelled, InputError
from ..core.interpolate import enlarge
from ..core.options import Options
from ..core.progress import Report, part_of
from ..core.volume import Grid
from ..io.formats import file_name
from ..io.pictures import comparison, distinct, write_picture
from ..io.read import probe
from ..io.volume import Volume
from ..io.volume_files import read_header, read_voxels
from ..measure.fidelity import psnr, ssim_map
from ..models.model import Model
from ..scan.field_of_view import find_blanks
from ..scan.window import Window
from .data.block_scan import NOISE_SMOOTH, BlockScan
from .data.blocks import drawn_cubes, read_volumes
from .data.decode import Tally, read_voxels_of, window_of
from .data.files import Entry, Subset, pair_entries, planes_of, roots_of
from .data.pictures import entries_of
from .validation import TITLES, Enlarger, means, undisturbed, write_rows

if TYPE_CHECKING:
    from .dataset_options import DatasetOptions
    from .options import TrainingOptions

SMALLEST = 4  # voxels along the edge of a coarse block that is worth measuring at any factor
COMPLETE = 5  # voxels from a border where SSIM's neighbourhood is not complete
STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": fmean,
    "variance": pvariance,
    "min": min,
    "max": max,
    "median": median,
}


def measure_volume(
    image: np.ndarray, truth: np.ndarray, border: int = 0, mask: np.ndarray | None = None
) -> dict[str, float]:
    """PSNR (dB) and SSIM (in three dimensions) of a volume, on float data with a range of 1.

    Parameters
    ----------
    image, truth : ndarray, shape (k, j, i)
        In units of the window; clipped to [0, 1] first.
    border : int
        Voxels that are left out on every side; of SSIM five more, except in volumes so small that nothing would remain.
    mask : ndarray of bool, optional
        Which voxels count.

    Raises
    ------
    InputError
        If the mask leaves nothing.
    """
    image, truth = (np.clip(np.asarray(a, np.float32), 0, 1) for a in (image, truth))
    small = min(truth.shape) <= 2 * (border + COMPLETE)
    similarity = ssim_map(image, truth, axes=ALL_AXES)
    values = {}
    for name, cut in (("psnr", border), ("ssim", border + (0 if small else COMPLETE))):
        inner = (slice(cut, -cut or None),) * 3
        chosen = np.ones_like(truth[inner], bool) if mask is None else mask[inner]
        if not chosen.any():
            raise InputError("The mask leaves no voxel to measure.", "Check dataroot_mask.")
        if name == "psnr":
            values[name] = psnr(image[inner], truth[inner], mask=chosen)
        else:
            values[name] = float(similarity[inner][chosen].mean())
    return values


def compared_with_cubic(
    sr: np.ndarray, coarse: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None
) -> dict[str, float]:
    """The measures of an enlarged volume, each followed by that of cubic interpolation of `coarse`."""
    border = max(0, min(truth.shape[0] // coarse.shape[0], (min(truth.shape) - 3) // 2))
    found = measure_volume(sr, truth, border, mask)
    cubic = measure_volume(enlarge(coarse, truth.shape), truth, border, mask)
    return {key: value for name in found for key, value in ((name, found[name]), (f"{name}_cubic", cubic[name]))}


def statistics_of(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Mean, variance, smallest, largest and median of each measure over images; infinite PSNR counts as 100 dB."""
    if not rows:
        return {}
    values = {name: [min(row[name], 100.0) for row in rows] for name in rows[0]}
    return {name: {what: float(of(found)) for what, of in STATISTICS.items()} for name, found in values.items()}


def write_statistics(statistics: Mapping[str, Mapping[str, float]], path: Path) -> Path:
    """What `statistics_of` returned as CSV, a measure a line; whole or not at all."""
    lines = [",".join(("measure", *STATISTICS))]
    lines += [",".join((name, *(f"{value:.6f}" for value in found.values()))) for name, found in statistics.items()]
    with replacing(path) as scratch:
        scratch.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    return path


def statistics_text(statistics: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Lines of a table for a terminal: PSNR and SSIM of the model and of cubic interpolation."""
    lines = []
    for name, (title, digits) in TITLES.items():
        for way, suffix in (("model", ""), ("cubic", "_cubic")):
            if found := statistics.get(f"{name}{suffix}"):
                values = "".join(f"{value:>12.{digits + 1}f}" for value in found.values())
                lines.append(f"  {title + ', ' + way:24}{values}")
    return [f"  {'':24}{''.join(f'{what:>12}' for what in STATISTICS)}", *lines] if lines else []


class VolumeValidator:
    """Measures a network in the middle of volumes, again and again while it learns.

    Parameters
    ----------
    options : TrainingOptions
        Its `train.val_size` is the edge of what is measured of each volume, in fine voxels, `logger.val_slices` the
        largest number of volumes and `logger.val_images` that of pictures.
    scan : BlockScan
        How coarse volumes are simulated in mode HR: with blur and noise in the middle of its ranges.
    factors : sequence of float, optional
        At which a network of any factor is measured, each along all axes; otherwise there is `options.scale` alone.

    Raises
    ------
    InputError
        If the volumes are not what the options say, or too small.
    """

    def __init__(self, options: TrainingOptions, scan: BlockScan, factors: Sequence[float] | None = None) -> None:
        dataset = options.dataset("val")
        self._scan, self._edge = scan, options.train.val_size
        self._is_any_factor, self._factors = factors is not None, factors or [options.scale]
        volumes = [*read_volumes(dataset)[0], *({"HR": one} for one in drawn_cubes(dataset, options, self._edge))]
        self._volumes = volumes[: options.logger.val_slices]
        self._pictured = options.logger.val_images
        skipped = len(volumes) - len(self._volumes)
        self.warnings = [f"{skipped} val volumes are not measured (logger.val_slices)."] * bool(skipped)
        least = (SMALLEST if self._is_any_factor else 1) * max(self._factors)
        for high in (volume["HR"] for volume in self._volumes):
            smallest = min(*high.voxels.shape, self._edge)
            if smallest < least:
                raise InputError(
                    f"Validation at a factor of {max(self._factors):g} needs blocks of {least:g} voxels, and of "
                    f"{high.name} there are {smallest} along an axis (train.val_size is {self._edge}).",
                    "Give larger val volumes, a larger train.val_size or smaller factors.",
                )

    def run(
        self,
        networks: Mapping[str, nn.Module],
        step: int,
        folder: Path | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> dict[str, float]:
        """As `Validation.run`: "psnr", "ssim", each also with "_cubic", and "images", the number of volumes.

        Of a network of any factor they are means over all factors, and come once more for each, such as "psnr_x2.5".
        """
        network = networks["G"]
        rows: dict[str, dict[str, float]] = {}
        of_factor: dict[float, list[dict[str, float]]] = {factor: [] for factor in self._factors}
        blur, noise = _usual_scanner(self._scan)
        with undisturbed():
            device, context = str(next(network.parameters()).device), network.describe().context
            enlarge_volume = Enlarger(network, device, context, cancelled)
            for number, volume in enumerate(self._volumes):
                for factor in self._factors:
                    coarse, fine, scale = self._pair(number, volume, factor)
                    asked = {"scale": scale} if self._is_any_factor else {}
                    sr = enlarge_volume(coarse, **asked, blur=blur, noise=noise)
                    row = compared_with_cubic(sr, coarse, fine)
                    name = volume["HR"].name + (f" x{factor:g}" if self._is_any_factor else "")
                    rows[title := distinct(name, rows)] = row
                    of_factor[factor].append(row)
                    if folder and len(rows) <= self._pictured:
                        name = file_name(title)
                        picture = middle_slices(coarse, sr, fine, row)
                        write_picture(picture, folder / name / f"{name}_{step}.png")
        if folder:
            write_rows(rows, folder / f"{step}.csv")
        results = means([*rows.values()])
        if self._is_any_factor:
            for factor, measured in of_factor.items():
                results |= {f"{name}_x{factor:g}": value for name, value in means(measured).items()}
        return {**results, "images": len(self._volumes)}

    def _pair(
        self, number: int, volume: Mapping, factor: float
    ) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
        """LR, HR of the middle of a volume, in units of the window, and the factors between their whole voxels."""
        high = volume["HR"]
        counts = [min(self._edge, length) for length in high.voxels.shape]
        if factor == int(factor):
            counts = [int(count // factor * factor) for count in counts]
        outputs = [max(1, round(count / factor)) for count in counts]
        scale = tuple(count / output for count, output in zip(counts, outputs, strict=True))
        starts = [(length - count) // 2 for length, count in zip(high.voxels.shape, counts, strict=True)]
        if "LR" in volume:
            low, whole = volume["LR"], int(factor)
            starts = [start // whole for start in starts]
            places = [start * whole for start in starts]
            return low.cut(low.voxels, starts, outputs), high.cut(high.voxels, places, counts), scale
        margins = self._scan.margins(scale)
        fine = high.cut(
            high.voxels,
            [start - margin for start, margin in zip(starts, margins, strict=True)],
            [count + 2 * margin for count, margin in zip(counts, margins, strict=True)],
        )
        inner = tuple(slice(margin, margin + count) for margin, count in zip(margins, counts, strict=True))
        return simulated(fine, self._scan, outputs, scale, number), np.clip(fine[inner], 0, 1), scale

    def close(self) -> None:
        """Nothing is open."""


def simulated(
    fine: np.ndarray, scan: BlockScan, outputs: Sequence[int], factors: Sequence[float], seed: int
) -> np.ndarray:
    """The coarse scan of a fine volume with the margins of `scan`, blur and noise in the middle of its ranges."""
    blur, noise = _usual_scanner(scan)
    coarse = scan.coarse(fine, outputs, factors, blur)
    coarse = coarse + correlated_noise(coarse.shape, noise, NOISE_SMOOTH, ALL_AXES, seed)
    return np.clip(coarse, 0, 1).astype(np.float32)


def _usual_scanner(scan: BlockScan) -> tuple[list[float], float]:
    """Blur along each axis and noise in the middle of the ranges that are drawn from."""
    return [sum(scan.blur) / len(scan.blur)] * 3, sum(scan.noise) / 2


def middle_slices(coarse: np.ndarray, sr: np.ndarray, fine: np.ndarray, row: Mapping[str, float]) -> np.ndarray:
    """The picture of a volume, its middle slice: LR, cubic, SR and HR; uint8."""
    k = len(fine) // 2
    cubic = enlarge(coarse, fine.shape)
    nearest = [np.arange(n) * m // n for n, m in zip(fine.shape, coarse.shape, strict=True)]
    return comparison(
        {
            "LR": coarse[np.ix_(nearest[0][k : k + 1], *nearest[1:])][0],
            f"cubic {row['psnr_cubic']:.2f} dB": cubic[k],
            f"SR {row['psnr']:.2f} dB": sr[k],
            "HR": fine[k],
        }
    )


@dataclass(frozen=True)
class Case:
    """One volume of a test set: files, the axial slices of them that count, and what the mask is."""

    name: str
    low: Entry | None
    high: Entry | None
    mask: Entry | None


class VolumeTest:
    """The volumes of a test set, enlarged by `apply` and measured.

    Parameters
    ----------
    options : TrainingOptions
        Read with is_train=False.
    dataset : DatasetOptions
    model : Model
    folder : Path
        Gets the enlarged volumes, `simulated LR/` where coarse ones were simulated, and pictures.
    device : str

    Raises
    ------
    InputError
        If there are no volumes, or they are not what the options say.

    Attributes
    ----------
    window : Window
    warnings : list of str
    """

    def __init__(
        self, options: TrainingOptions, dataset: DatasetOptions, model: Model, folder: Path, device: str
    ) -> None:
        self._options, self._dataset, self._model = options, dataset, model
        self._folder, self._device = folder, device
        self._scan = block_scan(options)
        self._cases = [*cases_of(dataset)]
        self.window, self.warnings = self._window(), []

    def __len__(self) -> int:
        return len(self._cases)

    def rows(self, progress: Report | None, cancelled: Callable[[], bool]) -> Iterator[tuple[str, dict[str, float]]]:
        """The measures of each volume whose truth is known, by its name; everything else is done on the way."""
        written: set[str] = set()
        for number, case in enumerate(self._cases):
            if cancelled():
                raise Cancelled
            part = part_of(progress, number / len(self), (number + 1) / len(self))
            written.add(name := distinct(case.name, written))
            found = self._tested(number, name, case, part, cancelled)
            if found:
                yield name, found

    def _tested(
        self, number: int, name: str, case: Case, progress: Report, cancelled: Callable[[], bool]
    ) -> dict[str, float] | None:
        scale = self._options.scale
        truth, grid = (None, None) if case.high is None else self._read(case.high)
        if case.low:
            source, roi = case.low.path, self._roi(case.low, scale if case.high else 1)
        else:
            truth = truth[tuple(slice(0, length // scale * scale) for length in truth.shape)]
            source, roi = self._simulated(number, name, truth, grid), None
        path = self._place(name, f"{self._options.suffix or ''}.nrrd")
        own = Options(window=(self.window.lo, self.window.hi), roi=roi, device=self._device)
        if self._model.spec.scale is None:
            own = Options(**{**vars(own), "scale": float(scale)})
        apply_to_file(source, path, self._model, own, progress, cancelled)
        if truth is None:
            return None
        header = read_header(path)
        sr, coarse = read_voxels(header), self._coarse(source, roi)
        if any(b % scale or b // scale != a for a, b in zip(coarse.shape, truth.shape, strict=True)):
            sizes = [" x ".join(map(str, a.shape[::-1])) for a in (truth, coarse)]
            raise InputError(
                f"HR of {case.name} has {sizes[0]} voxels and LR {sizes[1]}: HR is not {scale} times LR.",
                "Correct scale, or crop both to their common region (cbct-superres prepare).",
            )
        mask = self._mask(case, truth, grid)
        sr, coarse, fine = (self.window.to_unit(voxels) for voxels in (sr, coarse, truth))
        row = compared_with_cubic(sr, coarse, fine, mask)
        if number < self._options.logger.val_images:
            picture = middle_slices(coarse, sr, fine, row)
            write_picture(picture, self._folder / "comparisons" / f"{file_name(name)}.png")
        return row

    def _read(self, entry: Entry) -> tuple[np.ndarray, Grid]:
        plane = planes_of(entry, slices=self._dataset.slices)[0]
        return read_voxels_of(plane), probe(entry.path).grid

    def _roi(self, low: Entry, scale: int) -> tuple | None:
        """The part of LR of the axial slices that are asked for, which are those of HR where there is HR."""
        if self._dataset.slices is None:
            return None
        columns, rows, depth = probe(low.path).size
        start, stop = (n // scale for n in self._dataset.slices)
        return (0, columns), (0, rows), (start, min(stop, depth))

    def _coarse(self, source: Path, roi: tuple | None) -> np.ndarray:
        voxels = Volume.read(source).voxels
        return voxels if roi is None else voxels[slice(*roi[2])]

    def _simulated(self, number: int, name: str, truth: np.ndarray, grid: Grid) -> Path:
        """Write the coarse scan of a volume."""
        scale, unit = self._options.scale, self.window.to_unit(truth)
        factors, outputs = [float(scale)] * 3, [length // scale for length in truth.shape]
        wide = np.pad(unit, [(m, m) for m in self._scan.margins(factors)], mode="symmetric")
        coarse = simulated(wide, self._scan, outputs, factors, number)
        grey = self.window.from_unit(coarse)
        if np.issubdtype(truth.dtype, np.integer):
            grey = np.rint(grey)
        path = self._place(f"simulated LR/{name}", ".nrrd")
        fine = Grid(truth.shape[::-1], grid.spacing, grid.origin, grid.direction)
        Volume(grey.astype(truth.dtype), fine.resampled(coarse.shape[::-1])).write(path)
        return path

    def _mask(self, case: Case, truth: np.ndarray, grid: Grid) -> np.ndarray | None:
        """Where is measured: inside the mask of the data set, or wherever HR is not blank."""
        if case.mask is None:
            blanks = find_blanks(Volume(truth, Grid(truth.shape[::-1], grid.spacing)))
            masks = [blanks.mask(k) for k in range(len(truth))] if blanks else []
            if not masks:
                return None
            return np.stack([np.ones(truth.shape[1:], bool) if m is None else ~m for m in masks])
        mask = read_label_map(case.mask.path).voxels
        if mask.shape != grid.shape:  # not of truth, of which only whole multiples of the factor are left
            sizes = [" x ".join(map(str, shape[::-1])) for shape in (mask.shape, grid.shape)]
            raise InputError(
                f"The mask {case.mask.path} has {sizes[0]} voxels and its volume {sizes[1]}.",
                "Give masks on the grid of HR.",
            )
        mask = mask[slice(*(self._dataset.slices or (None,)))]
        return mask[tuple(slice(0, length) for length in truth.shape)] > 0

    def _place(self, name: str, kind: str) -> Path:
        """Where a volume goes; folders within its name become folders."""
        *parents, last = (file_name(part) for part in name.split("/"))
        path = self._folder.joinpath(*parents, f"{last}{kind}")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _window(self) -> Window:
        """The one that is asked for, or that of all files, which are then read once more."""
        if self._dataset.normalization_range:
            return Window(*self._dataset.normalization_range)
        tallies = {"low": Tally("LR", None), "high": Tally("HR", None)}
        for case in self._cases:
            for role, tally in tallies.items():
                if entry := getattr(case, role):
                    planes = planes_of(entry)
                    tally.add(read_voxels_of(planes[0]), planes)
        seen = [tally for tally in tallies.values() if tally.values]
        for tally in seen:
            tally.check()
        return window_of(seen)


def cases_of(dataset: DatasetOptions) -> Iterator[Case]:
    """The volumes of a test set, with their masks by name.

    Raises
    ------
    InputError
        If something is a slice, or a volume has no partner or no mask.
    """
    roots = roots_of(dataset.dataroot_mask), roots_of(dataset.dataroot_HR)
    pairs = pair_entries(*roots, Subset(dataset.subset_file), "mask") if roots[0] else []
    masks = {high.path: mask for mask, high in pairs}
    for low, high in entries_of(dataset):
        for entry in (low, high):
            if entry and not entry.is_volume:
                raise InputError(f"{entry.path} is a slice, and the model enlarges volumes.", "Give volumes.")
        yield Case((high or low).name, low, high, masks.get(high.path) if high else None)


def block_scan(options: TrainingOptions) -> BlockScan:
    """How the coarse scans of a test set are simulated: as `train` says, by default as training does."""
    factor = float(options.scale)
    own = {
        name: getattr(options.train, name) for name in ("blur", "noise", "noise_smooth") if hasattr(options.train, name)
    }
    return BlockScan(((factor, factor),) * 3, **own)
