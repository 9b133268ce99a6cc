"""Reading a scan, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import InputError, OptionError
from ..core.volume import Grid, Volume
from . import slices
from .checks import check_size, check_voxels
from .exchange import is_exchange, read_exchange
from .folders import SHOWN, FolderContent, LeftOut, content_of, is_dicom, told
from .formats import DICOM_FORMATS, PICTURE_FORMATS, VOLUME_FORMATS, format_of
from .volume_files import read_header, read_voxels

if TYPE_CHECKING:
    from .dicom import DicomSeries

PACKED = (".zip", ".gz", ".tgz", ".tar", ".7z", ".rar", ".bz2", ".xz")
OTHER_PICTURES = (".bmp", ".jpg", ".jpeg", ".jp2", ".gif", ".webp")
SAME_SPACING = 1e-3  # relative: headers write it with a few decimals


@dataclass(frozen=True)
class Probe:
    """What is known of a scan before its voxels are read.

    Attributes
    ----------
    kind : str
        "volume file", "DICOM series", "slices" or "exchange file".
    grid : Grid
    dtype : numpy.dtype
        As stored; a DICOM series may come out smaller, see `dicom_pixels.stack`.
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


def read_volume(
    path: str | Path,
    spacing: Sequence[float] | None = None,
    series: str | None = None,
    override: bool = False,
) -> Volume:
    """Read a scan and make sure that it is one.

    Voxels are in the file's type (float16 becomes float32), in native byte order, C-contiguous (k, j, i), and often
    read-only. The peak of memory is the volume, plus one slice for a folder; exchange files stay on
    disk. What the reader had to assume is in `report["warnings"]`, for instance 1 mm where a file records no spacing.

    Parameters
    ----------
    path : path
        NRRD, NHDR, MHA, MHD, NIfTI, a DICOM folder or multi-frame file, a folder of TIFF or PNG slices or a TIFF file
        of many pages (both need `spacing`), or an exchange file (.npy).
    spacing : (x, y, z) in mm, optional
        For files that do not record it.
    series : str, optional
        Which series of a DICOM folder: its UID, the beginning of it, or its number.
    override : bool
        Whether `spacing` is believed where the file records another one.

    Raises
    ------
    InputError
        If there is nothing to read, it is no scan (see `checks`), or it records another spacing than the given.
    """
    source = _find(path, spacing, series, override)
    volume = source.read()
    voxels = _tidy(volume.voxels)
    check_voxels(voxels)
    warnings = [*source.probe.warnings, *volume.report.get("warnings", ())]
    return replace(volume, voxels=voxels, report={"warnings": warnings} if warnings else {})


def probe(
    path: str | Path,
    spacing: Sequence[float] | None = None,
    series: str | None = None,
    override: bool = False,
) -> Probe:
    """Size, spacing, type and bytes of a scan from its headers.

    Raises
    ------
    InputError
        As `read_volume`, except for what only the voxels show.
    """
    return _find(path, spacing, series, override).probe


def _tidy(voxels: np.ndarray) -> np.ndarray:
    dtype = np.dtype(np.float32) if voxels.dtype == np.float16 else voxels.dtype.newbyteorder("=")
    if voxels.dtype == dtype and voxels.flags.c_contiguous:
        return voxels
    return np.ascontiguousarray(voxels, dtype)


def _find(path: str | Path, spacing: Sequence[float] | None, series: str | None, override: bool) -> _Source:
    path, spacing = _existing(path), _checked_spacing(spacing)
    if path.is_dir():
        return _in_folder(path, spacing, series, override)
    if is_exchange(path):
        return _in_exchange(path)
    if format_of(path) in VOLUME_FORMATS:
        return _in_file(path, spacing, override)
    if format_of(path) in (".tif", ".tiff"):
        return _in_slices([path], spacing, override)
    if format_of(path) in DICOM_FORMATS or is_dicom(path):
        from .dicom import series_of_file

        return _in_series(series_of_file(path), spacing, override)
    if format_of(path) in PICTURE_FORMATS:
        raise InputError(f"{path.name} is a single picture, not a volume.", "Give the folder that holds all slices.")
    if format_of(path) in PACKED:
        raise InputError(f"{path.name} is an archive, which is not read.", "Unpack it first.")
    if format_of(path) in (".hdr", ".img"):
        raise InputError(
            f"{path.name} is one of a pair of files (.hdr and .img: Analyze, or NIfTI of old), which are not read.",
            "Save it as one .nii file.",
        )
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


def _settled_spacing(
    recorded: Sequence[float], given: Sequence[float] | None, override: bool
) -> tuple[tuple[float, ...], list[str]]:
    """The spacing that holds, and what is to be told, where a file records one and another one may be given.

    Raises
    ------
    InputError
        If they differ and `override` is not said.
    """
    recorded = tuple(recorded)
    if given is None or np.allclose(recorded, given, rtol=SAME_SPACING, atol=0):
        return recorded, []
    both = (" x ".join(f"{s:.6g}" for s in spacing) for spacing in (recorded, given))
    what = "The file records a spacing of {} mm, and {} mm are given".format(*both)
    if not override:
        raise InputError(f"{what}.", "Leave the spacing out, or say that it is to be believed (--override).")
    return tuple(given), [f"{what}: the given ones were believed (--override)."]


