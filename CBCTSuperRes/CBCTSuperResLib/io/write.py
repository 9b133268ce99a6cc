"""A volume in a file: written whole or not at all, and refused beforehand where that cannot be."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..core.atomic import replacing
from ..core.errors import InputError, OutputError, ResourceError
from ..core.volume import Grid, Volume
from .formats import OUTPUT_FORMATS, format_of
from .images import NUMPY_TYPES, image_of, reason
from .volume_files import check_is_whole, read_header

RESERVE = 1024 * 1024  # for headers, reports and the file system's own needs
POSITION_TOLERANCE_MM = 1e-4
ANOTHER_DISK = "Check the disk, or choose another folder."


def free_disk_bytes(path: str | Path) -> int:
    """Free bytes on the disk of a file or folder, which need not exist yet; 0 if the whole drive is not there."""
    path = Path(path).absolute()
    existing = next((place for place in (path, *path.parents) if place.exists()), None)
    return 0 if existing is None else shutil.disk_usage(existing).free


def check_disk(folder: Path, nbytes: int) -> None:
    """Say beforehand that so many bytes will not fit.

    Raises
    ------
    ResourceError
    """
    free = free_disk_bytes(folder)
    if free < nbytes + RESERVE:
        raise ResourceError(
            f"The result takes {nbytes / 1e9:.2f} GB and the disk of {folder} has {free / 1e9:.2f} GB free.",
            "Free some space, choose another disk, a smaller ROI, axial planes only, or a smaller type such as int16.",
        )


def write_volume(volume: Volume, path: str | Path, compress: bool = False) -> Path:
    """Write NRRD, MHA or NIfTI under a temporary name in the same folder, then rename: whole or not at all.

    The output's voxels are copied once in memory, unless they were made by `images.allocate`.

    Parameters
    ----------
    volume : Volume
    path : path
        Ends in .nrrd, .mha, .nii or .nii.gz. An existing file is replaced.
    compress : bool
        Losslessly (gzip); .nii.gz always is.

    Returns
    -------
    Path

    Raises
    ------
    OutputError, ResourceError
        See `check_output`; also when writing fails. No file is left then, and an existing one is unchanged.
    """
    path = Path(path)
    check_output(path, volume.grid, writable_type(volume.voxels.dtype))
    with replacing(path) as scratch:
        write_into(scratch, volume, compress, name=path)
    return path


def write_into(path: Path, volume: Volume, compress: bool, name: Path) -> None:
    """Write a volume straight into a file that will be renamed to `name`, and see that it arrived.

    Raises
    ------
    OutputError
    """
    voxels = volume.voxels.astype(writable_type(volume.voxels.dtype), copy=False)
    image = image_of(voxels)
    image.SetSpacing(volume.grid.spacing)
    image.SetOrigin(volume.grid.origin)
    image.SetDirection(volume.grid.direction.ravel().tolist())
    try:
        sitk.WriteImage(image, str(path), useCompression=compress or path.suffix == ".gz")
        check_written(path, volume.grid, voxels)
    except InputError as error:
        raise OutputError(f"Writing {name} failed: {error.what}", ANOTHER_DISK) from error
    except RuntimeError as error:
        raise OutputError(f"Writing {name} failed: {reason(error)}.", ANOTHER_DISK) from error


def check_output(path: str | Path, grid: Grid, dtype: np.dtype | str, source: str | Path | None = None) -> None:
    """Say beforehand why a result could not be written here.

    Parameters
    ----------
    path : path
    grid, dtype
        Of the result.
    source : path, optional
        The input, which is never overwritten.

    Raises
    ------
    OutputError
        If the format, the type of voxels, the folder or the name will not do, or NIfTI's single precision would
        displace voxels.
    ResourceError
        If the disk is too full.
    """
    path = Path(path)
    kind = format_of(path)
    if kind not in OUTPUT_FORMATS:
        raise OutputError(
            f"{path.name} is of no format that can be written.", "Let it end in .nrrd, .mha, .nii or .nii.gz."
        )
    if np.dtype(dtype).newbyteorder("=") not in NUMPY_TYPES.values():
        raise OutputError(f"Voxels of type {np.dtype(dtype)} cannot be written into {kind}.", "Choose float32, say.")
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise OutputError(f"{path} has a name that is no text (UTF-8).", "Choose another name.") from error
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise OutputError(f"{path} is no possible name ({error.strerror}).", "Choose another name.") from error
    if is_folder:
        raise OutputError(f"{path} is a folder.", "Give the name of a file in it.")
    if source is not None and path.exists() and Path(source).exists() and path.samefile(source):
        raise OutputError(f"{path} is the input, which is never overwritten.", "Choose another name.")
    check_folder(path.parent)
    check_disk(path.parent, int(np.prod(grid.size, dtype=np.int64)) * np.dtype(dtype).itemsize)
    if kind.startswith(".nii"):
        _check_single_precision(grid)


def writable_type(dtype: np.dtype) -> np.dtype:
    """The native type in which files hold voxels of this one: the same, but float32 for float16.

    Raises
    ------
    OutputError
        If it holds no grey values.
    """
    if dtype.kind not in "iuf":
        raise OutputError(f"Voxels of type {dtype} cannot be written.", "Choose an integer or real type.")
    return np.dtype(np.float32) if dtype == np.float16 else dtype.newbyteorder("=")


def check_folder(folder: Path) -> None:
    """Refuse a folder that is not there or cannot be written.

    Raises
    ------
    OutputError
    """
    if not folder.is_dir():
        raise OutputError(f"The folder {folder} does not exist.", "Make it first, or choose another one.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"Nothing can be written into {folder} ({error.strerror}).", "Choose another folder."
        ) from error


def _check_single_precision(grid: Grid) -> None:
    """NIfTI keeps positions in float32 and axes at right angles."""
    u, _, v = np.linalg.svd(grid.direction)
    extent = np.asarray(grid.size) * grid.spacing
    shear = float((np.abs(u @ v - grid.direction) @ extent).max())
    if shear > POSITION_TOLERANCE_MM / 2:
        raise OutputError(
            f"NIfTI would displace voxels by {shear:.2g} mm: its axes are at right angles, the volume's are not.",
            "Write .nrrd or .mha.",
        )
    matrix = grid.index_to_point[:3]
    rounding = float((np.abs(matrix - matrix.astype(np.float32)) @ [*grid.size, 1.0]).max())
    if rounding > POSITION_TOLERANCE_MM:
        raise OutputError(
            f"NIfTI would displace voxels by {rounding:.2g} mm: it stores an origin so far away in single precision.",
            "Write .nrrd or .mha.",
        )


def check_written(path: Path, grid: Grid, voxels: np.ndarray) -> None:
    """A full disk is not always reported by the library, and a header may not hold what it was given."""
    header = read_header(path)
    written = header.grid()
    if written.size != grid.size or header.grey_type != voxels.dtype:
        raise OSError("what was written differs in size or type")
    corners = [(0, 0, 0), *np.diag(grid.size).tolist(), grid.size]
    if max(np.abs(written.point(c) - grid.point(c)).max() for c in corners) > POSITION_TOLERANCE_MM:
        raise OSError("the positions do not fit into this format; .nrrd and .mha keep them")
    check_is_whole(path)
