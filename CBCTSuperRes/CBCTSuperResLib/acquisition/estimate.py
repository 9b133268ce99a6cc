"""What a scan tells of the scanner that made it: blur along each axis, noise, and whether a kernel has sharpened it.

Blur is what `scanner` means by it: the standard deviation of a Gaussian before the mean over a voxel, here in voxels of
the scan. It is found in two ways that know nothing of each other. Strong, straight edges are fitted one by one
(`edge_fit`); the sharp ones among them count, because objects are soft, too. And the spectrum around them: sharp
surfaces have a power that falls with frequency f as f^-4 in three dimensions and f^-3 in slices; what it falls more
steeply, beside the noise, is exp(-4 pi^2 f^2 s^2) of the blur. From both, the voxel's own mean and the objects'
softness are taken away. Only where the two agree is the blur sure.

A few dozen blocks of the scan are looked at, however large it is.

How soft objects are shows where edges are clearly sharper across the slices than in them: no object is softer than
those. Elsewhere an object that is softer than objects usually are looks exactly like a scan of more blur; no scan tells
the two apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from .edge_fit import CELL, REACH, Edges, fit_edges, strongest_edges, surroundings
from .noise_level import DEPTH, PIECE, NoiseLevel, noise_of_cut_off_pieces, noise_of_pieces
from .scanner import gaussian_kernel

CORE = 24  # voxels along the edge of a block
RIM = REACH + 1  # voxels around it that are looked at, too
STEP = 4  # voxels of the lattice that tells which blocks to look at
BLOCKS_PER_AXIS, NOISE_BLOCKS = 14, 30
CUT_OFF = 0.02  # of a piece: with more of its voxels at the lowest or highest grey value of all, noise is cut off there
SPECTRUM, SPECTRA_PER_AXIS = 20, 60  # voxels along the edge of a cube around an edge, and how many of them
EDGES_PER_AXIS = 180
FEWEST_EDGES, SURE_EDGES = 8, 24
ALONG = 0.6  # square of a normal's part along an axis from which an edge tells of that axis
LOWER = {3: 0.9, 2: 1.2}  # standard deviations below their median at which edges' widths count: the sharp ones, and in
# slices alone, which do not tell how surfaces lean, fewer of them, as leaning ones look softer
CONTRAST = 0.12  # of the range of grey values: lower edges are not looked at
MISFIT = 0.06  # of an edge's height, besides the noise: what a good fit may leave
FAR = 0.6  # of an edge's height: what other structures may change beyond it
VOXEL_VARIANCE = 1 / 12  # of the mean over one voxel
SOFTNESS = 0.17  # voxels: standard deviation of objects' own softness, measured on drawn jaws
LEAST_ERROR = 0.05  # voxels
SHARPER = 0.85  # edges so much narrower across the slices than in them tell how soft objects are
SOFTNESS_ERROR = 0.06  # voxels squared: how much that differs from object to object
SURFACE_FALL = {3: 4.0, 2: 3.0}
LOWEST_FREQUENCY, HIGHEST_FREQUENCY = 0.1, 0.42
ABOVE_NOISE = 4.0
AGREEMENT, AGREEMENT_SHARE = 0.25, 0.25  # voxels, and share of the blur, by which two ways may differ
SHARPENED = 0.03  # of an edge's height: overshoot on both sides that no plain blur makes
FWHM = 2.3548  # of a Gaussian, in standard deviations

Masks = Callable[[int], np.ndarray | None]


@dataclass(frozen=True)
class BlurAlongAxis:
    """The blur along one axis of a scan.

    Attributes
    ----------
    sd, error : float or None
        Standard deviation before the voxel's mean, and its uncertainty, in voxels; None where nothing told.
    by_edges, by_spectrum : float or None
        What each way found.
    edges : int
        How many edges told of it.
    is_sure : bool
        Whether both ways agree, here or along the other axis of the slices.
    doubt : str
        Why it is not sure, or where it was taken from; "" if both ways found it here.
    """

    sd: float | None = None
    error: float | None = None
    by_edges: float | None = None
    by_spectrum: float | None = None
    edges: int = 0
    is_sure: bool = False
    doubt: str = ""


@dataclass(frozen=True)
class EstimatedAcquisition:
    """What a scan tells of its scanner.

    Attributes
    ----------
    spacing : (i, j, k)
        Voxel size in mm.
    blur : three BlurAlongAxis
        Along (k, j, i).
    noise : NoiseLevel or None
        None where no flat tissue was found.
    softness_mm : float or None
        Standard deviation of the objects' own softness, where it could be measured: where edges are clearly sharper
        across the slices than in them, no object is softer than the former. None where a usual one was taken.
    overshoot : float
        Median of what strong edges go beyond both of their plateaus, in units of their height.
    is_sharpened : bool
        Whether that is more than a plain blur would make.
    voxels_read : int
        How many voxels were looked at.
    """

    spacing: tuple[float, float, float]
    blur: tuple[BlurAlongAxis, BlurAlongAxis, BlurAlongAxis]
    noise: NoiseLevel | None
    softness_mm: float | None = None
    overshoot: float = 0.0
    is_sharpened: bool = False
    voxels_read: int = 0

    @property
    def in_plane_is_sure(self) -> bool:
        return all(axis.is_sure for axis in self.blur[1:])

    @property
    def finest_spacing_mm(self) -> float | None:
        """Voxel size in the slices below which voxels show no more, see the function of that name."""
        widths = [axis.sd * step for axis, step in zip(self.blur[1:], self.spacing[1::-1], strict=True) if axis.sd]
        return finest_spacing_mm(float(np.mean(widths))) if widths else None

    def fwhm_mm(self) -> list[tuple[float, float] | None]:
        """Full width at half maximum and its uncertainty along (i, j, k), in mm."""
        return [
            None if axis.sd is None else (FWHM * axis.sd * step, FWHM * axis.error * step)
            for axis, step in zip(self.blur[::-1], self.spacing, strict=True)
        ]

    def sentences(self, window_width: float | None = None) -> list[str]:
        """What was found, for people.

        Parameters
        ----------
        window_width : float, optional
            In grey values: noise is told as a share of it, too.
        """
        told = []
        for name, axis, width in zip("ijk", self.blur[::-1], self.fwhm_mm(), strict=True):
            doubt = f" ({axis.doubt})" if axis.doubt else ""
            if width is None:
                told.append(f"{name} unknown{doubt}")
            elif axis.sd <= axis.error:
                told.append(
                    f"{name} below {FWHM * (axis.sd + axis.error) * self.spacing['ijk'.index(name)]:.2g} mm{doubt}"
                )
            else:
                told.append(f"{name} {width[0]:.2g} \u00b1 {width[1]:.1g} mm{doubt}")
        found = [f"Blur of the scanner (full width at half maximum): {', '.join(told)}."]
        if self.is_sharpened:
            found.append(
                f"The scan was sharpened by its reconstruction kernel: edges overshoot by {100 * self.overshoot:.0f} %."
            )
        if self.noise is None:
            found.append("Noise: no flat tissue was found to measure it in.")
        else:
            share = f" ({100 * self.noise.sd / window_width:.2g} % of the window)" if window_width else ""
            found.append(
                f"Noise: {self.noise.sd:.3g} grey values{share}; neighbours share {self.noise.in_plane:z.2f} of it in "
                f"a slice and {self.noise.across:z.2f} across slices (correlation)."
            )
        if (finest := self.finest_spacing_mm) is not None:
            found.append(f"The scan's blur supports {finest:.2g} mm; finer voxels show no more.")
        return found

    def to_json(self) -> dict:
        """For reports; axes along (i, j, k)."""
        widths = self.fwhm_mm()
        return {
            "blur_fwhm_mm": [None if w is None else round(w[0], 4) for w in widths],
            "blur_fwhm_error_mm": [None if w is None else round(w[1], 4) for w in widths],
            "blur_voxels": [None if axis.sd is None else round(axis.sd, 4) for axis in self.blur[::-1]],
            "blur_is_sure": [axis.is_sure for axis in self.blur[::-1]],
            "blur_doubt": [axis.doubt for axis in self.blur[::-1]],
            "edges": [axis.edges for axis in self.blur[::-1]],
            "noise": None if self.noise is None else float(f"{self.noise.sd:.4g}"),
            "noise_error": None if self.noise is None else float(f"{self.noise.error:.2g}"),
            "noise_correlation_in_plane": None if self.noise is None else round(self.noise.in_plane, 3),
            "noise_correlation_across": None if self.noise is None else round(self.noise.across, 3),
            "overshoot": round(self.overshoot, 4),
            "is_sharpened": self.is_sharpened,
            "finest_spacing_mm": None if self.finest_spacing_mm is None else float(f"{self.finest_spacing_mm:.3g}"),
            "voxels_read": self.voxels_read,
        }


def finest_spacing_mm(blur_mm: float) -> float:
    """Voxel size below which voxels show no more: at its Nyquist frequency a blur, its sd in mm, passes 2 %.

    What it passes less of drowns in usual noise. exp(-2 pi^2 s^2 f^2) = 0.02 at f = 1 / (2 x spacing) gives
    spacing = pi s / sqrt(2 ln 50) = 1.12 s.
    """
    return float(np.pi / np.sqrt(2 * np.log(50)) * blur_mm)


def estimate(
    voxels: np.ndarray,
    spacing: Sequence[float],
    window: tuple[float, float] | None = None,
    blanks: Masks | None = None,
) -> EstimatedAcquisition:
    """Estimate blur and noise of a scan.

    Parameters
    ----------
    voxels : ndarray, shape (k, j, i)
        Grey values of the whole scan; only some blocks are read.
    spacing : (i, j, k)
        Voxel size in mm.
    window : (lo, hi), optional
        Grey values of the tissues: what lies farther beyond it than half of its width, such as metal, does not count.
        The percentiles 0.5 and 99.5 if not given.
    blanks : callable, optional
        Blank voxels (j, i) of slice k, or None; `BlankRegion.mask`.
    """
    scan = _Blocks(voxels, window, blanks)
    noise = noise_of_pieces(scan.pieces()) or noise_of_cut_off_pieces(scan.pieces(are_cut_off=True), scan.lowest)
    good, places = None, np.empty((0, 4), np.intp)
    if found := scan.edges():
        which = _are_good(found[0], noise, scan.width)
        good, places = found[0].chosen(which), found[1][which]
    steps = np.array(spacing[::-1], np.float64)
    by_edges = _variances_by_edges(good, scan.axes)
    by_spectrum = [scan.variance_by_spectrum(axis, good, places, noise) for axis in range(3)]
    seen = [None if one is None else one[0] for one in by_edges]
    measured = _softness(seen, steps)
    usual = SOFTNESS * float(np.sqrt(steps[1] * steps[2]))
    softness = ((measured or usual) / steps) ** 2
    # what is softness to edges need not be so to spectra, in which objects' shapes differ, too
    spectral = softness if measured is None or None in by_spectrum else _beyond_voxel(by_spectrum[0], steps)
    k, j, i = map(_judged, by_edges, by_spectrum, softness, spectral, voxels.shape)
    j, i = _like_the_other(j, i, "i", spacing[0] / spacing[1]), _like_the_other(i, j, "j", spacing[1] / spacing[0])
    strong = good.overshoot if good else np.empty(0)
    overshoot = float(np.median(strong)) if len(strong) >= FEWEST_EDGES else 0.0
    return EstimatedAcquisition(
        tuple(map(float, spacing)),
        (k, j, i),
        noise and replace(noise, samples=None),
        measured,
        overshoot,
        overshoot > SHARPENED and len(strong) >= SURE_EDGES,
        scan.voxels_read,
    )


def _are_good(edges: Edges, noise: NoiseLevel | None, width: float) -> np.ndarray:
    """Edges that are high, straight and alone enough to believe their fit."""
    noise_sd = noise.sd if noise else 0.0
    return (
        (edges.height > max(CONTRAST * width, 5 * noise_sd))
        & (edges.residual < MISFIT * edges.height + 1.2 * noise_sd)
        & (edges.shift < 1.5)
        & (edges.variance_error < np.maximum(0.5 * edges.variance, LEAST_ERROR))
        & (edges.beyond < FAR)
    )


def _variances_by_edges(edges: Edges | None, axes: int) -> list[tuple[float, float, int] | None]:
    """Variance of the edges' widths along (k, j, i) in voxels squared, its standard error, and how many told of it."""
    found: list[tuple[float, float, int] | None] = [None] * 3
    if not edges:
        return found
    squares = edges.normals**2
    groups = {axis: squares[:, axis] > ALONG for axis in range(3 - axes, 3)}
    groups = {axis: group for axis, group in groups.items() if np.count_nonzero(group) >= FEWEST_EDGES}
    variance = np.full(3, _sharpest(edges.variance, edges.variance_error, axes))
    for _ in range(6):
        for axis, group in groups.items():
            rest = edges.variance - squares @ variance + squares[:, axis] * variance[axis]
            along = (rest / np.maximum(squares[:, axis], ALONG))[group]
            error = edges.variance_error[group] / squares[group, axis]
            variance[axis] = max(_sharpest(along, error, axes), 0.0)
            spread = 1.4826 * float(np.median(np.abs(along - np.median(along))))
            found[axis] = (float(variance[axis]), 1.36 * spread / np.sqrt(len(along)), len(along))
    return found


