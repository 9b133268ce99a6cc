"""What `consistency` does with slices, for results that come block by block and are finer along any axis by any factor.

The simulated scan is a sum over all voxels of the result, so each block adds its part of it and needs no surroundings
for that. The correction is found afterwards and in the scan's voxels: what the scanner makes of an interpolated
correction follows from the correction alone. Then it is interpolated and added to the result, block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import erfc, log, pi, prod, sqrt

import numpy as np

from ..core.errors import Cancelled
from ..core.interpolate import cubic_weights
from .consistency import (
    BLOCK_ITERATIONS,
    BLUR_REACH,
    DEVIATIONS,
    LOCAL,
    LOCAL_REACH,
    WHITE,
    Agreement,
    beyond,
    reach_of_blocks,
    widths_of_blocks,
)
from .prepare import Prepared
from .tiles import Axis, Box, Tile, shift

CERTAIN = 9.0  # deviations beyond which a Gaussian has nothing left in double precision
SEEN = 0.99  # of a voxel of the scan, as the scanner's blur reaches, that must have been computed to be compared
SLAB = 4e6  # voxels of the scan that are corrected at a time
Matrices = Sequence[np.ndarray]  # one for each axis, (outputs, inputs)


class BlockConsistency:
    """Takes back what contradicts the scan; see `consistency.Consistency` for what does.

    Parameters
    ----------
    axes : three Axis
        From the scan to the result.
    blur : (k, j, i)
        Standard deviation of the scanner's blur in the scan's voxels, before the mean over a voxel. Along axes that are
        not made finer the result keeps it, and nothing is blurred again.
    noise : float
        Standard deviation of the scan's noise, in units of the window; above 0.
    correlation : (k, j, i)
        Of the noise of neighbouring voxels, 0 to below 1.
    smooth : (k, j, i)
        Standard deviation, in voxels of the scan, of the Gaussian that was applied to it since.
    wanted : Box, optional
        Of the scan's voxels, those that are judged; by default all that is compared.

    Attributes
    ----------
    agreement : Agreement
        Of all voxels of the scan that were compared, after `find`.
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        blur: Sequence[float],
        noise: float,
        correlation: Sequence[float] = (0.0, 0.0, 0.0),
        smooth: Sequence[float] = (0.0, 0.0, 0.0),
        wanted: Box | None = None,
    ) -> None:
        wanted = wanted or tuple(slice(axis.start, axis.stop) for axis in axes)
        self._starts = [axis.start for axis in axes]
        widths = widths_of_blocks(axes, blur, smooth)
        self._reach = reach_of_blocks(axes, blur, smooth)
        self._scanned = [scanning(axis, width) for axis, width in zip(axes, widths, strict=True)]
        lengths = [axis.stop - axis.start for axis in axes]
        self._enlarged = [
            cubic_weights(n, axis.positions(slice(0, axis.outputs)) - axis.start).astype(np.float32)
            for n, axis in zip(lengths, axes, strict=True)
        ]
        self._again = [scan @ fine for scan, fine in zip(self._scanned, self._enlarged, strict=True)]
        self._around = [_local_means(n) for n in lengths]
        # As in `Consistency`, axis by axis: each takes the square root of what smoothing a plane does.
        self._noise = self._local_noise = noise
        for rho, more in zip(correlation, smooth, strict=True):
            scanned = max(WHITE, 1 / (4 * log(1 / rho)) if rho > 0 else 0.0)
            self._noise *= (scanned / (scanned + more**2)) ** 0.25
            self._local_noise *= (scanned / (scanned + more**2 + LOCAL**2)) ** 0.25
        self._wanted = [
            (np.arange(axis.start, axis.stop) >= part.start) & (np.arange(axis.start, axis.stop) < part.stop)
            for axis, part in zip(axes, wanted, strict=True)
        ]
        # What the scanner makes of the result; `find` puts the correction in its place.
        self._found, self._seen = np.zeros(lengths, np.float32), np.zeros(lengths, np.float16)
        self.agreement = Agreement()

    def add(self, tile: Tile, estimate: np.ndarray) -> None:
        """A block of the network's image, of `tile.write`, in units of the window."""
        parts = [matrix[:, write] for matrix, write in zip(self._scanned, tile.write, strict=True)]
        rows = [_reached(part) for part in parts]
        parts = [part[row] for part, row in zip(parts, rows, strict=True)]
        self._found[tuple(rows)] += _through(estimate, parts)
        shares = [part.sum(1) for part in parts]
        self._seen[tuple(rows)] += (shares[0][:, None, None] * shares[1][:, None] * shares[2]).astype(np.float16)

    def find(self, scan_of: Callable[[Box], Prepared], cancelled: Callable[[], bool] = lambda: False) -> None:
        """Find the correction, of all blocks that were added, and judge what it leaves; to be called once.

        Parameters
        ----------
        scan_of : callable
            Gives a box of the scan in units of the window.
        cancelled : callable, optional

        Raises
        ------
        Cancelled
        """
        before = self._found[:0]  # of the next slab: what the correction has taken the place of
        for core, read in self._slabs():
            if cancelled():
                raise Cancelled
            first, *plane = core
            simulated = np.concatenate((before, self._found[first.start : read[0].stop]))[(slice(None), *plane)]
            before = self._found[max(first.start, first.stop - self._reach) : first.stop].copy()
            again, around = (
                [m[part, part] for m, part in zip(all_of, read, strict=True)] for all_of in (self._again, self._around)
            )
            judged = self._seen[read] > SEEN
            scan = scan_of(
                tuple(
                    slice(start + part.start, start + part.stop) for start, part in zip(self._starts, read, strict=True)
                )
            )
            if scan.excess is not None:
                judged &= scan.excess == 0
            lacking = (scan.unit - simulated) * judged
            found, missing = np.zeros_like(lacking), lacking
            local = _through(missing, around)
            for _ in range(BLOCK_ITERATIONS):
                change = beyond(local, DEVIATIONS * self._local_noise)
                change += beyond(missing - local, DEVIATIONS * self._noise)
                if not change.any():
                    break
                found += change
                missing = (lacking - _through(found, again)) * judged
                local = _through(missing, around)
            inner = shift(core, read)
            self._found[first] = 0
            self._found[core] = found[inner]
            k, j, i = (along[part] for along, part in zip(self._wanted, core, strict=True))
            self._judge(local[inner][judged[inner] & k[:, None, None] & j[:, None] & i])

    def change(self, write: Box) -> np.ndarray | None:
        """What is added to a part of the result, in units of the window; None where that is nothing."""
        parts = [matrix[part] for matrix, part in zip(self._enlarged, write, strict=True)]
        columns = [_reached(part.T) for part in parts]
        correction = self._found[tuple(columns)]
        if not correction.any():
            return None
        return _through(correction, [part[:, used] for part, used in zip(parts, columns, strict=True)])

    def _judge(self, local: np.ndarray) -> None:
        deviations = np.abs(local) / np.float32(self._local_noise)
        self.agreement.pixels += deviations.size
        self.agreement.beyond += int(np.count_nonzero(deviations > DEVIATIONS))
        self.agreement.worst = max(self.agreement.worst, float(deviations.max(initial=0)))

    def _slabs(self) -> Iterator[tuple[Box, Box]]:
        """Parts, along k, of what was seen: those that are corrected together, and what they depend on."""
        slices, *plane = (
            _reached(np.moveaxis(self._seen, axis, 0).reshape(n, -1)) for axis, n in enumerate(self._seen.shape)
        )
        step = max(1, int(SLAB / max(1, prod(part.stop - part.start for part in plane))), self._reach)
        for first in range(slices.start, slices.stop, step):
            core = slice(first, min(slices.stop, first + step))
            read = slice(max(slices.start, core.start - self._reach), min(slices.stop, core.stop + self._reach))
            yield (core, *plane), (read, *plane)


