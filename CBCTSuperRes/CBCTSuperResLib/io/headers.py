"""What the header of a volume or picture file says, after it was proven against the file, whatever the format.

Headers of volumes are read by `nrrd`, `metaimage` and `nifti`, the voxels by `volume_files`: no library sees the file,
so that one which was made to break a library reaches none, and nothing that it says is replaced by something kinder.
Pictures are read by `slice_files`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from ..core.volume import Grid

LONGEST_HEADER = 1 << 18  # bytes
LARGEST_AXIS = 1 << 31
LARGEST_IMAGE = 1 << 40  # bytes
LARGEST_VOLUME = 1 << 48  # bytes; what is larger is no scan
MOST_FILES = 10_000  # that a header may list
AGAIN = "Copy or export it again."
MOST_UNPACKED = 1100  # times the packed bytes: deflate cannot do more than 1032
MM_PER = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("um", "\u00b5m", "\u03bcm", "micron", "microns", "micrometer", "micrometers", "micrometre"), 1e-3),
    **dict.fromkeys(("nm", "nanometer", "nanometers"), 1e-6),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre"), 10.0),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1000.0),
    **dict.fromkeys(("in", "inch", "inches"), 25.4),
}
NO_LENGTHS = ("pixel", "pixels", "voxel", "voxels")  # of a file that was never calibrated
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class VolumeHeader:
    """What the header of a volume file says.

    Attributes
    ----------
    path : Path
        Of the file with the header.
    size : tuple of int
        In the order (i, j, k, ...), with all dimensions but the values of a voxel.
    dtype : numpy.dtype or None
        As stored, with the byte order; None for types that hold no grey values.
    type_name : str
        As the file names it.
    components : int
        Values per voxel.
    spacing : tuple of float, or None
        Along (i, j, k), in mm, whatever its value; None if there is none.
    origin : tuple of float
    direction : ndarray, shape (3, 3)
        Columns are unit vectors, not always at right angles; LPS.
    pieces : sequence of Path
        Files with the voxels, one after the other, equal parts of the volume; usually the file itself.
    skip_lines, skip_bytes : int
        Before the voxels of each piece; -1 bytes means that they are at its end. Behind the packing, if they are
        packed.
    start : int
        Where in the first piece the voxels (or their packing) may begin at the earliest.
    packing : str
        "raw", "deflate" (gzip or zlib), "bzip2", "text" or "hex".
    scale : (slope, intercept)
        Grey value = slope * stored + intercept.
    warnings : tuple of str
        What had to be assumed, converted or decided.
    """

    path: Path
    size: tuple[int, ...]
    dtype: np.dtype | None
    type_name: str
    pieces: Sequence[Path]
    components: int = 1
    spacing: tuple[float, float, float] | None = None
    origin: tuple[float, ...] = (0.0, 0.0, 0.0)
    direction: np.ndarray = field(default_factory=lambda: np.eye(3))
    skip_lines: int = 0
    skip_bytes: int = 0
    start: int = 0
    packing: str = "raw"
    scale: tuple[float, float] = (1.0, 0.0)
    warnings: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Of the voxels as stored and unpacked."""
        return math.prod(self.size) * self.components * (self.dtype.itemsize if self.dtype else 1)

    @property
    def grey_type(self) -> np.dtype | None:
        """In memory: the native type, which a scale may widen to float32 or int32."""
        if self.dtype is None:
            return None
        return _grey_type(self.dtype, self.scale)

    def grid(self, spacing: Sequence[float] | None = None) -> Grid:
        """The grid of the first three dimensions, with `spacing` in mm instead of the header's if given."""
        return Grid(self.size[:3], tuple(spacing or self.spacing or (1.0, 1.0, 1.0)), self.origin, self.direction)


@dataclass(frozen=True)
class PictureFacts:
    """What a picture file holds.

    Attributes
    ----------
    path : Path
    size : (columns, rows)
    pages : int
        All of the same size and type.
    dtype : numpy.dtype
        As stored.
    components : int
        Values per pixel.
    scale : (slope, intercept)
        Grey value = slope * stored + intercept: ImageJ's calibration.
    spacing : (x, y, z) in mm, or None if nothing of it is recorded
        None in it where only a part is: of the distance of slices, in a file of one.
    warnings : tuple of str
    """

    path: Path
    size: tuple[int, int]
    pages: int
    dtype: np.dtype
    components: int = 1
    scale: tuple[float, float] = (1.0, 0.0)
    spacing: tuple[float | None, ...] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def page_bytes(self) -> int:
        return self.size[0] * self.size[1] * self.components * self.dtype.itemsize

    @property
    def grey_type(self) -> np.dtype:
        """Of the grey values, in native byte order."""
        return _grey_type(self.dtype, self.scale)


