"""Noise of a scan, in pieces where nothing but noise is: its standard deviation, and what neighbours share of it.

Which pieces may be flat is told by how much the means of their eighths differ: by the slow part of what is in them,
which says little of the noise's strength. Of these, structure makes the variances of some larger, and of none smaller:
the lowest tenth tells of the noise. Variances of pure noise scatter as a chi-squared does, whose degrees of freedom
follow from what neighbours share; its lowest tenth is known, and so is what fitting a surface to each piece takes from
it. Slices' differences do the same without what lies alike in neighbouring slices; the smaller of both counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from statistics import NormalDist

import numpy as np

PIECE = 8  # voxels along the edge of a piece, within a slice
DEPTH = 4  # slices of a piece, if there are as many
FLAT_SHARE, LOWEST_SHARE = 0.3, 0.3  # of the pieces by their slow part; of these by their variance
FEWEST, MOST = 24, 1200
LOWEST = {0.05: -1.645, 0.1: -1.282, 0.2: -0.842}  # quantiles of variances, and of the normal distribution
SHARED_BY_ALL = 0.11  # times c (1 - c^2): how much less neighbours share in the lowest pieces than in all; measured
UPPER, MOST_CUT_OFF = 0.9, 0.6  # of a piece: the quantile that is looked at, and what may be cut off below
CORRELATIONS = np.linspace(0, 0.9, 46)


@dataclass(frozen=True)
class NoiseLevel:
    """Noise of a scan.

    Attributes
    ----------
    sd : float
        Standard deviation in grey values.
    error : float
        Its uncertainty: from how far the lowest quantiles of the pieces' variances agree, and from their number.
    in_plane, across : float
        Correlation of neighbouring voxels within a slice, and of the same voxel in neighbouring slices; 0 for `across`
        in a single slice.
    samples : ndarray, shape (pieces, slices, PIECE, PIECE), or None
        The flat pieces that this was found in, as long as they are of use.
    corner : float
        Power of the waves that are shortest along both axes of a slice, over that of the strongest ones: what a blur
        takes first. 0 where it was not measured.
    """

    sd: float
    error: float
    in_plane: float
    across: float
    samples: np.ndarray | None = field(default=None, repr=False, compare=False)
    corner: float = 0.0


def noise_of_pieces(pieces: np.ndarray) -> NoiseLevel | None:
    """Noise from candidates for flat pieces, (pieces, slices, PIECE, PIECE); None if there are too few that vary."""
    if not len(pieces):
        return None
    pieces = pieces.astype(np.float32)
    slices = pieces.shape[1]
    pieces = pieces[(pieces.std(axis=(2, 3)) > 0).all(1)]
    if len(pieces) < FEWEST // 2:
        return None
    halves = [part.mean(1) for part in np.array_split(pieces, min(2, slices), axis=1)]
    h = PIECE // 2
    means = np.stack([part[:, a : a + h, b : b + h].mean((1, 2)) for part in halves for a in (0, h) for b in (0, h)], 1)
    count = min(len(pieces), int(np.clip(FLAT_SHARE * len(pieces), FEWEST, MOST)))
    flat = pieces[np.argpartition(np.ptp(means, 1), count - 1)[:count]].astype(np.float64)
    rest = _without_surface(flat)
    variances = (rest**2).mean((1, 2, 3))
    lowest = np.argsort(variances, kind="stable")[: max(FEWEST // 2, int(LOWEST_SHARE * count))]

    low = rest[lowest]
    seen = (_median_correlation(low[..., :-1], low[..., 1:]) + _median_correlation(low[:, :, :-1], low[:, :, 1:])) / 2
    kept, freedom, left = _of_surfaces()
    in_plane = _of_all(float(np.interp(seen, left, CORRELATIONS)))
    kept, freedom = (float(np.interp(in_plane, CORRELATIONS, of)) for of in (kept, freedom))
    across, differences = 0.0, None
    if slices > 1:
        fine = low[:, :, :, 1:-1] - 0.5 * (low[:, :, :, 2:] + low[:, :, :, :-2])  # of noise, hardly of anatomy
        across = _of_all(_median_correlation(fine[:, :-1], fine[:, 1:]))
        if across < 0.95:
            differences = (np.diff(rest, axis=1) ** 2).mean((1, 2, 3)) / (2 * (1 - across))
    found = []
    for share, deviate in LOWEST.items():
        level = np.quantile(variances, share) / _chi_squared(freedom * _independent(slices, across), deviate)
        if differences is not None:
            between = _chi_squared(freedom * _independent(slices - 1, across - 0.5), deviate)
            level = min(level, np.quantile(differences, share) / between)
        found.append(float(np.sqrt(level / kept)))
    error = np.hypot(np.ptp(found) / 2, found[1] / np.sqrt(2 * freedom * max(1, 0.1 * count)))
    return NoiseLevel(found[1], float(error), in_plane, float(across), flat[lowest], _corner(low))


def noise_of_cut_off_pieces(pieces: np.ndarray, lowest: float) -> NoiseLevel | None:
    """Noise from candidates for flat pieces of which a file has cut off what is below its `lowest` grey value.

    The share that lies there and a quantile above it tell the width of a normal distribution. Pieces with structure are
    wider. None if there are too few.
    """
    share = (pieces <= lowest).mean((1, 2, 3))
    pieces, share = (part[(share > 0) & (share < MOST_CUT_OFF)] for part in (pieces.astype(np.float64), share))
    if len(pieces) < FEWEST // 2:
        return None
    deviate = NormalDist().inv_cdf
    upper = np.quantile(pieces.reshape(len(pieces), -1), UPPER, axis=1)
    found = (upper - lowest) / (deviate(UPPER) - np.array([deviate(one) for one in share]))
    least, sd, most = np.quantile(found, (0.3, 0.4, 0.5))
    flat = pieces[np.argsort(found, kind="stable")[: max(FEWEST // 2, int(LOWEST_SHARE * len(pieces)))]]
    rest = flat - flat.mean((1, 2, 3), keepdims=True)
    along_rows = _median_correlation(rest[..., :-1], rest[..., 1:])
    in_plane = (along_rows + _median_correlation(rest[:, :, :-1], rest[:, :, 1:])) / 2
    across = _median_correlation(rest[:, :-1], rest[:, 1:]) if pieces.shape[1] > 1 else 0.0
    return NoiseLevel(float(sd), float(most - least) / 2, in_plane, across, flat)


def _of_all(correlation: float) -> float:
    """Of neighbours in all pieces, from that in the lowest: where much is shared by chance, variances are large."""
    return correlation + SHARED_BY_ALL * correlation * (1 - correlation**2)


def _corner(pieces: np.ndarray) -> float:
    """See `NoiseLevel`."""
    weight = np.hanning(PIECE + 2)[1:-1]
    power = np.mean(np.abs(np.fft.fft2(pieces * np.outer(weight, weight))) ** 2, (0, 1))
    return float(power[PIECE // 2, PIECE // 2] / power.max())


def _without_surface(pieces: np.ndarray) -> np.ndarray:
    """What a second-order surface leaves of each slice of a piece."""
    flattened, smooth = pieces.reshape(*pieces.shape[:2], -1), _surface()
    return (flattened - (flattened @ smooth) @ smooth.T).reshape(pieces.shape)


@cache
def _surface() -> np.ndarray:
    """Second-order surfaces of a slice of a piece as an orthonormal base, (voxels, 6)."""
    y, x = (grid.ravel() for grid in np.meshgrid(*[np.linspace(-1, 1, PIECE)] * 2, indexing="ij"))
    return np.linalg.qr(np.stack([np.ones_like(y), y, x, y * y, x * y, x * x], 1))[0]


@cache
def _of_surfaces() -> np.ndarray:
    """What is left of noise without a second-order surface, for each of `CORRELATIONS` of neighbouring pixels.

    Noise that a Gaussian has smoothed: pixels l apart have the correlation c^(l^2). Three rows: the share of its
    variance that is left; the degrees of freedom of what is left, tr(C)^2 / tr(C^2) of its covariances C
    (Satterthwaite 1946); the correlation of neighbours in it.
    """
    surface = _surface()
    leaves = np.eye(PIECE**2) - surface @ surface.T
    apart = (np.arange(PIECE)[:, None] - np.arange(PIECE)) ** 2
    found = []
    for correlation in CORRELATIONS:
        along = np.where(apart == 0, 1.0, correlation**apart)
        covariance = leaves @ np.kron(along, along) @ leaves
        trace = np.trace(covariance)
        grid = covariance.reshape([PIECE] * 4)
        neighbours = np.einsum("jiji->", grid[:, 1:, :, :-1]) / (PIECE * (PIECE - 1))
        found.append((trace / PIECE**2, trace**2 / np.sum(covariance**2), neighbours / (trace / PIECE**2)))
    return np.transpose(found)


def _independent(slices: int, correlation: float) -> float:
    """As many independent slices scatter as these do, of which neighbours share so much."""
    shared = np.abs(correlation) ** np.arange(1, slices)
    return slices / (1 + 2 * float(np.sum((1 - np.arange(1, slices) / slices) * shared**2)))


def _chi_squared(freedom: float, deviate: float) -> float:
    """A quantile of chi-squared over its mean, by that of the normal distribution (Wilson and Hilferty 1931)."""
    spread = 2 / (9 * freedom)
    return max(0.05, 1 - spread + deviate * np.sqrt(spread)) ** 3


def _median_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of neighbours in the same piece; the median over the pieces."""
    product, first, second = ((p * q).mean((1, 2, 3)) for p, q in ((a, b), (a, a), (b, b)))
    return float(np.clip(np.median(product / np.sqrt(np.maximum(first * second, 1e-30))), -1, 1))
