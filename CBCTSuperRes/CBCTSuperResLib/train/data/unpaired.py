"""Coarse slices of one scanner and fine slices of another, which have nothing to do with each other.

Each scanner has its window, given or estimated, and perhaps masks of what is to be learnt from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby, islice
from typing import TYPE_CHECKING

import numpy as np

from ...acquisition.estimate import estimate
from ...acquisition.label_map import read_label_map
from ...core.errors import InputError
from ...core.volume import Grid
from ...io.volume import Volume
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
LOOKED_AT = 16  # patches
SCANS_LOOKED_AT, SLICES_LOOKED_AT = 4, 48
SHOWN = 3


class UnpairedPictures(Samples):
    """LR pictures of one kind and HR pictures of another, of other places: each sample is a patch of either.

    An epoch takes every LR picture once; HR pictures are drawn. Of a picture with a mask, the middle of a patch is
    drawn from within, as far as the border allows.

    Parameters
    ----------
    low, high : sequence of Picture
    patches : Patches
    masks : dict of str to sequence of ndarray of bool (rows, columns)
        By role, "LR" or "HR", as many as pictures; without a role, all of its pictures counts.
    """

    def __init__(
        self,
        low: Sequence[Picture],
        high: Sequence[Picture],
        patches: Patches,
        masks: dict[str, Sequence[np.ndarray]] | None = None,
    ) -> None:
        self._pictures, self._patches, self._masks = {"LR": list(low), "HR": list(high)}, patches, masks or {}
        self.names = [picture.name for picture in low]

    def see_through(self, role: str, window: Window) -> None:
        """Let grey values of LR or HR become 0 and 1 as this window says."""
        self._pictures[role] = [replace(picture, window=window) for picture in self._pictures[role]]

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
        inside = np.flatnonzero(self._masks[role][place])
        middle = divmod(int(inside[rng.integers(len(inside))]), size[1])
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
    read = {"LR": read_pictures(coarse, options), "HR": read_pictures(fine, options, smallest=dataset.HR_size)}
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
                found = _masks(role, data, roots, pictures[role], dataset.HR_size if role == "HR" else 0)
                kept = [n for n, mask in enumerate(found) if mask.any()]
                if not kept:
                    raise InputError(
                        f"The masks of the {role} images leave nothing to learn from.",
                        f"Check {_MASK_KEYS[role]}: pixels above 0 count.",
                    )
                if len(kept) < len(found):
                    warnings.append(
                        f"{len(found) - len(kept)} of {len(found)} {role} images have an empty mask and are left out."
                    )
                pictures[role] = [pictures[role][n] for n in kept]
                masks[role] = [found[n] for n in kept]
        source = UnpairedPictures(pictures["LR"], pictures["HR"], patches_of(dataset, options), masks)
        windows, given = {}, {"LR": dataset.normalization_range, "HR": fine_range}
        for role, known in given.items():
            windows[role] = read[role].window if known else _estimated(source, role, read[role].window)
        for role, window in windows.items():
            source.see_through(role, window)
        scanner = _scanner([replace(picture, window=windows["LR"]) for picture in pictures["LR"]])
    except BaseException:
        close()
        raise
    warnings.append(
        "Windows: {:g} to {:g} of the coarse slices, {:g} to {:g} of the fine ones.".format(
            *(value for window in windows.values() for value in (window.lo, window.hi))
        )
    )
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


def _scanner(pictures: Sequence[Picture]) -> dict[str, float | None]:
    """Blur of slices, a standard deviation in their pixels, and noise, in units of the window; None if nothing tells.

    Neighbours of one size are looked at together, as slices of a scan.
    """
    blurs, noises = [], []
    for _, group in islice(groupby(pictures, lambda picture: picture.size), SCANS_LOOKED_AT):
        scan = np.concatenate([picture.whole() for picture in islice(group, SLICES_LOOKED_AT)])
        blanks = find_blanks(Volume(scan, Grid(scan.shape[::-1], (1.0, 1.0, 1.0))), "auto")
        found = estimate(scan, (1.0, 1.0, 1.0), (0.0, 1.0), blanks.mask)
        blurs += [axis.sd for axis in found.blur[1:] if axis.is_sure]
        noises += [found.noise.sd] if found.noise else []
    return {name: float(np.mean(all_of)) if all_of else None for name, all_of in (("blur", blurs), ("noise", noises))}


_MASK_KEYS = {"LR": "dataroot_mask_LR", "HR": "dataroot_mask"}


def _masks(
    role: str, dataset: TrainDatasetOptions, roots: Sequence[str], pictures: Sequence[Picture], smallest: int
) -> list[np.ndarray]:
    """A mask for each picture, as large as it is."""
    subset = Subset(dataset.subset_file)
    images = roots_of(dataset.dataroot_LR or dataset.dataroot_HR)
    keys = _MASK_KEYS[role].removeprefix("dataroot_"), role
    mask_of = {image.path: mask for mask, image in pair_entries(roots_of(roots), images, subset, *keys)}
    chosen = []
    for low, high in entries_of(dataset):
        entry = low or high
        mask, planes = mask_of[entry.path], planes_of(entry, dataset.axis, dataset.slices)
        own = planes_of(mask, dataset.axis, dataset.slices)
        if [plane.size for plane in own] != [plane.size for plane in planes]:
            sizes = [f"{len(p)} of {p[0].size[1]} x {p[0].size[0]} pixels" if p else "none" for p in (own, planes)]
            raise InputError(
                f"The mask {mask.path} has other slices than {entry.path}: {sizes[0]}, not {sizes[1]}.",
                f"Give masks on the grid of the {role} images ({_MASK_KEYS[role]}).",
            )
        wanted = [plane for plane in own if min(plane.size) >= smallest]
        if mask.is_volume and wanted:
            voxels = naming(mask, lambda path=mask.path: read_label_map(path)).voxels[slice(*wanted[0].slices)]
            chosen += [plane.of(voxels) for plane in wanted]
        else:
            chosen += read_planes(wanted, lambda array: array, Tally("mask", Window(0.0, 1.0), 1))
    sizes = [picture.size for picture in pictures]
    return [mask[0, :rows, :columns] > 0 for mask, (rows, columns) in zip(chosen, sizes, strict=True)]


def _patches_of_some(source: UnpairedPictures, role: str) -> np.ndarray:
    count = min(len(source), LOOKED_AT)
    return source.batch(list(range(count)), [np.random.default_rng(n) for n in range(count)])[role].numpy()


def _estimated(source: UnpairedPictures, role: str, window: Window) -> Window:
    """The grey values that nearly all pixels of some patches lie between."""
    if window.source == "real numbers":
        raise InputError(
            f"The {role} slices are real numbers, of which no window can be estimated.",
            "Give datasets.train.normalization_range (LR) and train.fine_range (HR), the values that become 0 and 1.",
        )
    lo, hi = np.percentile(_patches_of_some(source, role), (LOWEST, HIGHEST))
    grey = [window.lo + float(unit) * (window.hi - window.lo) for unit in (lo, hi)]
    if grey[1] - grey[0] < 1:
        raise InputError(f"The {role} slices are all of one grey value.", "Choose other slices.")
    return Window(*grey)
