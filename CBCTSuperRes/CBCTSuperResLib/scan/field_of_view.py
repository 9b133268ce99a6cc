"""Find the circle that bounds a cylindrical field of view in a projection of the volume along the cylinder's axis.

Find the field of view of a scan: a cylinder, a box or both, outside which all voxels have one value.

Blank regions: voxels outside the field of view, where nothing was measured.

A blank region is known by its geometry (outside a cylinder, outside a box, or both), so that it has the same smooth
border on every grid. Constant voxels whose outline changes from slice to slice are clamped air or metal: data.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ..core.errors import OptionError
from ..io.volume import Volume
from .blank_region import BlankRegion, Box, whole_box

_TRIALS = 400
_MOST_POINTS = 3000
_FEWEST_POINTS = 12
_RIM = 1.5  # width in voxels within which a scanner's rule for "inside" may differ from the circle


@dataclass(frozen=True)
class Circle:
    """A circle in a plane of voxels: centre in voxels along (row, column), radius in mm."""

    centre: tuple[float, float]
    radius: float

    def distances(self, shape: tuple[int, int], spacing: tuple[float, float]) -> np.ndarray:
        """Distance of each voxel centre from the circle's centre, in mm."""
        rows = (np.arange(shape[0]) - self.centre[0]) * spacing[0]
        columns = (np.arange(shape[1]) - self.centre[1]) * spacing[1]
        return np.hypot(rows[:, None], columns[None, :])


