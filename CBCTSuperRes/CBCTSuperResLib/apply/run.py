"""The path from volume to super-resolved volume, the same for every network.

Read `super_resolve` from top to bottom: decide, cut into pieces, then for each piece prepare, run the network, finish.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest

import cv2
import numpy as np

from ..core.errors import OptionError
from ..core.memory import memory_for
from ..core.options import Options
from ..core.progress import Report, part_of
from ..core.volume import as_acquired
from ..io.volume import Volume
from ..models.model import Model
from ..scan.blank_filling import BlankFiller
from ..scan.blank_region import BlankRegion
from ..scan.window import Window
from .block_consistency import BlockConsistency
from .consistency import LEAST_NOISE, Agreement, Consistency
from .engine import Engine
from .engines.choice import exact_network, network_for
from .error_bars import ErrorBars
from .finish import Finisher
from .maps import Disagreement, added_noise
from .memory_and_disk import SMALLER, check_memory
from .plan import DISAGREEMENT, OF_THE_WHOLE, Plan, make_plan
from .prepare import Preparation, Prepared
from .quality import agreement_figure, card_of_failure, disagreement_figure, error_bars_figure, quality_card
from .report import make_report
from .sharing import RESULT, Sharing, joined
from .tiles import Axis, Box, Tile, shift
from .ways import Way, choose_way

MOST_CORRELATION = 0.95  # of neighbouring voxels' noise; more is no noise

Allocate = Callable[[tuple[int, ...], np.dtype], np.ndarray]


@dataclass(frozen=True, eq=False)
class Result(Volume):
    """A super-resolved volume.

    Attributes
    ----------
    disagreement : Volume or None
        Where the model disagrees with itself, if that was asked for: float32, in grey values, see `maps`.
    error_bars : mapping of str to Volume
        Deviations of a model that tells its own, in their place: float32, in grey values, see `error_bars`.
    """

    disagreement: Volume | None = None
    error_bars: Mapping[str, Volume] = field(default_factory=dict)


def super_resolve(
    volume: Volume,
    model: Model,
    options: Options | None = None,
    progress: Report | None = None,
    *,
    cancelled: Callable[[], bool] | None = None,
    allocate: Allocate = np.empty,
    allocate_maps: Mapping[str, Allocate] | None = None,
    plan: Plan | None = None,
    engine: Engine | None = None,
    sharing: Sharing | None = None,
) -> Result:
    """Super-resolve a volume. Nothing is written anywhere, but for what those who share the work hand each other.

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
    allocate : callable (shape, dtype), optional
        Gives the memory of the result, for instance a memory-mapped file.
    allocate_maps : mapping of str to callable, optional
        The same for what is measured beside it, by the names that `Plan.maps` gives.
    plan : Plan, optional
        Made of this volume and model, with its memory checked; it holds the options. Otherwise it is made here.
    engine : Engine, optional
        Kept from a run of the same scan, model and options, see `make_engine`; otherwise it is made here.
    sharing : Sharing, optional
        Several devices, or a cluster, that compute the parts of the volume, see `jobs.shared_volume`; without, all
        is computed in this process, on one device.

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
    progress = progress or (lambda fraction, message: None)
    start = time.perf_counter()
    progress(0.0, "Looking at the scan")
    if plan is None:
        workers = sharing and sharing.workers
        plan = make_plan(volume.grid, volume.voxels.dtype, model.card, options or Options(), workers)
        check_memory(plan)
    if plan.scanner is None:
        plan = plan.with_scan(volume)
    options, axes, window, blanks = plan.options, plan.axes, plan.choice.window, plan.blanks
    output_window = _output_window(plan)
    if not sharing:  # which computes nothing here
        engine = engine or make_engine(plan, model, cancelled)
    looked = time.perf_counter()

    way = choose_way(plan)
    with memory_for(f"the result, {plan.result_text}", SMALLER):
        output = allocate(plan.grid.shape, plan.dtype)
        makers, kind = allocate_maps or {}, np.dtype(np.float32)
        maps = {name: makers.get(name, np.empty)(plan.grid.shape, kind) for name in plan.maps}
    sharpness = options.sharpness / 100
    finisher = Finisher(output, axes, window, blanks, output_window, sharpness)
    disagreement = bars = None
    if plan.has_error_bars:
        bars = ErrorBars(maps, plan, way, engine, output_window or window, blanks)
    elif maps:
        noise = added_noise(volume.voxels, plan)
        disagreement = Disagreement(maps[DISAGREEMENT], plan, way, engine, noise, output_window or window)
    if sharing:
        memory = {RESULT: output, **{name: map_ for name, map_ in maps.items() if name not in OF_THE_WHOLE}}
        parts = sharing.compute(plan, volume, model, memory, part_of(progress, 0, 0.99), cancelled or (lambda: False))
        how = joined(parts)
        agreement = Agreement.sum(part["agreement_counts"] for part in parts)
    else:
        preparation = _preparation(plan, volume)
        if plan.part is None:
            _settle(engine, way, preparation, plan)
        count, agreement = _compute(plan, way, engine, preparation, finisher, disagreement, bars, progress, cancelled)
        how = {
            "engine": engine.engine_text,
            "device": engine.device_text,
            "precision": engine.precision,
            "tile": engine.tile,
            "pieces": count,
            "network_voxels": round(plan.network_voxels * count / len(plan.tiles)),
            "notes": list(engine.notes),
        }
    if bars and plan.part is None:
        bars.finish(output)
        plan = replace(plan, warnings=(*plan.warnings, *bars.doubts))
    report = make_report(plan, **how)
    if plan.part is not None:
        return Result(output, plan.grid, volume.padding_value, {**report, "agreement_counts": asdict(agreement)})
    if disagreement:
        disagreement.finish()
    computed = time.perf_counter()

    progress(0.99, "Measuring the result")
    _judge(report, plan, volume, output, agreement, disagreement, bars)
    ends = {"looking": looked - start, "computing": computed - looked, "quality": time.perf_counter() - computed}
    report["seconds"] = {name: round(value, 3) for name, value in ends.items()}
    progress(1.0, "Done")
    beside = {name: Volume(voxels, plan.grid) for name, voxels in maps.items()}
    return Result(output, plan.grid, volume.padding_value, report, beside.pop(DISAGREEMENT, None), beside)


