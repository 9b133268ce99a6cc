"""The pictures of a data set: listed, paired, decoded, with their window and what there is to say about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...core.errors import InputError
from ...scan.window import Window
from .decode import PixelCache, Tally, done_ahead, read_planes, window_of
from .degradation import mirrored
from .files import (
    Entry,
    Plane,
    Subset,
    bytes_of,
    list_entries,
    neighbours_of,
    pair_entries,
    planes_of,
    roots_of,
)

if TYPE_CHECKING:
    from ..dataset_options import DatasetOptions
    from ..options import TrainingOptions

SHOWN = 5
CLIPPED_ALARM = 0.01


@dataclass(frozen=True, eq=False)
class Picture:
    """An image that stays in the type of its file until a part of it is asked for.

    Attributes
    ----------
    name : str
    pixels : ndarray, shape (C, H, W), or sequence of C ndarrays, shape (H, W)
        Any integer or real type; usually views of a volume or of the cache. C are colours, or a slice in the middle of
        its neighbours.
    window : Window or None
        Grey values that become 0 and 1; None if the pixels are in units of the window already, which are not clipped.
    """

    name: str
    pixels: Sequence[np.ndarray]
    window: Window | None

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.pixels[0].shape

    def cropped_to(self, multiple: int) -> Picture:
        """Without the last rows and columns that are no whole multiple."""
        rows, columns = (n // multiple * multiple for n in self.size)
        return replace(self, pixels=[channel[:rows, :columns] for channel in self.pixels])

    def cut(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A part (C, height, width), float32 in units of the window; beyond the border the image is mirrored."""
        return self._unit([part_of(channel, (top, left), (height, width)) for channel in self.pixels])

    def whole(self) -> np.ndarray:
        """All of it, (C, H, W), float32 in units of the window."""
        return self._unit(self.pixels)

    def _unit(self, channels: Sequence[np.ndarray]) -> np.ndarray:
        pixels = np.stack(channels)
        return pixels.astype(np.float32) if self.window is None else self.window.to_unit(pixels)


def part_of(array: np.ndarray, starts: Sequence[int], counts: Sequence[int]) -> np.ndarray:
    """A part of an array; beyond its border it is mirrored, the edge repeated. A view where nothing lies beyond."""
    for axis, (start, count) in enumerate(zip(starts, counts, strict=True)):
        length = array.shape[axis]
        if start >= 0 and start + count <= length:
            array = array[(slice(None),) * axis + (slice(start, start + count),)]
        else:
            array = array.take(mirrored(np.arange(start, start + count), length), axis)
    return array


PicturePair = tuple[Picture | None, Picture | None]


@dataclass(frozen=True)
class PictureSet:
    """Pictures and facts.

    Attributes
    ----------
    pairs : list of (Picture or None, Picture or None)
        (LR, HR). LR is None in mode HR; HR is None if there are only LR images.
    window : Window
    clipped_share : float
        Of the values that lie outside the window.
    warnings : list of str
    facts : list of dict
        One for each role, for the model card.
    cache : PixelCache
    """

    pairs: list[PicturePair]
    window: Window
    clipped_share: float
    warnings: list[str]
    facts: list[dict]
    cache: PixelCache


def has_files(dataset: DatasetOptions) -> bool:
    return bool(dataset.dataroot_HR or dataset.dataroot_LR)


def entries_of(dataset: DatasetOptions) -> list[tuple[Entry | None, Entry | None]]:
    """(LR, HR) files or volumes that a data set names; see `PictureSet.pairs` for None."""
    low, high = roots_of(dataset.dataroot_LR), roots_of(dataset.dataroot_HR)
    subset = Subset(dataset.subset_file)
    if low and high and dataset.mode != "HR":
        entries = pair_entries(low, high, subset)
    elif high:
        entries = [(None, entry) for root in high for entry in subset.of(list_entries(root))]
    else:
        entries = [(entry, None) for root in low for entry in subset.of(list_entries(root))]
    subset.check()
    if not entries:
        raise InputError(f"The data set {dataset.name!r} names no images.", "Check subset_file.")
    return entries


