"""What speaks against a super-resolution before anything is computed: what is refused, and what is warned of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..acquisition.estimate import finest_spacing_mm
from ..core.errors import InputError, OptionError
from ..core.options import Options
from ..core.volume import Grid, across_slices, as_acquired, scaled_size
from ..models.card import ModelCard, factors_text
from .factors import LARGEST_SPACING_RATIO, is_same_size


def check_options(grid: Grid, card: ModelCard, options: Options, factors: tuple[float, float, float], way: str) -> None:
    """Refuse what a model cannot do, or not with a scan of this grid.

    Parameters
    ----------
    grid : Grid
        Of the scan.
    factors, way
        As in `Plan`.

    Raises
    ------
    OptionError, InputError
    """
    if options.sharpness < 100 and card.spec.domain == "other":
        raise OptionError(
            f"The model {card.name} makes another kind of image: there is nothing between it and interpolation.",
            "Choose a sharpness of 100 %.",
        )
    if max(factors) > 1 and scaled_size(grid.size, factors) == grid.size:
        raise OptionError(
            f"A scan of {' x '.join(map(str, grid.size))} voxels gets none more by {factors_text(factors)}: nothing "
            "would become finer.",
            "Ask for smaller voxels; or, for less noise at the same size, for the factor 1 instead (--scale 1).",
        )
    if way == "planes":
        _check_three_planes(grid, factors)
        if card.spec.domain == "other":
            raise OptionError(
                f"The model {card.name} makes another kind of image, which cannot be joined from three planes.",
                "Choose planes axial.",
            )
    if options.back_projection == "on" and not may_be_projected(card, factors, way):
        raise OptionError(
            "Back-projection is made for blocks, and for slices that are enlarged by whole factors, in the scan's own "
            "grey values; not for three planes.",
            "Choose planes axial, or leave back_projection on auto.",
        )
    for name, (start, stop), n in zip("ijk", options.roi or (), grid.size, strict=False):
        if not 0 <= start < stop <= n:
            raise OptionError(
                f"The ROI's range {start}:{stop} along {name} is empty or outside the volume (0:{n}).",
                "Give a box inside the volume.",
            )


def _check_three_planes(grid: Grid, factors: tuple[float, float, float]) -> None:
    if len(set(factors)) > 1 or factors[0] != int(factors[0]):
        raise OptionError(
            f"Three planes can be joined only for whole factors, not for {factors_text(factors)}.",
            "Choose planes axial.",
        )
    ratio = max(grid.spacing) / min(grid.spacing)
    if ratio > LARGEST_SPACING_RATIO:
        raise InputError(
            f"The spacing {' x '.join(f'{s:.3g}' for s in grid.spacing)} mm differs by a factor of {ratio:.2g} between "
            f"the axes; above {LARGEST_SPACING_RATIO} coronal and sagittal planes do not look like what the network "
            "learned.",
            "Choose planes axial, or ask for an output voxel size, which a model of blocks makes in all directions.",
        )


def may_be_projected(card: ModelCard, factors: tuple[float, float, float], way: str) -> bool:
    """Whether results can be compared with their scan slice by slice, or block by block."""
    is_whole = way == "slices" and all(f == int(f) for f in factors[:2])
    return card.spec.domain == "same" and (is_whole or way == "blocks")


def warnings_of_grid(grid: Grid, card: ModelCard, way: str, factors: tuple[float, float, float]) -> list[str]:
    """What speaks against using a model for a scan, as far as its grid tells."""
    found = []
    if card.spec.domain == "other":
        low, high = card.output_window
        found.append(
            f"The result has the grey values of the scanner that {card.name} imitates, {low:.6g} to {high:.6g}. "
            "Structure can be invented, and other anatomy than it was trained on may come out as nonsense: not for "
            "diagnosis."
        )
    in_plane = list(grid.spacing)
    between = in_plane.pop(2 - card.across(grid.spacing))  # of (i, j, k)
    if are_other_pixels(card, in_plane):
        smallest, largest = card.voxel_size_mm
        found.append(
            f"The voxel size {in_plane[0]:.3g} x {in_plane[1]:.3g} mm is outside the model's range of {smallest:g} "
            f"to {largest:g} mm."
        )
    if max(in_plane) > 1.05 * min(in_plane):
        found.append("The pixels are not square; the network learned from square ones.")
    if way == "slices" and between > LARGEST_SPACING_RATIO * max(in_plane) and not is_same_size(factors):
        found.append(
            f"The slices are {between:.3g} mm apart; only their plane gets sharper. For voxels as fine in all "
            f"directions ask for an output voxel size, such as {min(in_plane):.3g} mm."
        )
    return found


def are_other_pixels(card: ModelCard, in_plane: Sequence[float]) -> bool:
    """Whether pixels of this size, in mm along both axes of the slices, are outside what a model learned from.

    False where its card does not tell.
    """
    if not card.voxel_size_mm:
        return False
    smallest, largest = card.voxel_size_mm
    return min(in_plane) < 0.95 * smallest or max(in_plane) > 1.05 * largest


def spacing_suspicion(grid: Grid) -> str:
    """A sentence if the voxel size looks as if it had been lost on the way; "" otherwise."""
    if not np.allclose(grid.spacing, 1.0, atol=1e-6):
        return ""
    return "The spacing is exactly 1 x 1 x 1 mm, as in files that have lost theirs: set it in the module Volumes."


def finer_than_the_blur(scan: Grid, result: Grid, factors: Sequence[float], blur: Sequence[float]) -> list[str]:
    """A warning where voxels of a result are less than half as large as the scanner's blur allows.

    Only along axes of the slices that become finer: what lies between thick slices is the model's to add, whichever
    axis is across them.

    Parameters
    ----------
    blur : (k, j, i)
        Standard deviation along each axis, in voxels of the scan.
    """
    across = across_slices(scan.spacing)
    rows = zip(blur, scan.spacing[::-1], result.spacing[::-1], factors[::-1], strict=True)
    in_plane = as_acquired(list(rows), across)[1:]
    supported = finest_spacing_mm(float(np.mean([sd * step for sd, step, *_ in in_plane])))
    finest = min((spacing for *_, spacing, factor in in_plane if factor > 1), default=np.inf)
    if finest >= 0.5 * supported:
        return []
    return [
        f"Finer voxels than the scan's blur supports: {finest:.2g} mm, where it supports {supported:.2g} mm. Below "
        f"half of that, {0.5 * supported:.2g} mm, voxels show no more and only take memory and time."
    ]