def _softness(variances: Sequence[float | None], steps: np.ndarray) -> float | None:
    """Softness of objects in mm, if edges across the slices are clearly sharper than in them.

    Parameters
    ----------
    variances : (k, j, i)
        Of edges' widths, in voxels squared.
    steps : (k, j, i)
        Voxel size in mm.
    """
    across, *in_plane = (
        None if variance is None else float(np.sqrt(max(variance - VOXEL_VARIANCE, 0.0)) * step)
        for variance, step in zip(variances, steps, strict=True)
    )
    in_plane = [width for width in in_plane if width is not None]
    return across if across is not None and in_plane and across < SHARPER * float(np.mean(in_plane)) else None


def _beyond_voxel(across: float, steps: np.ndarray) -> np.ndarray:
    """What a variance across the slices, in voxels squared, is along every axis, without the voxel's own."""
    return max(across - VOXEL_VARIANCE, 0.0) * (steps[0] / steps) ** 2


def _sharpest(variance: np.ndarray, error: np.ndarray, axes: int) -> float:
    """The variance of sharp edges among those that are clear, without what errors of the fits scatter."""
    clearer = error <= np.median(error)
    variance, error = variance[clearer], error[clearer]
    middle = float(np.median(variance))
    spread = 1.4826 * float(np.median(np.abs(variance - middle)))
    return middle - LOWER[axes] * float(np.sqrt(max(spread**2 - np.median(error) ** 2, 0.0)))