def read_pictures(
    dataset: DatasetOptions, options: TrainingOptions, *, smallest: int = 0, at_most: int | None = None
) -> PictureSet:
    """Decode a data set.

    Parameters
    ----------
    dataset : DatasetOptions
    options : TrainingOptions
    smallest : int
        Images, HR if there are such, with a shorter edge are left out, with a warning.
    at_most : int, optional
        So many images, evenly spread; all if not given.

    Raises
    ------
    InputError, OptionError
        Naming the files that have no partner, are of another size, damaged, in colour, of 8 bits, not finite.
    """
    scale, network, warnings = options.scale, options.network_G, []

    # Which slices there are: from headers alone.
    cut = done_ahead(lambda entries: _planes_of_pair(entries, dataset, scale), entries_of(dataset))
    pairs = [pair for found in cut for pair in found]
    small = [high or low for low, high in pairs if min((high or low).size) < smallest]
    if small:
        names = ", ".join(plane.name for plane in small[:SHOWN])
        role, least = ("HR", f"HR_size {smallest}") if pairs[0][1] else ("LR", f"HR_size / scale, {smallest}")
        told = f"{len(small)} of {len(pairs)} {role} images are smaller than {least}: {names}"
        if len(small) == len(pairs):
            raise InputError(f"{told}.", "Choose a smaller HR_size, or larger images.")
        warnings.append(f"{told}{', ...' * (len(small) > SHOWN)}. They are left out.")
        pairs = [(low, high) for low, high in pairs if min((high or low).size) >= smallest]

    # Which are wanted, and their neighbours. Where LR is simulated in training, every second image has neighbours at
    # the distance that those of LR with cubic voxels have.
    wanted = list(range(len(pairs)))
    if at_most is not None and at_most < len(pairs):
        wanted = np.linspace(0, len(pairs) - 1, at_most).round().astype(int).tolist()
    gaps = (1, scale) if options.is_train and not any(low for low, _ in pairs) else (1,)
    around = neighbours_of([low or high for low, high in pairs], network.slices, gaps)
    needed = sorted({place for number in wanted for place in around[number]})
    planes = [pairs[number] for number in needed]

    # Their pixels, every file decoded once.
    low, high = ([pair[side] for pair in planes if pair[side]] for side in (0, 1))
    cache = PixelCache(bytes_of(low) + bytes_of(high), dataset.cache_gb, Path(options.path.root))
    given = Window(*dataset.normalization_range) if dataset.normalization_range else None
    tallies = [
        Tally("LR", given, network.channels),
        Tally("HR", given, network.out_channels if low else network.channels),
    ]
    pixels = [read_planes(side, cache.keep, tally) for side, tally in zip((low, high), tallies, strict=True)]
    tallies = [tally for tally in tallies if tally.values]
    for tally in tallies:
        tally.check()
    window = window_of(tallies)
    clipped = sum(tally.outside for tally in tallies) / sum(tally.values for tally in tallies)
    if clipped > CLIPPED_ALARM:
        warnings.append(
            f"{clipped:.1%} of the grey values, blank regions included, lie outside the window {window} and are "
            "clipped (normalization_range)."
        )

    # Pictures of them: what is enlarged between its neighbours, HR cropped to a multiple of the scale.
    coarse, fine = (
        [Picture(plane.name, part, window) for plane, part in zip(side, parts, strict=True)] or [None] * len(planes)
        for side, parts in zip((low, high), pixels, strict=True)
    )
    place_of = {number: place for place, number in enumerate(needed)}
    found, seen = [], Counter()
    for number in wanted:
        slab = [(coarse if low else fine)[place_of[place]] for place in around[number]]
        first = slab[len(slab) // 2]
        if len(slab) > 1:
            first = replace(first, pixels=[picture.pixels[0] for picture in slab])
        last = fine[place_of[number]] if low else None
        name = (last or first).name
        seen[name] += 1
        name = name if seen[name] == 1 else f"{name} ({seen[name]})"  # results are called after their images
        pair = (first, last) if low else (None, first)
        pair = tuple(picture and replace(picture, name=name) for picture in pair)
        found.append((pair[0], pair[1] and pair[1].cropped_to(scale)))
    return PictureSet(found, window, clipped, warnings, [tally.facts() for tally in tallies], cache)


def _planes_of_pair(
    entries: tuple[Entry | None, Entry | None], dataset: DatasetOptions, scale: int
) -> list[tuple[Plane | None, Plane | None]]:
    low, high = (planes_of(e, dataset.axis, dataset.slices) if e else None for e in entries)
    if low is None or high is None:
        return [(None, plane) for plane in high] if high else [(plane, None) for plane in low]
    if len(low) != len(high):
        raise InputError(
            f"{entries[0].path} has {len(low)} slices and {entries[1].path} has {len(high)}.",
            f"Cut pairs of volumes along the axis that both have alike (axis is {dataset.axis!r}).",
        )
    for a, b in zip(low, high, strict=True):
        if tuple(n * scale for n in a.size) != tuple(n - n % scale for n in b.size):
            raise InputError(
                f"{b.entry.path} is {b.size[0]} x {b.size[1]} and {a.entry.path} is {a.size[0]} x {a.size[1]}: "
                f"HR is not {scale} times LR.",
                "Correct scale, or crop both to their common region (cbct-superres prepare).",
            )
    return list(zip(low, high, strict=True))
