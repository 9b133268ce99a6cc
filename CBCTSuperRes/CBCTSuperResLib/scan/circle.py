"""The circle that bounds a cylindrical field of view, in a projection of the volume along the cylinder's axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
