"""The header of an NRRD file (.nrrd, or .nhdr with the voxels in files beside it).

Source: "Definition of NRRD File Format", https://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from .headers import (
    AGAIN,
    RAS_TO_LPS,
    Fields,
    VolumeHeader,
    check_place,
    checked_size,
    files_beside,
    header_text,
    numbered_names,
    numbers_in,
    odd_files,
    unit_factor,
    unit_vectors,
    wrong_header,
)

TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("signed long long int",), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
PACKINGS = {
    "raw": "raw",
    **dict.fromkeys(("gz", "gzip"), "deflate"),
    **dict.fromkeys(("bz2", "bzip2"), "bzip2"),
    **dict.fromkeys(("txt", "text", "ascii"), "text"),
    "hex": "hex",
}
SPACES = {  # to LPS
    **dict.fromkeys(("left-posterior-superior", "lps"), np.eye(3)),
    **dict.fromkeys(("right-anterior-superior", "ras"), RAS_TO_LPS),
    **dict.fromkeys(("left-anterior-superior", "las"), np.diag([1.0, -1.0, 1.0])),
}
UNPLACED_SPACES = ("scanner-xyz", "3d-right-handed", "3d-left-handed")
COMPONENTS = ("scalar", "stub", "vector", "list", "point", "normal", "complex", "quaternion", "color")
ONE_NAME = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip", "axismins": "axis mins"}
ONE_NAME |= {"axismaxs": "axis maxs", "centerings": "centers", "spaceunits": "space units"}


def read_header(path: Path) -> VolumeHeader:
    """
    Raises
    ------
    InputError
        If the header is not one of NRRD, or what it says cannot be.
    """
    fields, start = _read_fields(path)
    warnings: list[str] = []
    (dimensions,) = fields.exactly("dimension", 1)
    if not 1 <= dimensions <= 16:
        raise fields.wrong(f"a dimension of {dimensions} cannot be")
    sizes = checked_size(path, fields.exactly("sizes", dimensions))
    values_axes, space_axes = _axes(fields, dimensions)
    size = tuple(sizes[axis] for axis in space_axes)
    components = int(np.prod([sizes[axis] for axis in values_axes], dtype=object))
    spacing, origin, direction = _place(fields, dimensions, space_axes, size, warnings)
    type_name = fields.text("type").lower()
    kind = TYPES.get(type_name)
    if kind is None and type_name != "block":
        raise fields.wrong(f"the type {type_name!r} is not one of NRRD")
    packing = PACKINGS.get(fields.text("encoding").lower())
    if packing is None:
        raise InputError(
            f"The voxels of {path} have the encoding {fields.text('encoding')[:40]!r}, which is not read.",
            "Save the volume as raw or gzip.",
        )
    if values_axes and values_axes != list(range(len(values_axes))) and components > 1:
        raise InputError(
            f"There are {components} values in each voxel of {path}: a time series or several volumes.",
            "Save one of its volumes in a file of its own.",
        )
    (skip_lines,) = fields.exactly("line skip", 1, [0])
    (skip_bytes,) = fields.exactly("byte skip", 1, [0])
    if skip_lines < 0 or skip_bytes < -1 or (skip_bytes == -1 and packing != "raw"):
        raise fields.wrong(f"it skips {skip_lines} lines and {skip_bytes} bytes")
    pieces = _pieces(path, fields, start)
    return VolumeHeader(
        path=path,
        size=size,
        dtype=None if kind is None else np.dtype(_endian(fields, kind, packing) + kind),
        type_name=type_name,
        pieces=pieces or (path,),
        components=components,
        spacing=spacing,
        origin=origin,
        direction=direction,
        skip_lines=skip_lines,
        skip_bytes=skip_bytes,
        start=0 if pieces else start,
        packing=packing,
        warnings=tuple(warnings),
    )


def _read_fields(path: Path) -> tuple[Fields, int]:
    """The fields by their names in lower case, and where the voxels would begin."""
    with open(path, "rb") as stream:
        magic = stream.read(8)
    if not re.match(rb"NRRD000[1-6]", magic):
        raise InputError(f"{path} is damaged, or not what its name says: it does not begin like an NRRD file.", AGAIN)
    detached = r"\Z" if path.suffix.lower() == ".nhdr" else r"\Z(?!)"
    text, start = header_text(path, rf"\r?\n\r?\n|{detached}")
    values: dict[str, str] = {}
    for line in text.split("\n")[1:]:
        line = line.rstrip("\r")
        if line.startswith("#") or not line.strip() or re.match(r"[^:]*:=", line):
            continue
        if "data file" in values and values["data file"].split()[:1] == ["LIST"]:
            values["data file"] += f"\n{line}"
            continue
        name, colon, value = line.partition(":")
        name = ONE_NAME.get(name.strip().lower(), name.strip().lower())
        if not colon:
            raise wrong_header(path, f"the line {line[:60]!r} is no entry of NRRD")
        if name in values:
            raise wrong_header(path, f"it says {name} twice")
        values[name] = value.strip()
    return Fields(path, values), start


def _endian(fields: Fields, kind: str, packing: str) -> str:
    if kind[1] == "1" or packing == "text":
        return "|" if kind[1] == "1" else "="
    order = {"little": "<", "big": ">"}.get(fields.text("endian").lower())
    if order is None:
        raise fields.wrong(f"endian is {fields.text('endian')[:20]!r}")
    return order


def _axes(fields: Fields, dimensions: int) -> tuple[list[int], list[int]]:
    """The axes along which the values of a voxel lie, and the others, of which the first three are those of space."""
    kinds = fields.text("kinds", "").lower().split()
    if kinds and len(kinds) != dimensions:
        raise fields.wrong(f"it has {len(kinds)} kinds for {dimensions} dimensions")
    values = [a for a, kind in enumerate(kinds) if any(word in kind for word in COMPONENTS)]
    if "space directions" in fields:
        values = [a for a, vector in enumerate(_vectors(fields, dimensions)) if vector is None]
    return values, [axis for axis in range(dimensions) if axis not in values]


def _vectors(fields: Fields, dimensions: int) -> list[list[float] | None]:
    words = re.findall(r"\([^()]*\)|none|nan", fields.text("space directions"), re.IGNORECASE)
    if len(words) != dimensions:
        raise fields.wrong(f"it has {len(words)} space directions for {dimensions} dimensions")
    return [numbers_in(word) if word.startswith("(") else None for word in words]


def _place(
    fields: Fields, dimensions: int, space_axes: list[int], size: Sequence[int], warnings: list[str]
) -> tuple[tuple | None, tuple, np.ndarray]:
    """Spacing, origin and direction of the first three axes of space, in mm and LPS."""
    path, axes = fields.path, space_axes[:3]
    factor = unit_factor(path, _units(fields, axes), warnings)
    is_counted = factor is None
    if "space directions" in fields:
        found = [_vectors(fields, dimensions)[axis] for axis in axes]
        dimension = len(found[0]) if found else 0
        if len(found) < 3 or dimension < 3:
            return None, (0.0, 0.0, 0.0), np.eye(3)
        if any(len(vector) != dimension for vector in found):
            raise fields.wrong("its space directions have different numbers of entries")
        columns = np.array(found, dtype=float)[:, :3].T  # a fourth entry is of time
        origin = np.array(fields.numbers("space origin") if "space origin" in fields else [0.0] * dimension)
        if len(origin) != dimension:
            raise fields.wrong(f"its space origin has {len(origin)} entries")
        origin = origin[:3]
        to_lps = _to_lps(fields, warnings)
        spacing, direction = unit_vectors(to_lps @ columns * (factor or 1.0))
        check_place(path, origin, direction)
        return None if is_counted else spacing, tuple(to_lps @ origin * (factor or 1.0)), direction
    mins, maxs = (_of_axes(fields, name, dimensions, axes) for name in ("axis mins", "axis maxs"))
    spacings = _of_axes(fields, "spacings", dimensions, axes)
    centers = fields.text("centers", "").lower().split()
    node = len(centers) == dimensions and all(centers[axis] == "node" for axis in axes)
    if spacings is None and mins is not None and maxs is not None and np.all(np.isfinite([*mins, *maxs])):
        count = np.maximum(np.array(size[:3]) - (1 if node else 0), 1)
        spacings = ((np.array(maxs) - mins) / count).tolist()
    origin = np.zeros(3)
    if spacings is not None and mins is not None and np.all(np.isfinite([*mins, *spacings])):
        origin[: len(axes)] = np.array(mins) + (0.0 if node else 0.5) * np.array(spacings)
        warnings.append("The file gives axis mins instead of an origin; the first voxel lies there.")
    if spacings is None or is_counted or len(axes) < 3:
        return None, (0.0, 0.0, 0.0), np.eye(3)
    origin = origin * factor
    check_place(path, origin, np.eye(3))
    return tuple(float(s) * factor for s in spacings), tuple(origin), np.eye(3)


def _to_lps(fields: Fields, warnings: list[str]) -> np.ndarray:
    space = fields.text("space", "").lower().removesuffix("-time")
    if space in SPACES:
        return SPACES[space]
    if space and space not in UNPLACED_SPACES:
        raise fields.wrong(f"the space {space[:40]!r} is not one of NRRD")
    warnings.append("The file does not say which way its axes run in the patient; left-posterior-superior was assumed.")
    return np.eye(3)


def _units(fields: Fields, axes: Sequence[int]) -> list[str]:
    if "space units" in fields:
        return re.findall(r'"([^"]*)"', fields.text("space units")) or fields.text("space units").split()
    units = re.findall(r'"([^"]*)"', fields.text("units", ""))
    return [units[axis] for axis in axes if axis < len(units)]


def _of_axes(fields: Fields, name: str, dimensions: int, axes: Sequence[int]) -> list[float] | None:
    if name not in fields:
        return None
    numbers = fields.numbers(name)
    if len(numbers) != dimensions:
        raise fields.wrong(f"it has {len(numbers)} {name} for {dimensions} dimensions")
    found = [numbers[axis] for axis in axes]
    return None if all(np.isnan(found)) else found


def _pieces(path: Path, fields: Fields, start: int) -> list[Path]:
    """The files with the voxels that the header names; none if they are behind it."""
    if "data file" not in fields:
        if path.suffix.lower() == ".nhdr" and path.stat().st_size == start:
            raise fields.wrong("it names no file with the voxels")
        return []
    first, *listed = fields.text("data file").split("\n")
    if first.split()[:1] == ["LIST"]:
        if not _is_usual(first.split()[1:], fields):
            raise odd_files(path, "a list")
        return files_beside(path, [line.strip() for line in listed if line.strip()])
    names, subdimension = numbered_names(path, first) or ([first], [])
    if not _is_usual(subdimension, fields):
        raise odd_files(path, "a series")
    return files_beside(path, names)


def _is_usual(subdimension: Sequence[str], fields: Fields) -> bool:
    """Whether files that are said to have so many dimensions are equal parts of the volume, one after the other."""
    (dimension,) = fields.exactly("dimension", 1)
    return list(subdimension) in ([], [str(dimension - 1)], [str(dimension)])
