"""Noise of a scan, in pieces where nothing but noise is: its standard deviation, and what neighbours share of it.

Which pieces are flat is told by how much the means of their eighths differ: by the slow part of what is in them, which
says little of the noise's strength. Slices' differences alone would make noise that slices share too small; flat pieces
alone would take texture for noise. Where both can be had, the smaller counts, after the slices' correlation.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

PIECE = 8  # voxels along the edge of a piece, within a slice
DEPTH = 4  # slices of a piece, if there are as many
FLAT_SHARE = 0.1
FEWEST, MOST = 12, 400


@dataclass(frozen=True)
class NoiseLevel:
    """Noise of a scan.

    Attributes
    ----------
    sd : float
        Standard deviation in grey values.
    error : float
        Standard error of `sd`, from how much the pieces differ.
    in_plane, across : float
        Correlation of neighbouring voxels within a slice, and of the same voxel in neighbouring slices; 0 for `across`
        in a single slice.
    samples : ndarray, shape (pieces, slices, PIECE, PIECE)
        The flat pieces that this was found in.
    """

    sd: float
    error: float
    in_plane: float
    across: float
    samples: np.ndarray = field(repr=False, compare=False)


def noise_of_pieces(pieces: np.ndarray) -> NoiseLevel | None:
    """Noise from candidates for flat pieces, (pieces, slices, PIECE, PIECE); None if there are too few that vary."""
    if not len(pieces):
        return None
    pieces = pieces.astype(np.float32)
    slices = pieces.shape[1]
    pieces = pieces[(pieces.std(axis=(2, 3)) > 0).all(1)]
    if len(pieces) < FEWEST:
        return None
    halves = [part.mean(1) for part in np.array_split(pieces, min(2, slices), axis=1)]
    h = PIECE // 2
    means = np.stack([part[:, a : a + h, b : b + h].mean((1, 2)) for part in halves for a in (0, h) for b in (0, h)], 1)
    count = int(np.clip(FLAT_SHARE * len(pieces), FEWEST, MOST))
    flat = pieces[np.argpartition(np.ptp(means, 1), count - 1)[:count]]
    flat = flat.astype(np.float64)

    y, x = (grid.ravel() for grid in np.meshgrid(*[np.linspace(-1, 1, PIECE)] * 2, indexing="ij"))
    smooth = np.linalg.qr(np.stack([np.ones_like(y), y, x, y * y, x * y, x * x], 1))[0]

    def without_anatomy(parts: np.ndarray) -> np.ndarray:
        """What a second-order surface leaves of each slice of a piece."""
        flattened = parts.reshape(*parts.shape[:2], -1)
        return (flattened - (flattened @ smooth) @ smooth.T).reshape(parts.shape)

    rest = without_anatomy(flat)
    in_plane = 0.5 * (
        _median_correlation(rest[..., :-1], rest[..., 1:]) + _median_correlation(rest[:, :, :-1], rest[:, :, 1:])
    )
    # the surface takes six slow waves along, which hold more than their share of smooth noise and are hardly different
    # from one pixel to the next
    lost = min(0.7, smooth.shape[1] * np.clip(1 + 2.2 * in_plane, 0.5, 2.5) ** 2 / PIECE**2)
    in_plane, kept = in_plane * (1 - lost) + 0.9 * lost, 1 - lost
    variances = (rest**2).mean((1, 2, 3)) / kept
    variance = float(np.median(variances))
    across = 0.0
    if slices > 1:
        fine = rest[:, :, :, 1:-1] - 0.5 * (rest[:, :, :, 2:] + rest[:, :, :, :-2])  # of noise, hardly of anatomy
        across = _median_correlation(fine[:, :-1], fine[:, 1:])
        differences = np.median((without_anatomy(np.diff(flat, axis=1)) ** 2).mean((1, 2, 3))) / kept
        if across < 0.95:
            variance = min(variance, float(differences) / (2 * (1 - across)))
    spread = 1.4826 * float(np.median(np.abs(np.sqrt(variances) - np.sqrt(np.median(variances)))))
    sd = float(np.sqrt(variance))
    return NoiseLevel(sd, 1.25 * spread / np.sqrt(count), float(in_plane), float(across), flat)


def _median_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of neighbours in the same piece; the median over the pieces."""
    product, first, second = ((p * q).mean((1, 2, 3)) for p, q in ((a, b), (a, a), (b, b)))
    return float(np.clip(np.median(product / np.sqrt(np.maximum(first * second, 1e-30))), -1, 1))