def _grey_type(stored: np.dtype, scale: tuple[float, float]) -> np.dtype:
    """A native type that holds slope * stored + intercept."""
    native, (slope, intercept) = stored.newbyteorder("="), scale
    if scale == (1.0, 0.0):
        return native
    if native.kind in "iu" and slope == 1 and float(intercept).is_integer():
        low, high = (int(limit + intercept) for limit in (np.iinfo(native).min, np.iinfo(native).max))
        return np.min_scalar_type(high) if low >= 0 else np.min_scalar_type(min(low, -1 - high))
    return np.dtype(np.float64 if native.itemsize > 4 else np.float32)


def header_text(path: Path, end: str) -> tuple[str, int]:
    """The text before the first match of the pattern `end`, and where what follows the match begins.

    Raises
    ------
    InputError
        If there is no such end.
    """
    with open(path, "rb") as stream:
        text = stream.read(LONGEST_HEADER).decode("latin-1")
    found = re.search(end, text)
    if found is None:
        raise InputError(f"{path} is damaged, or not what its name says: its header has no end.", AGAIN)
    return text[: found.end()], found.end()


class Fields:
    """The entries of a text header, read as what they must be.

    Parameters
    ----------
    path : Path
        For messages.
    values : mapping
        Text by the entry's name.
    """

    def __init__(self, path: Path, values: Mapping[str, str]) -> None:
        self.path, self._values = path, values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str, default: str | None = None) -> str:
        """
        Raises
        ------
        InputError
            If it is missing and has no default.
        """
        if name not in self._values and default is None:
            raise self.wrong(f"it has no {name}")
        return self._values.get(name, default)

    def integers(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        """
        Raises
        ------
        InputError
            If it is missing, or holds anything but whole numbers of a reasonable size.
        """
        if name not in self._values and default is not None:
            return list(default)
        words = self.text(name).split()
        if not words or not all(re.fullmatch(r"[-+]?[0-9]{1,18}", word) for word in words):
            raise self.wrong(f"{name} is {self.text(name)!r}, not whole numbers")
        return [int(word) for word in words]

    def exactly(self, name: str, count: int, default: Sequence[int] | None = None) -> list[int]:
        """As `integers`; refused if there are not so many."""
        found = self.integers(name, default)
        if len(found) != count:
            raise self.wrong(f"{name} has {len(found)} entries instead of {count}")
        return found

    def numbers(self, name: str) -> list[float]:
        """Numbers, with or without brackets and commas; what is none is NaN."""
        return numbers_in(self.text(name))

    def wrong(self, why: str) -> InputError:
        """That the header cannot be right."""
        return wrong_header(self.path, why)


def numbers_in(text: str) -> list[float]:
    """Numbers between spaces, brackets and commas; what is none is NaN."""
    return [_number(word) for word in re.findall(r"[^\s(),]+", text)]


def wrong_header(path: Path, why: str) -> InputError:
    """That a header cannot be right; `why` is a part of a sentence, which may quote the file."""
    why = "".join(c if c.isprintable() else "?" for c in why[:300])
    return InputError(f"The header of {path} is damaged or wrong: {why}.", AGAIN)


def checked_size(path: Path, size: Sequence[int]) -> tuple[int, ...]:
    """The size, if a volume of it can be.

    Raises
    ------
    InputError
    """
    size = tuple(int(n) for n in size)
    if any(not 0 <= n < LARGEST_AXIS for n in size) or math.prod(size) > LARGEST_VOLUME:
        raise wrong_header(path, f"no volume has a size of {' x '.join(map(str, size))} voxels")
    return size


def file_beside(path: Path, name: str) -> Path:
    """A file with voxels that a header names: a plain file beside the header, and no other.

    Raises
    ------
    InputError
        If it names a place elsewhere, or nothing is there.
    """
    shown = "".join(c if c.isprintable() else "?" for c in name[:200])
    plain = re.sub(r"^(\./)+", "", name.replace("\\", "/"))
    if not plain or "/" in plain or ":" in plain or "\0" in plain or plain in (".", ".."):
        raise InputError(
            f"{path} takes its voxels from {shown}, which is not beside it.",
            "Put both files into one folder and correct the name in the header.",
        )
    file = path.with_name(plain)
    try:
        there = file.is_file()
    except OSError:
        there = False
    if not there:
        try:
            alike = [other for other in path.parent.iterdir() if other.name.casefold() == plain.casefold()]
        except OSError:
            alike = []
        if len(alike) == 1 and alike[0].is_file():  # the header comes from a system that does not tell them apart
            file, there = alike[0], True
    if not there:
        raise InputError(
            f"The voxels of {path.name} should be in {shown} beside it, and there is no such file.",
            "Copy both files of the scan into one folder.",
        )
    if os.path.samefile(file, path):
        raise wrong_header(path, "it names itself as the file with the voxels")
    return file


def files_beside(path: Path, names: Sequence[str]) -> list[Path]:
    """See `file_beside`; refused if there are none, or too many."""
    if not 1 <= len(names) <= MOST_FILES:
        raise wrong_header(path, f"it names {len(names)} files with voxels")
    return [file_beside(path, name) for name in names]


def numbered_names(path: Path, text: str) -> tuple[list[str], list[str]] | None:
    """Names that a header gives as "name%03d.raw FIRST LAST STEP", and the words behind it; None if it does not.

    Raises
    ------
    InputError
        If there are too many, or their numbers never reach the last.
    """
    pattern, *words = text.split() or [""]
    if "%" not in pattern or len(words) < 3 or not all(re.fullmatch(r"-?[0-9]{1,9}", word) for word in words[:3]):
        return None
    first, last, step = map(int, words[:3])
    found = re.fullmatch(r"([^%]*)%(0?[0-9]{0,2})[dui]([^%]*)", pattern)
    if not found or step == 0 or abs(last - first) // abs(step) >= MOST_FILES:
        raise odd_files(path, "a series")
    before, width, behind = found.groups()
    numbers = range(first, last + (1 if step > 0 else -1), step)
    return [f"{before}{format(number, width + 'd')}{behind}" for number in numbers], words[3:]


def odd_files(path: Path, what: str) -> InputError:
    """That voxels lie in several files, and not in a way that is read."""
    return InputError(f"{path} has its voxels in {what} of files of an unusual kind.", "Save it as one file.")


def unit_factor(path: Path, units: Sequence[str], warnings: list[str]) -> float | None:
    """Millimetres per unit of length, told where it is not 1; None if lengths are counted in pixels.

    Raises
    ------
    InputError
        If the axes are in different units, or in one that is no length.
    """
    named = {_text_of(unit).strip().strip('"').lower() for unit in units} - {"", "none", "?", "???", "unknown"}
    if not named:
        return 1.0
    if named <= set(NO_LENGTHS):
        return None
    factors = {MM_PER.get(unit) for unit in named}
    if len(factors) > 1 or None in factors:
        raise InputError(
            f"{path} gives its lengths in {', '.join(sorted(named))}, which cannot be converted into millimetres.",
            "Convert the file to millimetres.",
        )
    factor = factors.pop()
    if factor != 1:
        warnings.append(f"The file gives lengths in {min(named)}; they were converted to mm.")
    return factor


def _text_of(latin: str) -> str:
    """Text that was read byte by byte, which may have been UTF-8."""
    try:
        return latin.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return latin


def unit_vectors(columns: np.ndarray) -> tuple[tuple[float, ...], np.ndarray]:
    """Lengths and directions of the steps along the axes, which are the columns of a (3, 3) matrix.

    A step that is no number, or 0, keeps its length, which is refused later; its direction is the axis itself.
    """
    lengths = np.linalg.norm(columns, axis=0)
    usable = np.isfinite(lengths) & (lengths > 0)
    direction = np.where(usable, columns / np.where(usable, lengths, 1.0), np.eye(3))
    return tuple(float(x) for x in lengths), direction


def check_place(path: Path, origin: Sequence[float], direction: np.ndarray) -> None:
    """
    Raises
    ------
    InputError
        If the origin is not finite, or the axes do not span space.
    """
    if not np.all(np.isfinite(origin)) or max(map(abs, origin)) > 1e9:
        raise wrong_header(path, f"its origin is {tuple(origin)}")
    if not np.all(np.isfinite(direction)) or abs(np.linalg.det(direction)) < 1e-6:
        raise wrong_header(path, "its axes do not span space")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
