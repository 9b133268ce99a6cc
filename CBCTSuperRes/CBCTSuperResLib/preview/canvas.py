"""The picture of one slice that fills up: interpolated at first, then area by area what the network makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..estimate import output_grid, output_type
from ..files.exchange import ExchangeOutput
from ..interpolate import REACH, cubic
from ..models.card import ModelCard
from ..models.model import Model
from ..pipeline.finish import limits_of
from ..pipeline.prepare import arithmetic_type
from ..pipeline.tiles import Axis, Box
from ..resolve import super_resolve
from ..volume import Volume
from .areas import Area, Filled, growing
from .request import PreviewRequest, Ranges
from .scan import Scan

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
        self._volume, self._looked = scan.cut(self._order, scan.look(request.options, model.card))
        self._slice = self._turned(request.slice_of(scan.volume.grid.size))
        self._options = replace(
            request.options, roi=self._slice, planes="axial", uncertainty=0, disagreement_above=None
        )
        grid = output_grid(self._volume.grid, model.card, self._options)
        boxes = zip(self._volume.grid.size, self._slice, grid.size, strict=True)
        self._axes = [Axis(length, start, stop, outputs) for length, (start, stop), outputs in boxes]
        self._filled = Filled(self._area_of(self._slice))
        with ExchangeOutput(path) as output:
            self._voxels = output.allocate(grid.shape, output_type(self._volume.voxels.dtype, self._options))
            self._interpolate()
            output.publish(Volume(self._voxels, grid))

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
            replace(self._options, roi=part),
            cancelled=cancelled,
            allocate=lambda shape, dtype: self._voxels[target],
            looked=self._looked,
        )
        self._filled.add(area)
        return target

    def _interpolate(self) -> None:
        kind = arithmetic_type(self._voxels.dtype, self._looked.choice.window)
        values = _interpolated(self._volume.voxels, self._axes[::-1], kind)
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
    scale = card.spec.scale
    return scale is not None and scale == int(scale) and card.spec.halo is not None


def _interpolated(voxels: np.ndarray, axes: Sequence[Axis], kind: np.dtype) -> np.ndarray:
    """The region of the axes, (k, j, i), on the grid of the result."""
    read = [slice(max(0, axis.start - REACH), min(axis.length, axis.stop + REACH)) for axis in axes]
    positions = [axis.positions(slice(0, axis.outputs)) - part.start for axis, part in zip(axes, read, strict=True)]
    return cubic(voxels[tuple(read)].astype(kind), positions)
