"""A result must not contradict the scan: blurred and sampled as the scanner did, it is the scan within its noise.

What a network adds beyond that is taken back by iterative back-projection (Irani and Peleg 1991), with the noise left
alone: of the difference between scan and simulated scan only what exceeds three standard deviations of the noise is
returned, once pixel by pixel and once for local means, in which noise averages out and a contradiction does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil, hypot, log, pi, sqrt
from typing import TYPE_CHECKING

import numpy as np

from ..acquisition.scanner import gaussian_kernel
from ..core.interpolate import REACH as CUBIC_REACH
from ..core.interpolate import enlarge_slice
from .tiles import Axis, Box, Tile, shift

if TYPE_CHECKING:
    from .prepare import Prepared

ITERATIONS = 3
LOCAL = 1.0  # input pixels: standard deviation of the local means
DEVIATIONS = 3.0  # of the noise, within which scan and result agree
TRUNCATE = 4.0
WHITE = 1 / (4 * pi)  # square of the Gaussian whose smoothing white noise of pixels amounts to, in pixels squared
BLOCK_ITERATIONS = 2  # what is around a block must be computed for each
BLUR_REACH = 3.5  # standard deviations of the scanner's blur, for blocks
LOCAL_REACH = 3  # voxels on either side, of the local means in blocks

LEAST_NOISE = 1e-4  # of the window: below it a scan has as good as none


@dataclass
class Agreement:
    """How far a result agrees with its scan, counted slice by slice.

    Attributes
    ----------
    pixels : int
        Pixels of the scan that were compared.
    beyond : int
        Those whose local mean the result misses by more than three standard deviations of its noise.
    worst : float
        The largest of these differences, in standard deviations of the noise of a local mean; 0 without any.
    """

    pixels: int = 0
    beyond: int = 0
    worst: float = 0.0

    @property
    def share_beyond(self) -> float:
        return self.beyond / max(self.pixels, 1)

    @classmethod
    def sum(cls, counts: Iterable[dict]) -> Agreement:
        """That of a volume, from the attributes of those of its parts."""
        total = cls()
        for one in (cls(**attributes) for attributes in counts):
            total.pixels += one.pixels
            total.beyond += one.beyond
            total.worst = max(total.worst, one.worst)
        return total

    def to_json(self) -> dict:
        """For reports."""
        return {"pixels": self.pixels, "share_beyond": round(self.share_beyond, 6), "worst": round(self.worst, 2)}

    def __str__(self) -> str:
        if not self.beyond:
            return f"agrees with the scan within {DEVIATIONS:g} deviations of its noise everywhere"
        return (
            f"agrees with the scan within {DEVIATIONS:g} deviations of its noise everywhere but in "
            f"{100 * self.share_beyond:.2g} % of the voxels"
        )


class Consistency:
    """Takes back what contradicts the scan, slice by slice.

    Parameters
    ----------
    factors : (rows, columns)
        Whole factors of enlargement.
    blur : (rows, columns)
        Standard deviation of the scanner's blur, in input pixels, before the mean over a pixel.
    noise : float
        Standard deviation of the scan's noise, in units of the window; above 0.
    correlation : float
        Of the noise of neighbouring pixels, 0 to below 1.
    smooth : float
        Standard deviation, in input pixels, of the Gaussian that was applied to the scan since.

    Attributes
    ----------
    reach : int
        Input pixels around a pixel beyond which nothing changes its correction.
    agreement : Agreement
        Of all slices that were judged.
    """

    def __init__(
        self,
        factors: Sequence[int],
        blur: Sequence[float],
        noise: float,
        correlation: float = 0.0,
        smooth: float = 0.0,
    ) -> None:
        self._factors = tuple(factors)
        self._kernels = _kernels(factors, blur, smooth)
        self._around = [gaussian_kernel(LOCAL, TRUNCATE)] * 2
        # The noise is as if white noise had been smoothed by a Gaussian of this variance; what smooths it further
        # takes this share of its standard deviation.
        scanned = max(WHITE, 1 / (4 * log(1 / correlation)) if correlation > 0 else 0.0)
        seen = scanned + smooth**2
        self._noise = noise * sqrt(scanned / seen)
        self._local_noise = noise * sqrt(scanned / (seen + LOCAL**2))
        self.reach = reach(factors, blur, smooth)
        self.agreement = Agreement()

    def widened(self, tile: Tile, axes: Sequence[Axis]) -> tuple[Tile, list[Axis]]:
        """A slice's tile with the surroundings that its correction looks at, as far as they are read; and its axes.

        Parameters
        ----------
        tile : Tile
            Along (k, j, i), one slice thick.
        axes : three Axis
        """
        core = tuple(
            slice(max(read.start, part.start - self.reach), min(read.stop, part.stop + self.reach))
            for part, read in zip(tile.core[1:], tile.read[1:], strict=True)
        )
        wide = [
            replace(axis, start=part.start, stop=part.stop, outputs=(part.stop - part.start) * factor)
            for axis, part, factor in zip(axes[1:], core, self._factors, strict=True)
        ]
        write = (tile.write[0], *(slice(0, axis.outputs) for axis in wide))
        return Tile((tile.core[0], *core), tile.read, write), [axes[0], *wide]

    def agreeing(self, estimate: np.ndarray, wide: Tile, tile: Tile, prepared: Prepared) -> np.ndarray:
        """What belongs to `tile` of the corrected network's image of `widened(tile)`, (1, rows, columns); judged."""
        _, *part = shift(wide.core, tile.read)
        scan = prepared.unit[(0, *part)]
        judged = None if prepared.excess is None else prepared.excess[(0, *part)] == 0
        fine = self.correct(estimate[0], scan, judged)
        _, *core = shift(tile.core, wide.core)
        self.judge(fine, scan, judged, tuple(core))
        return self.part_of(fine[None], wide, tile)

    def part_of(self, around: np.ndarray, wide: Tile, tile: Tile) -> np.ndarray:
        """What belongs to `tile` of an image (1, rows, columns) of `wide`."""
        _, *core = shift(tile.core, wide.core)
        kept = (slice(p.start * f, p.stop * f) for p, f in zip(core, self._factors, strict=True))
        return around[(slice(None), *kept)]

    def correct(self, fine: np.ndarray, scan: np.ndarray, judged: np.ndarray | None = None) -> np.ndarray:
        """A slice of the result without what contradicts its slice of the scan.

        Parameters
        ----------
        fine : ndarray of float32, shape (rows, columns) of the result
        scan : ndarray of float32, shape (rows, columns) of the scan
            Both in units of the window.
        judged : ndarray of bool, shape of the scan, optional
            Where the scan can be compared: not where the window has clipped it.

        Returns
        -------
        ndarray of float32
            A new array.
        """
        fine = fine.copy()
        for _ in range(ITERATIONS):
            missing = self._missing(fine, scan, judged)
            local = _blurred(missing, self._around)
            returned = beyond(local, DEVIATIONS * self._local_noise)
            returned += beyond(missing - local, DEVIATIONS * self._noise)
            fine += enlarge_slice(returned, fine.shape)
        return fine

    def judge(
        self, fine: np.ndarray, scan: np.ndarray, judged: np.ndarray | None = None, part: Box = (slice(None),) * 2
    ) -> None:
        """Count a slice of the result, or a part of the scan's pixels, into `agreement`; see `correct`."""
        local = _blurred(self._missing(fine, scan, judged), self._around)[part]
        deviations = np.abs(local if judged is None else local[judged[part]]) / np.float32(self._local_noise)
        self.agreement.pixels += deviations.size
        self.agreement.beyond += int(np.count_nonzero(deviations > DEVIATIONS))
        self.agreement.worst = max(self.agreement.worst, float(deviations.max(initial=0)))

    def _missing(self, fine: np.ndarray, scan: np.ndarray, judged: np.ndarray | None) -> np.ndarray:
        """What the result lacks of the scan, float32; 0 where it cannot be compared."""
        missing = scan - self.scanned(fine)
        return missing if judged is None else missing * judged

    def scanned(self, fine: np.ndarray) -> np.ndarray:
        """What the scanner would make of a slice: blurred, then the mean over each pixel of the scan."""
        import cv2  # not in a bare Slicer, whose panel plans with the rest of this file

        rows, columns = (n // factor for n, factor in zip(fine.shape, self._factors, strict=True))
        return cv2.resize(_blurred(fine, self._kernels), (columns, rows), interpolation=cv2.INTER_AREA)


def reach(factors: Sequence[int], blur: Sequence[float], smooth: float = 0.0) -> int:
    """Input pixels around a pixel that its correction depends on; arguments as of `Consistency`."""
    kernels = _kernels(factors, blur, smooth)
    blurred = max(ceil(len(kernel) // 2 / factor) for kernel, factor in zip(kernels, factors, strict=True))
    return ITERATIONS * (blurred + int(TRUNCATE * LOCAL + 0.5) + CUBIC_REACH) + blurred


def reach_of_blocks(axes: Sequence[Axis], blur: Sequence[float], smooth: Sequence[float]) -> int:
    """Voxels of the scan around a block that its correction depends on; see `block_consistency`."""
    widest = max(widths_of_blocks(axes, blur, smooth))
    scanned = ceil(BLUR_REACH * widest)
    return scanned + BLOCK_ITERATIONS * (scanned + CUBIC_REACH + LOCAL_REACH) + CUBIC_REACH


def widths_of_blocks(axes: Sequence[Axis], blur: Sequence[float], smooth: Sequence[float]) -> list[float]:
    """What a result of blocks is blurred with along (k, j, i), in voxels of the scan, to be compared with it.

    Along axes that are not made finer the result keeps the scanner's blur, and only what smoothed the scan is left.
    """
    return [hypot(width if axis.scale > 1 else 0.0, more) for axis, width, more in zip(axes, blur, smooth, strict=True)]


def _kernels(factors: Sequence[int], blur: Sequence[float], smooth: float) -> list[np.ndarray]:
    """The scanner's blur along rows and columns, on the result's grid."""
    widths = [hypot(width, smooth) * factor for width, factor in zip(blur, factors, strict=True)]
    return [gaussian_kernel(width, TRUNCATE) if width > 1e-3 else np.ones(1) for width in widths]


def _blurred(image: np.ndarray, kernels: Sequence[np.ndarray]) -> np.ndarray:
    import cv2

    rows, columns = kernels
    return cv2.sepFilter2D(image, cv2.CV_32F, columns, rows, borderType=cv2.BORDER_REFLECT)


def beyond(values: np.ndarray, limit: float) -> np.ndarray:
    """What values exceed a limit by, on either side (soft thresholding)."""
    return values - np.clip(values, -np.float32(limit), np.float32(limit))
