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


def list_entries(root: str | Path, subset: Sequence[str] | None = None) -> list[Entry]:
    """All slices (TIFF, PNG) and volumes (NRRD, MHA, NIfTI, DICOM folders) below a folder, sorted by name.

    A file stands for itself. `subset` keeps the named files only; names are relative to the root, or plain.

    Raises
    ------
    InputError
        If there is nothing, or a file of the subset is not there.
    """
    root = Path(root).expanduser()
    if not root.exists():
        raise InputError(f"{root} does not exist.", "Check dataroot_HR and dataroot_LR.")
    entries = [_entry_of(root, root.parent)] if root.is_file() else list(_below(root))
    if not entries:
        raise InputError(
            f"{root} holds no images.", "Give folders of TIFF or PNG slices, or volumes (NRRD, MHA, NIfTI, DICOM)."
        )
    return entries if subset is None else _chosen(entries, subset, root)


def roots_of(value: str | Path | Sequence[str] | None) -> list[Path]:
    """`dataroot_HR` or `dataroot_LR` as a list."""
    if not value:
        return []
    return [Path(root).expanduser() for root in ([value] if isinstance(value, (str, os.PathLike)) else value)]


def read_subset(path: str | Path) -> list[str]:
    """The lines of a `subset_file` that are not empty."""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The subset file {path} cannot be read ({error}).", "Give a text file of names.") from error
    return [line.strip().replace("\\", "/") for line in text.splitlines() if line.strip()]


def pair_entries(
    lr_roots: Sequence[Path], hr_roots: Sequence[Path], subset: Sequence[str] | None = None
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
            f"There are {len(hr_roots)} folders in dataroot_HR and {len(lr_roots)} in dataroot_LR.",
            "Give as many, in the same order.",
        )
    pairs = []
    for lr_root, hr_root in zip(lr_roots, hr_roots, strict=True):
        pairs += _paired(list_entries(lr_root), list_entries(hr_root, subset), subset is not None)
    return pairs


def _paired(lr: list[Entry], hr: list[Entry], is_subset: bool) -> list[tuple[Entry, Entry]]:
    if len(lr) == len(hr) == 1:
        return [(lr[0], hr[0])]
    key = "stem" if all(len({e.stem for e in side}) == len(side) for side in (lr, hr)) else "name"
    low, high = ({getattr(entry, key): entry for entry in side} for side in (lr, hr))
    without_lr = [str(entry.path) for name, entry in high.items() if name not in low]
    without_hr = [str(entry.path) for name, entry in low.items() if name not in high and not is_subset]
    if without_lr or without_hr:
        told = [f"{_named(without_lr)} without LR" for _ in without_lr[:1]]
        told += [f"{_named(without_hr)} without HR" for _ in without_hr[:1]]
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


def _chosen(entries: Sequence[Entry], subset: Sequence[str], root: Path) -> list[Entry]:
    wanted = {name[: -len(format_of(Path(name)))] if _is_known(name) else name for name in subset}
    chosen = [entry for entry in entries if {entry.name, entry.stem} & wanted]
    missing = sorted(wanted - {entry.name for entry in chosen} - {entry.stem for entry in chosen})
    if missing:
        raise InputError(f"The subset file names images that are not in {root}: {_named(missing)}.", "Correct it.")
    return chosen
