"""What people want to know of images before they train on them: sizes, patients, whether pairs lie on each other.

What a training would find if it started now: all images of training and validation, read and checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ...acquisition.scanner import block_mean, gaussian_blur
from ...core.errors import Cancelled
from ...core.progress import Report, part_of
from ..options import DatasetOptions, TrainingOptions
from .files import Entry, patient_of, planes_of
from .pictures import Picture, entries_of, has_files
from .source import Images, TrainingSource, open_images, open_source

Pair = tuple[Picture | None, Picture | None]

MOST_CHECKED = 24
LEAST_CONTRAST = 0.02  # standard deviation, in units of the window
COARSE_STRUCTURE = 6.0  # pixels; what is smoother than that says nothing of a displacement
ALARM_PIXELS = 1.0


def sizes_of(pairs: Sequence[Pair]) -> list[dict]:
    """How many images there are of each size, the most frequent first.

    Returns
    -------
    list of dict
        "size" (rows and columns of HR, or of LR where there is no HR) and "images".
    """
    counts = Counter((high or low).size for low, high in pairs)
    return [{"size": list(size), "images": count} for size, count in counts.most_common()]


def patients_of(dataset: DatasetOptions) -> dict[str, int]:
    """How many images there are of each patient; without a `patient_pattern` of each volume, or folder of slices."""
    counts: Counter[str] = Counter()
    for low, high in entries_of(dataset) if has_files(dataset) else ():
        entry = high or low
        counts[_patient(entry, dataset.patient_pattern)] += (
            len(planes_of(entry, dataset.axis, dataset.slices)) if entry.is_volume else 1
        )
    return dict(counts)


def shared_files(first: DatasetOptions, second: DatasetOptions) -> list[Path]:
    """Images that are in both sets."""
    one, other = (
        {(high or low).path.absolute() for low, high in entries_of(dataset)} if has_files(dataset) else set()
        for dataset in (first, second)
    )
    return sorted(one & other)


def displacement_of(pairs: Sequence[Pair], scale: int) -> dict | None:
    """How far the images of pairs lie from each other; of many pairs only some are looked at, evenly spread.

    Returns
    -------
    dict or None
        "checked", the number of pairs; "median" and "worst" in HR pixels, and the "worst_name". None without pairs
        that have enough structure.
    """
    both = [(low, high) for low, high in pairs if low and high]
    places = np.linspace(0, len(both) - 1, min(len(both), MOST_CHECKED)).round().astype(int)
    found = [(shift, both[n][1].name) for n in places if (shift := displacement(*both[n], scale)) is not None]
    if not found:
        return None
    worst, name = max(found)
    return {
        "checked": len(found),
        "median": float(np.median([shift for shift, _ in found])),
        "worst": worst,
        "worst_name": name,
    }


def displacement(low: Picture, high: Picture, scale: int) -> float | None:
    """Length in HR pixels of the shift by which two images correlate best; None where there is too little structure."""
    coarse, fine = low.whole().mean(0), block_mean(high.whole().mean(0), (0, 1), scale)
    if min(coarse.std(), fine.std()) < LEAST_CONTRAST:
        return None
    taper = np.outer(*(np.hanning(n + 2)[1:-1] for n in coarse.shape))
    spectra = [np.fft.rfft2(taper * (part - gaussian_blur(part, COARSE_STRUCTURE, (0, 1)))) for part in (coarse, fine)]
    likeness = np.fft.irfft2(spectra[0] * spectra[1].conj(), coarse.shape)
    peak = np.unravel_index(np.argmax(likeness), likeness.shape)
    return scale * float(np.hypot(*(_along(likeness, peak, axis) for axis in (0, 1))))


def _along(likeness: np.ndarray, peak: Sequence[int], axis: int) -> float:
    """Place of a peak along an axis, by a parabola through it and its neighbours; the far half counts as negative."""
    length, place = likeness.shape[axis], int(peak[axis])
    line = np.take(likeness, peak[1 - axis], 1 - axis)
    before, here, after = (line[(place + step) % length] for step in (-1, 0, 1))
    bend = before - 2 * here + after
    offset = 0.0 if bend == 0 else 0.5 * (before - after) / bend
    return offset + (place if place <= length // 2 else place - length)


def _patient(entry: Entry, pattern: str | None) -> str:
    if pattern:
        return patient_of(entry.path, pattern)
    return entry.path.name if entry.is_volume else entry.path.parent.name


def check_data(
    options: TrainingOptions, progress: Report | None = None, cancelled: Callable[[], bool] | None = None
) -> dict:
    """Open the images of a training as its first step would, and tell what they are.

    Returns
    -------
    dict
        "train": what the source says of itself, and "count", the number of images. "val": "count" and "size" (rows
        and columns of the first HR image), or None without validation. Both also have "sizes", "patients" and
        "displacement", see `data.look`. "warnings": sentences for the user.

    Raises
    ------
    InputError, OptionError, ResourceError
        If the training would refuse to start.
    """
    train, val = options.dataset("train"), options.dataset("val")
    report = part_of(progress, 0, 0.8)
    report(0, "Reading the training images")
    source = open_source(train, options)
    try:
        report(0.8, "Comparing the training images")
        told = {"train": _of_training(source, train, options.scale), "val": None, "warnings": list(source.warnings)}
    finally:
        source.close()
    report(1, "Reading the validation images")
    if cancelled and cancelled():
        raise Cancelled()
    if val:
        images = open_images(val, options)
        try:
            told["val"] = _of_validation(images, val, options.scale)
            told["warnings"] += [*images.warnings, *_shared(train, val)]
        finally:
            images.close()
    told["warnings"] += _displaced(told)
    part_of(progress, 0, 1)(1, "Done")
    return told


def _of_training(source: TrainingSource, dataset: DatasetOptions, scale: int) -> dict:
    return {**source.describe(), "count": len(source), **_look(source.pairs, dataset, scale)}


def _of_validation(images: Images, dataset: DatasetOptions, scale: int) -> dict:
    truth = images[0].HR
    size = None if truth is None else list(truth.shape[-2:])
    return {"count": len(images), "size": size, **_look(images.pairs, dataset, scale)}


def _look(pairs: list, dataset: DatasetOptions, scale: int) -> dict:
    return {
        "sizes": sizes_of(pairs),
        "patients": patients_of(dataset),
        "displacement": displacement_of(pairs, scale),
    }


def _shared(train: DatasetOptions, val: DatasetOptions) -> list[str]:
    shared = shared_files(train, val)
    if not shared:
        return []
    more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
    return [f"{shared[0].name}{more} is for training and for validation: the measures will be too good."]


def _displaced(told: dict) -> list[str]:
    return [
        f"The images of {title} pairs are displaced by {found['median']:.1f} HR pixels (median of {found['checked']}; "
        f"{found['worst']:.1f} in {found['worst_name']}): register and prepare the scans first."
        for title, found in (
            (title, (told[key] or {}).get("displacement"))
            for key, title in (("train", "training"), ("val", "validation"))
        )
        if found and found["median"] > ALARM_PIXELS
    ]
