"""THE plan of a super-resolution: what will come out, how, at what cost, and what speaks against it, decided once.

Panel, `info`, run and report read the same `Plan`. `make_plan` needs no more than a scan's headers, takes a moment
and no torch; `Plan.with_scan` adds what only the voxels tell: blank region, window, blur and noise of the scanner.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from ..acquisition.estimate import EstimatedAcquisition, estimate
from ..core.errors import OptionError
from ..core.gpus import count_gpus
from ..core.memory import readable
from ..core.options import WARNING, Options, Ranges, marks_bone
from ..core.volume import Grid, across_slices, as_acquired, scaled_size
from ..io.checks import check_voxels
from ..io.volume import Volume
from ..models.card import ModelCard
from ..scan.blank_region import BlankRegion
from ..scan.field_of_view import find_blanks
from ..scan.window_choice import WindowChoice, choose_window
from .conditions import Conditions, conditions_of, usual_conditions
from .consistency import reach, reach_of_blocks
from .factors import is_same_size, scales
from .plan_checks import check_options, finer_than_the_blur, may_be_projected, warnings_of_grid
from .speed import known_speed, relative_cost
from .tile_sizes import SMALLEST_BLOCK, agreement_memory, context_of, cut, voxels_of_a_pass, working_memory
from .tiles import Axis, Context, Tile, cores, plan_tiles

PROGRAM_MEMORY = {"cpu": 0.42e9, "cuda": 0.6e9}  # Python and its packages: measured on the CPU, guessed with CUDA's
GUESSED_FLOPS_PER_CORE = 30e9
NEAR = 1.25  # slices so many pixels apart still help each other: measured on drawn trabecular bone
DISAGREEMENT, MASK = "model disagreement", "model disagreement mask"
PREDICTIVE, INTRINSIC, PARAMETER = "predictive deviation", "intrinsic deviation", "parameter deviation"
MISCLASSIFIED = "bone misclassification"
OF_THE_WHOLE = (MISCLASSIFIED,)  # maps that no part of a volume tells
WARNING_MASK = "warning mask"
PARTS_A_WORKER = {"slices": 4, "planes": 1, "blocks": 1}  # parts of blocks compute what is around them twice


@dataclass(frozen=True)
class Workers:
    """Processes that share the work: how many, and whether they take this computer's memory."""

    count: int
    are_here: bool = True


