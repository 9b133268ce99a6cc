"""Which files a data set consists of, found recursively, in a fixed order and paired by name; and whose scans they are,
so that nobody is both trained on and measured.

The slices of a file are known from its header before any is decoded; which of them lie side by side, by their numbers
within a volume or in the names of slice files.
"""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import numpy as np

from ...apply.tiles import neighbour
from ...core.errors import InputError, OptionError, SuperResError
from ...io.folders import LeftOut, content_of, told
from ...io.formats import PICTURE_FORMATS, VOLUME_FORMATS, format_of
from ...io.read import probe
from ...io.slice_files import read_facts

SHOWN = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A slice or a volume on disk.

    Attributes
    ----------
    path : Path
        A file, or the folder of a DICOM series.
    name : str
        Path below its root without the suffix, with forward slashes.
    is_volume : bool
    """

    path: Path
    name: str
    is_volume: bool

    @property
    def stem(self) -> str:
        return self.name.rsplit("/", 1)[-1]


class Subset:
    """The names of a `subset_file`, one a line, with or without folder and ending; without a file everything.

    >>> subset = Subset("subset.txt")
    >>> chosen = subset.of(list_entries(root))
    >>> subset.check()  # all names were there

    Raises
    ------
    InputError
        If the file cannot be read.
    """

    def __init__(self, path: str | Path | None) -> None:
        self._path = path
        lines = [line.strip().replace("\\", "/") for line in _read_text(path).splitlines()] if path else []
        self._names = {_without_ending(line) for line in lines if line}
        self._missing = set(self._names)

    def __bool__(self) -> bool:
        return self._path is not None

    def of(self, entries: list[Entry]) -> list[Entry]:
        """Those of the entries that are named."""
        if not self:
            return entries
        chosen = [entry for entry in entries if {entry.name, entry.stem} & self._names]
        self._missing -= {name for entry in chosen for name in (entry.name, entry.stem)}
        return chosen

    def check(self) -> None:
        """
        Raises
        ------
        InputError
            Naming what none of the entries was called.
        """
        if self._missing:
            raise InputError(
                f"The subset file {self._path} names images that do not exist: {_named(sorted(self._missing))}.",
                "Correct the names, or dataroot_HR.",
            )


def list_entries(root: str | Path) -> list[Entry]:
    """All slices (TIFF, PNG) and volumes (NRRD, MHA, NIfTI, DICOM folders) below a folder, sorted by name.

    A file stands for itself. What lies in a folder is told by the rule of `io.folders`, but pictures are slices of
    their own. What is left out is logged.

    Raises
    ------
    InputError
        If there is nothing.
    """
    root = Path(root).expanduser()
    if not root.exists():
        raise InputError(f"{root} does not exist.", "Check dataroot_HR and dataroot_LR.")
    left_out: list[LeftOut] = []
    entries = [_entry_of(root, root.parent)] if root.is_file() else list(_below(root, root, left_out))
    sentences = told(left_out, root)
    if not entries:
        raise InputError(
            " ".join([f"{root} holds no images.", *sentences]),
            "Give folders of TIFF or PNG slices, or volumes (NRRD, MHA, NIfTI, DICOM).",
        )
    for sentence in sentences:
        log.warning("%s: %s", root, sentence)
    return entries


def roots_of(value: str | Path | Sequence[str] | None) -> list[Path]:
    """`dataroot_HR` or `dataroot_LR` as a list."""
    if not value:
        return []
    return [Path(root).expanduser() for root in ([value] if isinstance(value, (str, os.PathLike)) else value)]


def pair_entries(
    lr_roots: Sequence[Path], hr_roots: Sequence[Path], subset: Subset, lr: str = "LR", hr: str = "HR"
) -> list[tuple[Entry, Entry]]:
    """(LR, HR) of the same name, root by root.

    Two single volumes are a pair whatever their names. Below folders the file stems decide, or where a stem occurs
    twice (a folder for each patient) the paths below the roots.

    Raises
    ------
    InputError
        Naming what has no partner.
    """
    if len(lr_roots) != len(hr_roots):
        raise OptionError(
            f"There are {len(hr_roots)} folders in dataroot_{hr} and {len(lr_roots)} in dataroot_{lr}.",
            "Give as many, in the same order.",
        )
    return [
        pair
        for roots in zip(lr_roots, hr_roots, strict=True)
        for pair in _paired(*(list_entries(root) for root in roots), subset, (lr, hr))
    ]


def _paired(lr: list[Entry], hr: list[Entry], subset: Subset, roles: tuple[str, str]) -> list[tuple[Entry, Entry]]:
    chosen = subset.of(hr)
    if len(lr) == len(hr) == 1 and lr[0].is_volume and hr[0].is_volume:
        return [(lr[0], entry) for entry in chosen]
    key = "stem" if all(len({e.stem for e in side}) == len(side) for side in (lr, hr)) else "name"
    low, high = ({getattr(entry, key): entry for entry in side} for side in (lr, chosen))
    without_lr = [str(entry.path) for name, entry in high.items() if name not in low]
    without_hr = [] if subset else [str(entry.path) for name, entry in low.items() if name not in high]
    if without_lr or without_hr:
        lacking = zip(roles, (without_lr, without_hr), strict=True)
        told = [f"{_named(paths)} without {side}" for side, paths in lacking if paths]
        keys = " and ".join(f"dataroot_{side}" for side in roles)
        raise InputError(
            f"Some images have no partner of the same name: {'; '.join(told)}.",
            f"Name both files of a pair alike, in {keys}, or remove what has no partner.",
        )
    return [(low[name], entry) for name, entry in high.items()]


def _named(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return f"{', '.join(paths[:SHOWN])}{more}"


def _below(folder: Path, root: Path, left_out: list[LeftOut]) -> Iterator[Entry]:
    content = content_of(folder)
    if content.dicom:
        left_out += content.besides_dicom
        yield Entry(folder, folder.name if folder == root else folder.relative_to(root).as_posix(), True)
        return
    left_out += content.left_out_always
    yield from (_entry_of(path, root) for path in sorted((*content.volumes, *content.pictures)))
    for subfolder in content.subfolders:
        yield from _below(subfolder, root, left_out)


def _is_known(name: str) -> bool:
    return format_of(Path(name)) in PICTURE_FORMATS or format_of(Path(name)) in VOLUME_FORMATS


def _entry_of(path: Path, root: Path) -> Entry:
    suffix = format_of(path) if format_of(path) in VOLUME_FORMATS else path.suffix
    name = path.relative_to(root).as_posix()
    return Entry(path, name[: len(name) - len(suffix)], format_of(path) not in PICTURE_FORMATS)


def _without_ending(name: str) -> str:
    return name[: -len(format_of(Path(name)))] if _is_known(name) else name


def _read_text(path: str | Path) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The subset file {path} cannot be read ({error}).", "Give a text file of names.") from error


AXES = {"axial": 0, "coronal": 1, "sagittal": 2}
Result = TypeVar("Result")


@dataclass(frozen=True)
class Plane:
    """A slice that is still on disk.

    Attributes
    ----------
    entry : Entry
    name : str
        Unique below the entry's root.
    size : (rows, columns)
    nbytes : int
        Of its pixels as stored.
    entry_nbytes : int
        Of all planes of its entry together.
    axis : int or None
        Of the voxels (k, j, i) of a volume; None for a slice file.
    index : int
        Along that axis, in the part of the volume that `slices` leaves.
    slices : (first, last)
        The axial slices of the volume that are used.
    spacing : (rows, columns) in mm, or None if it is not known
    """

    entry: Entry
    name: str
    size: tuple[int, int]
    nbytes: int
    entry_nbytes: int
    axis: int | None = None
    index: int = 0
    slices: tuple[int, int] = (0, 1)
    spacing: tuple[float, float] | None = None

    def of(self, voxels: np.ndarray) -> np.ndarray:
        """Its pixels (C, H, W), a view of the entry's: (C, H, W) of a slice, (k, j, i) of a volume."""
        return voxels if self.axis is None else np.moveaxis(voxels, self.axis, 0)[self.index][None]


