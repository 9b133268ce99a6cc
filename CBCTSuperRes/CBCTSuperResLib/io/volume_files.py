"""Volume files (NRRD, MetaImage, NIfTI): their headers, and their voxels out of what they are packed in.

The voxels are unpacked straight into the memory of the volume, no further than the header announces, and the checksum
of gzip and zlib is compared.
"""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..core.errors import InputError, ResourceError
from ..core.memory import available_memory, readable
from . import metaimage, nifti, nrrd
from .formats import format_of
from .headers import AGAIN, MOST_UNPACKED, VolumeHeader
from .images import allocate

PIECE = 1 << 20
MOST_BEHIND = 1 << 26  # bytes behind the voxels that are looked at for the checksum
TEXT_BYTES = 2  # a number and a space, at least


def read_header(path: Path) -> VolumeHeader:
    """The header of a file of one of the `VOLUME_FORMATS`, whose claims the file can hold.

    Raises
    ------
    InputError
        If it is damaged, or announces more than the file can hold.
    """
    path = Path(path)
    kind = format_of(path)
    reader = nifti if kind.startswith(".nii") else nrrd if kind in (".nrrd", ".nhdr") else metaimage
    try:
        with np.errstate(all="ignore"):  # numbers that are none are refused by their names
            header = reader.read_header(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", "Check the file and its folder.") from error
    spare = _check_room(header)
    if spare > 0:
        told = f"The file holds {spare} bytes behind the voxels that its header announces; they were left out."
        header = replace(header, warnings=(*header.warnings, told))
    return header


def read_voxels(header: VolumeHeader) -> np.ndarray:
    """The grey values of the first three dimensions, (k, j, i), in the memory of an image that can be saved as it is.

    Raises
    ------
    InputError
        If the file is shorter than its header announces, or damaged.
    ResourceError
        If the memory does not suffice.
    """
    free = available_memory()
    if header.nbytes > free:
        raise ResourceError(
            f"{header.path} takes {readable(header.nbytes)} of memory and {readable(free)} are free.",
            "Close other programs, or crop the volume first.",
        )
    shape = tuple(reversed((*header.size, *(1,) * (3 - len(header.size)))[:3]))
    try:
        stored = allocate(shape, header.dtype.newbyteorder("="))
        _fill(stored, header)
        grey = _scaled(stored, header)
    except MemoryError as error:
        raise ResourceError(
            f"{header.path} does not fit into memory.", "Close other programs, or crop the volume first."
        ) from error
    grey.flags.writeable = False
    return grey


def check_is_whole(path: Path) -> None:
    """Refuse a file with fewer bytes than its header announces, or with a wrong checksum.

    Raises
    ------
    InputError
    """
    header = read_header(path)
    if header.packing == "raw":
        return  # `read_header` has compared the sizes
    left = header.nbytes
    for chunk in _unpacked_pieces(header):
        left -= len(chunk)
    if left > 0:
        raise _too_short(header, header.nbytes - left)


def begin_of_raw_voxels(header: VolumeHeader) -> int | None:
    """Where in the header's own file the voxels lie as they are in memory; None if they do not."""
    is_plain = header.packing == "raw" and header.scale == (1.0, 0.0) and list(header.pieces) == [header.path]
    if not is_plain or header.dtype is None or not header.dtype.isnative or header.skip_lines or header.skip_bytes:
        return None
    return header.start


def _check_room(header: VolumeHeader) -> int:
    """Compare what the header announces with the bytes that are there, before any memory is taken for it.

    Returns
    -------
    int
        Bytes of unpacked voxels that are too many.
    """
    spare = 0
    if header.dtype is None or 0 in header.size:
        return spare
    share, rest = divmod(header.nbytes, len(header.pieces))
    if rest:
        raise InputError(f"The voxels of {header.path} are in files that cannot be equal parts of it.", AGAIN)
    for piece in header.pieces:
        there = piece.stat().st_size - (header.start if piece == header.path else 0)
        if header.packing == "raw" and header.skip_lines == 0:
            needed = share + max(0, header.skip_bytes)
        elif header.packing == "deflate":
            needed = share / MOST_UNPACKED
        elif header.packing in ("text", "hex"):
            needed = TEXT_BYTES * share // (header.dtype.itemsize if header.packing == "text" else 1) - 1
        else:
            needed = 0
        if there < needed:
            packed = "" if header.packing == "raw" else " packed"
            raise InputError(
                f"{header.path} is incomplete: its header announces {share} bytes of voxels, and there are {there}"
                f"{packed} bytes{'' if piece == header.path else f' in {piece.name}'}.",
                AGAIN,
            )
        if header.packing == "raw" and header.skip_lines == 0 and header.skip_bytes >= 0:
            spare += there - needed
    return spare


def _fill(stored: np.ndarray, header: VolumeHeader) -> None:
    flat = stored.reshape(-1)
    if header.packing == "text":
        flat[...] = _numbers(header)
        return
    target, at = memoryview(flat.view(np.uint8)), 0
    for chunk in _unpacked_pieces(header):
        taken = chunk[: len(target) - at]
        target[at : at + len(taken)] = taken
        at += len(taken)
    if at < len(target):
        raise _too_short(header, at)
    if not header.dtype.isnative:
        flat.byteswap(inplace=True)


def _scaled(stored: np.ndarray, header: VolumeHeader) -> np.ndarray:
    if header.scale == (1.0, 0.0):
        return stored
    slope, intercept = header.scale
    grey = allocate(stored.shape, header.grey_type)
    if grey.dtype.kind in "iu":
        for k, plane in enumerate(stored):
            grey[k] = plane.astype(np.int64) + int(intercept)
    else:
        for k, plane in enumerate(stored):
            grey[k] = plane * np.float64(slope) + intercept
    return grey


def _unpacked_pieces(header: VolumeHeader) -> Iterator[bytes]:
    """The bytes of the voxels, file by file, no more of each than its part."""
    share = header.nbytes // len(header.pieces)
    for piece in header.pieces:
        try:
            with open(piece, "rb") as stream:
                yield from _unpacked(stream, header, share, piece)
        except (EOFError, OSError, ValueError, zlib.error) as error:
            raise InputError(f"{piece} is damaged or incomplete ({error}).", AGAIN) from error


def _unpacked(stream: BinaryIO, header: VolumeHeader, share: int, piece: Path) -> Iterator[bytes]:
    stream.seek(header.start if piece == header.path else 0)
    for _ in range(header.skip_lines):
        stream.readline()
    if header.packing == "raw":
        stream.seek(-share, 2) if header.skip_bytes == -1 else stream.seek(header.skip_bytes, 1)
        chunks = iter(lambda: stream.read(PIECE), b"")
        skip, behind = 0, 0
    elif header.packing == "hex":
        chunks = iter(lambda: stream.read(PIECE), b"")
        chunks, skip, behind = _from_hex(chunks), header.skip_bytes, 0
    else:
        chunks = _inflated(stream) if header.packing == "deflate" else _from_bzip2(stream)
        skip, behind = header.skip_bytes, MOST_BEHIND
    for chunk in chunks:
        if skip:
            skip, chunk = max(0, skip - len(chunk)), chunk[skip:]
        taken = chunk[:share]
        share -= len(taken)
        if taken:
            yield taken
        behind -= len(chunk) - len(taken)
        if share == 0 and behind <= 0:  # the checksum lies at the end of what is packed
            if header.packing in ("raw", "hex"):
                return
            raise ValueError("it holds far more than its header announces")


def _inflated(stream: BinaryIO) -> Iterator[bytes]:
    """gzip, of one or more members, or zlib; both checksums are compared by zlib."""
    waiting = b""
    while True:
        unpack = zlib.decompressobj(47)
        while not unpack.eof:
            waiting = waiting or stream.read(PIECE)
            if not waiting:
                raise EOFError("the packed voxels end too early")
            yield unpack.decompress(waiting, PIECE)
            waiting = unpack.unconsumed_tail
        waiting = unpack.unused_data or stream.read(PIECE)
        waiting = waiting.lstrip(b"\0")
        if not waiting.startswith(b"\x1f\x8b"):
            return


def _from_bzip2(stream: BinaryIO) -> Iterator[bytes]:
    unpack = bz2.BZ2Decompressor()
    while not unpack.eof:
        more = stream.read(PIECE) if unpack.needs_input else b""
        if unpack.needs_input and not more:
            raise EOFError("the packed voxels end too early")
        yield unpack.decompress(more, PIECE)


def _from_hex(chunks: Iterator[bytes]) -> Iterator[bytes]:
    odd = b""
    for chunk in chunks:
        digits = odd + b"".join(chunk.split())
        odd = digits[len(digits) & ~1 :]
        yield bytes.fromhex(digits[: len(digits) & ~1].decode("ascii"))


def _numbers(header: VolumeHeader) -> np.ndarray:
    """Voxels that are written as text."""
    count, limits = header.nbytes // header.dtype.itemsize, None
    found = []
    for piece in header.pieces:
        with open(piece, "rb") as stream:
            stream.seek(header.start if piece == header.path else 0)
            for _ in range(header.skip_lines):
                stream.readline()
            found += stream.read(64 * count + PIECE).replace(b",", b" ").split()
    if len(found) < count:
        raise InputError(f"{header.path} is incomplete: {len(found)} of {count} voxels are there.", AGAIN)
    try:
        numbers = np.array(found[:count], dtype=np.float64 if header.dtype.kind == "f" else object)
        if header.dtype.kind != "f":
            numbers, limits = np.array([int(x) for x in numbers], dtype=object), np.iinfo(header.dtype)
    except ValueError as error:
        raise InputError(f"{header.path} is damaged: not all of its voxels are numbers.", AGAIN) from error
    if limits and len(numbers) and not limits.min <= min(numbers) <= max(numbers) <= limits.max:
        raise InputError(f"{header.path} is damaged: some voxels do not fit into {header.type_name}.", AGAIN)
    return numbers.astype(header.dtype.newbyteorder("="))


def _too_short(header: VolumeHeader, found: int) -> InputError:
    return InputError(
        f"{header.path} is incomplete: {found} of the {header.nbytes} bytes of its voxels are there.", AGAIN
    )