def _compute(
    plan: Plan,
    way: Way,
    engine: Engine,
    preparation: Preparation,
    finisher: Finisher,
    disagreement: Disagreement | None,
    bars: ErrorBars | None,
    progress: Report,
    cancelled: Callable[[], bool] | None,
) -> tuple[int, Agreement]:
    """Compute one piece after the other; returns how many had data, and how the result agrees with the scan."""
    names = ["sr"]
    if bars and not bars.draws:
        names += [name for name, role in engine.spec.outputs.items() if role == "log_variance"]
    keep = ledger = None
    if plan.back_projection and plan.way == "blocks":
        ledger = _block_consistency(plan)
    elif plan.back_projection:
        keep = _consistency(plan)
    pieces, tiles, computed_axes = plan.tiles, [], plan.computed_axes
    for tile in pieces:
        if not _is_blank(plan.blanks, computed_axes, tile):
            tiles.append(tile)
            continue
        own, _ = _wanted(plan, tile)
        if own:
            for target in filter(None, (finisher, disagreement, bars)):
                target.write_blank(own)

    total = sum(way.runs(tile, computed_axes) for tile in tiles) * plan.passes
    engine.begin(lambda done: progress(0.99 * (done / total), f"Network: {done} of {total}"))
    computing = memory_for("computing slices or blocks", "Close other programs, or choose an ROI or planes axial.")
    with computing, _one_opencv_thread(), ThreadPoolExecutor(max_workers=2) as pool, ExitStack() as ends:
        ends.callback(engine.end)  # also of what is cancelled, whose engine a preview keeps
        # While the network computes a piece, the next is prepared and the last is finished.
        upcoming: Future | None = pool.submit(preparation.box, tiles[0].read) if tiles else None
        finishing: Future | None = None
        for tile, following in zip_longest(tiles, tiles[1:]):
            prepared: Prepared = upcoming.result()
            upcoming = following and pool.submit(preparation.box, following.read)
            wide, wide_axes = keep.widened(tile, plan.axes) if keep else (tile, computed_axes)
            if bars:
                enlarged, *spread = way.outputs(engine, prepared.slab, wide, wide_axes, names)
            else:
                enlarged = way.enlarge(engine, prepared.slab, wide, wide_axes)
            if finishing:
                finishing.result()
            if ledger:
                ledger.add(tile, enlarged)
                tile, crop = _wanted(plan, tile)
                if not tile:
                    continue
                enlarged = enlarged[crop]
                spread = [part[crop] for part in spread] if bars else None
            finishing = pool.submit(_finish, finisher, keep, enlarged, wide, tile, prepared)
            if disagreement:
                disagreement.measure(tile, prepared, keep.part_of(enlarged, wide, tile) if keep else enlarged)
            if bars:
                own = [keep.part_of(part, wide, tile) if keep else part for part in spread]
                bars.measure(tile, prepared, own[0] if own else None)
        if finishing:
            finishing.result()
        engine.end()
        if ledger:
            ledger.find(preparation.box, cancelled or (lambda: False))
            for tile in tiles:
                change, (own, crop) = ledger.change(tile.write), _wanted(plan, tile)
                if own and change is not None:
                    finisher.add(own, change[crop])
    return len(tiles), (keep or ledger).agreement if keep or ledger else Agreement()


