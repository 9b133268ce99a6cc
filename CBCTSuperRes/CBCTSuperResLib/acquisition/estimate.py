"""What a scan tells of the scanner that made it: blur along each axis, noise, and whether a kernel has sharpened it.

Blur is what `scanner` means by it: the standard deviation of a Gaussian before the mean over a voxel, here in voxels of
the scan. It is found in two ways that know nothing of each other. Strong, straight edges are fitted one by one
(`edge_fit`); the sharp ones among them count, because objects are soft, too. And the spectrum around them: sharp
surfaces have a power that falls with frequency f as f^-4 in three dimensions and f^-3 in slices; what it falls more
steeply, beside the noise, is exp(-4 pi^2 f^2 s^2) of the blur. From both, the voxel's own mean and the objects'
softness are taken away. Only where the two agree is the blur sure.

A few dozen blocks of the scan are looked at (`scan_blocks`), however large it is.

How soft objects are shows where edges are clearly sharper across the slices than in them: no object is softer than
those. Elsewhere an object that is softer than objects usually are looks exactly like a scan of more blur; no scan tells
the two apart. One sign speaks for softness: structures that stand close to each other, as trabeculae of bone do, with
grain between them that is finer than a usual blur leaves anything (`is_of_fine_grain`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from ..core.volume import as_acquired
from .edge_fit import CELL, Edges
from .noise_level import NoiseLevel, noise_of_cut_off_pieces, noise_of_pieces
from .scan_blocks import ALONG, RIM, Masks, ScanBlocks
from .scanner import gaussian_kernel

FEWEST_EDGES, SURE_EDGES = 8, 24
SHARP_SHARE = {3: 0.3, 2: 0.2}  # quantile of edges' widths that counts: sharp ones, the others are of soft objects; in
# slices alone, which do not tell how surfaces lean, fewer of them, as leaning ones look softer
CONTRAST = 0.12  # of the range of grey values: lower edges are not looked at
MISFIT = 0.06  # of an edge's height, besides the noise: what a good fit may leave
FAR = 0.1, 0.2, 0.3, 0.6  # of an edge's height: what other structures may change beyond it; what leaves enough
VOXEL_VARIANCE = 1 / 12  # of the mean over one voxel
SOFTNESS = 0.17  # voxels: standard deviation of objects' own softness, measured on drawn jaws
LEAST_ERROR = 0.05  # voxels
SHARPER = 0.85  # edges so much narrower across the slices than in them tell how soft objects are
SOFTNESS_ERROR = 0.06  # voxels squared: how much that differs from object to object
AGREEMENT, AGREEMENT_SHARE = 0.25, 0.25  # voxels, and share of the blur, by which two ways may differ
CROWDED = 0.2  # of an edge's height (`crowding`): jaws and a molar have 0.05 to 0.13, a part of a jaw up to 0.24,
# trabecular bone 0.28 to 0.96
FULL = (
    0.58  # `fullness`: trabecular bone has 0.63 to 0.8, CT of heads, shoulders, spines 0.01 to 0.5 (of a whole head in
)
# 32 x 32 pixels 0.8)
FINE_GRAIN = 0.029, 0.13  # `NoiseLevel.corner`: micro-CT of bone has 0.034 to 0.1 where it was blurred by 0.2 voxels or
# less, 0.005 to 0.025 by 0.42, with noise of 2 or 3 % that neighbours share; white noise adds to that: 0.16 to 1
SHARPENED = 0.03  # of an edge's height: overshoot on both sides that no plain blur makes
FWHM = 2.3548  # of a Gaussian, in standard deviations


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
    crowding : float
        Median of how far the profiles of the strongest edges in the slices leave their plateaus, in units of the edges'
        heights: other structures stand there. 0 where there are too few edges.
    fullness : float
        How much of the scan's range of grey values three quarters of its blocks hold each; 0 without any.
    voxels_read : int
        How many voxels were looked at.
    across : int
        Which axis, 0 to 2 of (k, j, i), is across the slices.
    """

    spacing: tuple[float, float, float]
    blur: tuple[BlurAlongAxis, BlurAlongAxis, BlurAlongAxis]
    noise: NoiseLevel | None
    softness_mm: float | None = None
    overshoot: float = 0.0
    is_sharpened: bool = False
    crowding: float = 0.0
    fullness: float = 0.0
    voxels_read: int = 0
    across: int = 0

    @property
    def in_plane(self) -> tuple[BlurAlongAxis, BlurAlongAxis]:
        """Blur along the two axes within the slices."""
        return tuple(as_acquired(self.blur, self.across)[1:])

    @property
    def in_plane_is_sure(self) -> bool:
        return all(axis.is_sure for axis in self.in_plane)

    @property
    def is_of_fine_grain(self) -> bool:
        """Whether what is taken for noise between trabeculae is finer than a usual blur leaves.

        That may be grain of the object, and then the scan is sharper than its edges look. White noise is finer still,
        and that of scanners, which neighbours share, hardly as fine. Nothing follows where the objects' softness was
        measured.
        """
        is_fine = self.noise is not None and FINE_GRAIN[0] < self.noise.corner < FINE_GRAIN[1]
        return is_fine and self.is_trabecular and self.softness_mm is None

    @property
    def is_trabecular(self) -> bool:
        """Whether structures stand close, and everywhere: a scan of trabecular bone alone.

        Its native micro-CT is softer than other objects are.
        """
        return self.crowding > CROWDED and self.fullness > FULL

    @property
    def finest_spacing_mm(self) -> float | None:
        """Voxel size in the slices below which voxels show no more, see the function of that name."""
        steps = as_acquired(self.spacing[::-1], self.across)[1:]
        widths = [axis.sd * step for axis, step in zip(self.in_plane, steps, strict=True) if axis.sd]
        return finest_spacing_mm(float(np.mean(widths))) if widths else None

    def as_stored(self, across: int) -> EstimatedAcquisition:
        """What was estimated with k across the slices, of a scan that is stored with that axis in another place."""
        blur, spacing = as_acquired(self.blur, across), as_acquired(self.spacing[::-1], across)[::-1]
        return replace(self, blur=tuple(blur), spacing=tuple(spacing), across=across)

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
            "crowding": round(self.crowding, 3),
            "fullness": round(self.fullness, 3),
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
    scan = ScanBlocks(voxels, window, blanks)
    noise = noise_of_pieces(scan.pieces()) or noise_of_cut_off_pieces(scan.pieces(are_cut_off=True), scan.lowest)
    good, places, crowding = None, np.empty((0, 4), np.intp), 0.0
    if found := scan.edges():
        crowding = _crowding(found[0], noise, scan.width)
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
        crowding,
        scan.fullness,
        scan.voxels_read,
    )