def _judged(
    by_edges: tuple[float, float, int] | None, by_spectrum: float | None, softness: float, spectral: float, length: int
) -> BlurAlongAxis:
    """The blur along an axis of so many voxels from what both ways found, and call soft, as variances in voxels^2."""
    spectrum = None
    if by_spectrum is not None:
        least, most = (by_spectrum - VOXEL_VARIANCE - soft for soft in sorted((softness, spectral), reverse=True))
        nearest = least if by_edges is None else min(max(by_edges[0] - VOXEL_VARIANCE - softness, least), most)
        spectrum = _nominal(nearest)
    if by_edges is None:
        doubt = "a single slice" if length == 1 else "too few slices" if length < 2 * RIM + CELL else "too few edges"
        return BlurAlongAxis(by_spectrum=spectrum, doubt=doubt)
    variance, error, count = by_edges
    sd = _nominal(variance - VOXEL_VARIANCE - softness)
    doubtful = np.hypot(error, SOFTNESS_ERROR)
    lower, upper = (_nominal(variance + side * doubtful - VOXEL_VARIANCE - softness) for side in (-1, 1))
    doubt = ""
    if count < SURE_EDGES:
        doubt = f"only {count} edges"
    elif spectrum is None:
        doubt = "its spectrum is hidden by noise"
    elif not _agree(variance - VOXEL_VARIANCE - softness, nearest):
        doubt = f"edges and spectrum disagree, {sd:.2f} against {spectrum:.2f} voxels"
    return BlurAlongAxis(sd, max(LEAST_ERROR, (upper - lower) / 2), sd, spectrum, count, not doubt, doubt)


