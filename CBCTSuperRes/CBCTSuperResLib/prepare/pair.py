"""One pair of scans, from files to aligned training images: read, register, cut, judge, write."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import SimpleITK as sitk

from .. import __version__
from ..core.atomic import replacing_folder, write_json
from ..core.errors import InputError, ResourceError
from ..core.memory import available_memory, readable
from ..core.progress import Report, part_of
from ..core.volume import Grid
from ..io.formats import stem_of
from ..io.read import probe, read_volume
from ..io.volume import Volume
from ..io.write import check_disk, write_volume
from ..scan.field_of_view import find_blanks
from ..scan.window import Window
from ..scan.window_choice import WindowChoice, choose_window
from .alignment import (
    Alignment,
    check_alignment,
    check_movement,
    check_overlap,
    measure_alignment,
    movement,
    warn_of_ratio,
)
from .images import Scan, block_means, stop_if
from .options import PrepareOptions
from .picture import draw, views
from .region import Region, find_common, find_region
from .register import Registration, register, unmoved
from .resample import UINT16, Line, LowResolution, fit_line, hr_voxels, native_ratio, to_uint16, window_of_lr

TRANSFORM, REPORT, PICTURE, DATASETS = "lr_to_hr.tfm", "report.json", "checkerboard.png", "datasets.json"
_ENCODING = {"tif": [cv2.IMWRITE_TIFF_COMPRESSION, 1], "png": [cv2.IMWRITE_PNG_COMPRESSION, 1]}
_CLIPPED = 0.01  # share of an image that the window may cut off unsaid
_REGISTRATION = 300_000_000  # bytes


def prepare_pair(
    lr: str | Path,
    hr: str | Path,
    out: str | Path,
    options: PrepareOptions | None = None,
    progress: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
    name: str | None = None,
) -> dict:
    """Register a low-resolution scan to a high-resolution scan of the same object and write training pairs.

    Writes HR/ and LR/ with 16-bit slices of equal names (or volumes), report.json, checkerboard.png, the transform
    lr_to_hr.tfm and datasets.json, which is `datasets` of a training's options. All of it appears, or nothing.

    Peak of memory: both scans, 6 bytes a voxel of the HR scan, 12 bytes a voxel of the LR scan, and 300 MB; refused
    beforehand if the machine has less.

    Parameters
    ----------
    lr, hr : path
        Anything that `io.read.read_volume` reads. Never modified.
    out : path
        Folder to be made; it may exist if it is empty.
    options : PrepareOptions, optional
    progress : callable, optional
        Called with a fraction and a message.
    cancelled : callable, optional
        Asked many times a second; in very large scans there may be two seconds between.
    name : str, optional
        Beginning of the files' names; taken from the HR scan's file otherwise.

    Returns
    -------
    dict
        The content of report.json.

    Raises
    ------
    InputError
        If a scan cannot be read, registration plainly failed, or the common region is too small.
    OptionError, OutputError, ResourceError, Cancelled
    """
    options = options or PrepareOptions()
    out = Path(out).expanduser().absolute()
    with replacing_folder(out) as folder:
        report = write_pair(Path(lr), Path(hr), folder, options, name or scan_name(hr), progress, cancelled)
        roots = [out / side for side in ("HR", "LR")]
        roots = [root / report["files"][0] for root in roots] if options.format == "nrrd" else roots
        write_json(folder / DATASETS, {"train": dataset("TRAIN", *map(str, roots), report["window_lr"])})
    part_of(progress, 0, 1)(1.0, "Done")
    return report


def write_pair(
    lr: Path,
    hr: Path,
    folder: Path,
    options: PrepareOptions,
    name: str,
    progress: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict:
    """Everything but datasets.json of a pair, into a folder that exists; see `prepare_pair`."""
    _check_memory(lr, hr, options)
    name = safe_name(name)

    told = part_of(progress, 0.0, 0.1)
    told(0.0, "Reading the HR scan")
    fine_scan = _read(hr, "HR", options)
    stop_if(cancelled)
    told(0.6, "Reading the LR scan")
    coarse_scan = _read(lr, "LR", options)
    stop_if(cancelled)

    if options.register:
        told = part_of(progress, 0.1, 0.6)
        found = register(fine_scan, coarse_scan, options.initial, options.seed, told, cancelled)
        check_movement(found, fine_scan.grid, options)
    else:
        found = unmoved(fine_scan, options.initial)

    told = part_of(progress, 0.6, 0.85)
    told(0.0, "Finding the common region")
    transform = found.transform()
    common = find_common(fine_scan, coarse_scan, transform, options.factors, cancelled)
    check_overlap(common.overlap, options)
    region = find_region(common, fine_scan.grid, options)
    del common
    pair = _cut(fine_scan, coarse_scan, found, region, options, told, cancelled)

    told = part_of(progress, 0.85, 1.0)
    told(0.0, "Drawing the checkerboard")
    start, first = replace(found, matrix=found.start).transform(), region.start[2]
    draw(
        folder / PICTURE,
        f"{name}: residual misalignment {pair.alignment.median_mm:.3f} mm (median), {pair.alignment.p95_mm:.3f} mm "
        "(95 %)",
        f"Before: {found.begun_from}. Correlation of the gradients {pair.alignment.gradient_correlation:.2f}.",
        views(
            pair.fine,
            region.hr_grid,
            first,
            before=lambda grid: pair.window.to_unit(pair.sampler.sample(grid, start)),
            after=lambda grid: pair.window.to_unit(pair.sampler.sample(grid, transform)),
        ),
    )

    told(0.2, "Writing")
    files = write_images(folder / "HR", name, pair.fine, region.hr_grid, options.format, first, cancelled)
    write_images(folder / "LR", name, pair.coarse, region.lr_grid, options.format, first, cancelled)
    sitk.WriteTransform(transform, str(folder / TRANSFORM))
    report = {
        "name": name,
        "lr": str(lr),
        "hr": str(hr),
        "version": __version__,
        **_facts_of_registration(found, options),
        **_facts_of_region(region, options),
        **pair.facts(fine_scan, coarse_scan),
        "files": files,
        "options": options.to_json(),
    }
    write_json(folder / REPORT, report)
    told(1.0, "Written")
    return report


@dataclass(frozen=True, eq=False)
class _Pair:
    """The images that two registered scans become, and what was measured of them.

    Attributes
    ----------
    fine, coarse : ndarray of uint16, shape (k, j, i)
        On the region's `hr_grid` and `lr_grid`.
    sampler : LowResolution
        Of the LR scan.
    choice : WindowChoice
        Of the HR scan.
    window : Window
        Of the LR scan.
    why : str
        A sentence on how that one was found.
    line : Line
        From the grey values of the HR scan to those of the LR scan.
    clipped : dict of str to float
        Share of each image, "hr" and "lr", that its window cuts off.
    alignment : Alignment
    lr_voxel_mm : float
    ratio : three float
        Of the scans' own voxel sizes, along the HR scan's (i, j, k).
    warnings : list of str
    """

    fine: np.ndarray
    coarse: np.ndarray
    sampler: LowResolution
    choice: WindowChoice
    window: Window
    why: str
    line: Line
    clipped: dict[str, float]
    alignment: Alignment
    lr_voxel_mm: float
    ratio: tuple[float, float, float]
    warnings: list[str]

    def facts(self, fine_scan: Scan, coarse_scan: Scan) -> dict:
        """For the report."""
        hr, lr = self.choice.window, self.window
        return {
            "alignment": {**self.alignment.to_json(), "lr_voxel_mm": self.lr_voxel_mm},
            "voxel_ratio": list(self.ratio),
            "window_hr": [hr.lo, hr.hi],
            "window_lr": [lr.lo, lr.hi],
            "window_reason": f"{self.choice.reason} {self.why}",
            "grey_line": {"gain": self.line.gain, "offset": self.line.offset, "correlation": self.line.correlation},
            "clipped_share": self.clipped,
            "blank": {"hr": fine_scan.blank.to_json(), "lr": coarse_scan.blank.to_json()},
            "warnings": self.warnings,
        }


def _cut(
    fine_scan: Scan,
    coarse_scan: Scan,
    found: Registration,
    region: Region,
    options: PrepareOptions,
    told: Report,
    cancelled: Callable[[], bool] | None,
) -> _Pair:
    """Resample and normalise what both scans show of a region, and judge how well it is aligned.

    Raises
    ------
    InputError
        If it plainly is not.
    """
    told(0.25, "Resampling the LR scan")
    sampler = LowResolution(coarse_scan, region.lr_grid, [found.matrix, found.start])
    grey = sampler.sample_region(region, found.transform(), cancelled)

    told(0.55, "Normalising")
    request = "auto" if options.window is None else options.window
    choice = choose_window(fine_scan.volume.voxels, fine_scan.blank, request, None)
    fine, hr_clipped = hr_voxels(fine_scan, region, choice.window, cancelled)
    reduced = block_means(fine, options.factors) / np.float32(UINT16)  # the HR image as the LR image should show it
    inside = region.measured & (reduced > 0.01) & (reduced < 0.99)
    line = fit_line(choice.window.from_unit(reduced).astype(np.float32), grey, inside)
    window, why = window_of_lr(choice.window, line, options)
    clipped = {"hr": hr_clipped, "lr": window.clipped_share(grey[region.measured])}
    coarse = to_uint16(grey, window)

    told(0.65, "Measuring the residual misalignment")
    spacing = region.lr_grid.spacing
    alignment = measure_alignment(reduced, window.to_unit(grey), region.measured, spacing, cancelled)
    voxel = float(np.exp(np.mean(np.log(coarse_scan.grid.spacing))))
    ratio = native_ratio(fine_scan.grid, coarse_scan.grid, found.matrix)
    warnings = [
        *fine_scan.volume.report.get("warnings", ()),
        *coarse_scan.volume.report.get("warnings", ()),
        *check_alignment(alignment, voxel, options),
        *warn_of_ratio(ratio, options, fine_scan.grid),
    ]
    for side, share in clipped.items():
        if share > _CLIPPED:
            warnings.append(f"The window cuts off {share:.1%} of the {side.upper()} image: nothing is learnt there.")
    return _Pair(fine, coarse, sampler, choice, window, why, line, clipped, alignment, voxel, ratio, warnings)


def _facts_of_registration(found: Registration, options: PrepareOptions) -> dict:
    """For the report."""
    degrees, mm = movement(found)
    return {
        "registration": {
            "done": options.register,
            "begun_from": found.begun_from,
            "matrix_hr_to_lr": found.matrix.tolist(),
            "mutual_information": -found.metric,
            "mutual_information_at_start": -found.metric_at_start,
            "rotation_from_start_deg": degrees,
            "shift_from_start_mm": mm,
        }
    }


def _facts_of_region(region: Region, options: PrepareOptions) -> dict:
    """For the report."""
    return {
        "scale": options.scale,
        "region": {
            "hr_start": list(region.start),
            "hr_stop": list(region.stop),
            "hr_size": list(region.hr_grid.size),
            "lr_size": list(region.lr_grid.size),
            "hr_spacing_mm": list(region.hr_grid.spacing),
            "lr_spacing_mm": list(region.lr_grid.spacing),
            "filled_share": region.filled_share,
        },
    }


def write_images(
    folder: Path,
    name: str,
    voxels: np.ndarray,
    grid: Grid,
    form: str,
    first_slice: int = 0,
    cancelled: Callable[[], bool] | None = None,
) -> list[str]:
    """Write uint16 voxels as `NAME_0000.tif` and so on, numbered from `first_slice`, or as `NAME.nrrd`.

    Returns
    -------
    list of str
        The files' names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    check_disk(folder, voxels.nbytes)
    if form == "nrrd":
        write_volume(Volume(voxels, grid), folder / f"{name}.nrrd")
        return [f"{name}.nrrd"]
    names = [f"{name}_{first_slice + k:04d}.{form}" for k in range(len(voxels))]
    for plane, file in zip(voxels, names, strict=True):
        stop_if(cancelled)
        (folder / file).write_bytes(cv2.imencode(f".{form}", plane, _ENCODING[form])[1].tobytes())
    return names