def planes_of(entry: Entry, axis: str = "axial", slices: tuple[int, int] | None = None) -> list[Plane]:
    """The slices of an entry.

    Parameters
    ----------
    entry : Entry
    axis : "axial", "coronal", "sagittal" or "all"
        How a volume is cut; a slice file is one plane.
    slices : (first, last), optional
        Of a volume only the axial slices first <= k < last are used, whichever way it is cut.
    """
    return _planes_of_volume(entry, axis, slices) if entry.is_volume else [_plane_of_file(entry)]


def bytes_of(planes: Iterable[Plane]) -> int:
    """Memory that the pixels of these planes take; those of a volume cut along several axes are there once."""
    groups = (list(group) for _, group in groupby(planes, lambda plane: plane.entry))
    return sum(min(sum(plane.nbytes for plane in group), group[0].entry_nbytes) for group in groups)


def naming(entry: Entry, work: Callable[[], Result]) -> Result:
    """What `work` returns; its errors tell which entry they are about."""
    try:
        return work()
    except SuperResError as error:
        raise type(error)(f"{entry.path}: {error.what}", error.advice) from error


def _plane_of_file(entry: Entry) -> Plane:
    facts = read_facts(entry.path)
    if facts.pages > 1:
        raise InputError(f"{entry.path} has {facts.pages} pages.", "Save each slice as a file of its own.")
    return Plane(entry, entry.name, facts.size[::-1], facts.page_bytes, facts.page_bytes)