@dataclass(frozen=True, eq=False)
class Plan:
    """What one super-resolution will do.

    Attributes
    ----------
    card : ModelCard
    options : Options
    scan_grid, scan_dtype
        Of the scan.
    roi : three pairs of int
        What of the scan is computed: half-open, along (i, j, k).
    scales : three float
        Factors along (i, j, k).
    grid : Grid
        Where the result's voxels will be: the physical extent of the ROI, more finely sampled.
    dtype : numpy.dtype
        Type of the result.
    way : "slices", "planes" or "blocks"
        Slice by slice, in three planes whose results are joined, or block by block.
    edges : three of int or None
        Largest extent of a piece along (k, j, i); None does not cut.
    band : int or None
        Largest extent along k of what is enlarged and finished at a time; the bands of a piece share its reading.
    context : three Context
        What must be read around a piece along (k, j, i). A network that looks farther than is known is given whole
        slices, or the whole volume, whatever part is wanted: that part is then the crop of the whole result.
    neighbours : int
        Slices before and behind a slice that the network is given along with it.
    network_voxels : int
        Voxels of the scan that go through the network, as often as they do: in every pass and plane, halos included.
    smooth : float
        Standard deviation, in pixels, of the mild Gaussian before the network.
    output_bytes, map_bytes, memory_bytes : int
        Size of the result, of the maps beside it, and of everything at the peak.
    maps : tuple of str
        What is measured beside the result: nothing, `DISAGREEMENT`, or of a model's own error bars `PREDICTIVE`, what
        of `INTRINSIC` and `PARAMETER` it can tell, and `MISCLASSIFIED` if that was asked for.
    seconds : float
        Time to compute.
    seconds_are_measured : bool
        Whether `seconds` comes from earlier runs of this model on this machine; otherwise it is a guess.
    warnings : tuple of str
        What to beware of, in words for the user.
    blanks : BlankRegion or None
    choice : WindowChoice or None
        The window, and why. Both are None before `with_scan`.
    scanner : EstimatedAcquisition or None
        Blur and noise that the scan tells; None before `with_scan`.
    conditions : Conditions
        What the model is told and the result is judged by; before `with_scan`, what the model usually meets.
    back_projection : bool
        Whether what contradicts the scan is taken back; known with the scan.
    surroundings : int
        Voxels of the scan around what is wanted that blocks are computed for besides, for the sake of that.
    part : three pairs of int, or None
        What of the ROI is computed now; None for all of it. See `within`.
    is_settled : bool
        Whether engine and precision of the options were compared with PyTorch and float32 on this scan already.
    workers, worker_bytes : int
        Processes that share the work, of which there are no more than parts, and what each takes.
    workers_are_here : bool
        Whether they take this computer's memory.
    """

    card: ModelCard
    options: Options
    scan_grid: Grid
    scan_dtype: np.dtype
    roi: Ranges
    scales: tuple[float, float, float]
    grid: Grid
    dtype: np.dtype
    way: str
    edges: tuple[int | None, int | None, int | None]
    band: int | None
    context: tuple[Context, Context, Context]
    neighbours: int
    network_voxels: int
    smooth: float
    output_bytes: int
    map_bytes: int
    memory_bytes: int
    seconds: float
    seconds_are_measured: bool
    warnings: tuple[str, ...]
    blanks: BlankRegion | None = None
    choice: WindowChoice | None = None
    scanner: EstimatedAcquisition | None = None
    conditions: Conditions | None = None
    back_projection: bool = False
    surroundings: int = 0
    maps: tuple[str, ...] = ()
    part: Ranges | None = None
    is_settled: bool = False
    workers: int = 1
    worker_bytes: int = 0
    workers_are_here: bool = True

    @property
    def has_error_bars(self) -> bool:
        """Whether the maps are the model's own error bars."""
        return PREDICTIVE in self.maps

    @property
    def draws(self) -> int:
        """How many times its stochastic layers are drawn for the error bars."""
        return self.options.uncertainty if PARAMETER in self.maps else 0

    @property
    def passes(self) -> int:
        """How many times the network sees every voxel: for the result, and for the maps."""
        return _passes(self.options, self.maps)

    @property
    def across(self) -> int:
        """Which of the axes (k, j, i) lies across the slices, to a network of blocks; see `ModelCard.across`."""
        return self.card.across(self.scan_grid.spacing)

    @property
    def smooth_along(self) -> tuple[float, float, float]:
        """What smooths the scan along (k, j, i), in its voxels: nothing does across the slices."""
        return tuple(as_acquired((0.0, self.smooth, self.smooth), self.across))

    @property
    def axes(self) -> list[Axis]:
        """The relation of the scan's and the result's voxels along (k, j, i)."""
        ends = zip(self.scan_grid.size, self.roi, self.grid.size, strict=True)
        blurs = self.conditions.told_blur[::-1]
        return [
            Axis(length, start, stop, outputs, blur=blur)
            for (length, (start, stop), outputs), blur in zip(ends, blurs, strict=True)
        ][::-1]

    @property
    def computed(self) -> Ranges:
        """What of the scan is computed, along (i, j, k): the ROI, or the part of it that is wanted.

        Blocks that must not contradict the scan are corrected for what is around, too: so much more is computed.
        """
        wanted = self.part or self.roi
        if not self.surroundings:
            return wanted
        limits = [  # where a factor is not whole, voxels beyond the ROI are not on the result's grid
            (0, n) if factor == int(factor) else ends
            for n, factor, ends in zip(self.scan_grid.size, self.scales, self.roi, strict=True)
        ]
        return tuple(
            (max(lowest, start - self.surroundings), min(highest, stop + self.surroundings))
            for (start, stop), (lowest, highest) in zip(wanted, limits, strict=True)
        )

    @property
    def computed_axes(self) -> list[Axis]:
        """As `axes`, of a region that holds the ROI and all that is computed."""
        return [
            axis.widened(min(axis.start, start), max(axis.stop, stop))
            for axis, (start, stop) in zip(self.axes, self.computed[::-1], strict=True)
        ]

    @property
    def tiles(self) -> list[Tile]:
        """The pieces in which the volume is computed, along (k, j, i), of `computed_axes`."""
        axes = self.computed_axes
        core, read = (tuple(slice(*ends) for ends in box[::-1]) for box in (self.computed, self._everything))
        within = Tile(core, read, tuple(axis.write(part) for axis, part in zip(axes, core, strict=True)))
        pieces = plan_tiles(axes, self.edges, self.context, within)
        if self.band is None:
            return pieces
        cut = (self.band, None, None), (Context(None),) * 3
        return [band for piece in pieces for band in plan_tiles(axes, *cut, within=piece)]

    @property
    def parts(self) -> list[Ranges]:
        """The ROI in slabs, along (i, j, k) of the scan, that workers compute, see `within`."""
        return [(*self.roi[:2], (slab.start, slab.stop)) for slab in _slabs(self.roi, self.way, self.workers)]

    @property
    def _everything(self) -> Ranges:
        return tuple((0, n) for n in self.scan_grid.size)

    @property
    def slices_are_near(self) -> bool:
        """Whether a slice's neighbours show so much of the same anatomy that a network had better see them."""
        *in_plane, between = self.scan_grid.spacing
        return between <= NEAR * max(in_plane)

    def with_scan(
        self,
        volume: Volume,
        *,
        blanks: BlankRegion | None = None,
        choice: WindowChoice | None = None,
        scanner: EstimatedAcquisition | None = None,
        is_checked: bool = False,
    ) -> Plan:
        """This plan and what the scan's voxels tell.

        Parameters
        ----------
        volume : Volume
            The whole scan, ROI or not.
        blanks, choice, scanner : optional
            The scan's, if they are known already.
        is_checked : bool
            Whether `check_voxels` has seen the voxels, as `Volume.read` does; known blanks mean that, too.

        Raises
        ------
        InputError
            If this is no scan.
        OptionError
            If the blank value or the window that is asked for is none.
        """
        if blanks is None:
            if not is_checked:
                check_voxels(volume.voxels)
            blanks = find_blanks(volume, self.options.blank)
        choice = choice or choose_window(volume.voxels, blanks, self.options.window, self.card, self.roi[::-1])
        window = choice.window
        if scanner is None:
            across = across_slices(volume.spacing)
            steps, masks = volume.grid.as_acquired(across).spacing, blanks.as_acquired(across).mask
            scanner = estimate(volume.voxels.swapaxes(0, across), steps, (window.lo, window.hi), masks)
            scanner = scanner.as_stored(across)
        same_size = is_same_size(self.scales)
        conditions = conditions_of(self.card, self.options, volume.grid, scanner, window.width, same_size)
        if self.way == "blocks":
            kept = [factor == 1 for factor in self.scales[::-1]]
            conditions = conditions.of_blocks(kept, volume.grid.spacing[::-1], self.card)
        fine = finer_than_the_blur(self.scan_grid, self.grid, self.scales, conditions.blur)
        fine = fine if conditions.is_known else []
        found = (*volume.report.get("warnings", ()), *choice.warnings, *self.warnings, *conditions.warnings, *fine)
        known = {"blanks": blanks, "choice": choice, "scanner": scanner, "conditions": conditions, "warnings": found}
        return replace(self, **known)._with_back_projection()

    def _with_back_projection(self) -> Plan:
        """This plan with what back-projection looks at around each piece, where there is one."""
        conditions = self.conditions
        wanted = self.options.back_projection == "on"
        if self.options.back_projection == "auto":
            is_sure = conditions.is_known and not self.scanner.is_sharpened
            wanted = is_sure and may_be_projected(self.card, self.scales, self.way)
        if not wanted:
            return self
        if self.way == "blocks":
            more = reach_of_blocks(self.axes, conditions.cautious_blur, self.smooth_along)
            return replace(self, back_projection=True, surroundings=more)._counted()
        more = reach([int(factor) for factor in self.scales[1::-1]], conditions.cautious_blur[1:], self.smooth)
        context = [
            around if around.halo is None or axis == 0 else replace(around, halo=around.halo + more)
            for axis, around in enumerate(self.context)
        ]
        return replace(self, context=tuple(context), back_projection=True)._counted()

    def _counted(self) -> Plan:
        """This plan with the voxels that the network sees."""
        seen = voxels_of_a_pass(self.scan_grid, self.computed, self.scales, self.way, self.edges, self.context)
        return replace(self, network_voxels=self.passes * seen)

    def within(self, part: Ranges) -> Plan:
        """The plan for a part of the same result: on its grid, in its memory, as it is there.

        Parameters
        ----------
        part : three pairs of int
            Half-open, along (i, j, k) of the scan, within the ROI. Nothing is judged of a part.
        """
        return replace(self, part=part)._counted()

    @property
    def result_text(self) -> str:
        """ "1600 x 1600 x 1600 voxels of uint16 (8.2 GB)"."""
        return f"{' x '.join(map(str, self.grid.size))} voxels of {self.dtype} ({readable(self.output_bytes)})"