def _in_folder(folder: Path, spacing: Sequence[float] | None, series: str | None, override: bool) -> _Source:
    """A folder that is one scan, by the rule of `folders`."""
    content = content_of(folder)
    if content.dicom or content.others:
        from .dicom import find_series

        available, others = find_series(folder, besides=(*PICTURE_FORMATS, *VOLUME_FORMATS))
        if available:
            return _in_chosen_series(folder, available, others, spacing, series, override)
        lost = [item for item in others if item.is_alarming]
        if lost and (content.dicom or not content.pictures):
            raise InputError(
                f"{folder} holds no DICOM images that can be read. {' '.join(told(lost))}", "Copy or export it again."
            )
    if content.volumes:
        pictures = f", beside {len(content.pictures)} pictures" if content.pictures else ""
        raise InputError(
            f"{folder} holds volume files, each a scan of its own: {_listed(content.volumes)}{pictures}.",
            "Give one of them; move the slices of another scan into a folder of their own.",
        )
    if content.pictures:
        source = _in_slices(content.pictures, spacing, override)
        return replace(source, probe=replace(source.probe, warnings=(*source.probe.warnings, *told(_besides(content)))))
    inside = (*content.results, *content.subfolders, *content.others)
    hint = f" It holds {_listed(inside)}." if inside else ""
    kinds = {format_of(path) for path in content.others}
    packed, pictures = kinds & set(PACKED), kinds & set(OTHER_PICTURES)
    advice = "Give the folder of the slices, or a volume file."
    if packed or pictures:
        advice = f"Unpack {', '.join(sorted(packed))} first." if packed else "Save the pictures as 16-bit TIFF or PNG."
    raise InputError(f"{folder} holds no DICOM, TIFF or PNG slices.{hint}", advice)


def _besides(content: FolderContent) -> list[LeftOut]:
    """What a folder of pictures holds besides them."""
    return [*(LeftOut(path, "a subfolder") for path in content.subfolders), *content.left_out_always]


def _listed(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return f"{', '.join(path.name for path in paths[:SHOWN])}{more}"


def _in_chosen_series(
    folder: Path,
    available: Sequence[DicomSeries],
    others: Sequence[LeftOut],
    spacing: Sequence[float] | None,
    series: str | None,
    override: bool,
) -> _Source:
    from .dicom import beside, choose_series

    chosen = choose_series(available, series)
    warnings = told(others)
    unchosen = [one.title for one in available if one is not chosen]
    if unchosen:
        more = f" and {len(unchosen) - SHOWN} more" if len(unchosen) > SHOWN else ""
        warnings.append(f"Other series of the folder were left out: {'; '.join(unchosen[:SHOWN])}{more}.")
    elsewhere = beside(folder, chosen)
    if elsewhere:
        warnings.append(
            f"Files of the same series lie in {_listed(elsewhere)} beside {folder.name}; they were left out. Put all "
            "into one folder if the volume should hold them, too."
        )
    lost = told([item for item in others if item.is_alarming])
    try:
        return _in_series(chosen, spacing, override, warnings)
    except InputError as error:
        if not lost:
            raise
        raise InputError(f"{error.what} {lost[0]}", error.advice) from error


def _in_series(
    series: DicomSeries, spacing: Sequence[float] | None, override: bool, warnings: Sequence[str] = ()
) -> _Source:
    from .dicom import arrange

    stack = arrange(series, spacing)
    settled, said = _settled_spacing(stack.grid.spacing, spacing, override)
    grid = replace(stack.grid, spacing=settled)
    found = Probe("DICOM series", grid, stack.frames[0].file.layout.dtype, (*warnings, *stack.warnings, *said))
    return _Source(found, lambda: replace(stack.read(), grid=grid))


def _in_slices(files: Sequence[Path], spacing: Sequence[float] | None, override: bool) -> _Source:
    found = slices.examine(files)
    warnings = found.warnings
    recorded = found.spacing or (None, None, None)
    if spacing:
        recorded = tuple(given if s is None else s for s, given in zip(recorded, spacing, strict=True))
    if None in recorded:
        raise InputError(*slices.NEEDS_SPACING)
    spacing, said = _settled_spacing(recorded, spacing, override)
    warnings += said
    grid = Grid(found.size, tuple(spacing))

    def read() -> Volume:
        voxels, noticed = found.read()
        return Volume(voxels, grid, report={"warnings": noticed})

    return _Source(Probe("slices", grid, found.dtype, tuple(warnings)), read)


def _in_exchange(path: Path) -> _Source:
    volume = read_exchange(path)
    return _Source(Probe("exchange file", volume.grid, volume.voxels.dtype), lambda: replace(volume, report={}))


def _in_file(path: Path, spacing: Sequence[float] | None, override: bool) -> _Source:
    header = read_header(path)
    check_size(header.size, header.components)
    if header.dtype is None:
        raise InputError(f"Voxels of type {header.type_name} hold no grey values.", "Convert them to int16 or float32.")
    warnings, can_be = list(header.warnings), header.spacing and all(np.isfinite(s) and s > 0 for s in header.spacing)
    if can_be:
        spacing, said = _settled_spacing(header.spacing, spacing, override)
        warnings += said
    elif not spacing and header.spacing:
        raise InputError(f"The file records a spacing of {header.spacing} mm.", "Give one that can be (--spacing).")
    elif not spacing:
        warnings.append("The file records no spacing; 1 mm was assumed.")
    grid = header.grid(spacing)
    found = Probe("volume file", grid, header.grey_type, tuple(warnings))
    return _Source(found, lambda: Volume(read_voxels(header), grid))
