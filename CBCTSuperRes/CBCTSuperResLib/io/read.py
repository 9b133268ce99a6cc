"""Reading a scan, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.errors import InputError, OptionError
from ..core.volume import Grid, Volume
from . import dicom, slices
from .checks import check_size, check_voxels
from .exchange import is_exchange, read_exchange
from .formats import DICOM_FORMATS, PICTURE_FORMATS, VOLUME_FORMATS, format_of
from .headers import read_header
from .images import read_facts, read_voxels


@dataclass(frozen=True)
class Probe:
    """What is known of a scan before its voxels are read.

    Attributes
    ----------
    kind : str
        "volume file", "DICOM series", "slices" or "exchange file".
    grid : Grid
    dtype : numpy.dtype
        As stored; a DICOM series may come out smaller, see `dicom.read_series`.
    warnings : tuple of str
    """

    kind: str
    grid: Grid
    dtype: np.dtype
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int, int]:
        return self.grid.size

    @property
    def spacing(self) -> tuple[float, float, float]:
        return self.grid.spacing

    @property
    def nbytes(self) -> int:
        """Bytes of the voxels in memory."""
        return int(np.prod(self.grid.size, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True)
class _Source:
    """A scan that was found and understood, but not read yet."""

    probe: Probe
    read: Callable[[], Volume]


def read_volume(path: str | Path, spacing: Sequence[float] | None = None, series: str | None = None) -> Volume:
    """Read a scan and make sure that it is one.

    Voxels are in the file's type (float16 becomes float32), in native byte order, C-contiguous (k, j, i), and often
    read-only. The peak of memory is the volume (NIfTI: twice), plus one slice for a folder; exchange files stay on
    disk. What the reader had to assume is in `report["warnings"]`, for instance 1 mm where a file records no spacing.

    Parameters
    ----------
    path : path
        NRRD, NHDR, MHA, MHD, NIfTI, a DICOM folder or multi-frame file, a folder of TIFF or PNG slices or a TIFF file
        of many pages (both need `spacing`), or an exchange file (.npy).
    spacing : (x, y, z) in mm, optional
        Overrules what the file says.
    series : str, optional
        Which series of a DICOM folder: its UID, the beginning of it, or its number.

    Raises
    ------
    InputError
        If there is nothing to read, or it is no scan: see `checks`.
    """
    source = _find(path, spacing, series)
    volume = source.read()
    voxels = _tidy(volume.voxels)
    check_voxels(voxels)
    warnings = source.probe.warnings
    return replace(volume, voxels=voxels, report={"warnings": list(warnings)} if warnings else {})


def probe(path: str | Path, spacing: Sequence[float] | None = None, series: str | None = None) -> Probe:
    """Size, spacing, type and bytes of a scan from its headers.

    Raises
    ------
    InputError
        As `read_volume`, except for what only the voxels show.
    """
    return _find(path, spacing, series).probe


def _tidy(voxels: np.ndarray) -> np.ndarray:
    dtype = np.dtype(np.float32) if voxels.dtype == np.float16 else voxels.dtype.newbyteorder("=")
    if voxels.dtype == dtype and voxels.flags.c_contiguous:
        return voxels
    return np.ascontiguousarray(voxels, dtype)


def _find(path: str | Path, spacing: Sequence[float] | None, series: str | None) -> _Source:
    path, spacing = _existing(path), _checked_spacing(spacing)
    if path.is_dir():
        return _in_folder(path, spacing, series)
    if is_exchange(path):
        return _in_exchange(path)
    if format_of(path) in VOLUME_FORMATS:
        return _in_file(path, spacing)
    if format_of(path) in (".tif", ".tiff"):
        return _in_slices([path], spacing)
    if format_of(path) in DICOM_FORMATS or dicom.is_dicom(path):
        return _in_series(dicom.series_of_file(path), spacing)
    raise InputError(
        f"{path.name} is not of a known format.",
        "Give NRRD, NHDR, MHA, MHD, NIfTI, a DICOM folder, or a folder of TIFF or PNG slices.",
    )


def _existing(path: str | Path) -> Path:
    path = Path(path).expanduser()
    try:
        exists = path.exists()
    except OSError:  # for instance a name that is too long
        exists = False
    if not exists:
        raise InputError(f"{path} does not exist.", "Check the name and the folder.")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is an empty file.", "Copy or export it again.")
    return path


def _checked_spacing(spacing: Sequence[float] | None) -> tuple[float, float, float] | None:
    if spacing is None:
        return None
    try:
        values = tuple(float(s) for s in spacing)
    except (TypeError, ValueError):
        values = ()
    if len(values) != 3 or not all(np.isfinite(s) and s > 0 for s in values):
        raise OptionError(f"The spacing {spacing!r} is not three positive numbers.", "Give x, y and z in mm.")
    return values


def _in_folder(folder: Path, spacing: Sequence[float] | None, series: str | None) -> _Source:
    available, unread = dicom.find_series(folder, besides=PICTURE_FORMATS)
    if available:
        return _in_chosen_series(available, unread, spacing, series)
    images = slices.find_slices(folder)
    if images:
        return _in_slices(images, spacing)
    inside = [entry.name for entry in sorted(folder.iterdir()) if entry.is_dir()]
    hint = f" It has subfolders: {', '.join(inside[:8])}." if inside else ""
    raise InputError(f"{folder} holds no DICOM, TIFF or PNG slices.{hint}", "Give the folder that holds the slices.")


def _in_chosen_series(
    available: Sequence[dicom.DicomSeries], unread: Sequence[Path], spacing: Sequence[float] | None, series: str | None
) -> _Source:
    chosen = dicom.choose_series(available, series)
    warnings = []
    if series is None and len(available) > 1:
        warnings.append(f"The folder also holds single images; the only volume was taken: {chosen.title}.")
    if not unread:
        return _in_series(chosen, spacing, warnings)
    lost = f"{len(unread)} DICOM files could not be read as images, for instance {unread[0].name}."
    try:
        return _in_series(chosen, spacing, [*warnings, lost])
    except InputError as error:
        raise InputError(f"{error.what} {lost}", error.advice) from error


def _in_series(series: dicom.DicomSeries, spacing: Sequence[float] | None, warnings: Sequence[str] = ()) -> _Source:
    stack = dicom.arrange(series, spacing)
    told = Probe("DICOM series", stack.grid, series.slices[0].facts.dtype, (*warnings, *stack.warnings))
    return _Source(told, stack.read)


def _in_slices(files: list[Path], spacing: Sequence[float] | None) -> _Source:
    grid, facts = slices.examine(files, spacing)
    return _Source(Probe("slices", grid, facts.dtype), lambda: Volume(slices.stack(files, facts), grid))


def _in_exchange(path: Path) -> _Source:
    volume = read_exchange(path)
    return _Source(Probe("exchange file", volume.grid, volume.voxels.dtype), lambda: volume)


def _in_file(path: Path, spacing: Sequence[float] | None) -> _Source:
    facts, header = read_facts(path), read_header(path)
    check_size(facts.size, facts.components)
    if facts.dtype is None:
        raise InputError(f"Voxels of type {facts.type_name} hold no grey values.", "Convert them to int16 or float32.")
    warnings = ()
    if not spacing and header.spacing is None:
        warnings = ("The file records no spacing; 1 mm was assumed.",)
    elif not spacing and not all(np.isfinite(s) and s > 0 for s in header.spacing[:3]):
        raise InputError(f"The file records a spacing of {header.spacing[:3]} mm.", "Give one that can be (--spacing).")
    grid = facts.grid(spacing)

    def read() -> Volume:
        header.check_is_whole(path)
        without_fourth = (*facts.size[:3], *[0] * len(facts.size[3:])) if facts.size[3:] else ()
        return Volume(read_voxels(path, size=without_fourth), grid)

    return _Source(Probe("volume file", grid, facts.dtype, warnings), read)