def _agree(*variances: float) -> bool:
    """Whether two variances of a blur, in voxels squared, mean nearly the same."""
    one, other = np.sqrt(np.maximum(variances, 0))
    return bool(abs(one - other) <= max(AGREEMENT, AGREEMENT_SHARE * max(one, other)))


def _like_the_other(axis: BlurAlongAxis, other: BlurAlongAxis, name: str, ratio: float) -> BlurAlongAxis:
    """An axis with too few edges of its own takes the blur of the other one in the slice: scanners treat both alike.

    `ratio` is the other one's voxel size in its own.
    """
    if axis.is_sure or not other.is_sure or axis.edges >= SURE_EDGES:
        return axis
    sd, error = other.sd * ratio, 1.5 * other.error * ratio
    return replace(axis, sd=sd, error=error, is_sure=True, doubt=f"taken from {name}: {axis.doubt}")


_SIGMAS = np.linspace(0, 6, 601)
_VARIANCES = np.array(
    [np.sum(k * (np.arange(len(k)) - len(k) // 2) ** 2) for k in (gaussian_kernel(float(s)) for s in _SIGMAS)]
)


def _nominal(variance: float) -> float:
    """Standard deviation, in voxels, by which `scanner` calls a blur of this variance, in voxels squared.

    A sampled Gaussian of few fine pixels, two to a voxel, is narrower than it is called.
    """
    if variance <= 1e-6:
        return 0.0
    return float(np.interp(4 * variance, np.maximum.accumulate(_VARIANCES), _SIGMAS)) / 2


class _Blocks:
    """The blocks of a scan that are looked at."""

    def __init__(self, voxels: np.ndarray, window: tuple[float, float] | None, blanks: Masks | None) -> None:
        self._voxels = voxels
        self.axes = 3 if len(voxels) >= 2 * RIM + CELL else 2
        self.voxels_read = 0
        self._rim = (RIM if self.axes == 3 else 0, RIM, RIM)
        inner = [max(1, n - 2 * rim) for n, rim in zip(voxels.shape, self._rim, strict=True)]
        self._core = tuple(-(-n // -(-n // CORE)) for n in inner)  # as many blocks as cover all of it
        if self.axes == 2:
            self._core = (1, *self._core[1:])
        sizes = zip(voxels.shape, self._core, self._rim, strict=True)
        starts = [_starts(*size) for size in sizes]
        self._places, self._looks = self._look(starts, blanks)
        sample = np.concatenate([look.ravel() for look in self._looks]) if self._looks else np.zeros(1, np.float32)
        lo, hi = window or np.percentile(sample, (0.5, 99.5))
        self.width = float(hi - lo) or 1.0
        self._bounds = lo - 0.5 * self.width, hi + 0.5 * self.width
        self._ends = float(sample.min()), float(sample.max())
        self._range = np.array([np.ptp(np.percentile(np.clip(b, *self._bounds), (5, 95))) for b in self._looks])
        self._cache: dict[int, np.ndarray] = {}

    def _look(self, starts: list[list[int]], blanks: Masks | None) -> tuple[list[tuple], list[np.ndarray]]:
        """Every block that is nowhere blank, and every `STEP`th of its voxels along each axis."""
        places, looks = [], []
        for k in starts[0]:
            rows = range(k, k + self._core[0], STEP)
            masks = [m for m in map(blanks, rows) if m is not None] if blanks else []
            blank = np.logical_or.reduce(masks) if masks else None
            slab = np.stack([self._voxels[row, ::STEP, ::STEP] for row in rows])
            self.voxels_read += slab.size
            for j, i in product(*starts[1:]):
                if blank is not None and self._touches(blank, j, i):
                    continue
                part = slab[:, j // STEP : (j + self._core[1]) // STEP + 1, i // STEP : (i + self._core[2]) // STEP + 1]
                places.append((k, j, i))
                looks.append(part.astype(np.float32))
        return places, looks

    def _touches(self, blank: np.ndarray, j: int, i: int) -> bool:
        _, rows, columns = self._core
        return bool(blank[max(0, j - RIM) : j + rows + RIM : 2, max(0, i - RIM) : i + columns + RIM : 2].any())

    def _block(self, number: int) -> np.ndarray:
        """A block with its rim, float32."""
        if number not in self._cache:
            box = tuple(
                slice(start - rim, start + core + rim)
                for start, core, rim in zip(self._places[number], self._core, self._rim, strict=True)
            )
            self._cache[number] = self._voxels[box].astype(np.float32)
            self.voxels_read += self._cache[number].size
        return self._cache[number]

    def _strongest(self) -> list[int]:
        """Blocks whose grey values change most along one of the axes."""
        chosen: set[int] = set()
        for axis in range(3 - self.axes, 3):
            steps = [np.abs(np.diff(np.clip(b, *self._bounds), axis=axis)) for b in self._looks]
            lively = np.array([float(np.percentile(s, 90)) if s.size else 0.0 for s in steps])
            chosen |= set(np.argsort(-lively, kind="stable")[:BLOCKS_PER_AXIS].tolist())
        return sorted(chosen)

    def edges(self) -> tuple[Edges, np.ndarray] | None:
        """Fits of the strongest edges within the bounds, as many for each axis; their blocks and places (edges, 4)."""
        found, (lo, hi) = [], self._bounds
        for number in self._strongest():
            block = self._block(number)
            places, normals, strength = strongest_edges(block, self.axes)
            around = surroundings(block, places, self.axes)
            allowed = (around.min(1) >= lo) & (around.max(1) <= hi) if len(places) else np.zeros(0, bool)
            there = np.concatenate([np.full((len(places), 1), number), places], 1)
            found.append((normals[allowed], strength[allowed], around[allowed], there[allowed]))
        if not found:
            return None
        normals, strength, around, there = (np.concatenate(parts) for parts in zip(*found, strict=True))
        chosen: set[int] = set()
        for axis in range(3 - self.axes, 3):
            along = np.flatnonzero(normals[:, axis] ** 2 > ALONG)
            chosen |= set(along[np.argsort(-strength[along], kind="stable")[:EDGES_PER_AXIS]].tolist())
        if not chosen:
            return None
        order = sorted(chosen)
        return fit_edges(around[order], normals[order], self.axes), there[order]

    @property
    def lowest(self) -> float:
        """The lowest grey value of all that were looked at."""
        return self._ends[0]

    def pieces(self, are_cut_off: bool = False) -> np.ndarray:
        """Candidates for flat pieces, (pieces, slices, PIECE, PIECE), from flat blocks and from all over the scan.

        Those of which the file has cut nothing off, or only the others.
        """
        if not self._places:
            return np.empty((0, 1, PIECE, PIECE), np.float32)
        order = np.argsort(self._range, kind="stable")
        count = NOISE_BLOCKS // 2
        spread = order[np.linspace(0, len(order) - 1, min(len(order), count)).astype(int)]
        found = []
        for number in sorted({*order[:count].tolist(), *spread.tolist()}):
            block = self._block(number)
            depth = min(DEPTH, len(block))
            for shift in (0, PIECE // 2):
                part = block[:, shift:, shift:]
                k, j, i = (n // e for n, e in zip(part.shape, (depth, PIECE, PIECE), strict=True))
                cut = part[: k * depth, : j * PIECE, : i * PIECE].reshape(k, depth, j, PIECE, i, PIECE)
                found.append(cut.transpose(0, 2, 4, 1, 3, 5).reshape(-1, depth, PIECE, PIECE))
        pieces = np.concatenate(found)
        lo, hi = self._bounds
        quarter = 0.25 * (hi - lo)  # within the window itself: air and metal have noise of their own
        level = pieces.mean((1, 2, 3))
        cut_off = ((pieces <= self._ends[0]) | (pieces >= self._ends[1])).mean((1, 2, 3))
        return pieces[(level > lo + quarter) & (level < hi - quarter) & ((cut_off < CUT_OFF) != are_cut_off)]

    def variance_by_spectrum(
        self, axis: int, edges: Edges | None, places: np.ndarray, noise: NoiseLevel | None
    ) -> float | None:
        """Variance of the blur along an axis, voxel and softness included, in voxels squared.

        From what is around the good edges across that axis, each in units of its height.
        """
        if not edges or axis < 3 - self.axes:
            return None
        across = np.flatnonzero(edges.normals[:, axis] ** 2 > ALONG)
        across = across[:: -(-len(across) // SPECTRA_PER_AXIS)] if len(across) else across
        power, floor = 0.0, 0.0
        for edge in across.tolist():
            number, *place = places[edge].tolist()
            weight = 1 / edges.height[edge] ** 2
            around = self._around(self._block(number), place)
            if around is None:
                return None
            power, floor = power + weight * _power(around, self.axes), floor + weight
        if not len(across):
            return None
        frequency, signal = _along(power, axis, self.axes)
        grain = np.zeros_like(signal)
        if noise is not None:
            flat = np.mean([_power(piece, self.axes) for piece in noise.samples], 0)
            grain = floor * np.interp(frequency, *_along(flat, axis, self.axes))
        good = (frequency >= LOWEST_FREQUENCY) & (frequency <= HIGHEST_FREQUENCY) & (signal > ABOVE_NOISE * grain)
        if np.count_nonzero(good) < 3:
            return None
        f = frequency[good]
        steepness = np.log(signal[good] - grain[good]) + SURFACE_FALL[self.axes] * np.log(f)
        return float(np.polyfit(-4 * np.pi**2 * f**2, steepness, 1)[0])

    def _around(self, block: np.ndarray, place: list[int]) -> np.ndarray | None:
        """A cube of `SPECTRUM` voxels around a place, as far within the block as need be; None if it is too small."""
        edge = [SPECTRUM if axis >= 3 - self.axes else 1 for axis in range(3)]
        if any(n < e for n, e in zip(block.shape, edge, strict=True)):
            return None
        starts = [min(max(0, p - e // 2), n - e) for p, e, n in zip(place, edge, block.shape, strict=True)]
        return block[tuple(slice(s, s + e) for s, e in zip(starts, edge, strict=True))]


def _starts(length: int, core: int, rim: int) -> list[int]:
    """First voxels of the cores of blocks along an axis."""
    inner = length - 2 * rim
    return [min(rim + n * core, length - rim - core) for n in range(-(-inner // core))] if inner >= 1 else []


def _power(block: np.ndarray, axes: int) -> np.ndarray:
    """Power spectrum of a block under a Hann window; 1 in every bin for white noise of variance 1."""
    along = tuple(range(3 - axes, 3))
    weight = np.ones(block.shape, np.float32)
    for axis in along:
        n = block.shape[axis]
        weight *= np.hanning(n + 2)[1:-1].astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    flat = (block - np.sum(block * weight) / weight.sum()) * weight
    return np.abs(np.fft.fftn(flat, axes=along)) ** 2 / np.sum(weight**2)


def _along(power: np.ndarray, axis: int, axes: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies along an axis, cycles a voxel, and the mean power of waves within 20 degrees of the axis."""
    frequencies = [np.fft.fftfreq(n) if a >= 3 - axes else [0.0] for a, n in enumerate(power.shape)]
    grids = np.meshgrid(*frequencies, indexing="ij")
    length = power.shape[axis]
    part = np.abs(grids[axis])
    near = (part > 0.94 * np.sqrt(sum(g * g for g in grids))) & (part > 0)
    bins = np.rint(part[near] * length).astype(int)
    count = np.bincount(bins, minlength=length // 2 + 1)
    total = np.bincount(bins, power[near], minlength=length // 2 + 1)
    return np.arange(len(count)) / length, total / np.maximum(count, 1)
