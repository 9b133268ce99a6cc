"""What a training would find if it started now: all its images, read and checked, and whether pairs are displaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from ...acquisition.scanner import block_mean, gaussian_blur
from ...core.errors import Cancelled
from ...core.progress import Report, part_of
from ..dataset_options import DatasetOptions
from ..options import TrainingOptions
from .files import patient_of, planes_of
from .pictures import Picture, PicturePair, entries_of, has_files
from .source import open_images, open_source

MOST_CHECKED = 24
LEAST_CONTRAST = 0.02  # standard deviation, in units of the window
COARSE_STRUCTURE = 6.0  # pixels; what is smoother than that says nothing of a displacement
ALARM_PIXELS = 1.0


def check_data(
    options: TrainingOptions, progress: Report | None = None, cancelled: Callable[[], bool] | None = None
) -> dict:
    """Open the images of a training as its first step would, and tell what they are.

    Returns
    -------
    dict
        "train": what the source says of itself, and "count", the number of images. "val": "count" and "size" (rows
        and columns of the first HR image), or None without validation. Both also have "sizes", "patients" and
        "displacement", see `facts_of`. "warnings": sentences for the user.

    Raises
    ------
    InputError, OptionError, ResourceError
        If the training would refuse to start.
    """
    train, val = options.dataset("train"), options.dataset("val")
    report, found, warnings = part_of(progress, 0, 0.8), {"train": None, "val": None}, []
    report(0, "Reading the training images")
    with closing(open_source(train, options)) as source:
        report(0.8, "Comparing the training images")
        found["train"] = {
            **source.describe(),
            "count": len(source),
            **facts_of(source.pairs, train, options.scale, "training", warnings),
        }
        said = list(source.warnings)
    report(1, "Reading the validation images")
    if cancelled and cancelled():
        raise Cancelled()
    if val:
        with closing(open_images(val, options)) as images:
            truth = images[0].HR
            found["val"] = {
                "count": len(images),
                "size": None if truth is None else list(truth.shape[-2:]),
                **facts_of(images.pairs, val, options.scale, "validation", warnings),
            }
            said += images.warnings
        files = [
            {(high or low).path.absolute() for low, high in entries_of(dataset)} if has_files(dataset) else set()
            for dataset in (train, val)
        ]
        if shared := sorted(files[0] & files[1]):
            more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
            said.append(f"{shared[0].name}{more} is for training and for validation: the measures will be too good.")
    part_of(progress, 0, 1)(1, "Done")
    return {**found, "warnings": [*said, *warnings]}


def facts_of(
    pairs: Sequence[PicturePair], dataset: DatasetOptions, scale: int, title: str, warnings: list[str]
) -> dict:
    """What people want to know of images before they train on them.

    Returns
    -------
    dict
        "sizes": a list of "size" (rows and columns of HR, or of LR where there is no HR) and "images", their number,
        the most frequent first. "patients": numbers of images by patient; without a `patient_pattern` by volume, or
        folder of slices. "displacement": how far the images of pairs lie from each other, of many pairs only some,
        evenly spread: "checked", the number of pairs, "median" and "worst" in HR pixels, and the "worst_name"; None
        without pairs that have enough structure. Displaced pairs are added to the warnings.
    """
    sizes = Counter((high or low).size for low, high in pairs)
    patients: Counter[str] = Counter()
    for low, high in entries_of(dataset) if has_files(dataset) else ():
        entry = high or low
        name = entry.path.name if entry.is_volume else entry.path.parent.name
        if dataset.patient_pattern:
            name = patient_of(entry.path, dataset.patient_pattern)
        patients[name] += len(planes_of(entry, dataset.axis, dataset.slices))
    both = [(low, high) for low, high in pairs if low and high]
    places = np.linspace(0, len(both) - 1, min(len(both), MOST_CHECKED)).round().astype(int)
    shifts = [(shift, both[n][1].name) for n in places if (shift := displacement(*both[n], scale)) is not None]
    found = None
    if shifts:
        worst, name = max(shifts)
        median = float(np.median([shift for shift, _ in shifts]))
        found = {"checked": len(shifts), "median": median, "worst": worst, "worst_name": name}
        if median > ALARM_PIXELS:
            warnings.append(
                f"The images of {title} pairs are displaced by {median:.1f} HR pixels (median of {len(shifts)}; "
                f"{worst:.1f} in {name}): register and prepare the scans first."
            )
    return {
        "sizes": [{"size": list(size), "images": count} for size, count in sizes.most_common()],
        "patients": dict(patients),
        "displacement": found,
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