def scanning(axis: Axis, blur: float) -> np.ndarray:
    """What the scanner makes of the result along an axis: (voxels of the scan, of the result), float32.

    The mean over each voxel of the scan of the result, whose voxels are constant within their edges, after a Gaussian
    (`blur` in the scan's voxels). At the ends of the volume, though not of a region of it, the end is repeated.
    """
    edges = np.arange(axis.outputs + 1) / axis.scale
    places = np.arange(axis.stop - axis.start + 1, dtype=float)
    away = places[:, None] - edges
    reached = np.maximum(away, 0)
    if blur > 1e-3:
        near = np.abs(away) < CERTAIN * blur
        spread = away[near] / blur
        below = np.array([erfc(-x / sqrt(2)) / 2 for x in spread])
        reached[near] = away[near] * below + blur * np.exp(-(spread**2) / 2) / sqrt(2 * pi)
    weights = -np.diff(np.diff(reached, axis=0), axis=1)
    beyond_reach = np.maximum(places[:-1, None] - edges[1:], edges[:-1] - places[1:, None]) > BLUR_REACH * blur
    weights[beyond_reach] = 0
    missing = 1 - weights.sum(1)
    if axis.start == 0:
        weights[: len(weights) // 2, 0] += missing[: len(weights) // 2]
    if axis.stop == axis.length:
        weights[len(weights) // 2 :, -1] += missing[len(weights) // 2 :]
    return weights.astype(np.float32)


def _local_means(length: int) -> np.ndarray:
    """Gaussian means of a voxel's surroundings, as far as there are any."""
    places = np.arange(length)
    away = np.abs(places[:, None] - places)
    weights = np.where(away <= LOCAL_REACH, np.exp(-0.5 * (away / LOCAL) ** 2), 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _through(block: np.ndarray, matrices: Matrices) -> np.ndarray:
    """A block with each axis multiplied by its matrix."""
    for axis, matrix in enumerate(matrices):
        block = np.moveaxis(np.tensordot(matrix, block, ([1], [axis])), 0, axis)
    return np.ascontiguousarray(block)


def _reached(part: np.ndarray) -> slice:
    """From the first to the last row that is not all zero."""
    rows = np.flatnonzero(part.any(1))
    return slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)
