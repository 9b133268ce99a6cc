"""All pictures of a data set: listed, paired, decoded, with the window and what there is to say about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InputError
from ...grey.window import Window
from .ahead import done_ahead
from .cache import PixelCache
from .intake import Tally, read_planes, window_of
from .listing import Entry, Subset, list_entries, pair_entries, roots_of
from .neighbours import neighbours_of
from .picture import Picture
from .planes import Plane, bytes_of, planes_of

if TYPE_CHECKING:
    from ..options import TrainingOptions
    from ..options.data_keys import DatasetOptions

SHOWN = 5
CLIPPED_ALARM = 0.01
PlanePair = tuple[Plane | None, Plane | None]


@dataclass(frozen=True)
class Gathered:
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

    pairs: list[tuple[Picture | None, Picture | None]]
    window: Window
    clipped_share: float
    warnings: list[str]
    facts: list[dict]
    cache: PixelCache


@dataclass
class _Sides:
    """Planes still on disk."""

    pairs: list[PlanePair]
    warnings: list[str] = field(default_factory=list)


def has_files(dataset: DatasetOptions) -> bool:
    return bool(dataset.dataroot_HR or dataset.dataroot_LR)


def window_of_dataset(dataset: DatasetOptions, gathered: Gathered | None) -> Window:
    """The window of the images that were read; without any, the one that was asked for."""
    return gathered.window if gathered else Window(*(dataset.normalization_range or (0, 1)))


def entries_of(dataset: DatasetOptions) -> list[tuple[Entry | None, Entry | None]]:
    """(LR, HR) files or volumes that a data set names; see `Gathered.pairs` for None."""
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


def gather(
    dataset: DatasetOptions, options: TrainingOptions, *, smallest: int = 0, at_most: int | None = None
) -> Gathered:
    """Decode a data set.

    Parameters
    ----------
    dataset : DatasetOptions
    options : TrainingOptions
    smallest : int
        HR images with a shorter edge are left out, with a warning.
    at_most : int, optional
        So many images, evenly spread; all if not given.

    Raises
    ------
    InputError, OptionError
        Naming the files that have no partner, are of another size, damaged, in colour, of 8 bits, not finite.
    """
    cut = done_ahead(lambda entries: _cut(entries, dataset, options.scale), entries_of(dataset))
    sides = _Sides([pair for pairs in cut for pair in pairs])
    _leave_out_small(sides, smallest)
    chosen = _spread(len(sides.pairs), at_most)
    slices = options.network_G.slices
    around = neighbours_of([low or high for low, high in sides.pairs], slices, _gaps(sides.pairs, options))
    needed = sorted({place for number in chosen for place in around[number]})
    planes = [sides.pairs[number] for number in needed]
    low, high = ([pair[side] for pair in planes if pair[side]] for side in (0, 1))
    cache = PixelCache(bytes_of(low) + bytes_of(high), dataset.cache_gb, Path(options.path.root))
    given = Window(*dataset.normalization_range) if dataset.normalization_range else None
    taken, given_out = options.network_G.channels, options.network_G.out_nc
    tallies = [Tally("LR", given, taken), Tally("HR", given, given_out if low else taken)]
    pixels = [read_planes(side, cache.keep, tally) for side, tally in zip((low, high), tallies, strict=True)]
    tallies = [tally for tally in tallies if tally.values]
    for tally in tallies:
        tally.check_depth()
    window = window_of(tallies)
    coarse, fine = (_pictures(*side, window) or [None] * len(planes) for side in zip((low, high), pixels, strict=True))
    at = {number: place for place, number in enumerate(needed)}
    slabs = [_slab([(coarse if low else fine)[at[place]] for place in around[number]]) for number in chosen]
    coarse, fine = (slabs, [fine[at[number]] for number in chosen]) if low else ([None] * len(chosen), slabs)
    clipped = sum(tally.outside for tally in tallies) / sum(tally.values for tally in tallies)
    names = _distinct([(high or low).name for low, high in (sides.pairs[number] for number in chosen)])
    return Gathered(
        pairs=[_aligned(*named, options.scale) for named in zip(names, coarse, fine, strict=True)],
        window=window,
        clipped_share=clipped,
        warnings=sides.warnings + _clipping(clipped, window),
        facts=[tally.facts() for tally in tallies],
        cache=cache,
    )


def _pictures(planes: Sequence[Plane], pixels: Sequence[np.ndarray], window: Window) -> list[Picture]:
    return [Picture(plane.name, part, window) for plane, part in zip(planes, pixels, strict=True)]


def _gaps(pairs: Sequence[PlanePair], options: TrainingOptions) -> tuple[int, ...]:
    """Distances of neighbouring slices in training; where LR is simulated, every second is that of cubic LR voxels."""
    return (1, options.scale) if options.is_train and not any(low for low, _ in pairs) else (1,)


def _slab(pictures: Sequence[Picture]) -> Picture:
    """The picture in the middle with the others before and after its own channel."""
    middle = pictures[len(pictures) // 2]
    if len(pictures) == 1:
        return middle
    return replace(middle, pixels=[picture.pixels[0] for picture in pictures])


def _cut(entries: tuple[Entry | None, Entry | None], dataset: DatasetOptions, scale: int) -> list[PlanePair]:
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


def _leave_out_small(sides: _Sides, smallest: int) -> None:
    small = [high for _, high in sides.pairs if high and min(high.size) < smallest]
    if not small:
        return
    names = ", ".join(plane.name for plane in small[:SHOWN])
    told = f"{len(small)} of {len(sides.pairs)} HR images are smaller than HR_size {smallest}: {names}"
    if len(small) == len(sides.pairs):
        raise InputError(f"{told}.", "Choose a smaller HR_size, or larger images.")
    sides.pairs = [pair for pair in sides.pairs if min(pair[1].size) >= smallest]
    sides.warnings.append(f"{told}{', ...' * (len(small) > SHOWN)}. They are left out.")


def _spread(count: int, at_most: int | None) -> list[int]:
    """Numbers below `count`, all or evenly spread."""
    if at_most is None or count <= at_most:
        return list(range(count))
    return np.linspace(0, count - 1, at_most).round().astype(int).tolist()


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, those that came before with a number: results are called after them."""
    seen: Counter[str] = Counter()
    distinct = []
    for name in names:
        seen[name] += 1
        distinct.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return distinct


def _aligned(name: str, low: Picture | None, high: Picture | None, scale: int) -> tuple[Picture | None, Picture | None]:
    low = low and replace(low, name=name)
    return low, high and replace(high, name=name).cropped_to(scale)


def _clipping(share: float, window: Window) -> list[str]:
    if share <= CLIPPED_ALARM:
        return []
    return [f"{share:.1%} of the grey values lie outside the window {window} and are clipped (normalization_range)."]
