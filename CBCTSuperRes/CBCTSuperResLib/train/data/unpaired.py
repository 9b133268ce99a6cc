"""Coarse slices of one scanner and fine slices of another, which have nothing to do with each other.

Each scanner has its window, given or estimated, and perhaps masks of what is to be learnt from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby, islice
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ...acquisition.estimate import estimate
from ...acquisition.label_map import read_label_map
from ...core.errors import InputError
from ...core.volume import Grid
from ...io.volume import Volume
from ...scan.blank_region import BlankRegion
from ...scan.field_of_view import find_blanks
from ...scan.window import Window
from .decode import Tally, read_planes
from .files import Subset, naming, pair_entries, planes_of, roots_of
from .patches import Patches, Sample, Samples
from .pictures import Picture, entries_of, read_pictures
from .source import TrainingSource, patches_of

if TYPE_CHECKING:
    from ..dataset_options import TrainDatasetOptions
    from ..options import TrainingOptions

LOWEST, HIGHEST = 0.1, 99.9  # per cent of the grey values that an estimated window holds
LOOKED_AT, VALUES_LOOKED_AT = 16, 2_000_000  # pictures of a scanner, and their pixels
MARGIN_OF_PIXELS = 0.1  # share by which widths may miss the scale
SCANS_LOOKED_AT, SLICES_LOOKED_AT = 4, 48


class Mask:
    """Which pixels of a picture are learnt from; kept as bits.

    Parameters
    ----------
    pixels : ndarray of bool, shape (rows, columns)
    """

    def __init__(self, pixels: np.ndarray) -> None:
        self._bits, self._columns = np.packbits(pixels, axis=1), pixels.shape[1]
        self._counted = np.cumsum(pixels.sum(axis=1))  # up to the end of each row

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self._counted[-1])

    @property
    def nbytes(self) -> int:
        return self._bits.nbytes + self._counted.nbytes

    def pixels(self) -> np.ndarray:
        """Bool, (rows, columns)."""
        return np.unpackbits(self._bits, axis=1, count=self._columns).view(bool)

    def place(self, number: int) -> tuple[int, int]:
        """Row and column of the pixel of that number, counted row by row from 0."""
        row = int(np.searchsorted(self._counted, number, side="right"))
        before = int(self._counted[row - 1]) if row else 0
        inside = np.flatnonzero(np.unpackbits(self._bits[row], count=self._columns))
        return row, int(inside[number - before])


class UnpairedPictures(Samples):
    """LR pictures of one kind and HR pictures of another, of other places: each sample is a patch of either.

    An epoch takes every LR picture once; HR pictures are drawn. Of a picture with a mask, the middle of a patch is
    drawn from within, as far as the border allows.

    Parameters
    ----------
    low, high : sequence of Picture
    patches : Patches
    masks : dict of str to sequence of Mask
        By role, "LR" or "HR", as many as pictures; without a role, all of its pictures counts.
    """

    def __init__(
        self,
        low: Sequence[Picture],
        high: Sequence[Picture],
        patches: Patches,
        masks: dict[str, Sequence[Mask]] | None = None,
    ) -> None:
        self._pictures, self._patches, self._masks = {"LR": list(low), "HR": list(high)}, patches, masks or {}
        self.names = [picture.name for picture in low]

    def sample(self, image: int, rng: np.random.Generator) -> Sample:
        places = {"LR": image, "HR": int(rng.integers(len(self._pictures["HR"])))}
        edges = {"LR": self._patches.size // self._patches.scale, "HR": self._patches.size}
        found = {}
        for role, place in places.items():
            picture, edge = self._pictures[role][place], edges[role]
            top, left = self._corner(role, place, edge, rng)
            change = self._patches.augmentation.draw(rng)
            found[role] = change.recontrasted(change.turned(picture.cut(top, left, edge, edge)))
        return found

    def _corner(self, role: str, place: int, edge: int, rng: np.random.Generator) -> tuple[int, int]:
        size = self._pictures[role][place].size
        if role not in self._masks:
            return tuple(int(rng.integers(max(1, n - edge + 1))) for n in size)
        mask = self._masks[role][place]
        middle = mask.place(int(rng.integers(mask.count)))
        return tuple(min(max(m - edge // 2, 0), max(n - edge, 0)) for m, n in zip(middle, size, strict=True))


def open_unpaired(
    dataset: TrainDatasetOptions, options: TrainingOptions, fine_range: tuple[float, float] | None = None
) -> TrainingSource:
    """Patches of LR pictures (dataroot_LR) and HR pictures (dataroot_HR), each file read once.

    Parameters
    ----------
    dataset : TrainDatasetOptions
        Its `normalization_range` is that of LR.
    options : TrainingOptions
    fine_range : (low, high), optional
        Grey values of HR that become 0 and 1. Windows that are not given are estimated, each of its own slices.

    Returns
    -------
    TrainingSource
        `describe` also tells "coarse_scanner", the estimated "blur" of LR in its pixels and its "noise" in units of the
        window; None where they do not tell.

    Raises
    ------
    InputError, OptionError, ResourceError
        As of `open_source`; and if no window can be estimated, or masks do not fit or leave nothing.
    """
    if not (dataset.dataroot_LR and dataset.dataroot_HR):
        raise InputError("Unpaired training needs images of both kinds.", "Give dataroot_LR and dataroot_HR.")
    coarse = replace(dataset, dataroot_HR=(), mode="LRHR")
    fine = replace(dataset, dataroot_LR=(), mode="HR", normalization_range=fine_range)
    edges = {"LR": dataset.HR_size // options.scale, "HR": dataset.HR_size}
    read = {role: read_pictures(data, options, smallest=edges[role]) for role, data in (("LR", coarse), ("HR", fine))}
    pictures = {
        "LR": [picture for picture, _ in read["LR"].pairs],
        "HR": [picture for _, picture in read["HR"].pairs],
    }
    warnings = [*read["LR"].warnings, *read["HR"].warnings]

    def close() -> None:
        for found in read.values():
            found.cache.close()

    try:
        masks = {}
        for role, data, roots in (("LR", coarse, dataset.dataroot_mask_LR), ("HR", fine, dataset.dataroot_mask)):
            if roots:
                found = _masks(role, data, roots, pictures[role], edges[role])
                pictures[role], masks[role], left_out = _masked(role, pictures[role], found)
                warnings += left_out
        windows = {}
        for role, known in {"LR": dataset.normalization_range, "HR": fine_range}.items():
            of_type = read[role].window
            look = (role, pictures[role], masks.get(role), edges[role], of_type)
            windows[role] = of_type if known else _estimated(*look)
            pictures[role] = [replace(picture, window=windows[role]) for picture in pictures[role]]
        source = UnpairedPictures(pictures["LR"], pictures["HR"], patches_of(dataset, options), masks)
        scanner = _scanner(pictures["LR"])
    except BaseException:
        close()
        raise
    warnings.append(
        "Windows: {:g} to {:g} of the coarse slices, {:g} to {:g} of the fine ones.".format(
            *(value for window in windows.values() for value in (window.lo, window.hi))
        )
    )
    warnings += _misfit_of_pixels(read["LR"].facts, read["HR"].facts, options.scale)
    facts = {
        "images": {role: len(found) for role, found in pictures.items()},
        "mode": "unpaired",
        "files": [*read["LR"].facts, *read["HR"].facts],
        "augmentation": asdict(patches_of(dataset, options).augmentation),
        "memory": f"{read['LR'].cache}; {read['HR'].cache}",
        "coarse_scanner": scanner,
        **({"masks": sorted(masks)} if masks else {}),
    }
    return TrainingSource(
        source,
        windows["LR"],
        facts,
        clipped_share=read["LR"].clipped_share,
        warnings=warnings,
        output_window=windows["HR"],
        close=close,
    )


def _misfit_of_pixels(coarse: list[dict], fine: list[dict], scale: int) -> list[str]:
    """What there is to say if coarse pixels are not `scale` times as wide as fine ones, by what `Tally.facts` tells."""
    widths = [np.mean(of[0]["voxel_size_mm"]) if of and of[0]["voxel_size_mm"] else None for of in (coarse, fine)]
    if None in widths or abs(widths[0] / (scale * widths[1]) - 1) <= MARGIN_OF_PIXELS:
        return []
    return [
        f"Pixels are {widths[0]:.3g} mm wide in the coarse slices and {widths[1]:.3g} mm in the fine ones, which is "
        f"{widths[0] / widths[1]:.3g} times, not the scale, {scale}: the network will draw detail "
        f"{widths[0] / (scale * widths[1]):.3g} times as large as it is. Resample one of them, or choose another scale."
    ]


def _scanner(pictures: Sequence[Picture]) -> dict[str, float | None]:
    """Blur of slices, a standard deviation in their pixels, and noise, in units of the window; None if nothing tells.

    Neighbours of one size are looked at together, as slices of a scan.
    """
    blurs, noises = [], []
    for _, group in islice(groupby(pictures, lambda picture: picture.size), SCANS_LOOKED_AT):
        scan = np.concatenate([picture.whole() for picture in islice(group, SLICES_LOOKED_AT)])
        found = estimate(scan, (1.0, 1.0, 1.0), (0.0, 1.0), _blanks_of(scan).mask)
        blurs += [axis.sd for axis in found.blur[1:] if axis.is_sure]
        noises += [found.noise.sd] if found.noise else []
    return {name: float(np.mean(all_of)) if all_of else None for name, all_of in (("blur", blurs), ("noise", noises))}


_MASK_KEYS = {"LR": "dataroot_mask_LR", "HR": "dataroot_mask"}


def _masks(
    role: str, dataset: TrainDatasetOptions, roots: Sequence[str], pictures: Sequence[Picture], smallest: int
) -> list[Mask]:
    """A mask for each picture, as large as it is."""
    subset = Subset(dataset.subset_file)
    images = roots_of(dataset.dataroot_LR or dataset.dataroot_HR)
    keys = _MASK_KEYS[role].removeprefix("dataroot_"), role
    mask_of = {image.path: mask for mask, image in pair_entries(roots_of(roots), images, subset, *keys)}
    chosen, sizes = [], iter([picture.size for picture in pictures])
    for low, high in entries_of(dataset):
        entry = low or high
        mask, planes = mask_of[entry.path], planes_of(entry, dataset.axis, dataset.slices)
        own = planes_of(mask, dataset.axis, dataset.slices)
        if [plane.size for plane in own] != [plane.size for plane in planes]:
            told = [f"{len(p)} of {p[0].size[1]} x {p[0].size[0]} pixels" if p else "none" for p in (own, planes)]
            raise InputError(
                f"The mask {mask.path} has other slices than {entry.path}: {told[0]}, not {told[1]}.",
                f"Give masks on the grid of the {role} images ({_MASK_KEYS[role]}).",
            )
        wanted = [plane for plane in own if min(plane.size) >= smallest]
        if mask.is_volume and wanted:
            voxels = naming(mask, lambda path=mask.path: read_label_map(path)).voxels[slice(*wanted[0].slices)]
            found = (plane.of(voxels) for plane in wanted)
        else:
            found = read_planes(wanted, lambda array: array, Tally("mask", Window(0.0, 1.0), 1))
        for pixels in found:
            rows, columns = next(sizes)
            chosen.append(Mask(pixels[0, :rows, :columns] > 0))
    return chosen


def _masked(
    role: str, pictures: Sequence[Picture], masks: Sequence[Mask]
) -> tuple[list[Picture], list[Mask], list[str]]:
    """Pictures whose masks leave something, these masks, and what there is to say of the others.

    Raises
    ------
    InputError
        If no mask leaves anything.
    """
    kept = [(picture, mask) for picture, mask in zip(pictures, masks, strict=True) if mask.count]
    if not kept:
        raise InputError(
            f"The masks of the {role} images leave nothing to learn from.",
            f"Check {_MASK_KEYS[role]}: pixels above 0 count.",
        )
    empty = len(masks) - len(kept)
    said = [f"{empty} of {len(masks)} {role} images have an empty mask and are left out."] if empty else []
    return [picture for picture, _ in kept], [mask for _, mask in kept], said


def _estimated(
    role: str, pictures: Sequence[Picture], masks: Sequence[Mask] | None, edge: int, window: Window
) -> Window:
    """The grey values that nearly all pixels which patches show lie between, those outside the field of view apart; of
    some pictures, evenly spread.

    Parameters
    ----------
    role : "LR" or "HR"
    pictures : sequence of Picture
    masks : sequence of Mask, optional
        Patches lie around their pixels.
    edge : int
        Of a patch.
    window : Window
        Of the type of the pixels.
    """
    if window.source == "real numbers":
        raise InputError(
            f"The {role} slices are real numbers, of which no window can be estimated.",
            "Give datasets.train.normalization_range (LR) and train.fine_range (HR), the values that become 0 and 1.",
        )
    values = []
    spread = np.unique(np.linspace(0, len(pictures) - 1, LOOKED_AT).round().astype(int))
    for _, group in groupby(spread, lambda number: pictures[number].size):
        numbers = list(group)
        voxels = np.stack([pictures[number].pixels[0] for number in numbers])
        blanks = _blanks_of(voxels)
        for k, number in enumerate(numbers):
            blank = blanks.mask(k)
            shown = np.ones(voxels[k].shape, bool) if blank is None else ~blank
            if masks:
                shown &= cv2.dilate(masks[number].pixels().view(np.uint8), np.ones((edge, edge), np.uint8)).view(bool)
            inside = voxels[k][shown]
            values.append(inside[:: max(1, round(inside.size * LOOKED_AT / VALUES_LOOKED_AT) | 1)])
    lo, hi = map(float, np.percentile(np.concatenate(values), (LOWEST, HIGHEST)))
    if hi - lo < 1:
        raise InputError(f"The {role} slices are all of one grey value.", "Choose other slices.")
    return Window(lo, hi)


def _blanks_of(voxels: np.ndarray) -> BlankRegion:
    """What lies outside the field of view of slices, (k, j, i)."""
    return find_blanks(Volume(voxels, Grid(voxels.shape[::-1], (1.0, 1.0, 1.0))), "auto")
