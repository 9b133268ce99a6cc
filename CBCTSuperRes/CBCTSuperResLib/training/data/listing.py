"""Which files a data set consists of: found recursively, in a fixed order, paired by name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError, OptionError
from ...files import dicom, slices
from ...files.reading import VOLUME_FORMATS
from ...files.writing import format_of

SHOWN = 5


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

    A file stands for itself.

    Raises
    ------
    InputError
        If there is nothing.
    """
    root = Path(root).expanduser()
    if not root.exists():
        raise InputError(f"{root} does not exist.", "Check dataroot_HR and dataroot_LR.")
    entries = [_entry_of(root, root.parent)] if root.is_file() else list(_below(root))
    if not entries:
        raise InputError(
            f"{root} holds no images.", "Give folders of TIFF or PNG slices, or volumes (NRRD, MHA, NIfTI, DICOM)."
        )
    return entries


def roots_of(value: str | Path | Sequence[str] | None) -> list[Path]:
    """`dataroot_HR` or `dataroot_LR` as a list."""
    if not value:
        return []
    return [Path(root).expanduser() for root in ([value] if isinstance(value, (str, os.PathLike)) else value)]


def pair_entries(lr_roots: Sequence[Path], hr_roots: Sequence[Path], subset: Subset) -> list[tuple[Entry, Entry]]:
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
            f"There are {len(hr_roots)} folders in dataroot_HR and {len(lr_roots)} in dataroot_LR.",
            "Give as many, in the same order.",
        )
    return [
        pair
        for roots in zip(lr_roots, hr_roots, strict=True)
        for pair in _paired(*(list_entries(root) for root in roots), subset)
    ]


def _paired(lr: list[Entry], hr: list[Entry], subset: Subset) -> list[tuple[Entry, Entry]]:
    chosen = subset.of(hr)
    if len(lr) == len(hr) == 1 and lr[0].is_volume and hr[0].is_volume:
        return [(lr[0], entry) for entry in chosen]
    key = "stem" if all(len({e.stem for e in side}) == len(side) for side in (lr, hr)) else "name"
    low, high = ({getattr(entry, key): entry for entry in side} for side in (lr, chosen))
    without_lr = [str(entry.path) for name, entry in high.items() if name not in low]
    without_hr = [] if subset else [str(entry.path) for name, entry in low.items() if name not in high]
    if without_lr or without_hr:
        told = [f"{_named(paths)} without {side}" for side, paths in (("LR", without_lr), ("HR", without_hr)) if paths]
        raise InputError(
            f"Some images have no partner of the same name: {'; '.join(told)}.",
            "Name both files of a pair alike, in dataroot_LR and dataroot_HR, or remove what has no partner.",
        )
    return [(low[name], entry) for name, entry in high.items()]


def _named(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return f"{', '.join(paths[:SHOWN])}{more}"


def _below(root: Path) -> Iterator[Entry]:
    for folder, inside, files in os.walk(root):
        inside.sort()
        here = Path(folder)
        known = [here / name for name in files if not name.startswith(".") and _is_known(name)]
        yield from (_entry_of(path, root) for path in sorted(known))
        if files and not known and dicom.find_series(here, besides=slices.SUFFIXES)[0]:
            yield Entry(here, here.name if here == root else here.relative_to(root).as_posix(), True)


def _is_known(name: str) -> bool:
    return Path(name).suffix.lower() in slices.SUFFIXES or format_of(Path(name)) in VOLUME_FORMATS


def _entry_of(path: Path, root: Path) -> Entry:
    suffix = format_of(path) if format_of(path) in VOLUME_FORMATS else path.suffix
    name = path.relative_to(root).as_posix()
    return Entry(path, name[: len(name) - len(suffix)], path.suffix.lower() not in slices.SUFFIXES)


def _without_ending(name: str) -> str:
    return name[: -len(format_of(Path(name)))] if _is_known(name) else name


def _read_text(path: str | Path) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The subset file {path} cannot be read ({error}).", "Give a text file of names.") from error