def make_plan(
    grid: Grid, dtype: np.dtype, card: ModelCard, options: Options = Options(), workers: Workers | None = None
) -> Plan:
    """Plan a super-resolution from what a scan's headers say.

    Parameters
    ----------
    grid, dtype
        Of the scan.
    card : ModelCard
    options : Options
    workers : Workers, optional
        Who computes the parts; without, as many processes as the options name devices, if these are several.

    Raises
    ------
    OptionError, InputError
        If the options do not fit the model or the scan.
    """
    spec, dtype = card.spec, np.dtype(dtype)
    factors = scales(card, options, grid.spacing)
    way = way_of(card, options)
    check_options(grid, card, options, factors, way)
    roi = options.roi or tuple((0, n) for n in grid.size)
    cropped = grid.cropped([start for start, _ in roi], [stop for _, stop in roi])
    result = cropped.resampled(scaled_size(cropped.size, factors))
    result_dtype = np.dtype(options.dtype).newbyteorder("=") if options.dtype else dtype

    context = context_of(card, factors, way)
    output_bytes = prod(result.size) * result_dtype.itemsize
    maps = planned_maps(card, options)
    map_bytes = prod(result.size) * 4 * len(maps)
    passes = _passes(options, maps)
    if workers is None and len(options.devices) > 1:
        workers = Workers(len(options.devices))
    if workers and way != "slices" and not spec.can_be_cut:
        raise OptionError(
            f"The model {card.name} looks at the whole volume at once, which cannot be shared.", "Choose one device."
        )
    slabs = _slabs(roi, way, workers.count if workers else 1)
    count = min(workers.count, len(slabs)) if workers else 1
    edges, band, of_block = cut(grid, roi, card, factors, way, context, passes, bool(maps))
    working = of_block or working_memory(grid, roi, card, factors, way, context, passes)
    is_on_gpu = options.devices[0].startswith("cuda") or (options.device == "auto" and count_gpus() > 0)
    program = int(PROGRAM_MEMORY["cuda" if is_on_gpu else "cpu"])
    working += int(agreement_memory(roi) if way == "blocks" else 0) + program
    of_worker = 0
    if workers:
        largest = max(slab.stop - slab.start for slab in slabs) / (roi[2][1] - roi[2][0])
        of_worker = working + int((output_bytes + map_bytes) * largest)
        working = program + of_worker * count * workers.are_here
    network_voxels = passes * voxels_of_a_pass(grid, roi, factors, way, edges, context)
    speed = known_speed(card, options.device, options.engine)
    operations = max(spec.flops_per_voxel(factors[: spec.dimensions]), 1e4)
    guess = GUESSED_FLOPS_PER_CORE * (os.cpu_count() or 1) / operations
    seconds = network_voxels * relative_cost(card, factors) / speed if speed else network_voxels / guess
    return Plan(
        card=card,
        options=options,
        scan_grid=grid,
        scan_dtype=dtype,
        roi=roi,
        scales=factors,
        grid=result,
        dtype=result_dtype,
        way=way,
        edges=edges,
        band=band,
        context=context,
        neighbours=spec.slices if way == "slices" else 0,
        network_voxels=network_voxels,
        smooth=card.smooth if options.smooth is None else options.smooth,
        output_bytes=output_bytes,
        map_bytes=map_bytes,
        memory_bytes=prod(grid.size) * dtype.itemsize + output_bytes + map_bytes + working,
        seconds=seconds / (count if options.devices[0].startswith("cuda") else 1),
        seconds_are_measured=speed is not None,
        warnings=tuple(warnings_of_grid(grid, card, way, factors)),
        maps=maps,
        conditions=usual_conditions(card),
        workers=count,
        worker_bytes=of_worker,
        workers_are_here=workers is None or workers.are_here,
    )


