"""What is written: a folder that appears whole or not at all.

One pair of scans, from files to aligned training images.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import SimpleITK as sitk

from .. import __version__
from ..core.errors import InputError, OutputError, ResourceError
from ..core.memory import available_memory, readable
from ..core.progress import Report, part_of
from ..core.volume import Grid
from ..io.read import VOLUME_FORMATS, probe, read_volume
from ..io.volume import Volume
from ..io.write import check_disk, write_volume
from ..scan.field_of_view import find_blanks
from ..scan.window import Window
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
from .resample import (
    UINT16,
    LowResolution,
    fit_line,
    hr_voxels,
    native_ratio,
    sampled,
    to_uint16,
    window_of_hr,
    window_of_lr,
)

TRANSFORM, REPORT, PICTURE, DATASETS = "lr_to_hr.tfm", "report.json", "checkerboard.png", "datasets.json"
ELSEWHERE = "Choose another folder, or remove it first."


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out` that becomes `out` when all went well, and vanishes otherwise.

    Raises
    ------
    OutputError
        If `out` exists and is not an empty folder, or cannot be made.
    """
    out = Path(out).expanduser().absolute()
    check_free(out)
    temporary = out.with_name(f".cbctsr-{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if out.exists():
            out.rmdir()
        os.replace(temporary, out)
    except OSError as error:
        raise OutputError(f"Writing {out} failed: {error}.", "Check the disk, or choose another folder.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_free(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises
    ------
    OutputError
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file.", "Name a folder to be made.")
    if out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{out} exists and is not empty.", ELSEWHERE)


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
    for slice_, file in zip(voxels, names, strict=True):
        stop_if(cancelled)
        done, data = cv2.imencode(f".{form}", slice_, _ENCODING[form])
        if not done:
            raise OSError(f"{file} could not be encoded")
        (folder / file).write_bytes(data.tobytes())
    return names


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def dataset(name: str, hr: str | Sequence[str], lr: str | Sequence[str], window: Sequence[float] | None = None) -> dict:
    """What `datasets.train` or `datasets.val` of a training's options has to say of the written images.

    They need no normalization_range: 0 and 65535 are the window's bounds. `window` tells which grey values of the LR
    scans these were, for the model's card.
    """
    block = {"name": name, "mode": "LRHR", "dataroot_HR": hr, "dataroot_LR": lr}
    return block if window is None else {**block, "scanner_window": list(window)}


_ENCODING = {"tif": [cv2.IMWRITE_TIFF_COMPRESSION, 1], "png": [cv2.IMWRITE_PNG_COMPRESSION, 1]}


_CLIPPED = 0.01
_REGISTRATION = 300_000_000  # bytes


@dataclass(frozen=True)
class Pair:
    """Two aligned images and how they came about; both uint16, shape (k, j, i), the window at 0 and 65535."""

    hr: np.ndarray
    lr: np.ndarray
    region: Region
    report: dict


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
        Anything that `files.read_volume` reads. Never modified.
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
    check_free(out)
    with whole_folder(out) as folder:
        report = write_pair(Path(lr), Path(hr), folder, options, name or scan_name(hr), progress, cancelled)
        form = options.format
        roots = [str(out / side) if form != "nrrd" else str(out / side / report["files"][0]) for side in ("HR", "LR")]
        write_json(folder / DATASETS, {"train": dataset("TRAIN", *roots, report["window_lr"])})
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
    report = part_of(progress, 0.0, 0.1)
    report(0.0, "Reading the HR scan")
    fine = _read(hr, "HR", options.hr_spacing, options.hr_series, options.blank_hr)
    stop_if(cancelled)
    report(0.6, "Reading the LR scan")
    coarse = _read(lr, "LR", options.lr_spacing, options.lr_series, options.blank_lr)
    stop_if(cancelled)

    found = _registered(fine, coarse, options, part_of(progress, 0.1, 0.6), cancelled)
    pair, alignment, sampler, windows = _made(fine, coarse, found, options, part_of(progress, 0.6, 0.85), cancelled)
    facts = {"name": name, "lr": str(lr), "hr": str(hr), "version": __version__, **pair.report}

    report = part_of(progress, 0.85, 1.0)
    report(0.0, "Drawing the checkerboard")
    _draw(folder / PICTURE, name, pair, alignment, sampler, windows, found)
    report(0.2, "Writing")
    first = pair.region.start[2]
    facts["files"] = write_images(folder / "HR", name, pair.hr, pair.region.hr_grid, options.format, first, cancelled)
    write_images(folder / "LR", name, pair.lr, pair.region.lr_grid, options.format, first, cancelled)
    sitk.WriteTransform(found.transform(), str(folder / TRANSFORM))
    facts["options"] = options.to_json()
    write_json(folder / REPORT, facts)
    report(1.0, "Written")
    return facts


def scan_name(path: str | Path) -> str:
    """A scan's name: its file's without the format, or its folder's."""
    path = Path(path).expanduser().absolute()
    lower = path.name.lower()
    known = max((suffix for suffix in VOLUME_FORMATS if lower.endswith(suffix)), key=len, default="")
    return path.name[: len(path.name) - len(known)] if known else path.stem if path.is_file() else path.name


def safe_name(name: str) -> str:
    """The name with everything that a file system might refuse as an underscore."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "scan"


def _read(path: Path, title: str, spacing: tuple | None, series: str | None, blank: str | float) -> Scan:
    try:
        volume = read_volume(path, spacing=spacing, series=series)
    except InputError as error:
        raise InputError(f"The {title} scan: {error.what}", error.advice) from error
    return Scan(volume, find_blanks(volume, blank), title)


def _registered(
    hr: Scan, lr: Scan, options: PrepareOptions, progress: Report, cancelled: Callable[[], bool] | None
) -> Registration:
    if not options.register:
        return unmoved(hr, options.initial)
    found = register(hr, lr, options.initial, options.seed, progress, cancelled)
    check_movement(found, hr.grid, options)
    return found


def _made(
    hr: Scan,
    lr: Scan,
    found: Registration,
    options: PrepareOptions,
    progress: Report,
    cancelled: Callable[[], bool] | None,
) -> tuple[Pair, Alignment, LowResolution, tuple[Window, Window]]:
    """The pair, measured and judged."""
    progress(0.0, "Finding the common region")
    transform = found.transform()
    common = find_common(hr, lr, transform, options.factors, cancelled)
    check_overlap(common.overlap, options)
    region = find_region(common, hr.grid, options)
    del common

    progress(0.25, "Resampling the LR scan")
    sampler = LowResolution(lr, region.lr_grid, [found.matrix, found.start])
    grey = sampled(sampler, region, transform, cancelled)
    progress(0.55, "Normalising")
    choice = window_of_hr(hr, options)
    fine, hr_clipped = hr_voxels(hr, region, choice.window, cancelled)
    seen = block_means(fine, options.factors) / np.float32(UINT16)
    inside = region.measured & (seen > 0.01) & (seen < 0.99)
    line = fit_line(choice.window.from_unit(seen).astype(np.float32), grey, inside)
    window, sentence = window_of_lr(choice.window, line, options)
    lr_clipped = window.clipped_share(grey[region.measured])

    progress(0.65, "Measuring the residual misalignment")
    alignment = measure_alignment(seen, window.to_unit(grey), region.measured, region.lr_grid.spacing, cancelled)
    voxel = float(np.exp(np.mean(np.log(lr.grid.spacing))))
    ratio = native_ratio(hr.grid, lr.grid, found.matrix)
    warnings = [
        *hr.volume.report.get("warnings", ()),
        *lr.volume.report.get("warnings", ()),
        *check_alignment(alignment, voxel, options),
        *warn_of_ratio(ratio, options, hr.grid),
        *_clipping_warnings({"HR": hr_clipped, "LR": lr_clipped}),
    ]
    coarse = to_uint16(grey, window)
    degrees, mm = movement(found)
    report = {
        "registration": {
            "done": options.register,
            "begun_from": found.begun_from,
            "matrix_hr_to_lr": found.matrix.tolist(),
            "mutual_information": -found.metric,
            "mutual_information_at_start": -found.metric_at_start,
            "rotation_from_start_deg": degrees,
            "shift_from_start_mm": mm,
        },
        "alignment": {**alignment.to_json(), "lr_voxel_mm": voxel},
        "voxel_ratio": list(ratio),
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
        "window_hr": [choice.window.lo, choice.window.hi],
        "window_lr": [window.lo, window.hi],
        "window_reason": f"{choice.reason} {sentence}",
        "grey_line": {"gain": line.gain, "offset": line.offset, "correlation": line.correlation},
        "clipped_share": {"hr": hr_clipped, "lr": lr_clipped},
        "blank": {"hr": hr.blank.to_json(), "lr": lr.blank.to_json()},
        "warnings": warnings,
    }
    return Pair(fine, coarse, region, report), alignment, sampler, (choice.window, window)


def _draw(
    path: Path,
    name: str,
    pair: Pair,
    alignment: Alignment,
    sampler: LowResolution,
    windows: tuple[Window, Window],
    found: Registration,
) -> None:
    start = replace(found, matrix=found.start).transform()
    rows = views(
        pair.hr,
        pair.region.hr_grid,
        pair.region.start[2],
        lambda grid: windows[1].to_unit(sampler.sample(grid, start)),
        lambda grid: windows[1].to_unit(sampler.sample(grid, found.transform())),
    )
    draw(
        path,
        f"{name}: residual misalignment {alignment.median_mm:.3f} mm (median), {alignment.p95_mm:.3f} mm (95 %)",
        f"Before: {found.begun_from}. Correlation of the gradients {alignment.gradient_correlation:.2f}.",
        rows,
    )


def _clipping_warnings(shares: dict[str, float]) -> list[str]:
    return [
        f"The window cuts off {share:.1%} of the {title} image: nothing is learnt there."
        for title, share in shares.items()
        if share > _CLIPPED
    ]


def _check_memory(lr: Path, hr: Path, options: PrepareOptions) -> None:
    """Raises
    ------
    InputError, ResourceError
    """
    fine = probe(hr, options.hr_spacing, options.hr_series)
    coarse = probe(lr, options.lr_spacing, options.lr_series)
    voxels = [int(np.prod(p.size, dtype=np.int64)) for p in (fine, coarse)]
    needed = fine.nbytes + coarse.nbytes + 6 * voxels[0] + 12 * voxels[1] + _REGISTRATION
    if needed > (free := available_memory()):
        raise ResourceError(
            f"Preparing this pair takes {readable(needed)} of memory and {readable(free)} are free.",
            "Close other programs, or crop the scans first.",
        )
