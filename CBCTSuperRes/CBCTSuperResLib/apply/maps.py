"""Model disagreement: how far a network's answers lie apart when it sees the same scan turned, and a little noisier.

Detail that is in the scan comes out alike each time; what hangs on the noise, or on how the image lies, does not. Where
the answers agree they may still be wrong together: a small value is no proof.

Each of the passes sees every slice (or block) flipped or rotated in another way, and with noise of its own, a quarter
of the scan's and as smooth as a scanner's; never the same twice, always the same again. What is kept for every voxel
of the result is the standard deviation of the answers, in grey values. A few answers tell it only roughly, so its
square is averaged over the nearest neighbours in the slice: that raised its rank correlation with the true error on
phantoms from 0.41 to 0.47 with four passes, while more noise lowered it.

The noise of a voxel depends on nothing but the pass and its place in the scan, so that tiles change nothing.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..core.volume import as_acquired
from ..measure.slice_pairs import noise_of, noise_pieces
from ..scan.window import Window
from .engine import Engine
from .finish import OVERSHOOT
from .plan import Plan
from .prepare import Prepared
from .quality_measures import pairs_of
from .tiles import Axis, Tile, symmetries
from .ways import Way

SHARE_OF_NOISE = 0.25
LEAST, MOST = 0.001, 0.02  # bounds of the added noise, in units of the window
SMOOTH = 0.6  # pixels of the scan
AVERAGED = 0.8  # pixels of the result: standard deviation of the neighbourhood
SEED = 0x5D
SAMPLE = 200_000


class Disagreement:
    """Measures the disagreement of one piece after the other.

    Parameters
    ----------
    output : ndarray of float32, shape (k, j, i)
        Where the standard deviations go, on the grid of the result.
    plan : Plan
        With what the scan tells.
    way, engine
        As for the result; no engine where others measure the pieces.
    noise : float
        Standard deviation of the added noise, in units of the window, see `added_noise`.
    window : Window
        Of the result.
    """

    def __init__(
        self, output: np.ndarray, plan: Plan, way: Way, engine: Engine | None, noise: float, window: Window
    ) -> None:
        self._grey_values = window.width * plan.options.sharpness / 100
        self._output, self._shape, self._axes = output, plan.scan_grid.shape, plan.axes
        self._way, self._engine = way, engine
        self._noise, self._blanks, self._across = noise, plan.blanks, plan.across
        self.passes = plan.options.uncertainty

    def measure(self, tile: Tile, prepared: Prepared, result: np.ndarray) -> None:
        """Run the passes on one piece and write what they disagree in.

        Parameters
        ----------
        tile : Tile
        prepared : Prepared
            What the network saw for the result, neighbouring slices included.
        result : ndarray of float32
            What it made of it.
        """
        base = _limited(result)
        total, squares = np.zeros_like(base), np.zeros_like(base)
        positions = symmetries(8, self._engine.spec.dimensions)
        for number in range(self.passes):
            with self._engine.one_pass(positions[number % len(positions)], draw=number):
                values = self._way.enlarge(self._engine, self._noisy(number, prepared, tile), tile, self._axes)
            values = np.subtract(_limited(values), base)
            total += values
            squares += np.square(values, out=values)
        count = self.passes
        squares -= np.square(total, out=total) / count
        deviation = np.sqrt(np.maximum(squares, 0, out=squares) / (count - 1), out=squares)
        deviation *= self._grey_values
        self._write(tile, deviation)

    def write_blank(self, tile: Tile) -> None:
        """Nothing was measured there, so nothing disagrees."""
        self._output[tile.write] = 0

    def finish(self) -> None:
        """Average over neighbours; after all pieces were measured."""
        for image in self._output.swapaxes(0, self._across):
            inside = image > 0
            variance = cv2.GaussianBlur(np.square(image), (0, 0), AVERAGED, borderType=cv2.BORDER_REPLICATE)
            np.multiply(np.sqrt(variance), inside, out=image)

    def summary(self, above: float | None) -> dict:
        """The figures of the whole, from a sample of its voxels; ready for JSON.

        Parameters
        ----------
        above : float or None
            Threshold of the warning, in grey values.
        """
        step = max(1, round(self._output.size / SAMPLE) | 1)
        sample = self._output.reshape(-1)[::step]
        sample = sample[sample > 0] if (sample > 0).any() else sample
        median, high = (float(f"{value:.4g}") for value in np.percentile(sample, (50, 95)))
        facts = {"passes": self.passes, "added_noise_share_of_window": round(self._noise, 5), "seed": SEED}
        facts.update(median=median, percentile_95=high, above=above)
        if above is not None:
            facts["share_above"] = round(float(np.mean(sample > above)), 6)
        return facts

    def _noisy(self, number: int, prepared: Prepared, tile: Tile) -> np.ndarray:
        """The slab with the noise of a pass; what the window cut off would be cut off with noise, too."""
        noisy = np.empty_like(prepared.slab)
        slices, *in_plane = as_acquired(tile.read, self._across)
        numbers = range(slices.start, slices.stop) if self._across else prepared.numbers
        images, targets = (slab.swapaxes(0, self._across) for slab in (prepared.slab, noisy))
        for image, target, k in zip(images, targets, numbers, strict=True):
            noise = self._slice_noise(number, k)[tuple(in_plane)]
            np.clip(image + noise * ((image > 0) & (image < 1)), 0, 1, out=target)
        return noisy

    def _slice_noise(self, number: int, k: int) -> np.ndarray:
        """Noise of a pass in the kth slice as acquired, smoothed within it as a detector does, float32."""
        random = np.random.default_rng([SEED, number, k])
        noise = random.standard_normal(as_acquired(self._shape, self._across)[1:], dtype=np.float32)
        noise = cv2.GaussianBlur(noise, (0, 0), SMOOTH)
        return noise * np.float32(self._noise / _GAIN)

    def _write(self, tile: Tile, deviation: np.ndarray) -> None:
        slices, *in_plane = (axis.positions(part) for axis, part in zip(self._axes, tile.write, strict=True))
        for place, k in enumerate(slices):
            blank = self._blanks.fine_mask(float(k), *in_plane)
            if blank is not None:
                deviation[place][blank] = 0
        self._output[tile.write] = deviation


def added_noise(voxels: np.ndarray, plan: Plan) -> float:
    """A quarter of the scan's own noise in the slices as acquired, within bounds, in units of the window."""
    window, across = plan.choice.window, plan.across
    axes = [Axis(a.length, a.start, a.stop, a.stop - a.start) for a in as_acquired(plan.axes, across)]
    turned, blanks = voxels.swapaxes(0, across), plan.blanks.as_acquired(across)
    pieces = [noise_pieces(pair) for _, pair in pairs_of(turned, turned, axes, blanks, (window.lo, window.hi), 0)]
    found = noise_of(np.concatenate(pieces, axis=1)) if pieces else None
    share = found[0] / window.width if found else 0.0
    return float(np.clip(SHARE_OF_NOISE * share, LEAST, MOST))


def _limited(values: np.ndarray) -> np.ndarray:
    """What the result may be: hardly beyond the window."""
    return np.clip(values, -OVERSHOOT, 1 + OVERSHOOT)


def _gain() -> float:
    """Standard deviation that smoothing leaves of white noise of 1."""
    impulse = np.zeros((15, 15), np.float32)
    impulse[7, 7] = 1
    return float(np.sqrt(np.square(cv2.GaussianBlur(impulse, (0, 0), SMOOTH)).sum()))


_GAIN = _gain()
