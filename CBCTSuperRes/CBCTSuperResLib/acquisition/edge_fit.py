"""Straight edges of a scan, each fitted by a step that a Gaussian has blurred: the first way to a scanner's blur.

A step of height b between two plateaus, blurred by a scanner of standard deviations s (in voxels, along each axis),
is a + b Phi((x.n - d) / S) with S^2 = sum_axes n_axis^2 s_axis^2. The position d may bend in the tangent plane as a
second-order surface does. All voxels around an edge are fitted at once: their distances from it are finer spaced than
the voxels (as ISO 12233 does with a slanted edge), so that nothing is interpolated and no interpolation blurs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .scanner import gaussian_blur

REACH = 5  # voxels on either side of an edge that are looked at
TANGENT = 2.6  # voxels along an edge that are fitted
CELL = 4  # at most one edge in a cube of so many voxels
POINTS = 230  # voxels that a fit takes at most: those of a cylinder of 2 x 4.5 x 3.1 voxels
LEAST_WIDTH, MOST_WIDTH = 0.15, 3.0  # standard deviations in voxels between which a step is looked for
FIRST_WIDTH = 4.0  # voxels on either side that the first fit takes; the second takes 2.6 standard deviations
ITERATIONS = 7
SMOOTH = 1.0  # voxels: of the Gaussian before places and normals of edges are looked for
OVERSHOOT_FROM, OVERSHOOT_TO = 1.2, 3.0  # voxels from an edge where a sharpening kernel overshoots


@dataclass(frozen=True, eq=False)
class Edges:
    """Fitted edges; all arrays have one row, or one value, for each.

    Attributes
    ----------
    normals : ndarray, shape (edges, axes)
        Unit normals in voxels, along (k, j, i), or (j, i) in a single slice.
    variance : ndarray
        Square of the fitted standard deviation across the edge, in voxels.
    variance_error : ndarray
        Its standard error, from the fit's residual.
    height : ndarray
        Of the step, in grey values; positive along the normal.
    residual : ndarray
        Root mean square of what the fit leaves, in grey values.
    shift : ndarray
        How far the edge was found from the voxel where it was looked for.
    beyond : ndarray
        How far the profile leaves the plateaus farther out, in units of the height; larger where another edge is near.
    overshoot : ndarray
        How far the profile goes beyond what it is farther out, in units of the height; of both sides the smaller.
    """

    normals: np.ndarray
    variance: np.ndarray
    variance_error: np.ndarray
    height: np.ndarray
    residual: np.ndarray
    shift: np.ndarray
    beyond: np.ndarray
    overshoot: np.ndarray

    def __len__(self) -> int:
        return len(self.height)

    def chosen(self, which: np.ndarray) -> Edges:
        """Some of them."""
        return Edges(**{name: values[which] for name, values in vars(self).items()})


def strongest_edges(block: np.ndarray, axes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, unit normals and strengths of the strongest edges of a block, at most one in a cell.

    Parameters
    ----------
    block : ndarray of float32, shape (k, j, i)
        With a margin of `REACH` + 1 voxels around its core, along the last `axes` axes.
    axes : 2 or 3
        Whether slices are looked at one by one, or the block as a whole.

    Returns
    -------
    places : ndarray of int, shape (edges, 3)
    normals : ndarray of float32, shape (edges, 3)
    strengths : ndarray of float32, shape (edges,)
    """
    along = (0, 1, 2)[-axes:]
    smooth = gaussian_blur(block, SMOOTH, along, truncate=3.0)
    gradient = np.zeros((3, *block.shape), np.float32)
    for axis in along:
        gradient[axis] = np.gradient(smooth, axis=axis)
    rim = [REACH + 1 if axis in along else 0 for axis in range(3)]
    inner = np.sqrt((gradient**2).sum(0))[tuple(slice(r, n - r) for r, n in zip(rim, block.shape, strict=True))]
    cell = [CELL if axis in along else 1 for axis in range(3)]
    counts = [n // c for n, c in zip(inner.shape, cell, strict=True)]
    if 0 in counts:
        return np.empty((0, 3), np.intp), np.empty((0, 3), np.float32), np.empty(0, np.float32)
    cells = inner[tuple(slice(0, n * c) for n, c in zip(counts, cell, strict=True))]
    cells = cells.reshape(counts[0], cell[0], counts[1], cell[1], counts[2], cell[2])
    cells = cells.transpose(0, 2, 4, 1, 3, 5).reshape(int(np.prod(counts)), -1)
    best, strength = cells.argmax(1), cells.max(1)
    corners = np.stack(np.unravel_index(np.arange(len(cells)), counts), 1) * cell
    places = corners + np.stack(np.unravel_index(best, cell), 1) + rim
    kept = strength > 0
    places, strength = places[kept], strength[kept]
    return places, gradient[:, *places.T].T / strength[:, None], strength


def surroundings(block: np.ndarray, places: np.ndarray, axes: int) -> np.ndarray:
    """Grey values around places of a block, in the order of `offsets`, float32 (places, points)."""
    around = places[:, None, :] + offsets(axes)
    return block[around[..., 0], around[..., 1], around[..., 2]]


def offsets(axes: int) -> np.ndarray:
    """Voxels around an edge that are looked at, relative to it, int (points, 3)."""
    steps = np.arange(-REACH, REACH + 1)
    grid = np.meshgrid(*[steps if axis >= 3 - axes else [0] for axis in range(3)], indexing="ij")
    return np.stack(grid, -1).reshape(-1, 3)


def fit_edges(values: np.ndarray, normals: np.ndarray, axes: int) -> Edges:
    """Fit a blurred step to the surroundings of each edge, in two rounds: the second takes what the first found wide.

    Parameters
    ----------
    values : ndarray of float32, shape (edges, points)
        Of `surroundings`.
    normals : ndarray of float32, shape (edges, 3)
    """
    points = offsets(axes).astype(np.float32)
    first = _Fit(values, normals, points, np.full(len(values), FIRST_WIDTH, np.float32), 1.0)
    reach = np.clip(2.6 * first.sigma, 2.0, 4.0)
    fit = _Fit(values, normals, points, reach, first.sigma)
    return fit.edges()


class _Fit:
    """Levenberg-Marquardt for all edges at once. Parameters: plateau, height, sigma, six (or three) of the place."""

    def __init__(self, values, normals, points, reach, sigma) -> None:
        distance = normals @ points.T
        aside = np.sqrt(np.maximum((points**2).sum(1) - distance**2, 0))
        weight = np.clip(reach[:, None] + 0.5 - np.abs(distance), 0, 1) * np.clip(TANGENT + 0.5 - aside, 0, 1)
        self._far = (values, distance, aside)
        self.normals, self._reach = normals, reach
        if weight.shape[1] > POINTS:
            kept = np.argpartition(-weight, POINTS, axis=1)[:, :POINTS]
            values, distance, weight = (np.take_along_axis(a, kept, 1) for a in (values, distance, weight))
        else:
            kept = np.broadcast_to(np.arange(weight.shape[1]), weight.shape)
        self._values, self._distance, self._weight = values, distance, weight
        self._surface = self._tangent_terms(points, kept)
        self.low, high = (_weighted_mean(values, weight * side) for side in (distance < -1.5, distance > 1.5))
        self.height = high - self.low
        self.sigma = np.broadcast_to(np.asarray(sigma, np.float32), self.low.shape).copy()
        self._place = np.zeros((len(values), self._surface.shape[2]), np.float32)
        self._solve()

    def _tangent_terms(self, points: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """1, u, v, u^2, uv, v^2 of each point's coordinates in the tangent plane; 1, u, u^2 in a single slice."""
        flat = not points[:, 0].any()
        helper = np.eye(3, dtype=np.float32)[np.zeros(len(kept), int) if flat else np.argmin(np.abs(self.normals), 1)]
        u_axis = np.cross(self.normals, helper)
        u_axis /= np.maximum(np.linalg.norm(u_axis, axis=1), 1e-6)[:, None]
        u = np.take_along_axis(u_axis @ points.T, kept, 1)
        if flat:
            return np.stack([np.ones_like(u), u, u * u], -1)
        v = np.take_along_axis(np.cross(self.normals, u_axis) @ points.T, kept, 1)
        return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], -1)

    def _model(self, low, height, sigma, place):
        depth = (self._distance - np.matmul(self._surface, place[..., None])[..., 0]) / sigma[:, None]
        share = _normal_cdf(depth)
        return low[:, None] + height[:, None] * share, depth, share

    def _cost(self, model: np.ndarray) -> np.ndarray:
        return (self._weight * (self._values - model) ** 2).sum(1)

    def _solve(self) -> None:
        damping = np.full(len(self.low), 1e-2, np.float64)
        model, depth, share = self._model(self.low, self.height, self.sigma, self._place)
        cost, count = self._cost(model), 3 + self._place.shape[1]
        diagonal = np.arange(count)
        for _ in range(ITERATIONS):
            slope = -(self.height / self.sigma)[:, None] * _normal_density(depth)
            jacobian = np.empty((*depth.shape, count), np.float32)
            jacobian[..., 0], jacobian[..., 1], jacobian[..., 2] = 1, share, slope * depth
            jacobian[..., 3:] = slope[..., None] * self._surface
            weighted = (jacobian * self._weight[..., None]).transpose(0, 2, 1)
            normal = np.matmul(weighted, jacobian).astype(np.float64)
            right = np.matmul(weighted, (self._values - model)[..., None]).astype(np.float64)
            damped = normal.copy()
            damped[:, diagonal, diagonal] *= 1 + damping[:, None]
            damped[:, diagonal, diagonal] += 1e-9 * (1 + normal[:, :1, 0])
            step = np.linalg.solve(damped, right)[..., 0].astype(np.float32)
            low, height = self.low + step[:, 0], self.height + step[:, 1]
            sigma = np.clip(self.sigma + np.clip(step[:, 2], -0.4, 0.4), LEAST_WIDTH, MOST_WIDTH)
            place = self._place + np.clip(step[:, 3:], -1.5, 1.5)
            tried = self._model(low, height, sigma, place)
            better = (new := self._cost(tried[0])) <= cost
            self.low, self.height = np.where(better, low, self.low), np.where(better, height, self.height)
            self.sigma = np.where(better, sigma, self.sigma)
            self._place = np.where(better[:, None], place, self._place)
            for old, candidate in zip((model, depth, share), tried, strict=True):
                old[better] = candidate[better]
            cost = np.where(better, new, cost)
            damping = np.where(better, damping * 0.2, damping * 6)
        self._residual = np.sqrt(cost / np.maximum(self._weight.sum(1) - count, 1))
        inverse = np.linalg.pinv(normal + 1e-9 * np.eye(count), hermitian=True)
        self._sigma_error = np.sqrt(np.maximum(inverse[:, 2, 2], 0)) * self._residual

    def edges(self) -> Edges:
        values, distance, aside = self._far
        depth = (distance - self._place[:, :1]) * np.sign(self.height)[:, None]
        height = np.maximum(np.abs(self.height), 1e-12)
        low = np.where(self.height > 0, self.low, self.low + self.height)
        unit = (values - low[:, None]) / height[:, None]
        narrow = aside < 2.0
        outer = np.maximum(self._reach, 3.2)[:, None]
        ends = [_weighted_mean(unit, narrow & side) for side in (depth < -outer, depth > outer)]
        near = [
            _weighted_mean(unit, narrow & (side * depth > OVERSHOOT_FROM) & (side * depth < OVERSHOOT_TO))
            for side in (-1, 1)
        ]
        overshoot = np.minimum(ends[0] - near[0], near[1] - ends[1]) / np.maximum(ends[1] - ends[0], 0.1)
        return Edges(
            self.normals,
            self.sigma**2,
            2 * self.sigma * self._sigma_error,
            np.abs(self.height),
            self._residual,
            np.abs(self._place[:, 0]),
            np.maximum(np.abs(ends[0]), np.abs(ends[1] - 1)),
            overshoot,
        )


def _weighted_mean(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return (values * weight).sum(1) / np.maximum(weight.sum(1), 1e-6)


def _normal_density(x: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * x * x) * np.float32(1 / np.sqrt(2 * np.pi))


def _normal_cdf(x: np.ndarray) -> np.ndarray:
    """To 2e-7: Abramowitz and Stegun, 7.1.26; numpy has no error function."""
    z = np.abs(x) * np.float32(np.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    tail = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    return np.where(x > 0, 1 - 0.5 * tail * np.exp(-z * z), 0.5 * tail * np.exp(-z * z)).astype(np.float32)
