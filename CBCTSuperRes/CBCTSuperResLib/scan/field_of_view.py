"""Find the blank region of a scan: what lies outside a cylinder, a box or both, where nothing was measured.

A blank region is known by its geometry, so that it has the same smooth border on every grid. Constant voxels whose
outline changes from slice to slice are clamped air or metal: data.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np

from ..core.errors import OptionError
from ..io.volume import Volume
from .blank_region import BlankRegion, Box, whole_box
from .circle import Circle, fit_circle, inscribed_aspect, rim_of

_STRAY = 0.03  # share of data in a blank column or plane that is put down to defects
_FACE = 0.8  # share of data on the inner face of a box
_RING = 0.6  # share of data just inside a cylinder
_LEAST_SHARE = 0.001
_SECTORS, _PER_SECTOR = 80, 9  # directions in which the wall of a cylinder is looked at
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
        try:
            value = float(option)
        except (TypeError, ValueError):
            value = np.nan
        if not np.isfinite(value):
            raise OptionError(f"The blank value is {option!r}.", 'Give "auto", "none" or a grey value.')
        share = _share(volume.voxels, value)
        if not share:
            return BlankRegion("none", f"No voxel has the blank value {value:g}.")
        found = find_field_of_view(volume, value)
        return found if found and found.share >= 0.99 * share else _region_of_values(volume, value, share)
    padding = volume.padding_value
    if padding is not None and (share := _share(volume.voxels, padding)):
        found = find_field_of_view(volume, padding) or _region_of_values(volume, padding, share)
        return replace(found, rule=f"{padding:g} is the padding value of the file. {found.rule}")
    for value in _border_values(volume.voxels):
        if found := find_field_of_view(volume, value):
            return found
    return BlankRegion("none", "No blank region was found.")


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


def find_field_of_view(volume: Volume, value: float) -> BlankRegion | None:
    """Cylinder or box outside which nearly all voxels have a value and just inside which few have it.

    Parameters
    ----------
    volume : Volume
        Searched along its three axes, so that a coronal stack works too.
    value : float
        Grey value of blank voxels.

    Returns
    -------
    BlankRegion or None
    """
    counts = _counts(volume.voxels, value)
    box = _box_of_data(counts, volume.voxels.shape)
    if box is None:
        return None
    start = BlankRegion("box", "", float(value), 0.0, box, voxels=volume.voxels)
    cylinders = (_with_cylinder(start, axis, counts[axis], volume.spacing[::-1]) for axis in range(3))
    region = next((found for found in cylinders if found), None) or _faced(start)
    nk, nj, ni = volume.voxels.shape
    masks = (region.fine_mask(k, np.arange(nj), np.arange(ni)) for k in range(nk))
    share = sum(0 if mask is None else int(np.count_nonzero(mask)) for mask in masks) / volume.voxels.size
    if share == 0 or (region.axis is not None and share < _LEAST_SHARE):
        return None

    shapes = []
    if region.axis is not None:
        a, b = (f"{radius:.1f}" for radius in region.radii_mm)
        size = f"radius {a}" if a == b else f"radii {a} and {b}"
        shapes.append(f"a cylinder along {'kji'[region.axis]} of {size} mm")
    if region.box != whole_box(volume.voxels.shape):
        k, j, i = (f"{start}-{end - 1}" for start, end in region.box)
        shapes.append(f"the box of voxels i {i}, j {j}, k {k}")
    rule = f"Outside {' and '.join(shapes)} voxels are {region.value:g}: {100 * share:.1f} % of the volume is blank."
    return replace(region, share=share, rule=rule)


def _counts(voxels: np.ndarray, value: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How often the value occurs along k, (j, i); along j, (k, i); along i, (k, j)."""
    nk, nj, ni = voxels.shape
    along_k = np.zeros((nj, ni), np.float32)
    along_j, along_i = np.empty((nk, ni), np.float32), np.empty((nk, nj), np.float32)
    ones_j, ones_i = np.ones(nj, np.float32), np.ones(ni, np.float32)
    for k, slice_ in enumerate(voxels):
        equal = (slice_ == value).astype(np.float32)
        along_k += equal
        along_j[k] = ones_j @ equal
        along_i[k] = equal @ ones_i
    return along_k, along_j, along_i


def _box_of_data(counts: tuple[np.ndarray, ...], shape: tuple[int, ...]) -> Box | None:
    """First plane and end of the planes that hold data along each axis, or None if none do."""
    plane_counts = (counts[1].sum(1), counts[0].sum(1), counts[0].sum(0))
    box = []
    for axis, blank in enumerate(plane_counts):
        data = np.flatnonzero(1 - blank / (np.prod(shape) / shape[axis]) > _STRAY)
        if data.size == 0:
            return None
        box.append((int(data[0]), int(data[-1]) + 1))
    return tuple(box)


def _with_cylinder(box: BlankRegion, axis: int, counts: np.ndarray, spacing: tuple[float, ...]) -> BlankRegion | None:
    """The region with the cylinder along an axis that bounds its data, or None if no cylinder does."""
    start, end = box.box[axis]
    data = 1 - (counts - (box.voxels.shape[axis] - (end - start))) / (end - start)
    across = [a for a in range(3) if a != axis]
    in_mm = (spacing[across[0]], spacing[across[1]])
    crop = (slice(*box.box[across[0]]), slice(*box.box[across[1]]))
    found = _cylinder(box, axis, data, in_mm, crop)
    if found is None and (aspect := inscribed_aspect(data <= _STRAY, in_mm, crop)):
        found = _cylinder(box, axis, data, (in_mm[0], in_mm[1] * aspect), crop)
    if found is None:
        return None
    return replace(found, radii_mm=tuple(r * s for r, s in zip(found.radii, in_mm, strict=True)))


