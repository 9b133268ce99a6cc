"""The blocks of a scan that tell of its scanner: which are looked at, and what is in them.

Blocks where grey values change most hold the edges, and the spectra around these; flat ones, and some from all over the
scan, hold the noise. There are a few dozen of them, however large the scan is.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from .edge_fit import CELL, REACH, Edges, fit_edges, strongest_edges, surroundings
from .noise_level import DEPTH, PIECE, NoiseLevel

CORE = 24  # voxels along the edge of a block
RIM = REACH + 1  # voxels around it that are looked at, too
STEP = 4  # voxels of the lattice that tells which blocks to look at
BLOCKS_PER_AXIS, NOISE_BLOCKS = 14, 30
CUT_OFF = 0.02  # of a piece: with more of its voxels at the lowest or highest grey value of all, noise is cut off there
SPECTRUM, SPECTRA_PER_AXIS = 20, 60  # voxels along the edge of a cube around an edge, and how many of them
EDGES_PER_AXIS = 180
ALONG = 0.6  # square of a normal's part along an axis from which an edge tells of that axis
SURFACE_FALL = {3: 4.0, 2: 3.0}
LOWEST_FREQUENCY, HIGHEST_FREQUENCY = 0.1, 0.42
ABOVE_NOISE = 4.0

Masks = Callable[[int], np.ndarray | None]


class ScanBlocks:
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
        ends = np.percentile(sample, (0.5, 99.5))
        lo, hi = window or ends
        self.width = float(hi - lo) or 1.0
        self._bounds = lo - 0.5 * self.width, hi + 0.5 * self.width
        self._ends = float(sample.min()), float(sample.max())
        self._range = np.array([np.ptp(np.percentile(np.clip(b, *self._bounds), (5, 95))) for b in self._looks])
        self._whole_range = float(np.ptp(np.clip(ends, *self._bounds))) or 1.0
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
    def fullness(self) -> float:
        """How much of the range of all grey values is in each of three quarters of the blocks; 0 without any."""
        return float(np.percentile(self._range, 25)) / self._whole_range if len(self._range) else 0.0

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
