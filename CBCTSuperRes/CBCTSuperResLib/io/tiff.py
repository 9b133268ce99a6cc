"""TIFF: one image or a stack of pages. Worker-side: needs tifffile, which is pure Python.

Every page is looked at: its size, type and kind, and whether its strips or tiles lie in the file. LZW, which tifffile
leaves to a library of its own, is decoded by ITK from files that have passed.

Sources: TIFF 6.0 (Adobe, 1992); ImageJ's description of stacks and calibration (ij.io.FileInfo,
ij.measure.Calibration).
"""

from __future__ import annotations

import logging
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tifffile import COMPRESSION, PHOTOMETRIC, TiffFile, TiffPage

from ..core.errors import InputError, ResourceError
from ..core.memory import available_memory, readable
from .headers import AGAIN, LARGEST_IMAGE, MM_PER, MOST_UNPACKED, PictureFacts
from .images import read_voxels

STACK = "Save the slices as one stack of grey images."
MOST_PAGES = 65_536
DECODED = {COMPRESSION.NONE, COMPRESSION.DEFLATE, COMPRESSION.ADOBE_DEFLATE}
BY_ITK = {COMPRESSION.LZW, COMPRESSION.PACKBITS}
GREY = {PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB}
REDUCED, MASK = 1, 4  # bits of NewSubfileType
STRAIGHT_LINE, NOT_CALIBRATED = 0, (20, 21)
SCALED_UNITS = {"\\u00b5m": "um", "\\u00B5m": "um"}


def read_facts(path: Path) -> PictureFacts:
    """See `slice_files.read_facts`."""
    with _opened(path) as tiff:
        pages, warnings = _pages(path, tiff)
        first = pages[0]
        facts = _facts_of(path, first)
        for number, page in enumerate(pages[1:], 2):
            other = _facts_of(path, page)
            if (other.size, other.dtype, other.components) != (facts.size, facts.dtype, facts.components):
                raise InputError(
                    f"Page {number} of {path} is unlike the first: {_shown(other)}, not {_shown(facts)}.",
                    "Save the slices of one scan alone.",
                )
        described = _ImageJ(path, first.description) if "ImageJ=" in first.description[:200] else None
        _refuse_hyperstacks(path, first.description, len(pages))
        count = _images_by_shape(path, first.description, len(pages))
        scale, spacing = (1.0, 0.0), _spacing_of_ome(first.description)
        if described:
            count = described.check_pages(count)
            scale = described.calibration(warnings)
            spacing = described.spacing(first)
        if count > len(pages):
            _check_room(path, first, count, facts)
        return PictureFacts(path, facts.size, count, facts.dtype, facts.components, scale, spacing, tuple(warnings))


def read_pixels(facts: PictureFacts) -> np.ndarray:
    """See `slice_files.read_pixels`."""
    path, (columns, rows) = facts.path, facts.size
    nbytes, free = facts.page_bytes * facts.pages, available_memory()
    if nbytes > free:
        raise ResourceError(
            f"{path} takes {readable(nbytes)} of memory and {readable(free)} are free.", "Close other programs."
        )
    shape = (facts.pages, rows, columns) + ((facts.components,) if facts.components > 1 else ())
    with _opened(path) as tiff:
        pages, _ = _pages(path, tiff)
        if pages[0].compression in BY_ITK:
            return _decoded_by_itk(facts, shape, len(pages) == len(tiff.pages))
        stored = np.empty(shape, facts.dtype.newbyteorder("="))
        if facts.pages > len(pages):
            with open(path, "rb") as stream:
                stream.seek(pages[0].dataoffsets[0])
                stored[...] = np.fromfile(stream, facts.dtype, math.prod(shape)).reshape(shape)
            return stored
        for k, page in enumerate(pages):
            try:
                pixels = page.asarray()
            except (ValueError, RuntimeError, OSError, TypeError, zlib.error) as error:
                raise InputError(f"Page {k + 1} of {path} is damaged or incomplete ({error}).", AGAIN) from error
            is_planar = facts.components > 1 and pixels.shape[0] == facts.components and pixels.ndim == 3
            stored[k] = np.moveaxis(pixels, 0, -1) if is_planar and page.planarconfig == 2 else pixels
    return stored