def _slabs(roi: Ranges, way: str, workers: int) -> list[slice]:
    """What so many workers compute of the slices of a ROI, one after the other."""
    start, stop = roi[2]
    depth = -(-(stop - start) // (PARTS_A_WORKER[way] * workers))
    return list(cores(slice(start, stop), depth if way == "slices" else max(depth, SMALLEST_BLOCK)))


def way_of(card: ModelCard, options: Options) -> str:
    """ "slices", "planes" or "blocks", see `Plan.way`."""
    return "blocks" if card.spec.dimensions == 3 else "planes" if options.planes == "isotropic" else "slices"


def planned_maps(card: ModelCard, options: Options) -> tuple[str, ...]:
    """What is measured beside the result; see `Plan.maps`.

    Raises
    ------
    OptionError
        If a threshold is given of what this model does not tell.
    """
    spec = card.spec
    told = {INTRINSIC: "log_variance" in spec.outputs.values(), PARAMETER: spec.stochastic}
    has_bars = card.tells_errors and way_of(card, options) != "planes"
    if has_bars and options.disagreement_above is not None:
        raise OptionError(
            f"disagreement_above is for models that tell no error bars of their own, and {card.name} does.",
            "Choose warning_above (--warning-above SHARE), a share of the window.",
        )
    if not has_bars and options.warning_above != WARNING:
        why = "tells none in three planes" if card.tells_errors else "has none"
        raise OptionError(
            f"warning_above is for error bars, and the model {card.name} {why}.",
            "Choose disagreement_above (--disagreement-above GREY), in grey values: its disagreement with itself is "
            "measured instead.",
        )
    if not options.uncertainty:
        return ()
    told[MISCLASSIFIED] = marks_bone(options.warning_above)
    return (PREDICTIVE, *(name for name, is_told in told.items() if is_told)) if has_bars else (DISAGREEMENT,)


def _passes(options: Options, maps: Sequence[str]) -> int:
    """A log-variance comes with the result; draws and turned answers are passes of their own."""
    return options.ensemble + (options.uncertainty if PARAMETER in maps or DISAGREEMENT in maps else 0)
