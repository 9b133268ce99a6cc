"""SimpleITK images as numpy arrays: facts of a file, its voxels without a copy, and errors in plain words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..core.errors import InputError, ResourceError
from ..core.volume import Grid

NUMPY_TYPES = {
    getattr(sitk, "sitk" + name): np.dtype(kind)
    for name, kind in {
        "UInt8": "uint8",
        "Int8": "int8",
        "UInt16": "uint16",
        "Int16": "int16",
        "UInt32": "uint32",
        "Int32": "int32",
        "UInt64": "uint64",
        "Int64": "int64",
        "Float32": "float32",
        "Float64": "float64",
    }.items()
}

REPAIR = "Copy or export it again and check that it opens in 3D Slicer."


@dataclass(frozen=True)
class ImageFacts:
    """What the header of an image file says.

    Attributes
    ----------
    size, spacing, origin : tuple
        One entry per dimension, in the order (i, j, k, ...); mm, LPS.
    direction : ndarray, shape (dimensions, dimensions)
    dtype : numpy.dtype or None
        None for colour, vectors, complex numbers and other types that are no grey values.
    type_name : str
        The type in words.
    components : int
        Values per voxel.
    metadata : dict
        Text by key; DICOM keys are "gggg|eeee".
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: np.ndarray
    dtype: np.dtype | None
    type_name: str
    components: int
    metadata: dict[str, str]

    @property
    def nbytes(self) -> int:
        itemsize = self.dtype.itemsize if self.dtype else 0
        return int(np.prod(self.size, dtype=np.int64)) * itemsize * self.components

    def grid(self, spacing: Sequence[float] | None = None) -> Grid:
        """The grid of the first three dimensions, with `spacing` in mm instead of the header's if given."""
        return Grid(self.size[:3], tuple(spacing or self.spacing[:3]), self.origin[:3], self.direction[:3, :3])


class _ImageMemory:
    """Lends the memory of an image to an array, which keeps the image alive through its `base`."""

    def __init__(self, image: sitk.Image, writable: bool) -> None:
        self.image = image
        interface = dict(sitk.GetArrayViewFromImage(image).__array_interface__)
        interface["data"] = (interface["data"][0], not writable)
        self.__array_interface__ = interface


def read_facts(path: str | Path, io: str = "") -> ImageFacts:
    """Facts of an image file, without its voxels.

    Parameters
    ----------
    path : path
    io : str
        Name of the only ITK reader to try, for instance "GDCMImageIO"; empty for the fitting one.

    Raises
    ------
    InputError
        If the file is not readable as an image.
    """
    reader = _reader(path, io)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    dimensions = reader.GetDimension()
    components = reader.GetNumberOfComponents()
    pixel = reader.GetPixelIDValue()
    return ImageFacts(
        size=tuple(reader.GetSize()),
        spacing=tuple(reader.GetSpacing()),
        origin=tuple(reader.GetOrigin()),
        direction=np.reshape(reader.GetDirection(), (dimensions, dimensions)),
        dtype=NUMPY_TYPES.get(pixel) if components == 1 else None,
        type_name=sitk.GetPixelIDValueAsString(pixel),
        components=components,
        metadata={key: _clean(reader.GetMetaData(key)) for key in reader.GetMetaDataKeys()},
    )


def read_voxels(path: str | Path, io: str = "") -> np.ndarray:
    """The voxels of an image file, last axis first, read-only and without a second copy in memory."""
    reader = _reader(path, io)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    return array_of(image)


def array_of(image: sitk.Image, writable: bool = False) -> np.ndarray:
    """The memory of an image as an array, last axis first; the image lives as long as the array."""
    return np.asarray(_ImageMemory(image, writable))


def allocate(shape: Sequence[int], dtype: np.dtype | str) -> np.ndarray:
    """Zeros that `image_of`, and so `files.write_volume`, saves without a second copy in memory."""
    pixel = next(pixel for pixel, known in NUMPY_TYPES.items() if known == np.dtype(dtype))
    return array_of(sitk.Image(list(shape[::-1]), pixel), writable=True)


def image_of(voxels: np.ndarray) -> sitk.Image:
    """An image of these voxels: the one whose memory they are, whole, or else a copy."""
    owner = voxels
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, _ImageMemory) and _same_memory(voxels.__array_interface__, owner.__array_interface__):
        return owner.image
    return sitk.GetImageFromArray(voxels, isVector=False)


def _same_memory(a: dict, b: dict) -> bool:
    return a["data"][0] == b["data"][0] and all(a[key] == b[key] for key in ("shape", "strides", "typestr"))


def reason(error: Exception) -> str:
    """The last line of an error that says something, without the library's own file names."""
    text = re.sub(r"ITK ERROR: \w+\(\w+\): ", "", str(error))
    lines = [line.strip(" .|") for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "/" not in line and "No such file" not in line]
    return (telling or ["no reason given"])[-1]


def _reader(path: str | Path, io: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetImageIO(io)
    reader.SetFileName(str(path))
    return reader


def _clean(text: str) -> str:
    """Without padding, and printable whatever the file's character set."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip(" \0")


def _unreadable(path: str | Path, error: RuntimeError) -> InputError | ResourceError:
    text = str(error)
    if "allocate" in text.lower():
        return ResourceError(f"{path} does not fit into memory.", "Close other programs, or crop the volume first.")
    if "determine ImageIO" in text:
        return InputError(f"{path} is damaged, or not what its name says.", REPAIR)
    return InputError(f"{path} is damaged or incomplete ({reason(error)}).", REPAIR)
