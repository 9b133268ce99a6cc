"""PNG: its chunks, checksums and the amount of packed pixels are proven before a library decodes it.

Source: https://www.w3.org/TR/png
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from .headers import AGAIN, LARGEST_IMAGE, PictureFacts
from .images import read_voxels

SIGNATURE = b"\x89PNG\r\n\x1a\n"
VALUES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by colour type
PALETTE = 3
CHANGING = (b"sBIT", b"tRNS")  # significant bits, the value that is transparent: grey values are as they are stored
PIECE = 1 << 20
PASSES = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))


def read_facts(path: Path) -> PictureFacts:
    """See `slice_files.read_facts`."""
    with open(path, "rb") as stream:
        if stream.read(8) != SIGNATURE:
            raise InputError(f"{path} is damaged, or not what its name says: it does not begin like a PNG file.", AGAIN)
        found, unpack, unpacked, expected, header = [], zlib.decompressobj(), 0, 0, None
        while not found or found[-1] != b"IEND":
            start = stream.read(8)
            if len(start) < 8:
                raise InputError(f"{path} is incomplete: the end of the PNG file is missing.", AGAIN)
            length, name = struct.unpack(">I4s", start)
            if length > path.stat().st_size:
                raise InputError(f"{path} is incomplete: a part of it would have {length} bytes.", AGAIN)
            data = stream.read(length)
            check = stream.read(4)
            if len(check) < 4 or struct.unpack(">I", check)[0] != zlib.crc32(data, zlib.crc32(name)):
                raise InputError(f"{path} is damaged or incomplete: the checksum of a part of it is wrong.", AGAIN)
            found.append(name)
            if name == b"IHDR":
                if len(found) > 1 or length != 13:
                    raise InputError(f"{path} is damaged: its header is not the first part of it.", AGAIN)
                header = _checked(path, *struct.unpack(">IIBBBBB", data))
                expected = _unpacked_bytes(*header)
            elif header is None:
                raise InputError(f"{path} is damaged: its header is not the first part of it.", AGAIN)
            elif name == b"IDAT":
                unpacked += _amount(path, unpack, data, expected - unpacked)
    if unpacked != expected or not unpack.eof:
        raise InputError(f"{path} is incomplete: {unpacked} of {expected} bytes of pixels are there.", AGAIN)
    if b"acTL" in found:
        raise InputError(f"{path} is an animation.", "Save each image as a file of its own.")
    columns, rows, bits, colour, _ = header
    return PictureFacts(path, (columns, rows), 1, np.dtype(np.uint16 if bits == 16 else np.uint8), VALUES[colour])


def read_pixels(facts: PictureFacts) -> np.ndarray:
    """See `slice_files.read_pixels`."""
    (columns, rows), values = facts.size, facts.components
    with tempfile.TemporaryDirectory() as folder:
        copy = _plain_copy(facts.path, Path(folder) / "plain.png")
        pixels = read_voxels(copy or facts.path, "PNGImageIO")
    if pixels.size != rows * columns * values or pixels.dtype != facts.dtype:
        raise InputError(f"{facts.path} could not be decoded.", AGAIN)
    return pixels.reshape((1, rows, columns, values) if values > 1 else (1, rows, columns))


def _plain_copy(path: Path, copy: Path) -> Path | None:
    """A copy without the parts by which a library would change the stored values; None where there are none."""
    parts, data, at = [], path.read_bytes(), len(SIGNATURE)
    while at < len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        parts.append((name, data[at : at + length + 12]))
        at += length + 12
        if name == b"IEND":
            break
    if not any(name in CHANGING for name, _ in parts):
        return None
    copy.write_bytes(SIGNATURE + b"".join(part for name, part in parts if name not in CHANGING))
    return copy


def _checked(path: Path, columns: int, rows: int, bits: int, colour: int, packing: int, filtering: int, laced: int):
    if colour not in VALUES or bits not in (1, 2, 4, 8, 16) or packing or filtering or laced > 1:
        raise InputError(f"{path} is damaged: its header is none of PNG.", AGAIN)
    if not columns or not rows or columns * rows * 8 > LARGEST_IMAGE:
        raise InputError(f"{path} is damaged: no image has {columns} x {rows} pixels.", AGAIN)
    if colour == PALETTE:
        raise InputError(
            f"{path} has a palette: its pixels are numbers of colours, not grey values.", "Save it as a grey image."
        )
    if bits < 8:
        raise InputError(f"{path} has {bits} bits a pixel: a mask or drawing, not a scan.", "Give 8 or 16 bits.")
    return columns, rows, bits, colour, laced


def _unpacked_bytes(columns: int, rows: int, bits: int, colour: int, laced: int) -> int:
    """Of all rows, each with the byte of its filter."""
    parts = [(rows, columns)]
    if laced:
        parts = [(-((a - rows) // b), -((c - columns) // d)) for a, b, c, d in PASSES]
    return sum(height * (1 + (width * bits * VALUES[colour] + 7) // 8) for height, width in parts if height and width)


def _amount(path: Path, unpack, data: bytes, allowed: int) -> int:
    """Bytes that a part of the packed pixels unpacks to."""
    amount = 0
    try:
        while data and not unpack.eof:
            amount += len(unpack.decompress(data, PIECE))
            data = unpack.unconsumed_tail
            if amount > allowed:
                raise InputError(f"{path} is damaged: it holds more pixels than its header announces.", AGAIN)
    except zlib.error as error:
        raise InputError(f"{path} is damaged ({error}).", AGAIN) from error
    return amount
