"""The header of a MetaImage file (.mha, or .mhd with the voxels in files beside it).

Source: https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from .headers import (
    AGAIN,
    Fields,
    VolumeHeader,
    check_place,
    checked_size,
    file_beside,
    files_beside,
    header_text,
    numbered_names,
    odd_files,
    unit_factor,
    wrong_header,
)

TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
ONE_NAME = {
    "elementbyteordermsb": "binarydatabyteordermsb",
    "position": "offset",
    "origin": "offset",
    "rotation": "transformmatrix",
    "orientation": "transformmatrix",
}


def read_header(path: Path) -> VolumeHeader:
    """
    Raises
    ------
    InputError
        If the header is not one of MetaImage, or what it says cannot be.
    """
    fields, start, listed = _read_fields(path)
    warnings: list[str] = []
    if fields.text("objecttype", "Image").lower() != "image":
        raise InputError(f"{path} holds a {fields.text('objecttype')[:40]}, not an image.", "Choose another file.")
    dimensions = fields.exactly("ndims", 1)[0]
    if not 1 <= dimensions <= 10:
        raise fields.wrong(f"it has {dimensions} dimensions")
    size = checked_size(path, fields.exactly("dimsize", dimensions))
    (components,) = checked_size(path, fields.exactly("elementnumberofchannels", 1, [1]))
    if components < 1:
        raise fields.wrong("it has no values in a voxel")
    type_name = fields.text("elementtype").upper()
    kind = TYPES.get(type_name.removesuffix("_ARRAY"))
    if kind is None:
        raise InputError(f"Voxels of type {type_name[:40]} hold no grey values ({path}).", "Convert them to int16.")
    spacing, origin, direction = _place(fields, dimensions, warnings)
    is_packed, is_binary = _yes(fields, "compresseddata"), _yes(fields, "binarydata", "true")
    (skip,) = fields.exactly("headersize", 1, [0])
    if skip < -1 or (skip and is_packed):
        raise fields.wrong(f"HeaderSize is {skip}")
    name = fields.text("elementdatafile")
    header = VolumeHeader(
        path=path,
        size=size,
        dtype=np.dtype((">" if _yes(fields, "binarydatabyteordermsb") else "<") + kind),
        type_name=type_name,
        pieces=(path,) if name.upper() == "LOCAL" else _pieces(fields, name, listed, size),
        components=components,
        spacing=spacing,
        origin=origin,
        direction=direction,
        skip_bytes=skip,
        start=start if name.upper() == "LOCAL" else 0,
        packing="deflate" if is_packed else "raw" if is_binary else "text",
        scale=_scale(fields, warnings),
        warnings=tuple(warnings),
    )
    room = sum(piece.stat().st_size for piece in header.pieces) - header.start - max(0, skip) * len(header.pieces)
    if "LONG" in type_name and kind[1] == "4" and header.packing == "raw" and room == 2 * header.nbytes > 0:
        raise InputError(
            f"{path} says {type_name}, which has 4 bytes a voxel, and holds 8 for each.",
            "Save it as MET_INT or MET_SHORT.",
        )
    return header


def _read_fields(path: Path) -> tuple[Fields, int, list[str]]:
    """The entries by their names in lower case, where what follows them begins, and its lines if it is a list."""
    try:
        text, start = header_text(path, r"(?mi)^[ \t]*ElementDataFile[ \t]*=[^\n]*(\n|\Z)")
    except InputError as error:
        raise InputError(
            f"{path} is damaged, or not what its name says: it has no ElementDataFile, with which a header ends.", AGAIN
        ) from error
    values: dict[str, str] = {}
    for line in text.split("\n"):
        name, equals, value = line.partition("=")
        name = name.strip().lower()
        if not equals:
            if line.strip():
                raise wrong_header(path, f"the line {line[:60]!r} is no entry of MetaImage")
            continue
        name = ONE_NAME.get(name, name)
        if values.get(name, value.strip()) != value.strip():
            raise wrong_header(path, f"it says {name} twice, and not the same")
        values[name] = value.strip()
    listed = []
    if values["elementdatafile"].upper().startswith("LIST"):
        with open(path, "rb") as stream:
            stream.seek(start)
            lines = stream.read(1 << 22).decode("latin-1").split("\n")
        listed = [line.strip() for line in lines if line.strip()]
    return Fields(path, values), start, listed


def _yes(fields: Fields, name: str, default: str = "false") -> bool:
    word = fields.text(name, default).lower()
    if word[:1] not in ("t", "y", "1", "f", "n", "0"):
        raise fields.wrong(f"{name} is {word[:20]!r}, neither True nor False")
    return word[0] in "ty1"


def _place(fields: Fields, dimensions: int, warnings: list[str]) -> tuple[tuple | None, tuple, np.ndarray]:
    """Spacing, origin and direction of the first three axes, in mm and LPS."""
    key = next((key for key in ("elementspacing", "elementsize") if key in fields), None)
    factor = unit_factor(fields.path, [fields.text("distanceunits", "")], warnings)
    spacing, origin, direction = None, np.zeros(3), np.eye(3)
    if key and factor is not None:
        spacing = fields.numbers(key)
        if len(spacing) != dimensions:
            raise fields.wrong(f"{key} has {len(spacing)} entries instead of {dimensions}")
        spacing = tuple(s * factor for s in spacing[:3])
    if "offset" in fields:
        found = fields.numbers("offset")
        if len(found) != dimensions:
            raise fields.wrong(f"its origin has {len(found)} entries instead of {dimensions}")
        origin[: min(3, dimensions)] = np.array(found[:3]) * (factor or 1.0)
    if "transformmatrix" in fields:
        found = fields.numbers("transformmatrix")
        if len(found) != dimensions**2:
            raise fields.wrong(f"TransformMatrix has {len(found)} entries instead of {dimensions**2}")
        some = min(3, dimensions)
        direction[:some, :some] = np.reshape(found, (dimensions, dimensions)).T[:some, :some]
    if dimensions >= 3:
        check_place(fields.path, origin, direction)
        lengths = np.linalg.norm(direction, axis=0)
        if not np.allclose(lengths, 1, atol=0.01):
            raise fields.wrong("the rows of TransformMatrix are no unit vectors")
        direction = direction / lengths
        spacing = tuple(float(s) for s in np.array(spacing) * lengths) if spacing else spacing
    return spacing, tuple(float(x) for x in origin), direction


def _scale(fields: Fields, warnings: list[str]) -> tuple[float, float]:
    """MetaImage's function from stored values to intensities, which other programs often leave out."""
    found = []
    for name, default in (("elementtointensityfunctionslope", 1.0), ("elementtointensityfunctionoffset", 0.0)):
        numbers = fields.numbers(name) if name in fields else [default]
        if len(numbers) != 1 or not np.isfinite(numbers[0]):
            raise fields.wrong(f"{name} is no number")
        found.append(numbers[0])
    if found[0] == 0:
        raise fields.wrong("ElementToIntensityFunctionSlope is 0")
    if found != [1.0, 0.0]:
        warnings.append(f"Grey values are {found[0]:g} x stored + {found[1]:g}, as the file says.")
    return found[0], found[1]


def _pieces(fields: Fields, name: str, listed: list[str], size: Sequence[int]) -> list[Path]:
    path, words = fields.path, name.split()
    if words and words[0].upper() == "LIST":
        if len(words) > 1 and words[1] not in (str(len(size) - 1), f"{len(size) - 1}D"):
            raise odd_files(path, "a list")
        return files_beside(path, listed)
    if "%" not in name:
        return [file_beside(path, name)]
    names, more = numbered_names(path, name) or ([], [name])
    if more:
        raise odd_files(path, "a series")
    return files_beside(path, names)
