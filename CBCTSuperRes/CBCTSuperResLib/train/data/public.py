"""Public scans to train on and to measure with: which there are, whether they are at hand, and their slices.

Resources/Models/sources.json records origin, licence, hash and the part that may be trained on; the scans themselves
lie in a folder that the user names. No torch is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...acquisition.scanner import ALL_AXES, block_mean, gaussian_blur
from ...apply.tiles import neighbour
from ...core.digest import file_sha256, voxels_sha256
from ...core.errors import InputError, OptionError
from ...core.resources import resource
from ...io.volume import Volume

SOURCES = "Models/sources.json"


@dataclass(frozen=True)
class PublicScan:
    """An entry of sources.json.

    Attributes
    ----------
    name, title, file, origin, licence : str
    sha256, voxels_sha256 : str
        Of the file, and of its voxels: little-endian, slice by slice.
    spacing_mm : (i, j, k) or None
        None where nobody recorded it.
    train_slices : (first, last) or None
        Slices k with first <= k < last may be trained on; None: no slice may.
    averages : tuple of int
        The training part is used as it is (1) and averaged over cubes of so many voxels.
    held_out : str
        What is kept for measuring.
    """

    name: str
    title: str
    file: str
    origin: str
    licence: str
    sha256: str
    voxels_sha256: str
    spacing_mm: tuple[float, float, float] | None
    train_slices: tuple[int, int] | None
    averages: tuple[int, ...]
    held_out: str

    def missing_from(self, folder: Path | None) -> str | None:
        """Why the scan cannot be read from `folder`, as a sentence; None if it is there."""
        if folder is None:
            return f"Public scan {self.name!r} ({self.title}): no folder is named for it (path.public_data)."
        if not (folder / self.file).is_file():
            return f"Public scan {self.name!r} ({self.title}): there is no {self.file} in {folder}."
        return None

    def read(self, folder: Path) -> Volume:
        """The whole scan.

        Raises
        ------
        InputError
            If the file is not there, or is another one than sources.json describes.
        """
        path = folder / self.file
        problem = self.missing_from(folder)
        if problem:
            raise InputError(problem, f"Get it from: {self.origin}; or train without it, for another model.")
        volume = Volume.read(path)
        if self.sha256 != file_sha256(path) and self.voxels_sha256 != voxels_sha256(volume.voxels):
            raise InputError(
                f"{path} is not the scan {self.name!r} of {SOURCES}: neither its SHA256 nor that of its voxels agrees.",
                f"Get it from: {self.origin}.",
            )
        return volume


def public_scans() -> dict[str, PublicScan]:
    """The scans that sources.json lists, by name."""
    entries = json.loads(resource(SOURCES).read_text(encoding="utf-8"))["scans"]
    tuples = {"spacing_mm", "train_slices", "averages"}
    return {
        name: PublicScan(name, **{k: tuple(v) if k in tuples and v is not None else v for k, v in entry.items()})
        for name, entry in entries.items()
    }


def scans_to_train_on(names: Iterable[str]) -> list[PublicScan]:
    """The named scans.

    Raises
    ------
    OptionError
        If a name is unknown, or the scan is held out from training.
    """
    known, chosen = public_scans(), []
    for name in names:
        if name not in known:
            raise OptionError(f"Unknown public scan {name!r} (datasets.train.public).", f"Known: {', '.join(known)}.")
        if known[name].train_slices is None:
            usable = ", ".join(scan.name for scan in known.values() if scan.train_slices)
            raise OptionError(f"The public scan {name!r} is held out from training.", f"Usable: {usable}.")
        chosen.append(known[name])
    return chosen


def missing_scans(names: Iterable[str], folder: Path | None) -> list[str]:
    """A sentence for each named scan that is not in the folder; [] if training can begin."""
    return [problem for scan in scans_to_train_on(names) if (problem := scan.missing_from(folder))]


class PublicSlices(Sequence):
    """Fine training slices of public scans, in units of their own window.

    Each scan's training part is cut along all three axes, as it is and averaged to coarser voxels. Slices smaller than
    a patch are continued by mirroring. `slab` gives a slice with its neighbours; every second slab is of slices that
    are two voxels apart and as thick, as those of a coarse scan with cubic voxels are.

    >>> slices = PublicSlices(["trabecular"], folder, size=84)
    >>> slices[0].shape  # float32; 0 and 1 are the 0.5th and 99.5th percentile of the training part
    (200, 200)

    Parameters
    ----------
    names : sequence of str
    folder : Path or None
        Where the scans are.
    size : int
        Least edge of a slice, in pixels.
    slices : int
        Neighbours on either side in a slab.

    Raises
    ------
    InputError, OptionError
        If a scan is missing, not the one that is meant, unknown or held out.
    """

    def __init__(self, names: Sequence[str], folder: Path | None, size: int, slices: int = 0) -> None:
        self._scans = scans_to_train_on(names)
        missing = missing_scans(names, folder)
        if missing:
            raise InputError(" ".join(missing), "Without these scans the training would give another model.")
        self._size, self._around = size, slices
        self.names: list[str] = []
        self._places: list[tuple[np.ndarray, int]] = []
        for scan in self._scans:
            for name, images in _stacks(scan, folder):
                images = self._large_enough(images)
                self.names += [f"{name} {number}" for number in range(len(images))]
                self._places += [(images, number) for number in range(len(images))]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> np.ndarray:
        images, place = self._places[number]
        return images[place].astype(np.float32)

    def slab(self, number: int) -> list[np.ndarray]:
        """A slice in the middle of its neighbours, float16; beyond the training part are those of the other side."""
        images, place = self._places[number]
        is_thick = self._around > 0 and number % 2 == 1
        gap, count = 1 + is_thick, len(images)
        steps = range(-self._around, self._around + 1)
        places = [neighbour(place + gap * step, place, lambda k: 0 <= k < count) for step in steps]
        return [_thick(images, k) if is_thick else images[k] for k in places]

    def _large_enough(self, images: np.ndarray) -> np.ndarray:
        missing = [(0, 0), *((0, max(0, self._size - length)) for length in images.shape[1:])]
        return np.pad(images, missing, mode="symmetric")

    def describe(self) -> list[dict]:
        """What a model card says about each scan."""
        return [_described(scan) for scan in self._scans]


def public_volumes(names: Sequence[str], folder: Path | None, size: int) -> tuple[dict[str, np.ndarray], list[dict]]:
    """Training parts of public scans in space, float16 in units of their own windows, and what a card says of them.

    As they are and averaged to coarser voxels, as long as they are no smaller than half of `size` along each axis; what
    is smaller than `size` is continued by mirroring.

    Raises
    ------
    InputError, OptionError
        As of `PublicSlices`.
    """
    scans = scans_to_train_on(names)
    missing = missing_scans(names, folder)
    if missing:
        raise InputError(" ".join(missing), "Without these scans the training would give another model.")
    found = {}
    for scan in scans:
        for name, volume in _volumes(scan, folder):
            if 2 * min(volume.shape) >= size:
                beyond = [(0, max(0, size - length)) for length in volume.shape]
                found[name] = np.pad(volume, beyond, mode="symmetric").astype(np.float16)
    return found, [_described(scan) for scan in scans]


def _described(scan: PublicScan) -> dict:
    return {
        "name": scan.name,
        "title": scan.title,
        "licence": scan.licence,
        "sha256": scan.sha256,
        "slices": list(scan.train_slices),
        "voxel_sizes_mm": [round(scan.spacing_mm[0] * n, 4) for n in scan.averages],
        "held_out": scan.held_out,
    }


def _volumes(scan: PublicScan, folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    first, last = scan.train_slices
    part = scan.read(folder).voxels[first:last].astype(np.float32)
    low, high = np.percentile(part, (0.5, 99.5))
    part = (part - np.float32(low)) / np.float32(high - low)
    for factor in scan.averages:
        yield f"{scan.name}, averaged by {factor}", block_mean(part, ALL_AXES, factor) if factor > 1 else part


def _stacks(scan: PublicScan, folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    for name, volume in _volumes(scan, folder):
        for axis in ALL_AXES:
            images = np.ascontiguousarray(np.moveaxis(volume, axis, 0).astype(np.float16))
            yield f"{name}, {'kji'[axis]}", images


def _thick(images: np.ndarray, place: int) -> np.ndarray:
    """A slice twice as thick as the others, blurred across them like the grading protocols blur within a slice."""
    places = np.clip(np.arange(place - 1, place + 3), 0, len(images) - 1)
    layers = images[places].astype(np.float32)
    return block_mean(gaussian_blur(layers, 0.85, (0,))[1:3], (0,))[0].astype(np.float16)
