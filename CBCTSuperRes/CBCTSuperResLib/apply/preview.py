"""In which order a slice is filled: a block around a point first, then strips around what is there.

A scan that was handed over, and what a look at it showed; kept from one preview to the next.

The picture of one slice that fills up: interpolated at first, then area by area what the network makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.interpolate import REACH, cubic
from ..core.options import Options, PreviewRequest, Ranges
from ..core.volume import axes_of
from ..io.exchange import ExchangeOutput, read_exchange
from ..io.volume import Volume
from ..models.card import ModelCard
from ..models.model import Model
from ..scan.blank_region import BlankRegion
from ..scan.window import Window
from ..scan.window_choice import WindowChoice
from .finish import limits_of
from .plan import Plan, make_plan
from .prepare import arithmetic_type
from .run import super_resolve
from .tiles import Axis, Box

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


class Scan:
    """A volume in exchange format. It is looked at once for each choice of blanks, of a window and of a model.

    Raises
    ------
    InputError
        If the file is no whole volume.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.volume = read_exchange(path)
        self._blanks: dict[str | float, BlankRegion] = {}
        self._choices: dict[tuple, WindowChoice] = {}

    def plan(self, options: Options, card: ModelCard, order: Sequence[int]) -> tuple[Volume, Plan]:
        """The volume cut into slices across another axis, and the plan for it; `order` is as of `Grid.permuted`.

        Raises
        ------
        InputError, OptionError
        """
        dtype, volume = self.volume.voxels.dtype, self.volume.permuted(order)
        key = (options.blank, options.window, card.weights_sha256)
        if key not in self._choices:
            plain = make_plan(self.volume.grid, dtype, card, replace(options, roi=None, planes="axial"))
            seen = plain.with_scan(self.volume, blanks=self._blanks.get(options.blank))
            self._choices[key], self._blanks[options.blank] = seen.choice, seen.blanks
        blanks = self._blanks[options.blank].permuted(axes_of(order))
        plan = make_plan(volume.grid, dtype, card, options)
        return volume, plan.with_scan(volume, blanks=blanks, choice=self._choices[key])


CUT_ACROSS = ((1, 2, 0), (0, 2, 1), (0, 1, 2))  # `Grid.permuted` for slices across i, j, k


class Canvas:
    """A slice of a scan on the grid of the result, in a file that another process may look at all the while.

    A 2-D network works in the plane of the slice, whatever the axis across it: the volume is turned for it.

    Parameters
    ----------
    path : Path
        The exchange file to make.
    scan : Scan
    model : Model
    request : PreviewRequest
        Says which slice, and how it is computed.

    Raises
    ------
    SuperResError
        If there can be no result.
    """

    def __init__(self, path: Path, scan: Scan, model: Model, request: PreviewRequest) -> None:
        self.path, self._model = path, model
        self._order = CUT_ACROSS[request.normal] if model.spec.dimensions == 2 else (0, 1, 2)
        self._normal = self._order.index(request.normal)
        self._slice = self._turned(request.slice_of(scan.volume.grid.size))
        options = replace(request.options, roi=self._slice, planes="axial", uncertainty=0, disagreement_above=None)
        self._volume, self._plan = scan.plan(options, model.card, self._order)
        self._plan.check_memory()
        self._axes = self._plan.axes[::-1]
        self._filled = Filled(self._area_of(self._slice))
        with ExchangeOutput(path) as output:
            self._voxels = output.allocate(self._plan.grid.shape, self._plan.dtype)
            self._interpolate()
            output.publish(Volume(self._voxels, self._plan.grid))

    @property
    def is_empty(self) -> bool:
        """Whether all of it is interpolated."""
        return not self._filled

    @property
    def everything(self) -> Box:
        return tuple(slice(0, length) for length in self._voxels.shape)

    def share(self, visible: Ranges) -> float:
        """How much of the visible part, along (i, j, k) of the scan, is computed."""
        return self._filled.share(self._area_of(self._turned(visible)))

    def areas(self, visible: Ranges, focus: tuple[int, int, int]) -> Iterator[Area]:
        """What is missing of the visible part, in the order in which it is best filled."""
        limits = self._area_of(self._turned(visible))
        if not _can_be_cut(self._model.card):
            limits = self._area_of(self._slice)
            return iter([limits] if self._filled.missing(limits) else [])
        missing = map(self._filled.missing, growing(limits, self._area_of(self._turned(focus))))
        return (area for area in missing if area is not None)

    def fill(self, area: Area, cancelled: Callable[[], bool]) -> Box:
        """Compute one area; returns where it lies in the picture, (k, j, i).

        Raises
        ------
        SuperResError
            `Cancelled` among them.
        """
        part = self._box_of(area)
        target = tuple(axis.write(slice(*ends)) for axis, ends in zip(self._axes, part, strict=True))[::-1]
        super_resolve(
            self._volume,
            self._model,
            cancelled=cancelled,
            allocate=lambda shape, dtype: self._voxels[target],
            plan=self._plan.within(part),
        )
        self._filled.add(area)
        return target

    def _interpolate(self) -> None:
        window, output_window = self._plan.choice.window, self._model.card.output_window
        kind = arithmetic_type(self._voxels.dtype, window)
        values = _interpolated(self._volume.voxels, self._axes[::-1], kind)
        if output_window:  # another kind of image: as bright as the scan
            values = Window(*output_window).from_unit(window.to_unit(values))
        if self._voxels.dtype.kind != "f":
            np.rint(values, out=values)
        np.copyto(self._voxels, np.clip(values, *limits_of(self._voxels.dtype)), casting="unsafe")

    def _turned(self, along: Ranges | tuple[int, int, int]) -> tuple:
        """What is given along (i, j, k) of the scan, along those of the turned volume."""
        return tuple(along[axis] for axis in self._order)

    def _area_of(self, along: Ranges | tuple[int, int, int]) -> tuple:
        """Rows and columns of what is given along (i, j, k) of the turned volume."""
        return tuple(along[axis] for axis in (2, 1, 0) if axis != self._normal)

    def _box_of(self, area: Area) -> Ranges:
        parts = list(area)
        return tuple(self._slice[axis] if axis == self._normal else parts.pop() for axis in range(3))


def _can_be_cut(card: ModelCard) -> bool:
    """Whether areas of a slice are the same as in the whole slice, and lie on the same grid."""
    return card.spec.scale is not None and card.spec.can_be_cut


def _interpolated(voxels: np.ndarray, axes: Sequence[Axis], kind: np.dtype) -> np.ndarray:
    """The region of the axes, (k, j, i), on the grid of the result."""
    read = [slice(max(0, axis.start - REACH), min(axis.length, axis.stop + REACH)) for axis in axes]
    positions = [axis.positions(slice(0, axis.outputs)) - part.start for axis, part in zip(axes, read, strict=True)]
    return cubic(voxels[tuple(read)].astype(kind), positions)
