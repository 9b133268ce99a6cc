"""The preview: a slice of a scan that fills up with what a whole run would put there, where one looks first.

A `Scan` is handed over once and kept from one preview to the next. A `Canvas` is the picture of one slice: interpolated
at first, then computed area by area, a block around the place that is looked at and then strips around what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..acquisition.estimate import EstimatedAcquisition
from ..core.interpolate import REACH, cubic
from ..core.options import WARNING, Options, Ranges
from ..io.checks import check_voxels
from ..io.exchange import ExchangeOutput, read_exchange
from ..io.volume import Volume
from ..models.card import ModelCard
from ..models.folder import default_model
from ..models.model import Model
from ..scan.blank_region import BlankRegion
from ..scan.field_of_view import find_blanks
from ..scan.window import Window
from ..scan.window_choice import WindowChoice, choose_window
from .engine import Engine
from .finish import limits_of
from .memory_and_disk import check_memory
from .plan import Plan, make_plan
from .prepare import arithmetic_type
from .preview_request import PreviewRequest
from .run import make_engine, super_resolve
from .suited_model import suited_card
from .tiles import Box

Range = tuple[int, int]
Area = tuple[Range, Range]

BLOCK = 192
SMALLEST_PART = 4  # a block is never smaller than BLOCK through that
QUICK = 150_000  # voxels that a network may see for the first block, so that it comes within a second or two


def growing(limits: Area, focus: tuple[int, int], edge: tuple[int, int]) -> Iterator[Area]:
    """Areas that cover `limits` once: a block around the focus, then strips around it that are as wide as the block.

    What would be left as half a strip or less is taken along.

    Parameters
    ----------
    limits : two pairs of int
        Half-open ranges of rows and columns.
    focus : two int
        Row and column; what lies outside the limits is moved to their edge.
    edge : two int
        Rows and columns of the block.
    """
    places = list(zip(limits, focus, edge, strict=True))
    starts = [max(low, min(at - n // 2, high - n)) for (low, high), at, n in places]
    done = tuple((start, min(high, start + n)) for start, ((_, high), _, n) in zip(starts, places, strict=True))
    yield done
    while done != limits:
        rows, columns = (
            (
                low if start - n - low <= n // 2 else start - n,
                high if high - stop - n <= n // 2 else stop + n,
            )
            for (start, stop), ((low, high), _, n) in zip(done, places, strict=True)
        )
        (top, bottom), (left, right) = done
        above_and_below = ((rows[0], top), columns), ((bottom, rows[1]), columns)
        left_and_right = ((top, bottom), (columns[0], left)), ((top, bottom), (right, columns[1]))
        for strip in (*above_and_below, *left_and_right):
            if all(start < stop for start, stop in strip):
                yield strip
        done = rows, columns


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


class Scan:
    """A volume in exchange format. It is looked at once for each choice of blanks and each window.

    Raises
    ------
    InputError
        If the file is no whole volume.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.volume = read_exchange(path)
        self._blanks: dict[str | float, BlankRegion] = {}
        self._seen: dict[tuple, tuple[WindowChoice, EstimatedAcquisition]] = {}
        self._scanners: dict[tuple, EstimatedAcquisition] = {}  # seen in a window, whichever model's
        self._engine: tuple[tuple[Model, Options], Engine] | None = None
        self._cancelled: Callable[[], bool] = lambda: False

    def plan(self, options: Options, card: ModelCard) -> Plan:
        """How a part of the volume is computed, with the window and the scanner of all of it.

        Raises
        ------
        InputError, OptionError
        """
        grid, dtype = self.volume.grid, self.volume.voxels.dtype
        key = (options.blank, options.window, card.weights_sha256)
        if key not in self._seen:
            usual = {"roi": None, "planes": "axial", "scale": None, "output_spacing": None}
            plain = make_plan(grid, dtype, card, replace(options, **usual))
            if options.blank not in self._blanks:
                check_voxels(self.volume.voxels)
                self._blanks[options.blank] = find_blanks(self.volume, options.blank)
            blanks = self._blanks[options.blank]
            choice = choose_window(self.volume.voxels, blanks, options.window, card)
            looked = (options.blank, choice.window.lo, choice.window.hi)
            seen = plain.with_scan(self.volume, blanks=blanks, choice=choice, scanner=self._scanners.get(looked))
            self._scanners[looked] = seen.scanner
            self._seen[key] = choice, seen.scanner
        choice, scanner = self._seen[key]
        plan = make_plan(grid, dtype, card, options)
        return plan.with_scan(self.volume, blanks=self._blanks[options.blank], choice=choice, scanner=scanner)

    def chosen_card(self, options: Options) -> ModelCard:
        """The model that a run with these options takes where none is named.

        Raises
        ------
        SuperResError
            As a run would.
        """
        return suited_card(self.plan(options, default_model(options, self.volume.spacing)))

    def engine(self, plan: Plan, model: Model, cancelled: Callable[[], bool]) -> Engine:
        """What computes areas of the volume; kept, as graphs take longer to be loaded than an area to be computed."""
        self._cancelled, key = cancelled, (model, replace(plan.options, roi=None))
        if self._engine is None or self._engine[0] != key:
            self._engine = None  # its memory is given back first
            self._engine = key, make_engine(plan, model, lambda: self._cancelled())
        return self._engine[1]

    def drop_engine(self) -> None:
        """Give its memory back."""
        self._engine = None


