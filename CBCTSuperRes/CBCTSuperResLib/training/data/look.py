"""What people want to know of images before they train on them: sizes, patients, whether pairs lie on each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...evaluation.simulate import block_mean, gaussian_blur
from .gather import entries_of, has_files
from .listing import Entry
from .patients import patient_of
from .picture import Picture
from .planes import planes_of

if TYPE_CHECKING:
    from ..options.data_keys import DatasetOptions

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
