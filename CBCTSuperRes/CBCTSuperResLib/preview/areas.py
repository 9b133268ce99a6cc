"""In which order a slice is filled: a block around a point first, then strips around what is there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Range = tuple[int, int]
Area = tuple[Range, Range]

BLOCK = 192
STEP = 192


def growing(limits: Area, focus: tuple[int, int]) -> Iterator[Area]:
    """Areas that cover `limits` once: a block of 192 x 192 pixels around the focus, then strips around it.

    Parameters
    ----------
    limits : two pairs of int
        Half-open ranges of rows and columns.
    focus : two int
        Row and column; what lies outside the limits is moved to their edge.
    """
    done = tuple(_around(at, limit) for at, limit in zip(focus, limits, strict=True))
    yield done
    while done != limits:
        wider = tuple(_widened(part, limit) for part, limit in zip(done, limits, strict=True))
        yield from _between(done, wider)
        done = wider


class Filled:
    """Which pixels of a slice are there already.

    Parameters
    ----------
    limits : two pairs of int
        Half-open ranges of rows and columns that can be filled.
    """

    def __init__(self, limits: Area) -> None:
        self._origin = tuple(start for start, _ in limits)
        self._there = np.zeros([stop - start for start, stop in limits], bool)

    def add(self, area: Area) -> None:
        self._there[self._inside(area)] = True

    def missing(self, area: Area) -> Area | None:
        """The smallest area with all pixels of `area` that are not there, or None if all are."""
        absent = ~self._there[self._inside(area)]
        if not absent.any():
            return None
        spans = (np.flatnonzero(absent.any(axis)) for axis in (1, 0))
        return tuple((start + int(n[0]), start + int(n[-1]) + 1) for n, (start, _) in zip(spans, area, strict=True))

    def share(self, area: Area) -> float:
        return float(self._there[self._inside(area)].mean())

    def __bool__(self) -> bool:
        return bool(self._there.any())

    def _inside(self, area: Area) -> tuple[slice, slice]:
        return tuple(slice(a - origin, b - origin) for (a, b), origin in zip(area, self._origin, strict=True))


def _around(at: int, limit: Range) -> Range:
    """A block's extent around a place, moved to lie within the limits."""
    start = max(limit[0], min(at - BLOCK // 2, limit[1] - BLOCK))
    return start, min(limit[1], start + BLOCK)


def _widened(part: Range, limit: Range) -> Range:
    """One step wider at both ends; what would be left as half a step or less is taken too."""
    start, stop = part[0] - STEP, part[1] + STEP
    return (
        limit[0] if start - limit[0] <= STEP // 2 else start,
        limit[1] if limit[1] - stop <= STEP // 2 else stop,
    )


def _between(inner: Area, outer: Area) -> Iterator[Area]:
    """The strips above, below, left and right of `inner` that make it `outer`."""
    (top, bottom), (left, right) = inner
    columns = outer[1]
    strips = (
        ((outer[0][0], top), columns),
        ((bottom, outer[0][1]), columns),
        ((top, bottom), (columns[0], left)),
        ((top, bottom), (right, columns[1])),
    )
    for strip in strips:
        if all(start < stop for start, stop in strip):
            yield strip
