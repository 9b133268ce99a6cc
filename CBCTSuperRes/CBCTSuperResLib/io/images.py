"""SimpleITK images as numpy arrays without a copy, and errors in plain words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..core.crash_note import decoding
from ..core.errors import InputError, ResourceError

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


class _ImageMemory:
    """Lends the memory of an image to an array, which keeps the image alive through its `base`."""

    def __init__(self, image: sitk.Image, writable: bool) -> None:
        self.image = image
        interface = dict(sitk.GetArrayViewFromImage(image).__array_interface__)
        interface["data"] = (interface["data"][0], not writable)
        self.__array_interface__ = interface


def read_voxels(path: str | Path, io: str) -> np.ndarray:
    """The voxels of an image file, last axis first, read-only and without a second copy in memory.

    The file was made by us, or proven by us to be what it says: the library trusts what it reads.

    Parameters
    ----------
    path : path
    io : str
        Name of the only ITK reader to try, for instance "GDCMImageIO".

    Raises
    ------
    InputError, ResourceError
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{path} has a name that is no text (UTF-8).", "Rename it.") from error
    reader = sitk.ImageFileReader()
    reader.SetImageIO(io)
    reader.SetFileName(str(path))
    try:
        with decoding(path):
            image = reader.Execute()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    return array_of(image)


def array_of(image: sitk.Image, writable: bool = False) -> np.ndarray:
    """The memory of an image as an array, last axis first; the image lives as long as the array."""
    return np.asarray(_ImageMemory(image, writable))


def allocate(shape: Sequence[int], dtype: np.dtype | str) -> np.ndarray:
    """Zeros that `image_of`, and so `write.write_volume`, saves without a second copy in memory."""
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


def _unreadable(path: str | Path, error: RuntimeError) -> InputError | ResourceError:
    text = str(error)
    if "allocate" in text.lower():
        return ResourceError(f"{path} does not fit into memory.", "Close other programs, or crop the volume first.")
    if "determine ImageIO" in text:
        return InputError(f"{path} is damaged, or not what its name says.", REPAIR)
    return InputError(f"{path} is damaged or incomplete ({reason(error)}).", REPAIR)