def _cylinder(
    box: BlankRegion, axis: int, data: np.ndarray, spacing: tuple[float, float], crop: tuple[slice, slice]
) -> BlankRegion | None:
    """The region with a cylinder whose section is round for this spacing, checked against the data share of columns."""
    constant = data <= _STRAY
    circle = fit_circle(constant, spacing, crop)
    if circle is None:
        return None
    beyond = circle.distances(constant.shape, spacing) > circle.radius + 0.75 * max(spacing)
    if not beyond.any() or np.mean(data[beyond]) > _STRAY:
        return None
    region = replace(
        box,
        kind="cylinder",
        axis=axis,
        centre=circle.centre,
        radii=(circle.radius / spacing[0], circle.radius / spacing[1]),
    )
    region = _faced(region)
    if not _ring_is_data(region, circle, spacing):
        return None
    # In a scan that was resampled, the voxels at the wall are mixtures of data and blank value.
    values, visible = _rings(region, circle, spacing, (-0.5, -3.0))
    at_wall, inside = (np.median(np.abs(ring[:, visible].astype(float) - region.value), axis=0) for ring in values)
    mixed = bool(np.mean(at_wall < 0.8 * inside) > 0.55)
    return replace(region, rim=rim_of(np.ones_like(constant) if mixed else constant, spacing, circle))


def _ring_is_data(region: BlankRegion, circle: Circle, spacing: tuple[float, float]) -> bool:
    """Whether data meets the cylinder's wall in most directions of most slices, where the wall lies in the volume.

    A silhouette of changing outlines, such as that of a ball, is a circle too, but few slices reach it.
    """
    values, visible = _rings(region, circle, spacing, (-1.25, 1.25))
    if np.count_nonzero(visible) < _PER_SECTOR:
        return False
    data = (values[0] != region.value) & visible
    data_in_sector = data.reshape(-1, _SECTORS, _PER_SECTOR).sum(2)
    seen_in_sector = visible.reshape(_SECTORS, _PER_SECTOR).sum(1)
    seen = seen_in_sector > 0
    # A quarter is enough for a sector: noise about a clamped level leaves only half of the voxels above it.
    return np.mean(data_in_sector[:, seen] >= 0.25 * seen_in_sector[seen]) >= _RING


def _rings(
    region: BlankRegion, circle: Circle, spacing: tuple[float, float], offsets: tuple[float, ...]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Grey values (plane, angle) on circles `offsets` voxels farther out, and where (angle) all are in the box."""
    angles = np.arange(_SECTORS * _PER_SECTOR) * (2 * np.pi / (_SECTORS * _PER_SECTOR))
    direction = np.stack([np.sin(angles) / spacing[0], np.cos(angles) / spacing[1]])
    radii = [circle.radius + offset * max(spacing) for offset in offsets]
    places = [np.rint(np.asarray(circle.centre)[:, None] + radius * direction).astype(int) for radius in radii]
    across = np.array([region.box[a] for a in range(3) if a != region.axis])
    visible = np.all([(at >= across[:, :1]) & (at < across[:, 1:]) for at in places], axis=(0, 1))
    start, end = region.box[region.axis]
    planes = np.unique(np.linspace(start, end - 1, 48).astype(int))[:, None]
    lines = np.moveaxis(region.voxels, region.axis, 0)
    return [lines[planes, rows * visible, columns * visible] for rows, columns in places], visible


def _faced(region: BlankRegion) -> BlankRegion:
    """The region without those faces of its box that data does not fill or that the cylinder does not reach."""
    # Twice, because a face that goes leaves its neighbours with more, and perhaps emptier, area.
    for axis, side in 2 * tuple(product(range(3), range(2))):
        size = region.voxels.shape[axis]
        face = region.box[axis][side] - side
        at_border = face == side * (size - 1)
        if at_border or (_cuts(region, axis, side) and _face_share(region, axis, face) >= _FACE):
            continue
        pair = (0, region.box[axis][1]) if side == 0 else (region.box[axis][0], size)
        region = replace(region, box=tuple(pair if a == axis else b for a, b in enumerate(region.box)))
    return region


def _cuts(region: BlankRegion, axis: int, side: int) -> bool:
    """Whether a face of the box cuts more than a voxel off the cylinder."""
    if region.axis in (None, axis):
        return True
    across = [a for a in range(3) if a != region.axis].index(axis)
    reach = region.centre[across] + (2 * side - 1) * region.radii[across]
    face = region.box[axis][side] - 0.5
    return reach > face + 1 if side else reach < face - 1


def _face_share(region: BlankRegion, axis: int, face: int) -> float:
    """Share of data on the plane `face` of an axis, within the field of view."""
    positions = [np.arange(n) for n in region.voxels.shape]
    positions[axis] = np.array([face])
    inside = ~region.outside(*positions)
    plane = np.take(region.voxels, [face], axis=axis)
    return float(np.mean(plane[inside] != region.value)) if inside.any() else 0.0