def fit_circle(blank: np.ndarray, spacing: tuple[float, float], crop: tuple[slice, slice]) -> Circle | None:
    """Circle on which most of the border between blank and other columns lies.

    Parameters
    ----------
    blank : ndarray of bool, shape (row, column)
        Columns of the volume that are constantly blank.
    spacing : tuple of float
        Along (row, column), in mm.
    crop : tuple of slice
        Part of the plane that is not cut off by a box; the box's own edges must not attract the circle.

    Returns
    -------
    Circle or None
        None where there is too little border to fit. Whether the circle explains the plane is for the caller to check.
    """
    points = _border_points(blank[crop]) + np.array([crop[0].start, crop[1].start])
    if len(points) < _FEWEST_POINTS:
        return None
    points = points[:: -(-len(points) // _MOST_POINTS)] * np.asarray(spacing)
    tolerance = 0.75 * max(spacing)
    fit = _best_of_triples(points, tolerance, np.asarray(blank.shape) * spacing)
    for _ in range(4):
        if fit is None:
            return None
        inliers = points[np.abs(_residuals(points, fit)) < tolerance]
        if len(inliers) < _FEWEST_POINTS:
            return None
        fit = _least_squares(inliers, fit)
    centre = (float(fit[0] / spacing[0]), float(fit[1] / spacing[1]))
    return _separating(blank, spacing, Circle(centre, float(fit[2])))


def inscribed_aspect(blank: np.ndarray, spacing: tuple[float, float], crop: tuple[slice, slice]) -> float | None:
    """How much longer, in mm, the rows' axis is than the columns' axis of an ellipse that fills the plane, or None.

    A field of view is an ellipse where the volume was squeezed or its spacing is not recorded. Only one that reaches
    all four sides, and on which nearly all of the border lies, counts: an ellipse within the plane may be a head.
    """
    points = _border_points(blank[crop]) + np.array([crop[0].start, crop[1].start])
    if len(points) < _FEWEST_POINTS:
        return None
    half = np.asarray(blank.shape) / 2
    scaled = (points - (half - 0.5)) / half
    terms = np.column_stack([scaled**2, scaled])
    (a, b, c, d), *_ = np.linalg.lstsq(terms, np.ones(len(terms)), rcond=None)
    if min(a, b) <= 0:
        return None
    centre = np.array([-c / (2 * a), -d / (2 * b)])
    level = 1 + a * centre[0] ** 2 + b * centre[1] ** 2
    radii = np.sqrt(level / np.array([a, b]))
    off = np.abs(np.hypot(*((scaled - centre) / radii).T) - 1) * (radii * half).max()
    if np.abs(centre).max() > 0.05 or radii.min() < 0.96 or np.mean(off < 1) < 0.95:
        return None
    return float(radii[0] * half[0] * spacing[0] / (radii[1] * half[1] * spacing[1]))


def rim_of(columns: np.ndarray, spacing: tuple[float, float], circle: Circle) -> np.ndarray | None:
    """Which of some columns, bool (row, column), lie just inside the circle, or None if none do."""
    distances = circle.distances(columns.shape, spacing)
    rim = columns & (distances <= circle.radius) & (distances > circle.radius - _RIM * max(spacing))
    return rim if rim.any() else None


def _border_points(blank: np.ndarray) -> np.ndarray:
    """Midpoints (n, 2), in voxels, between neighbours of which one is blank."""
    down = np.argwhere(blank[1:] != blank[:-1]) + (0.5, 0.0)
    right = np.argwhere(blank[:, 1:] != blank[:, :-1]) + (0.0, 0.5)
    return np.concatenate([down, right])


def _residuals(points: np.ndarray, fit: np.ndarray) -> np.ndarray:
    return np.hypot(points[:, 0] - fit[0], points[:, 1] - fit[1]) - fit[2]


def _best_of_triples(points: np.ndarray, tolerance: float, extent: np.ndarray) -> np.ndarray | None:
    """Circle (row, column, radius) through three points that passes near most others.

    M. A. Fischler and R. C. Bolles, Random sample consensus, Comm. ACM 24 (1981) 381-395; the draws are fixed.
    """
    draws = np.random.default_rng(0).integers(0, len(points), (_TRIALS, 3))
    a, b, c = (points[draws[:, n]] for n in range(3))
    u, v = b - a, c - a
    cross = 2 * (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
    usable = np.abs(cross) > 1e-6 * np.prod(extent)
    a, u, v, cross = a[usable], u[usable], v[usable], cross[usable]
    uu, vv = (u**2).sum(1), (v**2).sum(1)
    offset = np.stack([(v[:, 1] * uu - u[:, 1] * vv) / cross, (u[:, 0] * vv - v[:, 0] * uu) / cross], axis=1)
    fits = np.column_stack([a + offset, np.hypot(*offset.T)])
    fits = fits[(fits[:, 2] > 0.1 * extent.min()) & (fits[:, 2] < 3 * extent.max())]
    if len(fits) == 0:
        return None
    votes = [np.count_nonzero(np.abs(_residuals(points, fit)) < tolerance) for fit in fits]
    return fits[int(np.argmax(votes))]


def _least_squares(points: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """One Gauss-Newton step towards the circle of least squared distance from the points."""
    away = points - fit[:2]
    distance = np.hypot(*away.T)
    jacobian = np.column_stack([-away / distance[:, None], -np.ones(len(points))])
    step = np.linalg.lstsq(jacobian, fit[2] - distance, rcond=None)[0]
    return fit + step


def _separating(blank: np.ndarray, spacing: tuple[float, float], circle: Circle) -> Circle:
    """The circle moved by a fraction of a voxel so that, where possible, exactly the blank columns lie outside."""
    reach = _RIM * max(spacing)
    snapped = Circle(tuple(round(2 * c) / 2 for c in circle.centre), circle.radius)
    for candidate in (snapped, circle):
        distances = candidate.distances(blank.shape, spacing)
        near = np.abs(distances - circle.radius) < reach
        inside, outside = distances[near & ~blank], distances[near & blank]
        if inside.size and outside.size and inside.max() < outside.min():
            return Circle(candidate.centre, float(inside.max() + outside.min()) / 2)
    return circle


_STRAY = 0.03  # share of data in a blank column or plane that is put down to defects
_FACE = 0.8  # share of data on the inner face of a box
_RING = 0.6  # share of data just inside a cylinder
_LEAST_SHARE = 0.001
_SECTORS, _PER_SECTOR = 80, 9  # directions in which the wall of a cylinder is looked at


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
    share = _blank_share(region)
    if share == 0 or (region.axis is not None and share < _LEAST_SHARE):
        return None
    return replace(region, share=share, rule=_rule(region, share))


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
    mixed = _ring_is_mixed(region, circle, spacing)
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


def _ring_is_mixed(region: BlankRegion, circle: Circle, spacing: tuple[float, float]) -> bool:
    """Whether the voxels at the wall are mixtures of data and blank value, as in a scan that was resampled."""
    values, visible = _rings(region, circle, spacing, (-0.5, -3.0))
    at_wall, inside = (np.median(np.abs(ring[:, visible].astype(float) - region.value), axis=0) for ring in values)
    return bool(np.mean(at_wall < 0.8 * inside) > 0.55)


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


def _blank_share(region: BlankRegion) -> float:
    nk, nj, ni = region.voxels.shape
    masks = (region.fine_mask(k, np.arange(nj), np.arange(ni)) for k in range(nk))
    return sum(0 if mask is None else int(np.count_nonzero(mask)) for mask in masks) / region.voxels.size


def _rule(region: BlankRegion, share: float) -> str:
    shapes = []
    if region.axis is not None:
        a, b = (f"{radius:.1f}" for radius in region.radii_mm)
        size = f"radius {a}" if a == b else f"radii {a} and {b}"
        shapes.append(f"a cylinder along {'kji'[region.axis]} of {size} mm")
    if region.box != whole_box(region.voxels.shape):
        k, j, i = (f"{start}-{end - 1}" for start, end in region.box)
        shapes.append(f"the box of voxels i {i}, j {j}, k {k}")
    return f"Outside {' and '.join(shapes)} voxels are {region.value:g}: {100 * share:.1f} % of the volume is blank."


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