class Canvas:
    """A slice of a scan on the grid of the result, in a file that another process may look at all the while.

    It is what a run with the same options puts there, whatever the axis across the slice: a coronal slice of a scan
    that is enlarged slice by slice is made of lines of many axial ones.

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
        self.path, self._model, self._scan = path, model, scan
        self._normal = request.normal
        self._slice = request.slice_of(scan.volume.grid.size)
        usual = {"uncertainty": 0, "disagreement_above": None, "warning_above": WARNING}
        usual["device"] = request.options.devices[0]  # a slice is not worth sharing
        self._plan = scan.plan(replace(request.options, roi=self._slice, **usual), model.card)
        check_memory(self._plan)
        self._axes = self._plan.axes[::-1]
        self._filled = Filled(self._area_of(self._slice))
        with ExchangeOutput(path) as output:
            self._voxels = output.allocate(self._plan.grid.shape, self._plan.dtype)
            self._interpolate()
            output.publish(Volume(self._voxels, self._plan.grid))

    @property
    def card(self) -> ModelCard:
        """Of the model that computes it."""
        return self._model.card

    @property
    def is_empty(self) -> bool:
        """Whether all of it is interpolated."""
        return not self._filled

    @property
    def everything(self) -> Box:
        return tuple(slice(0, length) for length in self._voxels.shape)

    def share(self, visible: Ranges) -> float:
        """How much of the visible part, along (i, j, k) of the scan, is computed."""
        return self._filled.share(self._area_of(visible))

    def areas(self, visible: Ranges, focus: tuple[int, int, int]) -> Iterator[Area]:
        """What is missing of the visible part, in the order in which it is best filled."""
        limits, whole = self._area_of(visible), self._area_of(self._slice)
        spec, at = self._model.spec, self._area_of(focus)
        if not spec.can_be_cut:  # areas would not be the same
            is_of_many_slices = self._plan.way == "slices" and self._normal != 2
            limits = (limits[0], whole[1]) if is_of_many_slices else whole
            edge = tuple(stop - start for start, stop in limits)
            edge = (BLOCK // SMALLEST_PART, edge[1]) if is_of_many_slices else edge
        else:
            edge = (self._edge(limits, at),) * 2
        missing = map(self._filled.missing, growing(limits, at, edge))
        return (area for area in missing if area is not None)

    def _edge(self, limits: Area, focus: tuple[int, int]) -> int:
        """How large the first block may be for it to come soon."""
        edge = BLOCK
        while edge > BLOCK // SMALLEST_PART:
            first = self._box_of(next(growing(limits, focus, (edge, edge))))
            if self._plan.within(first).network_voxels <= QUICK:
                break
            edge //= 2
        return edge

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
            self._scan.volume,
            self._model,
            cancelled=cancelled,
            engine=self._scan.engine(self._plan, self._model, cancelled),
            allocate=lambda shape, dtype: self._voxels,
            plan=self._plan.within(part),
        )
        self._filled.add(area)
        return target

    def _interpolate(self) -> None:
        """Fill all of it with the scan, interpolated; as bright as that where the result is another kind of image."""
        window, output_window = self._plan.choice.window, self._model.card.output_window
        axes = self._plan.axes
        read = [slice(max(0, axis.start - REACH), min(axis.length, axis.stop + REACH)) for axis in axes]
        positions = [axis.positions(slice(0, axis.outputs)) - part.start for axis, part in zip(axes, read, strict=True)]
        kind = arithmetic_type(self._voxels.dtype, window)
        values = cubic(self._scan.volume.voxels[tuple(read)].astype(kind), positions)
        if output_window:
            values = Window(*output_window).from_unit(window.to_unit(values))
        if self._voxels.dtype.kind != "f":
            np.rint(values, out=values)
        np.copyto(self._voxels, np.clip(values, *limits_of(self._voxels.dtype)), casting="unsafe")

    def _area_of(self, along: Ranges | tuple[int, int, int]) -> tuple:
        """Rows and columns of what is given along (i, j, k) of the scan."""
        return tuple(along[axis] for axis in (2, 1, 0) if axis != self._normal)

    def _box_of(self, area: Area) -> Ranges:
        parts = list(area)
        return tuple(self._slice[axis] if axis == self._normal else parts.pop() for axis in range(3))