@contextmanager
def _opened(path: Path) -> Iterator[TiffFile]:
    """The file; what tifffile only logs of it is an error here."""
    log, heard = logging.getLogger("tifffile"), _Heard()
    propagates = log.propagate
    log.addHandler(heard)
    log.propagate = False
    try:
        with TiffFile(path, is_ome=False, is_imagej=False, is_shaped=False) as tiff:
            yield tiff
        if heard.messages:
            raise InputError(f"{path} is damaged ({heard.messages[0]}).", AGAIN)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path} is damaged: it claims more than the memory holds.", AGAIN) from error
    except Exception as error:  # a damaged file makes the parser fail in any way
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path} is damaged, or not what its name says ({reason}).", AGAIN) from error
    finally:
        log.removeHandler(heard)
        log.propagate = propagates


class _Heard(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(" ".join(record.getMessage().split())[:200])


def _pages(path: Path, tiff: TiffFile) -> tuple[list[TiffPage], list[str]]:
    """The pages of the stack; small copies of it are left out and told."""
    count = len(tiff.pages)
    if count > MOST_PAGES:
        raise InputError(f"{path} has {count} pages.", f"Split it into files of at most {MOST_PAGES}.")
    pages = [tiff.pages[number] for number in range(count)]
    if not pages:
        raise InputError(f"{path} is damaged: it has no page.", AGAIN)
    kept = [page for page in pages if not int(page.subfiletype) & (REDUCED | MASK)]
    if not kept:
        raise InputError(f"{path} holds nothing but previews or masks.", "Give the original images.")
    lost = len(pages) - len(kept)
    return kept, [f"{lost} previews or masks of the TIFF file were left out."] if lost else []


def _facts_of(path: Path, page: TiffPage) -> PictureFacts:
    """What a page says of itself, proven against the file.

    Raises
    ------
    InputError
    """
    rows, columns, values = int(page.imagelength), int(page.imagewidth), int(page.samplesperpixel)
    if page.photometric not in GREY:
        name = getattr(page.photometric, "name", str(page.photometric))
        why = {
            "MINISWHITE": "is stored as a negative (photometric interpretation MinIsWhite)",
            "PALETTE": "has a palette: its pixels are numbers of colours, not grey values",
        }.get(name, f"has the photometric interpretation {name}")
        raise InputError(f"{path} {why}.", "Save it as a grey image in which low values are dark (MinIsBlack).")
    if page.dtype is None or page.dtype.kind not in "iuf" or page.bitspersample != 8 * page.dtype.itemsize:
        raise InputError(
            f"{path} has {page.bitspersample} bits a pixel, of a kind that is not read.",
            "Save it with 8, 16 or 32 bits.",
        )
    if int(getattr(page, "imagedepth", 1)) != 1:
        raise InputError(f"{path} has several slices in each page (Image Depth), which is not read.", STACK)
    if not (rows > 0 and columns > 0 and 0 < values < 1 << 16):
        raise InputError(f"{path} is damaged: no page has {columns} x {rows} pixels.", AGAIN)
    turned = page.tags.valueof("Orientation", 1)
    if turned not in (0, 1):
        raise InputError(
            f"{path} is stored turned or mirrored (Orientation {turned}), which many programs do not heed.",
            "Save it with the first row at the top and the first column at the left.",
        )
    if rows * columns * values * page.dtype.itemsize > LARGEST_IMAGE:
        raise InputError(f"{path} is damaged: no page has {columns} x {rows} pixels.", AGAIN)
    if page.compression not in DECODED | BY_ITK:
        name = getattr(page.compression, "name", str(page.compression))
        raise InputError(
            f"{path} is compressed by {name}, which is not read.", "Save it uncompressed, or with deflate or LZW."
        )
    if page.compression in BY_ITK and page.is_tiled:
        raise InputError(
            f"{path} is tiled and compressed by {page.compression.name}, which is not read.",
            "Save it in strips, or uncompressed.",
        )
    if page.predictor not in (1, 2) and page.compression in DECODED:
        raise InputError(f"{path} has a predictor that is not read.", "Save it uncompressed.")
    dtype = np.dtype(page.parent.byteorder + page.dtype.kind + str(page.dtype.itemsize))
    facts = PictureFacts(path, (columns, rows), 1, dtype, values)
    _check_room(path, page, 1, facts)
    return facts


def _check_room(path: Path, page: TiffPage, count: int, facts: PictureFacts) -> None:
    """Prove that the strips or tiles of a page lie in the file and can hold its pixels.

    Raises
    ------
    InputError
    """
    there, needed = page.parent.filehandle.size, count * facts.page_bytes
    offsets, counts = page.dataoffsets, page.databytecounts
    whole = f"{path} is incomplete: {needed} bytes of pixels are announced"
    if count > 1:  # ImageJ's large stacks: one directory, the other images behind the first
        is_plain = page.compression == COMPRESSION.NONE and page.is_contiguous and not page.is_tiled
        if not is_plain or offsets[0] + needed > there:
            raise InputError(f"{whole} of {count} images, and there are {there - offsets[0]}.", AGAIN)
        return
    chunks = math.prod(page.chunked)
    if len(offsets) != chunks or len(counts) != chunks:
        raise InputError(f"{path} is damaged: it has {len(offsets)} strips or tiles instead of {chunks}.", AGAIN)
    for offset, amount in zip(offsets, counts, strict=True):
        if offset <= 0 or amount <= 0 or offset + amount > there:
            raise InputError(f"{whole}, and some do not lie in the file.", AGAIN)
    most = MOST_UNPACKED if page.compression != COMPRESSION.NONE else 1
    if sum(counts) * most < needed:
        raise InputError(f"{whole}, and there are {sum(counts)}.", AGAIN)


def _decoded_by_itk(facts: PictureFacts, shape: tuple[int, ...], has_all_pages: bool) -> np.ndarray:
    if not has_all_pages:
        raise InputError(f"{facts.path} is compressed by LZW and holds previews or masks.", STACK)
    pixels = read_voxels(facts.path, "TIFFImageIO")
    if pixels.size != math.prod(shape) or pixels.dtype != facts.dtype.newbyteorder("="):
        raise InputError(f"{facts.path} could not be decoded.", "Save it uncompressed.")
    return pixels.reshape(shape)


def _refuse_hyperstacks(path: Path, description: str, pages: int) -> None:
    """Refuse OME's channels and time points, and images in other files."""
    if "<OME" not in description:
        return
    sizes = {axis: max(map(int, re.findall(rf'Size{axis}="(\d{{1,9}})"', description)), default=1) for axis in "CTZ"}
    for axis, what in (("C", "channels"), ("T", "time points")):
        if sizes[axis] > 1:
            raise InputError(f"{path} holds {sizes[axis]} {what}: several volumes in one file.", "Save one of them.")
    if len(re.findall(r"<Image\b", description)) > 1:
        raise InputError(f"{path} holds several images (OME): several volumes in one file.", "Save one of them.")
    names = set(re.findall(r'<UUID\b[^>]*FileName="([^"]*)"', description))
    if len(names) > 1 or sizes["Z"] != pages:
        raise InputError(f"{path} has {pages} of {sizes['Z']} slices; the others are in other files.", STACK)


def _images_by_shape(path: Path, description: str, pages: int) -> int:
    """How many images there are by the shape that tifffile writes into a description; `pages` where it has not.

    Raises
    ------
    InputError
        If they are several volumes.
    """
    found = re.match(r'\{"shape": \[([\d, ]{1,80})\]', description)
    shape = [int(n) for n in re.findall(r"\d{1,9}", found[1])] if found else []
    while len(shape) > 2 and shape[-1] in (1, 3, 4) and math.prod(shape[:-2]) > pages:  # values of a pixel
        shape.pop()
    images = [n for n in shape[:-2] if n > 1]
    if len(images) > 1 and math.prod(images) == pages:
        raise InputError(
            f"{path} says that it holds {' x '.join(map(str, images))} images: several volumes in one file.", STACK
        )
    return math.prod(images) if pages == 1 and len(images) == 1 else pages


def _spacing_of_ome(description: str) -> tuple[float | None, ...] | None:
    """PhysicalSizeX, Y and Z of OME-TIFF in mm, each None where it is not recorded or in a unit that is no length."""
    if "<OME" not in description:
        return None
    found = []
    for axis in "XYZ":
        size = re.search(rf'\bPhysicalSize{axis}="([^"]{{1,40}})"', description)
        unit = re.search(rf'\bPhysicalSize{axis}Unit="([^"]{{1,20}})"', description)
        factor = MM_PER.get(unit[1].strip().lower()) if unit else MM_PER["um"]
        try:
            edge = float(size[1]) * factor if size and factor else math.nan
        except ValueError:
            edge = math.nan
        found.append(edge if math.isfinite(edge) and edge > 0 else None)
    return tuple(found) if any(found) else None


class _ImageJ:
    """What ImageJ wrote into the description of a file."""

    def __init__(self, path: Path, description: str) -> None:
        self.path = path
        self.entries = dict(
            line.partition("=")[::2] for line in description.splitlines() if "=" in line and len(line) < 200
        )

    def check_pages(self, pages: int) -> int:
        """How many images there are.

        Raises
        ------
        InputError
            If they are several volumes, or not all there.
        """
        for name, what in (("channels", "channels"), ("frames", "time points")):
            if self._whole(name) > 1:
                raise InputError(
                    f"{self.path} is a hyperstack of ImageJ with {self._whole(name)} {what}: several volumes in one "
                    "file.",
                    "Save one of them (in ImageJ: Image, Hyperstacks, Reduce Dimensionality).",
                )
        images = self._whole("images")
        slices = self._whole("slices", images)
        if slices != images:
            raise InputError(f"{self.path} says that it holds {images} images and {slices} slices.", STACK)
        if pages not in (1, images):
            raise InputError(f"{self.path} is incomplete: {pages} of {images} images are there.", AGAIN)
        return images

    def calibration(self, warnings: list[str]) -> tuple[float, float]:
        """Slope and intercept from stored values to grey values.

        Raises
        ------
        InputError
            If the calibration is no straight line.
        """
        if "cf" not in self.entries or self._whole("cf") in NOT_CALIBRATED:
            return 1.0, 0.0
        if self._whole("cf") != STRAIGHT_LINE or "c2" in self.entries:
            raise InputError(
                f"{self.path} has grey values calibrated in ImageJ by a curve, which is not read.",
                "Convert it to calibrated values (32 bits) in ImageJ.",
            )
        intercept, slope = (self._number(name, usual) for name, usual in (("c0", 0.0), ("c1", 1.0)))
        if slope == 0:
            raise InputError(f"{self.path} has a calibration of grey values (ImageJ) with slope 0.", "Remove it.")
        if (slope, intercept) != (1.0, 0.0):
            warnings.append(f"Grey values are {slope:g} x stored + {intercept:g}, as ImageJ's calibration says.")
        return slope, intercept

    def spacing(self, page: TiffPage) -> tuple[float | None, ...] | None:
        """In mm; the distance of slices is None where it is missing, all where the edges of pixels are.

        Raises
        ------
        InputError
            If the distance of the slices is negative.
        """
        units = [self.entries.get(name, self.entries.get("unit", "")) for name in ("unit", "yunit", "zunit")]
        factors = [MM_PER.get(SCALED_UNITS.get(unit, unit).strip().lower()) for unit in units]
        resolutions = [page.tags[name].value for name in ("XResolution", "YResolution") if name in page.tags]
        if None in factors[:2] or len(resolutions) < 2:
            return None
        distance = self._number("spacing", 1.0)
        if distance < 0:
            raise InputError(
                f"{self.path} records a negative distance of its slices (ImageJ): they may be in reverse order.",
                "Look at the stack in ImageJ, reverse it if needed, and save it with a positive distance.",
            )
        edges = [factor * d / n if n > 0 else 0.0 for factor, (n, d) in zip(factors, resolutions, strict=False)]
        if not all(math.isfinite(edge) and edge > 0 for edge in edges):
            return None
        is_known = "spacing" in self.entries and distance > 0 and factors[2] is not None
        return (*edges, distance * factors[2] if is_known else None)

    def _whole(self, name: str, usual: int = 1) -> int:
        text = self.entries.get(name, str(usual)).strip()
        if not re.fullmatch(r"\d{1,9}", text):
            raise InputError(f"{self.path} is damaged: ImageJ's {name} is {text[:40]!r}.", AGAIN)
        return int(text)

    def _number(self, name: str, usual: float) -> float:
        try:
            number = float(self.entries.get(name, usual))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{self.path} is damaged: ImageJ's {name} is {self.entries[name][:40]!r}.", AGAIN)
        return number


def _shown(facts: PictureFacts) -> str:
    values = f" of {facts.components} values" if facts.components > 1 else ""
    return f"{facts.size[0]} x {facts.size[1]} pixels{values}, {facts.dtype.name}"