def _judge(
    report: dict,
    plan: Plan,
    volume: Volume,
    output: np.ndarray,
    agreement: Agreement,
    disagreement: Disagreement | None,
    bars: ErrorBars | None,
) -> None:
    """Add to a report what the result says of itself: the quality card, and the figures of what lies beside it."""
    window = _output_window(plan) or plan.choice.window
    try:
        card = quality_card(volume, output, plan.axes, plan.choice, plan.blanks, plan.card, plan.conditions)
        report["quality"] = card
        if plan.back_projection:
            report["agreement"] = agreement.to_json()
            card["figures"].append(agreement_figure(agreement))
        if disagreement:
            report["disagreement"] = disagreement.summary(plan.options.disagreement_above)
            card["figures"].append(disagreement_figure(report["disagreement"], window))
        if bars:
            report["error_bars"] = bars.summary()
            card["figures"].append(error_bars_figure(report["error_bars"], window))
    except Exception as error:  # whatever keeps a result from being judged, the result is there
        report["quality"] = card_of_failure()
        report["warnings"].append(f"The quality of the result could not be measured: {type(error).__name__} {error}.")


def _output_window(plan: Plan) -> Window | None:
    """Of a network that leads into another kind of image."""
    return Window(*plan.card.output_window) if plan.card.output_window else None


def settled_engine(
    plan: Plan, volume: Volume, model: Model, cancelled: Callable[[], bool] | None = None
) -> tuple[dict, list[str]]:
    """Engine and precision of a run with the plan's options, as options, and what a report says of the choice."""
    engine = make_engine(plan, model, cancelled)
    _settle(engine, choose_way(plan), _preparation(plan, volume), plan)
    return {"engine": engine.name, "precision": engine.precision}, engine.notes


def _settle(engine: Engine, way: Way, preparation: Preparation, plan: Plan) -> None:
    """Let the first piece that tells decide what computes, and in which precision, before anything is computed."""
    for tile in plan.tiles:
        if engine.has_settled:
            return
        if not _is_blank(plan.blanks, plan.computed_axes, tile):
            way.settle(engine, preparation.box(tile.read).slab, tile, plan.computed_axes)


def make_engine(plan: Plan, model: Model, cancelled: Callable[[], bool] | None = None) -> Engine:
    """What computes a plan in this process, or others of the same scan, model and options."""
    options = replace(plan.options, device=_only_device(plan.options))
    scan_noise = plan.conditions.noise if plan.scanner.noise else 0.0
    network, reason = network_for(model, options, plan.network_voxels, scan_noise, cancelled)
    engine = Engine(
        network,
        model.spec,
        precision=options.precision,
        tile=options.tile,
        cancelled=cancelled,
        ensemble=options.ensemble,
        noise=plan.conditions.told_noise,
        scan_noise=scan_noise,
        exact=None if plan.is_settled else exact_network(model, network, cancelled),
        insists=options.engine != "auto",
    )
    engine.notes += [reason] if reason else []
    if plan.across:
        engine.notes.append(f"The slices are thick along {'kji'[plan.across]}: the network was shown them across it.")
    if plan.neighbours and not plan.slices_are_near:
        engine.notes.append("The slices are farther apart than their pixels; each was enlarged without its neighbours.")
    return engine


