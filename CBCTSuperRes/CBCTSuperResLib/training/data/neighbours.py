"""Which slices lie beside a slice: by their number within a volume, or by the numbers in the names of slice files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Sequence

from ...errors import InputError
from ...pipeline.tiles import neighbour
from .planes import Plane


def neighbours_of(planes: Sequence[Plane], slices: int, gaps: Sequence[int] = (1,)) -> list[list[int]]:
    """For each plane the places, in `planes`, of itself and `slices` neighbours on either side, in order.

    Where a scan ends, or slices are missing, the slice on the other side takes their place.

    Parameters
    ----------
    planes : sequence of Plane
        Of one role, in any order.
    slices : int
    gaps : sequence of int
        Distances of neighbours, in slices; planes take them in turn.

    Raises
    ------
    InputError
        If files of single slices do not tell which scan they belong to.
    """
    if slices == 0:
        return [[place] for place in range(len(planes))]
    known = {_position(plane): place for place, plane in enumerate(planes)}
    steps = _steps(planes)
    found = []
    for number, plane in enumerate(planes):
        scan, position = _position(plane)
        step = steps[scan] * gaps[number % len(gaps)]
        steps_away = (position + n * step for n in range(-slices, slices + 1))
        beside = (neighbour(p, position, lambda p, scan=scan: (scan, p) in known) for p in steps_away)
        found.append([known[scan, p] for p in beside])
    return found


def _steps(planes: Sequence[Plane]) -> dict[Hashable, int]:
    """For each scan the difference of the numbers of its neighbouring slices."""
    positions: dict[Hashable, list[int]] = defaultdict(list)
    for plane in planes:
        scan, position = _position(plane)
        positions[scan].append(position)
    steps = {}
    for scan, numbers in positions.items():
        numbers.sort()
        steps[scan] = min((b - a for a, b in zip(numbers, numbers[1:], strict=False)), default=1)
    alone = next(
        (plane for plane in planes if not plane.entry.is_volume and len(positions[_position(plane)[0]]) == 1), None
    )
    if alone:
        raise InputError(
            f"{alone.entry.path} has no neighbouring slices: no other file is called like it but for the last number.",
            "Name the slices of a scan alike and number them, give volumes, or set network_G.in_nc to 1.",
        )
    return steps


def _position(plane: Plane) -> tuple[Hashable, int]:
    """The scan that a plane belongs to (with its size, which neighbours share), and its number there."""
    if plane.entry.is_volume:
        return (plane.entry.path, plane.axis, plane.size), plane.index
    number = re.search(r"(\d+)(\D*)$", plane.entry.name)
    if number is None:
        return (plane.entry.path, None, plane.size), 0
    scan = plane.entry.path.parent, plane.entry.name[: number.start()], number[2]
    return (*scan, plane.size), int(number[1])