def _planes_of_volume(entry: Entry, axis: str, slices: tuple[int, int] | None) -> list[Plane]:
    found = naming(entry, lambda: probe(entry.path))
    depth, *extent = found.grid.shape
    first, last = slices or (0, depth)
    last = min(last, depth)
    if first >= last:
        raise OptionError(f"{entry.path} has {depth} slices: [{first}, {last}) is none of them.", "Correct slices.")
    shape, spacing = (last - first, *extent), found.grid.spacing[::-1]
    planes = []
    for name, number in AXES.items():
        if axis not in (name, "all"):
            continue
        rows, columns = (a for a in range(3) if a != number)
        offset = first if number == 0 else 0
        planes += [
            Plane(
                entry=entry,
                name=f"{entry.name}_{name}{offset + n:04d}",
                size=(shape[rows], shape[columns]),
                nbytes=shape[rows] * shape[columns] * found.dtype.itemsize,
                entry_nbytes=int(np.prod(shape)) * found.dtype.itemsize,
                axis=number,
                index=n,
                slices=(first, last),
                spacing=(spacing[rows], spacing[columns]),
            )
            for n in range(shape[number])
        ]
    return planes


def neighbours_of(planes: Sequence[Plane], slices: int, gaps: Sequence[int] = (1,)) -> list[list[int]]:
    """For each plane the places, in `planes`, of itself and `slices` neighbours on either side, in order.

    Where a scan ends, or slices are missing, the slice on the other side takes their place.

    Parameters
    ----------
    planes : sequence of Plane
        Of one role, in any order.
    slices : int
    gaps : sequence of int
        Distances of neighbours, in slices; planes take them in turn.

    Raises
    ------
    InputError
        If files of single slices do not tell which scan they belong to.
    """
    if slices == 0:
        return [[place] for place in range(len(planes))]
    known = {_position(plane): place for place, plane in enumerate(planes)}
    steps = _steps(planes)
    found = []
    for number, plane in enumerate(planes):
        scan, position = _position(plane)
        step = steps[scan] * gaps[number % len(gaps)]
        steps_away = (position + n * step for n in range(-slices, slices + 1))
        beside = (neighbour(p, position, lambda p, scan=scan: (scan, p) in known) for p in steps_away)
        found.append([known[scan, p] for p in beside])
    return found


def _steps(planes: Sequence[Plane]) -> dict[Hashable, int]:
    """For each scan the difference of the numbers of its neighbouring slices."""
    positions: dict[Hashable, list[int]] = defaultdict(list)
    for plane in planes:
        scan, position = _position(plane)
        positions[scan].append(position)
    steps = {}
    for scan, numbers in positions.items():
        numbers.sort()
        steps[scan] = min((b - a for a, b in zip(numbers, numbers[1:], strict=False)), default=1)
    alone = next(
        (plane for plane in planes if not plane.entry.is_volume and len(positions[_position(plane)[0]]) == 1), None
    )
    if alone:
        raise InputError(
            f"{alone.entry.path} has no neighbouring slices: no other file is called like it but for the last number.",
            "Name the slices of a scan alike and number them, give volumes, or set network_G.in_nc to 1.",
        )
    return steps


def _position(plane: Plane) -> tuple[Hashable, int]:
    """The scan that a plane belongs to (with its size, which neighbours share), and its number there."""
    if plane.entry.is_volume:
        return (plane.entry.path, plane.axis, plane.size), plane.index
    number = re.search(r"(\d+)(\D*)$", plane.entry.name)
    if number is None:
        return (plane.entry.path, None, plane.size), 0
    scan = plane.entry.path.parent, plane.entry.name[: number.start()], number[2]
    return (*scan, plane.size), int(number[1])


def patient_of(path: Path, pattern: str) -> str:
    """What the pattern finds in a path with forward slashes: its first group, or all of it.

    Raises
    ------
    OptionError
        If the pattern is no regular expression, or does not find anything.
    """
    try:
        found = re.search(pattern, path.as_posix())
    except re.error as error:
        raise OptionError(f"patient_pattern {pattern!r} is no regular expression: {error}.", "Correct it.") from error
    if found is None:
        raise OptionError(f"patient_pattern {pattern!r} finds no patient in {path}.", "Give one that fits every path.")
    return found[1] if found.re.groups else found[0]


def refuse_shared_patients(training: Iterable[Path], validation: Iterable[Path], pattern: str) -> None:
    """
    Raises
    ------
    InputError
        Naming the patients that are in both.
    """
    both = {patient_of(path, pattern) for path in training} & {patient_of(path, pattern) for path in validation}
    if both:
        raise InputError(
            f"The training and the validation set share patients: {', '.join(sorted(both)[:8])}.",
            "Move all images of a patient to one of them.",
        )
