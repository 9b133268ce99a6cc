"""Which scans lie in a folder, and what is left out: one rule for apply, batch, prepare, evaluate and training.

1. A folder with DICOM files is one scan; whatever else lies in it is left out.
2. Otherwise each volume file is a scan, and each subfolder is looked at in the same way. Results of earlier runs (files
   and DICOM folders with a report beside them) are left out.
3. Where there are neither, pictures (TIFF, PNG) are the slices of one scan.

What is left out is named. Nothing is parsed here, so that Slicer's own process may look, too.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import InputError
from .formats import DICOM_FORMATS, PICTURE_FORMATS, VOLUME_FORMATS, format_of

SHOWN = 4
REPORT_BYTES = 1 << 20


@dataclass(frozen=True)
class LeftOut:
    """Something in a folder that is not used, and why.

    Attributes
    ----------
    is_alarming : bool
        Whether it may be a part of the scan.
    """

    path: Path
    why: str
    is_alarming: bool = False


@dataclass(frozen=True)
class FolderContent:
    """What lies directly in a folder, hidden files apart, each in the order of names."""

    folder: Path
    dicom: tuple[Path, ...]
    volumes: tuple[Path, ...]
    pictures: tuple[Path, ...]
    subfolders: tuple[Path, ...]
    results: tuple[Path, ...]
    others: tuple[Path, ...]

    @property
    def besides_dicom(self) -> list[LeftOut]:
        """What is not used where DICOM files make the folder a scan."""
        return [
            *(LeftOut(path, "a volume file in a folder of DICOM files") for path in self.volumes),
            *(LeftOut(path, "a picture in a folder of DICOM files") for path in self.pictures),
            *(LeftOut(path, "a subfolder of a folder of DICOM files") for path in self.subfolders),
            *self.left_out_always,
        ]

    @property
    def left_out_always(self) -> list[LeftOut]:
        return [
            *(LeftOut(path, "the result of an earlier run") for path in self.results),
            *(LeftOut(path, "an empty file" if _is_empty(path) else "no scan") for path in self.others),
        ]


def content_of(folder: Path) -> FolderContent:
    """Sort a folder's entries by what their names, and the mark of DICOM, say they are."""
    kinds: dict[str, list[Path]] = {
        name: [] for name in ("dicom", "volumes", "pictures", "subfolders", "results", "others")
    }
    reports = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        kind = format_of(path)
        report = report_path(path)
        if path.is_dir():
            is_result = _is_report(report)
            kinds["results" if is_result else "subfolders"].append(path)
            reports += [report] * is_result
        elif kind in VOLUME_FORMATS:
            kinds["results" if report.exists() else "volumes"].append(path)
            reports.append(report)
        elif kind in PICTURE_FORMATS:
            kinds["pictures"].append(path)
        elif path.name.upper() != "DICOMDIR" and (kind in DICOM_FORMATS or is_dicom(path)):
            kinds["dicom"].append(path)
        else:
            kinds["others"].append(path)
    kinds["others"] = [path for path in kinds["others"] if path not in reports]
    return FolderContent(folder, **{name: tuple(paths) for name, paths in kinds.items()})


def find_scans(text: str | Path) -> tuple[list[Path], list[LeftOut]]:
    """The scans that an argument means, a file, a folder that is one, a folder of scans or a pattern; and the rest.

    Raises
    ------
    InputError
        If nothing is there.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        scans, left_out = scans_in(path)
        return scans or [path], left_out  # reading it says what is wrong
    if path.exists():
        return [path], []
    scans, left_out = [], []
    for found in sorted(map(Path, glob.glob(str(path)))):
        if found.name.startswith("."):
            continue
        if found.is_dir() or (format_of(found) in VOLUME_FORMATS and not report_path(found).exists()):
            scans.append(found)
        else:
            left_out.append(LeftOut(found, "no volume file, or the result of an earlier run"))
    if not scans:
        raise InputError(f"Nothing matches {text}.", "Check the name and the folder.")
    return scans, left_out


def scans_in(folder: Path) -> tuple[list[Path], list[LeftOut]]:
    """The scans of a folder by the rule above, `[folder]` if it is one itself, and what is left out."""
    content = content_of(folder)
    if content.dicom:
        return [folder], content.besides_dicom
    scans, left_out = list(content.volumes), list(content.left_out_always)
    for path in content.subfolders:
        inside, without = scans_in(path)
        scans += inside
        left_out += without if inside else [LeftOut(path, "a folder without scans")]
    if scans and len(content.pictures) > 1 and not content.volumes:  # slices beside folders
        inside = [LeftOut(path, "a subfolder of a folder of slices") for path in content.subfolders]
        return [folder], [*content.left_out_always, *inside]
    if scans or not content.pictures:
        return scans, [*left_out, *(LeftOut(path, "a picture beside volumes") for path in content.pictures)]
    return [folder], left_out


def told(left_out: Iterable[LeftOut], folder: Path | None = None) -> list[str]:
    """Sentences that name what was left out: one for what may be missed, one for the rest.

    `folder` shortens the names of what lies below it.
    """
    sentences = []
    for is_alarming in (True, False):
        groups: dict[str, list[str]] = {}
        for item in left_out:
            if item.is_alarming == is_alarming:
                name = os.path.relpath(item.path, folder) if folder else item.path.name
                groups.setdefault(item.why, []).append(name.replace("\n", "?"))
        if groups:
            count = sum(map(len, groups.values()))
            listed = "; ".join(f"{_named(names)} ({why})" for why, names in list(groups.items())[:SHOWN])
            others = sum(map(len, list(groups.values())[SHOWN:]))
            listed += f"; and {others} more" if others else ""
            what = f"{count} file{'s' * (count > 1)} could not be read" if is_alarming else "Left out"
            sentences.append(f"{what}: {listed}.")
    return sentences


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def report_path(output_path: str | Path) -> Path:
    """Where the report of an output lies."""
    return Path(f"{output_path}.json")


def _is_report(path: Path) -> bool:
    """Whether a file beside a folder tells that this is a result, as any other JSON of that name would not."""
    try:
        return b'"super_resolution":' in path.read_bytes()[:REPORT_BYTES]
    except OSError:
        return False


def is_dicom(path: Path) -> bool:
    """Whether a file has the DICOM mark behind its 128 bytes of preamble."""
    try:
        with open(path, "rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except OSError:
        return False
