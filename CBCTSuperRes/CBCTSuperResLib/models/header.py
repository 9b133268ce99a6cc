"""The layout of a safetensors file, read, checked and written with the standard library alone.

A file is the length of its header (8 bytes, little endian), the header (JSON: for each tensor its type, shape and
place in the data; under "__metadata__" texts of our own) and the data (https://github.com/huggingface/safetensors).
Nothing in it can be executed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from ..core.atomic import replacing
from ..core.errors import ModelError

MAXIMUM_HEADER = 100_000_000
SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4,
    "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
CHUNK = 1 << 20
DOWNLOAD_AGAIN = "Copy or download the file again."
IMPORT_ADVICE = "Import it with: cbct-superres models import FILE"


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of the file: its type, its shape, and its bytes start <= n < stop within the data."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Header:
    """What stands before the data.

    Attributes
    ----------
    tensors : dict of str to TensorEntry
        In the order of the data.
    metadata : dict of str to str
    data_start : int
        Position of the data in the file, in bytes.
    """

    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]
    data_start: int


def read_header(path: str | Path) -> Header:
    """Read and check the header; the data is not touched.

    Raises
    ------
    ModelError
        If the file is missing, damaged or of another kind; the message says which.
    """
    path = Path(path)
    if path.is_dir():
        raise ModelError(f"{path} is a folder, not a model file.", "Choose the .safetensors file.")
    try:
        with path.open("rb") as file:
            return _read_header(file, os.fstat(file.fileno()).st_size, path)
    except FileNotFoundError:
        raise ModelError(
            f"The model file {path} does not exist.", "List the models with: cbct-superres models list"
        ) from None
    except OSError as error:
        raise ModelError(f"The model file {path} cannot be read: {error.strerror}.") from error


def encode_header(entries: Mapping[str, TensorEntry], metadata: Mapping[str, str]) -> bytes:
    """Length and header, padded with spaces so that the data starts at a multiple of eight; always the same bytes."""
    content: dict = {"__metadata__": dict(metadata)}
    for name, entry in entries.items():
        content[name] = {"dtype": entry.dtype, "shape": [*entry.shape], "data_offsets": [entry.start, entry.stop]}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_file(path: str | Path, header: bytes, buffers: Iterable[bytes | memoryview]) -> Path:
    """Write header and data; an existing file is replaced only when all is written.

    Raises
    ------
    OutputError
        If that fails; an existing file is unchanged then.
    """
    with replacing(path) as scratch, scratch.open("wb") as file:
        file.write(header)
        file.writelines(buffers)
    return Path(path)


def table_digest(entries: Mapping[str, TensorEntry]) -> hashlib._Hash:
    """SHA-256 over the sorted table of tensors, to be updated with the data."""
    table = [[name, entry.dtype, [*entry.shape], entry.start, entry.stop] for name, entry in sorted(entries.items())]
    return hashlib.sha256(json.dumps(table, separators=(",", ":")).encode())


def weights_digest(path: str | Path, header: Header) -> str:
    """SHA-256 (hexadecimal) over the sorted table of tensors and the data; reads the file once, in pieces."""
    digest = table_digest(header.tensors)
    with Path(path).open("rb") as file:
        file.seek(header.data_start)
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def _read_header(file: BinaryIO, size: int, path: Path) -> Header:
    start = file.read(512)
    _refuse_other_kinds(start, path)
    if size < 8:
        raise ModelError(f"The model file {path} is truncated: it has {size} bytes.", DOWNLOAD_AGAIN)
    length = int.from_bytes(start[:8], "little")
    if not 2 <= length <= MAXIMUM_HEADER or start[8:9] not in (b"{", b""):
        raise ModelError(
            f"{path} is not a model file: it does not begin as a safetensors file does.", "Choose another file."
        )
    if length > size - 8:
        raise ModelError(
            f"The model file {path} is truncated: its header alone is longer than the file.", DOWNLOAD_AGAIN
        )
    file.seek(8)
    content = _parse(file.read(length), path)
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(path, "its metadata is not a table of texts")
    tensors = {name: _entry(name, value, path) for name, value in content.items()}
    tensors = dict(sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)))
    _check_places(tensors, size - 8 - length, path)
    return Header(tensors, metadata, 8 + length)


def _refuse_other_kinds(start: bytes, path: Path) -> None:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        raise ModelError(f"The model file {path} is empty.", DOWNLOAD_AGAIN)
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")) and start[8:9] != b"{":
        raise ModelError(f"{path} is a PyTorch file, not a model file.", IMPORT_ADVICE)
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise ModelError(
            f"{path} is a web page that was saved under this name, not a model file.", "Download the file itself."
        )
    if text.startswith(b"version https://git-lfs"):
        raise ModelError(
            f"{path} is only a Git LFS pointer to a model file.", "Fetch the file itself with: git lfs pull"
        )


def _parse(text: bytes, path: Path) -> dict:
    def unique(pairs: list[tuple[str, object]]) -> dict:
        result = dict(pairs)
        if len(result) < len(pairs):
            raise ValueError("a name occurs twice")
        return result

    try:
        content = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise _damaged(path, "its header is not a JSON object")
    return content


def _entry(name: str, value: object, path: Path) -> TensorEntry:
    def whole_numbers(numbers: object) -> bool:
        return isinstance(numbers, list) and all(type(n) is int and 0 <= n < 2**62 for n in numbers)

    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise _damaged(path, f"the entry of {name!r} is not a tensor")
    dtype, shape, place = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise _damaged(path, f"the type of {name!r} is unknown: {dtype!r}")
    if not whole_numbers(shape) or not whole_numbers(place) or len(place) != 2:
        raise _damaged(path, f"shape or place of {name!r} are not whole numbers")
    if place[1] - place[0] != SIZES[dtype] * prod(shape):
        raise _damaged(
            path, f"{name!r} has {place[1] - place[0]} bytes but its shape {shape} of {dtype} needs another number"
        )
    return TensorEntry(dtype, tuple(shape), *place)


def _check_places(tensors: dict[str, TensorEntry], data_size: int, path: Path) -> None:
    position = 0
    for name, entry in tensors.items():
        if entry.start != position:
            raise _damaged(path, f"the data of {name!r} does not follow the tensor before it")
        position = entry.stop
    if position > data_size:
        raise ModelError(
            f"The model file {path} is truncated: {position - data_size} bytes are missing.", DOWNLOAD_AGAIN
        )
    if position < data_size:
        raise _damaged(path, f"{data_size - position} bytes follow the last tensor")


def _damaged(path: Path, reason: str) -> ModelError:
    return ModelError(f"The model file {path} is damaged: {reason}.", DOWNLOAD_AGAIN)