def _are_high(edges: Edges, noise: NoiseLevel | None, width: float) -> np.ndarray:
    """Edges that stand out of the noise."""
    return edges.height > max(CONTRAST * width, 5 * noise.sd if noise else 0.0)


def _are_good(edges: Edges, noise: NoiseLevel | None, width: float) -> np.ndarray:
    """Edges that are high, straight and alone enough to believe their fit; along each axis as alone as there are."""
    noise_sd = noise.sd if noise else 0.0
    good = (
        _are_high(edges, noise, width)
        & (edges.residual < MISFIT * edges.height + 1.2 * noise_sd)
        & (edges.shift < 1.5)
        & (edges.variance_error < np.maximum(0.5 * edges.variance, LEAST_ERROR))
        & (edges.beyond < FAR[-1])
    )
    for group in (edges.normals**2 > ALONG).T:
        enough = [far for far in FAR if np.count_nonzero(good & group & (edges.beyond < far)) >= SURE_EDGES]
        good &= ~group | (edges.beyond < (enough or FAR[-1:])[0])
    return good


def _crowding(edges: Edges, noise: NoiseLevel | None, width: float) -> float:
    """See `EstimatedAcquisition`."""
    in_slices = edges.beyond[_are_high(edges, noise, width) & (edges.normals[:, 0] ** 2 <= ALONG)]
    return float(np.median(in_slices)) if len(in_slices) >= FEWEST_EDGES else 0.0


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
    """Softness of objects in mm, where edges across the slices are clearly sharper than in them, along both axes.

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
    if across is None or not in_plane:
        return None
    return across if across < min(SHARPER * float(np.mean(in_plane)), *in_plane) else None


def _beyond_voxel(across: float, steps: np.ndarray) -> np.ndarray:
    """What a variance across the slices, in voxels squared, is along every axis, without the voxel's own."""
    return max(across - VOXEL_VARIANCE, 0.0) * (steps[0] / steps) ** 2


def _sharpest(variance: np.ndarray, error: np.ndarray, axes: int) -> float:
    """The variance of sharp edges among those that are clear, without what errors of the fits scatter."""
    clearer = error <= np.median(error)
    variance, error = variance[clearer], error[clearer]
    share = SHARP_SHARE[axes]
    scattered = float(np.median(error[variance <= np.median(variance)]))
    return float(np.quantile(variance, share)) - NormalDist().inv_cdf(share) * scattered


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