def dataset(name: str, hr: str | Sequence[str], lr: str | Sequence[str], window: Sequence[float] | None = None) -> dict:
    """What `datasets.train` or `datasets.val` of a training's options has to say of the written images.

    They need no normalization_range: 0 and 65535 are the window's bounds. `window` tells which grey values of the LR
    scans these were, for the model's card.
    """
    block = {"name": name, "mode": "LRHR", "dataroot_HR": hr, "dataroot_LR": lr}
    return block if window is None else {**block, "scanner_window": list(window)}


def scan_name(path: str | Path) -> str:
    """A scan's name: its file's without the format, or its folder's."""
    path = Path(path).expanduser().absolute()
    return path.name if path.is_dir() else stem_of(path)


def safe_name(name: str) -> str:
    """The name with everything that a file system might refuse as an underscore."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "scan"


def _read(path: Path, title: str, options: PrepareOptions) -> Scan:
    spacing, series, blank = (
        getattr(options, name.format(title.lower())) for name in ("{}_spacing", "{}_series", "blank_{}")
    )
    try:
        volume = read_volume(path, spacing=spacing, series=series, override=options.override)
    except InputError as error:
        raise InputError(f"The {title} scan: {error.what}", error.advice) from error
    return Scan(volume, find_blanks(volume, blank), title)


def _check_memory(lr: Path, hr: Path, options: PrepareOptions) -> None:
    """Refuse scans that would not fit.

    Raises
    ------
    InputError, ResourceError
    """
    fine = probe(hr, options.hr_spacing, options.hr_series, options.override)
    coarse = probe(lr, options.lr_spacing, options.lr_series, options.override)
    voxels = [int(np.prod(p.size, dtype=np.int64)) for p in (fine, coarse)]
    needed = fine.nbytes + coarse.nbytes + 6 * voxels[0] + 12 * voxels[1] + _REGISTRATION
    if needed > (free := available_memory()):
        raise ResourceError(
            f"Preparing this pair takes {readable(needed)} of memory and {readable(free)} are free.",
            "Close other programs, or crop the scans first.",
        )
