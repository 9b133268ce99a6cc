"""What NRRD, MetaImage and NIfTI files literally say, where SimpleITK quietly says something kinder.

SimpleITK reports 1 mm where a spacing is absent or not a number, and fills the missing end of a truncated NIfTI file
with zeros. Both would spoil a result unseen.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from .formats import format_of

HEADER_BYTES = 64 * 1024
NUMBER = r"[^\s(),]+"


@dataclass(frozen=True)
class RecordedHeader:
    """What a header literally says.

    Attributes
    ----------
    spacing : list of float, or None
        As it is written, in mm, whatever its value; None if there is none.
    nbytes : int
        Of a NIfTI file: bytes that it must have, unpacked; 0 for other formats, whose readers complain themselves.
    """

    spacing: list[float] | None
    nbytes: int = 0

    def check_is_whole(self, path: Path) -> None:
        """Refuse a NIfTI file with fewer bytes of voxels than its header announces, or with a broken gzip stream.

        A packed file is unpacked once for this, in pieces, because nothing else shows that it is whole.

        Raises
        ------
        InputError
        """
        if not self.nbytes:
            return
        try:
            found = _unpacked_bytes(path) if path.suffix.lower() == ".gz" else path.stat().st_size
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(f"{path} is damaged or incomplete ({error}).", "Copy or export it again.") from error
        if found < self.nbytes:
            raise InputError(
                f"{path} is incomplete: {found} of {self.nbytes} bytes are there.", "Copy or export it again."
            )


def read_header(path: Path) -> RecordedHeader:
    """The header of a file of one of the `VOLUME_FORMATS`.

    Raises
    ------
    InputError
        If a NIfTI file has none.
    """
    kind = format_of(path)
    if kind.startswith(".nii"):
        return _nifti_header(path)
    with open(path, "rb") as stream:
        text = stream.read(HEADER_BYTES).decode("latin-1").replace("\r\n", "\n")
    if kind in (".nrrd", ".nhdr"):
        return RecordedHeader(_nrrd_spacing(text.split("\n\n")[0]))
    return RecordedHeader(_meta_spacing(text))


def _nrrd_spacing(header: str) -> list[float] | None:
    directions = re.search(r"^space directions:(.*)$", header, re.MULTILINE)
    if directions:
        vectors = re.findall(r"\(([^)]*)\)", directions[1])
        return [float(np.linalg.norm([_number(x) for x in vector.split(",")])) for vector in vectors]
    spacings = re.search(r"^spacings:(.*)$", header, re.MULTILINE)
    return [_number(x) for x in re.findall(NUMBER, spacings[1])] if spacings else None


def _meta_spacing(text: str) -> list[float] | None:
    header = text.split("ElementDataFile")[0]
    for key in ("ElementSpacing", "ElementSize"):
        found = re.search(rf"^\s*{key}\s*=(.*)$", header, re.MULTILINE)
        if found:
            return [_number(x) for x in re.findall(NUMBER, found[1])]
    return None


def _nifti_header(path: Path) -> RecordedHeader:
    """Read the fields by their offsets in nifti1.h and nifti2.h; the first number is the header's own size."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb") as stream:
            header = stream.read(540).ljust(540, b"\0")
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path} is damaged or incomplete ({error}).", "Copy or export it again.") from error
    for order in "<>":
        kind = struct.unpack_from(order + "i", header)[0]
        if kind not in (348, 540):
            continue
        formats = ("8h", 40, "h", 72, "f", 108, "3f", 80) if kind == 348 else ("8q", 16, "h", 14, "q", 168, "3d", 112)
        dim, bits, offset, spacing = (
            struct.unpack_from(order + code, header, at) for code, at in zip(formats[::2], formats[1::2], strict=True)
        )
        voxels = math.prod(max(1, n) for n in dim[1 : dim[0] + 1])
        return RecordedHeader(list(spacing) if any(spacing) else None, int(offset[0]) + voxels * bits[0] // 8)
    raise InputError(f"{path} has no NIfTI header.", "Copy or export it again.")


def _unpacked_bytes(path: Path) -> int:
    total = 0
    with gzip.open(path) as stream:
        while chunk := stream.read(4 * 1024 * 1024):
            total += len(chunk)
    return total


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
