"""Blocks of volumes, for networks of three dimensions: pairs of volumes, or volumes whose coarse scan is simulated.

A network of any real factor is trained with the factors drawn for each sample, and its output at places of the fine
volume, which the batch names in voxels of the coarse block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, prod
from typing import TYPE_CHECKING

import numpy as np

from ...core.errors import InputError
from ...io.read import probe
from ...scan.window import Window
from .block_scan import BlockScan
from .decode import Tally, read_voxels_of, window_of
from .drawn_volumes import drawn_volumes
from .files import Entry, Plane, naming, planes_of
from .patches import Augmentation, Change, Sample, Samples, mixture_of
from .pictures import entries_of, has_files, part_of
from .public import public_volumes
from .source import TrainingSource

if TYPE_CHECKING:
    from ..dataset_options import DatasetOptions, TrainDatasetOptions
    from ..options import TrainingOptions

ROOM = 7 / 6  # of a drawn volume, in the extent of the largest block
SAME_SPACING = 0.01  # relative difference of voxel sizes that rounding in files explains


@dataclass(frozen=True)
class UnitVolume:
    """A volume that stays in the type of its file until a block of it is asked for.

    Attributes
    ----------
    name : str
    voxels : ndarray, shape (k, j, i)
    window : Window or None
        None if the voxels are in units of the window already, which are not clipped.
    """

    name: str
    voxels: np.ndarray
    window: Window | None

    def cut(self, voxels: np.ndarray, starts: Sequence[int], counts: Sequence[int]) -> np.ndarray:
        """A block of `voxels`, which are this volume's in any position, as float32 in units of the window."""
        part = part_of(voxels, starts, counts)
        return self.window.to_unit(part) if self.window else part.astype(np.float32)


@dataclass(frozen=True)
class Blocks:
    """Which blocks are cut from a coarse volume.

    Attributes
    ----------
    shape : (k, j, i)
        Coarse voxels of a block.
    step : (k, j, i) or None
        Coarse voxels from a block to the next one; the last block along an axis ends where the volume does. None:
        blocks lie anywhere.
    """

    shape: tuple[int, int, int]
    step: tuple[int, int, int] | None = None

    def count(self, size: Sequence[int]) -> int:
        """Samples that a volume of this size (k, j, i) gives in an epoch."""
        return prod(self._counts(size)) if self.step else 1

    def start(self, size: Sequence[int], number: int, rng: np.random.Generator) -> list[int]:
        """Where block `number` of a volume begins; one that may lie anywhere is drawn."""
        if self.step is None:
            return [int(rng.integers(n - edge + 1)) for n, edge in zip(size, self.shape, strict=True)]
        places = np.unravel_index(number, self._counts(size))
        return [
            min(int(place) * step, n - edge)
            for place, step, n, edge in zip(places, self.step, size, self.shape, strict=True)
        ]

    def change(self, augmentation: Augmentation, rng: np.random.Generator) -> tuple[Change, bool]:
        """What happens to a block, and whether its slices are put in reverse.

        Rows and columns are exchanged only where blocks are as long along both.
        """
        change, is_reversed = augmentation.draw(rng), bool(rng.random() < 0.5 and augmentation.use_flip)
        if any(sizes and sizes[1] != sizes[2] for sizes in (self.shape, self.step)):
            change = replace(change, flips=(*change.flips[:2], False))
        return change, is_reversed

    def _counts(self, size: Sequence[int]) -> list[int]:
        return [1 + ceil((n - edge) / s) for n, edge, s in zip(size, self.shape, self.step, strict=True)]