def _only_device(options: Options) -> str:
    """The device of a run in this process."""
    if len(options.devices) > 1:
        raise OptionError(
            f"{options.device!r} are several devices, and this process computes on one.",
            "Name one of them; or share the work among processes, as the command apply does (`jobs.shared_volume`).",
        )
    return options.devices[0]


def _preparation(plan: Plan, volume: Volume) -> Preparation:
    voxels, window = volume.voxels.swapaxes(0, plan.across), plan.choice.window
    filler = BlankFiller(plan.blanks.as_acquired(plan.across), voxels.shape)
    return Preparation(voxels, window, filler, plan.smooth, plan.neighbours, plan.slices_are_near, plan.across)


def _consistency(plan: Plan) -> Consistency:
    """What keeps the slices of a result from contradicting the scan."""
    noise, conditions = plan.scanner.noise, plan.conditions
    return Consistency(
        [int(factor) for factor in plan.scales[1::-1]],
        conditions.cautious_blur[1:],
        max(conditions.noise, LEAST_NOISE),
        min(max(noise.in_plane, 0.0), MOST_CORRELATION) if noise else 0.0,
        plan.smooth,
    )


def _block_consistency(plan: Plan) -> BlockConsistency:
    """What keeps a result of blocks from contradicting the scan."""
    noise, conditions = plan.scanner.noise, plan.conditions
    told = (noise.across, noise.in_plane, noise.in_plane) if noise else (0.0, 0.0, 0.0)
    correlation = [min(max(rho, 0.0), MOST_CORRELATION) for rho in as_acquired(told, plan.scanner.across)]
    return BlockConsistency(
        plan.computed_axes,
        conditions.cautious_blur,
        max(conditions.noise, LEAST_NOISE),
        correlation,
        plan.smooth_along,
        tuple(slice(*ends) for ends in (plan.part or plan.roi)[::-1]),
    )


def _wanted(plan: Plan, tile: Tile) -> tuple[Tile | None, Box]:
    """What of a tile belongs to the result, None if nothing does, and where that lies in the network's image of it."""
    wanted = tuple(slice(*ends) for ends in (plan.part or plan.roi)[::-1])
    core = tuple(
        slice(max(mine.start, ends.start), min(mine.stop, ends.stop))
        for mine, ends in zip(tile.core, wanted, strict=True)
    )
    if any(part.start >= part.stop for part in core):
        return None, ()
    made = tuple(axis.write(part) for axis, part in zip(plan.computed_axes, core, strict=True))
    own = tuple(axis.write(part) for axis, part in zip(plan.axes, core, strict=True))
    return Tile(core, tile.read, own), shift(made, tile.write)


def _finish(
    finisher: Finisher, keep: Consistency | None, enlarged: np.ndarray, wide: Tile, tile: Tile, prepared: Prepared
) -> None:
    finisher.write(tile, keep.agreeing(enlarged, wide, tile, prepared) if keep else enlarged, prepared)


def _is_blank(blanks: BlankRegion, axes: Sequence[Axis], tile: Tile) -> bool:
    """Whether nothing was measured in all of a tile's output."""
    if not blanks:
        return False
    slices, *in_plane = (axis.positions(part) for axis, part in zip(axes, tile.write, strict=True))
    masks = (blanks.fine_mask(float(k), *in_plane) for k in slices)
    return all(mask is not None and mask.all() for mask in masks)


_opencv = threading.Lock()
_opencv_runs: list[int] = []  # one entry a run that goes on; the first is how many threads there were before


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """OpenCV works on one slice beside a network that needs the cores; its own threads would only be in the way.

    The number of its threads is one for the whole process: the last of several runs gives back what the first found.
    """
    with _opencv:
        _opencv_runs.append(cv2.getNumThreads())
        cv2.setNumThreads(1)
    try:
        yield
    finally:
        with _opencv:
            before = _opencv_runs[0]
            _opencv_runs.pop()
            if not _opencv_runs:
                cv2.setNumThreads(before)
