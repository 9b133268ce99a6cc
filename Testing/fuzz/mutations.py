"""Changes to a file that break readers: some bits, some numbers, some lengths; the same for the same seed."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Sequence

NUMBERS = (b"0", b"-1", b"1", b"2", b"255", b"65536", b"2147483647", b"2147483648", b"-2147483649")
NUMBERS += (
    b"4294967296",
    b"9223372036854775808",
    b"99999999999999999999",
    b"1e308",
    b"-0",
    b"nan",
    b"inf",
    b"0.5",
    b"",
)
EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 63) - 1)
TEXTS = (b"\0", b"\n", b"\r\n\r\n", b"%s%n", b"../../x", b"/etc/passwd", b"LIST", b"NaN", b"\xff\xfe", b"[" * 40, b"{}")
HEAD = 600  # bytes, in which most headers lie


def mutated(seeds: Sequence[bytes], number: int, name: str, seed: int = 0) -> bytes:
    """Mutation number `number` of the seeds of the target `name`."""
    random_ = random.Random(f"{seed}/{name}/{number}")
    data = bytearray(random_.choice(seeds))
    for _ in range(random_.choice((1, 1, 1, 2, 3, 6))):
        change = random_.choice(CHANGES)
        data = bytearray(change(data, random_, seeds))
        if not data:
            return b""
    return bytes(data)


def _place(data: bytearray, random_: random.Random) -> int:
    return random_.randrange(min(len(data), HEAD) if random_.random() < 0.8 else len(data))


def _flip(data: bytearray, random_: random.Random, _) -> bytes:
    data[_place(data, random_)] ^= 1 << random_.randrange(8)
    return data


def _byte(data: bytearray, random_: random.Random, _) -> bytes:
    data[_place(data, random_)] = random_.choice((0, 1, 0x20, 0x2D, 0x39, 0x7F, 0x80, 0xFF, random_.randrange(256)))
    return data


def _number(data: bytearray, random_: random.Random, _) -> bytes:
    """Another number where one is written as text."""
    found = list(re.finditer(rb"[-+]?\d+(\.\d+)?", bytes(data[: 4 * HEAD])))
    if not found:
        return _edge(data, random_, _)
    chosen = random_.choice(found)
    return data[: chosen.start()] + random_.choice(NUMBERS) + data[chosen.end() :]


def _edge(data: bytearray, random_: random.Random, _) -> bytes:
    """An integer or real number at its limits."""
    form = random_.choice(("<H", "<I", "<Q", ">H", ">I", "<f", "<d"))
    value = random_.choice(EDGES)
    if form[1] in "fd":
        word = struct.pack(form, random_.choice((0.0, -1.0, 1e30, float("nan"), float("inf"))))
    else:
        size = struct.calcsize(form)
        word = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little" if form[0] == "<" else "big")
    at = _place(data, random_)
    data[at : at + len(word)] = word
    return data


def _insert(data: bytearray, random_: random.Random, _) -> bytes:
    at = _place(data, random_)
    return data[:at] + random_.choice(TEXTS) + data[at:]


def _delete(data: bytearray, random_: random.Random, _) -> bytes:
    at = _place(data, random_)
    return data[:at] + data[at + random_.choice((1, 2, 4, 16, 64)) :]


def _repeat(data: bytearray, random_: random.Random, _) -> bytes:
    at, length = _place(data, random_), random_.choice((1, 4, 16, 80))
    return data[:at] + data[at : at + length] * random_.choice((2, 3, 50)) + data[at + length :]


def _line(data: bytearray, random_: random.Random, _) -> bytes:
    """A line twice, gone, or in another place."""
    lines = bytes(data).split(b"\n", 40)
    chosen = random_.randrange(len(lines))
    line = lines.pop(chosen)
    for _unused in range(random_.choice((0, 1, 2))):
        lines.insert(random_.randrange(len(lines) + 1), line)
    return b"\n".join(lines)


def _cut(data: bytearray, random_: random.Random, _) -> bytes:
    return data[: random_.randrange(len(data))]


def _crossed(data: bytearray, random_: random.Random, seeds: Sequence[bytes]) -> bytes:
    """The beginning of one file and the end of another."""
    other = random_.choice(seeds)
    return data[: _place(data, random_)] + other[random_.randrange(len(other)) :]


CHANGES = (_flip, _flip, _byte, _byte, _number, _number, _edge, _edge, _insert, _delete, _repeat, _line, _cut, _crossed)