class PairedBlocks(Samples):
    """Blocks of pairs of coarse and fine volumes of the same place, with a whole factor along each axis.

    Parameters
    ----------
    pairs : sequence of (UnitVolume, UnitVolume)
        (LR, HR).
    blocks : Blocks
        Of LR.
    augmentation : Augmentation

    Raises
    ------
    InputError
        If a volume is smaller than a block, or HR is no whole multiple of LR.
    """

    def __init__(
        self, pairs: Sequence[tuple[UnitVolume, UnitVolume]], blocks: Blocks, augmentation: Augmentation
    ) -> None:
        self._blocks, self._augmentation = blocks, augmentation
        for low, high in pairs:
            if any(fine % coarse for coarse, fine in zip(low.voxels.shape, high.voxels.shape, strict=True)):
                raise InputError(
                    f"{high.name} has {_size(high)} voxels and {low.name} {_size(low)}: HR is no multiple of LR.",
                    "Crop both to their common region (cbct-superres prepare).",
                )
            _refuse_small(low, blocks.shape)
        self._samples = [(pair, n) for pair in pairs for n in range(blocks.count(pair[0].voxels.shape))]
        self.names = [_sample_name(high, number, blocks) for (_, high), number in self._samples]

    def sample(self, image: int, rng: np.random.Generator) -> Sample:
        (low, high), number = self._samples[image]
        change, is_reversed = self._blocks.change(self._augmentation, rng)
        coarse, fine = (change.turned(v.voxels[::-1] if is_reversed else v.voxels) for v in (low, high))
        factors = [b // a for a, b in zip(coarse.shape, fine.shape, strict=True)]
        starts, counts = self._blocks.start(coarse.shape, number, rng), self._blocks.shape
        block = low.cut(coarse, starts, counts)
        truth = high.cut(fine, *([n * f for n, f in zip(part, factors, strict=True)] for part in (starts, counts)))
        return {"LR": change.recontrasted(block)[None], "HR": change.recontrasted(truth)[None]}


class SimulatedBlocks(Samples):
    """Blocks of volumes whose coarse scan is simulated.

    A sample's "LR" is a block (1, k, j, i), its "blur" the standard deviation along each axis, in LR voxels, and its
    "noise" that of the noise, in units of the window. "HR" is the same place in the fine volume; with `targets`, so
    many of its voxels along each axis, and "positions" (3, targets) says where they lie, in voxels of LR (0 is the
    centre of its first voxel).

    Parameters
    ----------
    volumes : sequence of UnitVolume
    blocks : Blocks
        Of LR; with a step only where the factors are whole.
    scan : BlockScan
    augmentation : Augmentation
    targets : int, optional
        Where the factors are real numbers; whole ones need none. No more than the smallest block has along an axis.
    spread : bool
        The targets lie in even steps all over a block, and "steps" (3,) says how large a fine voxel is, in LR's voxels.

    Raises
    ------
    InputError
        If a volume is smaller than a block.
    """

    def __init__(
        self,
        volumes: Sequence[UnitVolume],
        blocks: Blocks,
        scan: BlockScan,
        augmentation: Augmentation,
        targets: int | None = None,
        spread: bool = False,
    ) -> None:
        self._blocks, self._scan, self._augmentation, self._spread = blocks, scan, augmentation, spread
        smallest = min(n * low for n, (low, _) in zip(blocks.shape, scan.factors, strict=True))
        self._targets = targets and min(targets, int(smallest + 1e-9))
        across, *in_plane = scan.reach(blocks.shape)
        if blocks.shape[1] == blocks.shape[2]:  # a change may exchange rows and columns
            in_plane = [max(in_plane)] * 2
        for volume in volumes:
            _refuse_small(volume, [across, *in_plane])
        self._samples = [(volume, n) for volume in volumes for n in range(blocks.count(self._coarse_size(volume)))]
        self.names = [_sample_name(volume, number, blocks) for volume, number in self._samples]

    def sample(self, image: int, rng: np.random.Generator) -> Sample:
        (volume, number), scan, shape = self._samples[image], self._scan, self._blocks.shape
        change, is_reversed = self._blocks.change(self._augmentation, rng)
        voxels = change.turned(volume.voxels[::-1] if is_reversed else volume.voxels)
        factors = scan.draw_factors(rng)
        blur = scan.draw_blur(rng, factors)
        lengths = [int(n * factor + 1e-9) for n, factor in zip(shape, factors, strict=True)]  # fine voxels
        if self._blocks.step is None:
            starts = Blocks(tuple(lengths)).start(voxels.shape, number, rng)
        else:
            size = [int(n / factor) for n, factor in zip(voxels.shape, factors, strict=True)]
            starts = [int(n * f) for n, f in zip(self._blocks.start(size, number, rng), factors, strict=True)]
        margins = scan.margins(factors)

        fine = volume.cut(
            voxels,
            [start - margin for start, margin in zip(starts, margins, strict=True)],
            [length + 2 * margin for length, margin in zip(lengths, margins, strict=True)],
        )
        fine = change.recontrasted(fine)
        coarse = scan.coarse(fine, shape, factors, blur)
        noise, level = scan.draw_noise(coarse.shape, rng)
        known = dict(zip(("blur", "noise"), scan.told(blur, level, coarse, rng), strict=True))
        found = {"LR": np.clip(coarse + noise, 0, 1)[None], **known}

        if self._targets is None:
            inner = tuple(slice(margin, margin + length) for margin, length in zip(margins, lengths, strict=True))
            return {**found, "HR": np.clip(fine[inner], 0, 1)[None]}
        strides = [max(1, length // self._targets) if self._spread else 1 for length in lengths]
        extents = [stride * (self._targets - 1) + 1 for stride in strides]
        firsts = [int(rng.integers(max(1, n - extent + 1))) for n, extent in zip(lengths, extents, strict=True)]
        places = np.array(firsts)[:, None] + np.array(strides)[:, None] * np.arange(self._targets)
        positions = (places + 0.5) / np.array(factors)[:, None] - 0.5
        inner = [margin + first for margin, first in zip(margins, firsts, strict=True)]
        truth = part_of(fine, inner, extents)[tuple(slice(None, None, stride) for stride in strides)]
        found |= {"HR": np.clip(truth, 0, 1)[None], "positions": positions.astype(np.float32)}
        return {**found, "steps": 1 / np.float32(factors)} if self._spread else found

    def _coarse_size(self, volume: UnitVolume) -> list[int]:
        return [int(n / low) for n, (low, _) in zip(volume.voxels.shape, self._scan.factors, strict=True)]


def open_blocks(
    dataset: TrainDatasetOptions,
    options: TrainingOptions,
    scan: BlockScan,
    targets: int | None = None,
    slices: int | None = None,
    spread: bool = False,
) -> TrainingSource:
    """Blocks of the volumes of a data set: of pairs (mode LRHR), or with simulated LR (mode HR).

    LR's blocks are `scale` times as short as those of HR, and have, if given, so many `slices`; see `SimulatedBlocks`
    for `targets` and `spread`.

    Raises
    ------
    InputError, OptionError, OutputError, ResourceError
        If there is a slice among the files, a volume is too small, voxel sizes differ, the window is not known, a
        public scan is not there, or drawn volumes cannot be kept.
    """
    volumes, window, tallies = read_volumes(dataset)
    augmentation = Augmentation(dataset.use_flip, dataset.use_rot, dataset.use_contrast)
    shape, step = (
        sizes and tuple(length // options.scale for length in sizes)
        for sizes in (dataset.block_shape, dataset.block_step and dataset.block_step[::-1])
    )
    blocks = Blocks((slices or shape[0], *shape[1:]), step)
    facts = {"mode": dataset.mode, "files": [tally.facts() for tally in tallies], "augmentation": asdict(augmentation)}
    facts["memory"] = f"{len(volumes)} volumes in memory"
    if dataset.mode == "LRHR":
        source = PairedBlocks([(found["LR"], found["HR"]) for found in volumes], blocks, augmentation)
        facts["images"] = {"pairs": len(volumes)}
    else:
        largest = max(scan.reach(blocks.shape))
        scans, told = [found["HR"] for found in volumes], []
        if dataset.public:
            public, told = public_volumes(dataset.public, options.path.public_folder, largest)
            scans += _turned(public)
        drawn = drawn_cubes(dataset, options, largest)
        counts = {"scans": len(volumes), "public": len(scans) - len(volumes), "procedural": len(drawn)}
        source = mixture_of(
            scans,
            drawn,
            dataset.procedural_share,
            lambda part: SimulatedBlocks(part, blocks, scan, augmentation, targets, spread),
        )
        facts |= {
            "images": {kind: count for kind, count in counts.items() if count},
            "degradation": {"kind": "block", **asdict(scan)},
            **({"public": told} if told else {}),
            **({"procedural_seed": dataset.procedural_seed} if drawn else {}),
        }
    values = sum(tally.values for tally in tallies)
    clipped = sum(tally.outside for tally in tallies) / values if values else 0.0
    return TrainingSource(source, window, facts, clipped_share=clipped)


def drawn_cubes(dataset: DatasetOptions, options: TrainingOptions, least: int) -> list[UnitVolume]:
    """Computer-drawn volumes, somewhat wider than `least`, from a file below path.root that later runs find again."""
    if not dataset.procedural:
        return []
    count, seed, size = dataset.procedural, dataset.procedural_seed, ceil(ROOM * least)
    path = options.path.drawings / f"{seed}-{count}-{size}-volumes.f16"
    return [
        UnitVolume(f"procedural {seed}-{n}", voxels, None)
        for n, voxels in enumerate(drawn_volumes(path, count, size, seed))
    ]


def _turned(volumes: dict[str, np.ndarray]) -> list[UnitVolume]:
    """Each volume three times, so that each of its axes is once that across the slices."""
    return [
        UnitVolume(f"{name}, {'kji'[axis]}", np.moveaxis(voxels, axis, 0), None)
        for name, voxels in volumes.items()
        for axis in range(3)
    ]


def read_volumes(dataset: DatasetOptions) -> tuple[list[dict[str, UnitVolume]], Window, list[Tally]]:
    """The volumes of a data set by role ("LR", "HR"), the window of all, and what was seen in each role's files.

    Raises
    ------
    InputError, OptionError
        See `open_blocks`.
    """
    given = Window(*dataset.normalization_range) if dataset.normalization_range else None
    tallies = {"LR": Tally("LR", given), "HR": Tally("HR", given)}
    read: list[dict[str, tuple[Plane, np.ndarray]]] = []
    first: dict[str, tuple[Entry, tuple[float, float, float]]] = {}
    for pair in entries_of(dataset) if has_files(dataset) else ():
        found = {}
        for role, entry in zip(("LR", "HR"), pair, strict=True):
            if entry is None:
                continue
            if not entry.is_volume:
                raise InputError(f"{entry.path} is a slice, and blocks are cut from volumes.", "Give volumes.")
            spacing = naming(entry, lambda entry=entry: probe(entry.path)).grid.spacing
            _refuse_another_voxel_size(role, entry, spacing, *first.setdefault(role, (entry, spacing)))
            slices = dataset.slices
            if slices and role == "LR" and pair[1]:  # they are those of HR
                factor = max(1, probe(pair[1].path).size[2] // probe(entry.path).size[2])
                slices = (slices[0] // factor, slices[1] // factor)
            planes = planes_of(entry, slices=slices)
            voxels = read_voxels_of(planes[0])
            tallies[role].add(voxels, planes)
            found[role] = planes[0], voxels
        read.append(found)
    seen = [tally for tally in tallies.values() if tally.values]
    for tally in seen:
        tally.check()
    window = window_of(seen) if seen else given or Window(0, 1)
    volumes = [{r: UnitVolume(plane.entry.name, v, window) for r, (plane, v) in found.items()} for found in read]
    return volumes, window, seen


def _refuse_another_voxel_size(
    role: str, entry: Entry, spacing: Sequence[float], first: Entry, expected: Sequence[float]
) -> None:
    if any(abs(a - b) > SAME_SPACING * b for a, b in zip(spacing, expected, strict=True)):
        sizes = [" x ".join(f"{edge:g}" for edge in one) for one in (expected, spacing)]
        raise InputError(
            f"The {role} volumes have different voxel sizes: {first.path} {sizes[0]} mm, {entry.path} {sizes[1]} mm.",
            "Resample them to one size, or train on each size alone.",
        )


def _refuse_small(volume: UnitVolume, wanted: Sequence[int]) -> None:
    if any(length < least for length, least in zip(volume.voxels.shape, wanted, strict=True)):
        block = " x ".join(map(str, wanted[::-1]))
        raise InputError(
            f"{volume.name} has {_size(volume)} voxels, and a block takes {block} of them.",
            "Choose smaller blocks (HR_size, or block_size), or larger volumes.",
        )


def _sample_name(volume: UnitVolume, number: int, blocks: Blocks) -> str:
    return f"{volume.name}, block {number + 1}" if blocks.step else volume.name


def _size(volume: UnitVolume) -> str:
    return " x ".join(map(str, volume.voxels.shape[::-1]))
