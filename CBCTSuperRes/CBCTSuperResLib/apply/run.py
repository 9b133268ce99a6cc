"""The path from volume to super-resolved volume, the same for every network.

Read `super_resolve` from top to bottom: decide, cut into pieces, then for each piece prepare, run the network, finish.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from math import prod

import cv2
import numpy as np

from ..core.options import Options
from ..core.volume import Grid
from ..io.checks import check_voxels
from ..io.volume import Volume
from ..models.card import ModelCard
from ..models.model import Model
from ..scan.blank_filling import BlankFiller
from ..scan.blank_region import BlankRegion
from ..scan.field_of_view import find_blanks
from ..scan.window_choice import WindowChoice, choose_window
from .engine import Engine
from .finish import Finisher
from .maps import FLOATS, Disagreement, added_noise
from .plan import (
    check_resources,
    output_grid,
    output_type,
    passes_over,
    record_speed,
    region,
)
from .prepare import Preparation, Prepared
from .quality import disagreement_figure, quality_card
from .report import make_report
from .tiles import Axis, Tile, plan_tiles
from .ways import Way, choose_way

Progress = Callable[[float, str], None]
NEAR = 1.25  # slices so many pixels apart still help each other: measured on drawn trabecular bone
Allocate = Callable[[tuple[int, ...], np.dtype], np.ndarray]


@dataclass(frozen=True, eq=False)
class Result(Volume):
    """A super-resolved volume.

    Attributes
    ----------
    disagreement : Volume or None
        Where the model disagrees with itself, if that was asked for: float32, in grey values, see `disagreement`.
    """

    disagreement: Volume | None = None


@dataclass(frozen=True)
class Looked:
    """What a look at the whole scan showed; the same for every part of it.

    Attributes
    ----------
    blanks : BlankRegion
    choice : WindowChoice
    """

    blanks: BlankRegion
    choice: WindowChoice


def look(volume: Volume, options: Options, card: ModelCard, blanks: BlankRegion | None = None) -> Looked:
    """Look at a scan before it is computed.

    Parameters
    ----------
    blanks : BlankRegion, optional
        The volume's, if they are known already; then only the window is chosen.

    Raises
    ------
    InputError
        If this is no scan.
    OptionError
        If the blank value or the window that is asked for is none.
    """
    if blanks is None:
        check_voxels(volume.voxels)
        blanks = find_blanks(volume, options.blank)
    return Looked(blanks, choose_window(volume.voxels, blanks, options.window, card))


def super_resolve(
    volume: Volume,
    model: Model,
    options: Options | None = None,
    progress: Progress | None = None,
    *,
    cancelled: Callable[[], bool] | None = None,
    allocate: Allocate = np.empty,
    allocate_disagreement: Allocate = np.empty,
    looked: Looked | None = None,
) -> Result:
    """Super-resolve a volume.

    Parameters
    ----------
    volume : Volume
        Stays as it is.
    model : Model
    options : Options, optional
    progress : callable (fraction, message), optional
        Called after every piece, with growing fractions; what it raises ends the run.
    cancelled : callable, optional
        Asked again and again; True ends the run with `Cancelled`.
    allocate, allocate_disagreement : callable (shape, dtype), optional
        Give the memory of the result, and of the disagreement, for instance a memory-mapped file.
    looked : Looked, optional
        What `look` told of this volume with these options; otherwise it is looked at.

    Returns
    -------
    Result
        The same physical extent (or the ROI's), more finely sampled; its `report` tells what was done, and with what
        quality.

    Raises
    ------
    SuperResError
        One of its subclasses, see `errors`.
    """
    options = options or Options()
    progress = progress or (lambda fraction, message: None)
    start, seconds = time.perf_counter(), {}
    progress(0.0, "Looking at the scan")
    card = model.card
    check_resources(volume, card, options)
    grid = output_grid(volume.grid, card, options)
    looked = looked or look(volume, options, card)
    blanks, choice = looked.blanks, looked.choice
    engine = Engine(
        model.network, card.spec, options.device, options.precision, options.tile, cancelled, options.ensemble
    )
    smooth = card.smooth if options.smooth is None else options.smooth
    seconds["looking"] = time.perf_counter() - start

    axes = _axes(volume.grid, grid, options)
    more_floats = FLOATS if options.uncertainty else 0
    way = choose_way(card.spec, options.planes, [axis.scale for axis in axes], more_floats)
    output = allocate(grid.shape, output_type(volume.voxels.dtype, options))
    filler = BlankFiller(blanks, volume.voxels.shape)
    are_near = _slices_are_near(volume.grid)
    if way.neighbours and not are_near:
        engine.notes.append("The slices are farther apart than their pixels; each was enlarged without its neighbours.")
    preparation = Preparation(volume.voxels, choice.window, filler, smooth, way.neighbours, are_near)
    finisher = Finisher(output, axes, choice.window, blanks)
    disagreement = None
    if options.uncertainty:
        spread = allocate_disagreement(grid.shape, np.dtype(np.float32))
        noise = added_noise(volume.voxels, axes, choice.window, blanks)
        disagreement = Disagreement(
            spread, volume.voxels.shape, axes, way, engine, options.uncertainty, noise, choice.window, blanks
        )
    tiles = plan_tiles(axes, way.edges, way.context)
    measured = []
    for tile in tiles:
        if _is_blank(blanks, axes, tile):
            finisher.write_blank(tile)
            if disagreement:
                disagreement.write_blank(tile)
        else:
            measured.append(tile)
    with _one_opencv_thread():
        _Stations(preparation, way, engine, finisher, axes, disagreement).process(measured, progress)
    seconds["computing"] = time.perf_counter() - start - seconds["looking"]

    if options.roi is None or len(measured) > 1:  # a lone piece of a ROI is mostly margin
        record_speed(
            card, engine.device.type, sum(map(_voxels, measured)) * passes_over(card, options), seconds["computing"]
        )
    progress(0.99, "Measuring the result")
    start = time.perf_counter()
    quality = quality_card(volume, output, axes, choice, blanks, card)
    seconds["quality"] = time.perf_counter() - start
    report = make_report(volume, grid, model, options, choice, blanks, engine, smooth, len(measured), seconds)
    report["quality"] = quality
    beside = None
    if disagreement:
        disagreement.finish()
        report["disagreement"] = disagreement.summary(options.disagreement_above)
        quality["figures"].append(disagreement_figure(report["disagreement"], choice.window))
        beside = Volume(spread, grid)
    progress(1.0, "Done")
    return Result(output, grid, volume.padding_value, report, beside)


def _slices_are_near(grid: Grid) -> bool:
    """Whether a slice's neighbours show so much of the same anatomy that a network had better see them."""
    *in_plane, between = grid.spacing
    return between <= NEAR * max(in_plane)


def _axes(grid: Grid, result: Grid, options: Options) -> list[Axis]:
    """The relation of input and output voxels along (k, j, i)."""
    boxes = zip(grid.size, region(grid, options), result.size, strict=True)
    return [Axis(length, start, stop, outputs) for length, (start, stop), outputs in boxes][::-1]


def _is_blank(blanks: BlankRegion, axes: Sequence[Axis], tile: Tile) -> bool:
    """Whether nothing was measured in all of a tile's output."""
    if not blanks:
        return False
    slices, *in_plane = (axis.positions(part) for axis, part in zip(axes, tile.write, strict=True))
    masks = (blanks.fine_mask(float(k), *in_plane) for k in slices)
    return all(mask is not None and mask.all() for mask in masks)


def _voxels(tile: Tile) -> int:
    return prod(part.stop - part.start for part in tile.core)


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """OpenCV works on one slice beside a network that needs the cores; its own threads would only be in the way."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


class _Stations:
    """Three stations that work at the same time: prepare the next piece, run the network, finish the last one."""

    def __init__(
        self,
        preparation: Preparation,
        way: Way,
        engine: Engine,
        finisher: Finisher,
        axes: Sequence[Axis],
        disagreement: Disagreement | None,
    ) -> None:
        self._preparation = preparation
        self._way = way
        self._engine = engine
        self._finisher = finisher
        self._axes = axes
        self._disagreement = disagreement

    def process(self, tiles: Sequence[Tile], progress: Progress) -> None:
        """Take all pieces through the stations, in order, and report after every run of the network."""
        passes = self._engine.ensemble + (self._disagreement.passes if self._disagreement else 0)
        total = sum(self._way.runs(tile, self._axes) for tile in tiles) * passes
        self._engine.after_run = lambda done: progress(0.99 * (done / total), f"Network: {done} of {total}")
        with ThreadPoolExecutor(max_workers=2) as pool:
            upcoming = pool.submit(self._preparation.box, tiles[0].read) if tiles else None
            finishing: Future | None = None
            for tile, following in zip_longest(tiles, tiles[1:]):
                prepared: Prepared = upcoming.result()
                upcoming = following and pool.submit(self._preparation.box, following.read)
                enlarged = self._way.enlarge(self._engine, prepared.slab, tile, self._axes)
                if finishing:
                    finishing.result()
                finishing = pool.submit(self._finisher.write, tile, enlarged, prepared)
                if self._disagreement:
                    self._disagreement.measure(tile, prepared, enlarged)
            if finishing:
                finishing.result()
