"""Blank regions: voxels outside the field of view, where nothing was measured.

A blank region is known by its geometry (outside a cylinder, outside a box, or both), so that it has the same smooth
border on every grid. Constant voxels whose outline changes from slice to slice are clamped air or metal: data.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np

from ..errors import OptionError
from ..volume import Volume
from .field_of_view import find_field_of_view
from .region import BlankRegion, whole_box

_CONSTANT = 0.97  # share of an edge of the volume that has a candidate's value


def find_blanks(volume: Volume, option: str | float = "auto") -> BlankRegion:
    """Find the blank region of a volume.

    Parameters
    ----------
    volume : Volume
        The whole scan, not a crop of it.
    option : "auto", "none" or a grey value
        "auto": the file's padding value if it has one and voxels carry it; otherwise a constant value outside a
        cylinder or a box that is the same in nearly all slices. A grey value: all voxels of this value, by their
        geometry if a cylinder or box explains 99 % of them.

    Raises
    ------
    OptionError
        If the option is none of these.
    """
    if option == "none":
        return BlankRegion("none", "Blank regions were not looked for.")
    if option != "auto":
        return _region_of_given_value(volume, _number(option))
    padding = volume.padding_value
    if padding is not None and (number := _share(volume.voxels, padding)):
        found = find_field_of_view(volume, padding) or _region_of_values(volume, padding, number)
        return replace(found, rule=f"{padding:g} is the padding value of the file. {found.rule}")
    for value in _border_values(volume.voxels):
        if found := find_field_of_view(volume, value):
            return found
    return BlankRegion("none", "No blank region was found.")


def _number(option: str | float) -> float:
    try:
        value = float(option)
    except (TypeError, ValueError):
        value = np.nan
    if not np.isfinite(value):
        raise OptionError(f"The blank value is {option!r}.", 'Give "auto", "none" or a grey value.')
    return value


def _region_of_given_value(volume: Volume, value: float) -> BlankRegion:
    share = _share(volume.voxels, value)
    if not share:
        return BlankRegion("none", f"No voxel has the blank value {value:g}.")
    found = find_field_of_view(volume, value)
    return found if found and found.share >= 0.99 * share else _region_of_values(volume, value, share)


def _region_of_values(volume: Volume, value: float, share: float) -> BlankRegion:
    rule = f"All voxels of value {value:g} are blank: {100 * share:.1f} % of the volume."
    return BlankRegion("values", rule, value, share, whole_box(volume.voxels.shape), voxels=volume.voxels)


def _share(voxels: np.ndarray, value: float) -> float:
    return sum(int(np.count_nonzero(slice_ == value)) for slice_ in voxels) / voxels.size


def _border_values(voxels: np.ndarray) -> list[float]:
    """Values that (nearly) fill one of the twelve edges of the volume, the most frequent first, at most three."""
    found = Counter()
    for axis in range(3):
        lines = np.moveaxis(voxels, axis, 0)
        for row, column in product((0, -1), repeat=2):
            line = lines[:, row, column]
            middle = line[len(line) // 2]
            if len(line) > 2 and np.mean(line == middle) >= _CONSTANT:
                found[float(middle)] += 1
    return [value for value, _ in found.most_common(3)]
