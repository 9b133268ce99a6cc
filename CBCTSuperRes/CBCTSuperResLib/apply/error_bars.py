"""Error bars: how far from the truth a model expects its result to be, voxel by voxel, in grey values.

Two things are told apart (Kendall and Gal, NIPS 2017; Tanno et al., 2017). What the scan cannot tell is the network's
own log-variance: "intrinsic". What the weights do not know shows in draws of its dropout (Gal and Ghahramani, 2016):
the variance of their images is "parameter". Their variances add to the "predictive" one. Over T draws, with images mu_t
and log-variances s_t,

    intrinsic = mean exp(s_t),  parameter = sum (mu_t - mean mu)^2 / (T - 1),  predictive = intrinsic + parameter.

All are given as standard deviations. What calibration found of the model (see `models.intervals`) multiplies all three,
so that result +- 1.645 predictive deviations holds the truth in 90 % of the voxels. For a scan it also depends on how
evenly its deviations are spread, which is known when all of them are: then they are multiplied, in their place.

The log-variance of a network tells little about the many voxels of which it is rather sure: there an error is what a
slight displacement of the tissues would be, and as large as they differ. So, unless texture fills the scan, bars below
the widest tenth are multiplied by

    ((c + 0.003) / (C + 0.003)) ** (w (1 - s / S)),

c the local contrast, root mean square gradient along all axes in units of the window for each voxel of the result, C
its median, s the deviation, S its 90th percentile in the scan, w the card's weight. On two phantoms this raised the
rank correlation with the true error from 0.52 and 0.57 to 0.60 and 0.63 and left as they are the widest, which are
marked. What the card calls the least deviation is added in squares.

Where bone is told by a threshold, an error matters that takes a voxel to its other side. With errors of a Gaussian of
the predictive deviation s the chance of that is Phi(-|x - t| / s), x the result, t the threshold: given, or Otsu's of
the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import erfc, sqrt

import cv2
import numpy as np

from ..core.options import WIDEST, given_bone_threshold
from ..measure.bone import bone_threshold
from ..models.intervals import CUT, GAUSSIAN, SHARE, Intervals
from ..scan.blank_region import BlankRegion
from ..scan.window import Window
from .engine import Engine
from .plan import INTRINSIC, MISCLASSIFIED, PARAMETER, PREDICTIVE, Plan
from .prepare import Prepared
from .tiles import Tile
from .ways import Way

SAMPLE = 200_000
WIDE, USUAL = 90, 50  # percentiles of a scan's deviations, and of its local contrast
LEAST_CONTRAST, AROUND = 0.003, 1.6  # of the window; voxels of the result, standard deviation of the neighbourhood
SLICES_LOOKED_AT = 12
BEYOND = np.linspace(0, 8, 2001)  # deviations
CHANCE_BEYOND = np.array([50 * erfc(x / sqrt(2)) for x in BEYOND])  # per cent, of a Gaussian, on one side
LEAST_CHANCE = 0.1  # per cent: nothing of less is marked, however many voxels are wanted
TEXTURED, UNSURE = "texture fills it", "it does not tell its blur for sure"


class ErrorBars:
    """Measures the error bars of one piece after the other.

    Parameters
    ----------
    outputs : mapping of str to ndarray of float32, shape (k, j, i)
        Where the maps go, on the grid of the result, by the names that `Plan.maps` gives.
    plan : Plan
        With the scan's facts.
    way, engine
        As for the result; no engine where others measure the pieces.
    window : Window
        Of the result.
    blanks : BlankRegion
    """

    def __init__(
        self,
        outputs: Mapping[str, np.ndarray],
        plan: Plan,
        way: Way,
        engine: Engine | None,
        window: Window,
        blanks: BlankRegion,
    ) -> None:
        self._maps, self._axes, self._way, self._engine = outputs, plan.axes, way, engine
        self._outputs = {name: output for name, output in outputs.items() if name != MISCLASSIFIED}
        self._warning_above, self.bone_above = plan.options.warning_above, None
        self._window, self._blanks = window, blanks
        self.draws = plan.draws
        self._conditions, self._is_sure = plan.conditions, plan.conditions.is_known
        self.intervals = Intervals.from_json(plan.card.intervals) if plan.card.intervals else None
        self.doubts = doubts_of(plan)
        self.base_factor = self.factor = 1.0
        self.evenness: float | None = None
        self.contrast = 0.0
        self._names = ["sr", *(name for name, role in plan.card.spec.outputs.items() if role == "log_variance")][:2]

    def measure(self, tile: Tile, prepared: Prepared, log_variance: np.ndarray | None) -> None:
        """Write the deviations of one piece.

        Parameters
        ----------
        tile : Tile
        prepared : Prepared
            What the network saw for the result.
        log_variance : ndarray of float32 or None
            What it told of `tile.write` when it made the result; None if it draws anew instead, or has none.
        """
        variances = self._of_draws(tile, prepared) if self.draws else {INTRINSIC: np.exp(log_variance)}
        variances[PREDICTIVE] = sum(variances.values())
        scale = np.float32(self._window.width)
        blank = self._blank(tile)
        for name, output in self._outputs.items():
            deviation = np.sqrt(variances[name], dtype=np.float32) * scale
            output[tile.write] = deviation if blank is None else np.where(blank, 0, deviation)

    def write_blank(self, tile: Tile) -> None:
        """Nothing was measured there, so there is nothing to be sure of."""
        for output in self._outputs.values():
            output[tile.write] = 0

    def finish(self, result: np.ndarray) -> None:
        """Multiply the deviations as calibrated, and tell what they mean for bone; after all pieces were measured.

        Parameters
        ----------
        result : ndarray, shape (k, j, i)
            Of the same shape: where the window cut it off, nothing was told.
        """
        self.evenness = evenness_of(self._outputs[PREDICTIVE], result, self._window)
        if self.intervals is not None:
            self._calibrate(result)
        if MISCLASSIFIED in self._maps:
            self._tell_of_bone(result)

    def _calibrate(self, result: np.ndarray) -> None:
        known, blur, noise = self.intervals, float(np.mean(self._conditions.blur[1:])), self._conditions.noise
        self.base_factor = known.factor(blur, noise)
        self.factor = known.factor(blur, noise, self.evenness, self._is_sure)
        strange = "" if self.evenness is None else known.strangeness(self.evenness)
        if strange:
            self.doubts += (f"The error bars hardly hold: {strange}.",)
        if self.evenness is not None:
            share = known.textured_share(blur, noise, self.evenness, self._is_sure)
            self.contrast = (known.contrast or 0.0) * (1 - share)
        wide = self._wide(result) if self.contrast else None
        least = np.float32(known.least * self._window.width)
        for k in range(len(result)):
            factor = np.float32(self.factor)
            if wide:
                factor = factor * self._by_contrast(result, k, *wide)
            if least:
                own = self._outputs[PREDICTIVE][k]
                factor = np.hypot(factor, np.divide(least, own, out=np.zeros_like(own), where=own > 0))
            for output in self._outputs.values():
                output[k] *= factor

    def _tell_of_bone(self, result: np.ndarray) -> None:
        """How likely each voxel is to lie on the other side of bone's threshold, in per cent."""
        deviations = self._outputs[PREDICTIVE]
        self.bone_above = given_bone_threshold(self._warning_above)
        if self.bone_above is None:
            sample, grey = _every_so_many(deviations), _every_so_many(result)
            counts = _counts(sample, grey, self._window)
            self.bone_above = bone_threshold(grey[counts] if counts.any() else grey)
        for k, deviation in enumerate(deviations):
            distance = np.abs(result[k].astype(np.float32) - np.float32(self.bone_above))
            relative = np.divide(distance, deviation, out=np.full_like(deviation, np.inf), where=deviation > 0)
            self._maps[MISCLASSIFIED][k] = np.interp(relative, BEYOND, CHANCE_BEYOND, right=0)

    def _wide(self, result: np.ndarray) -> tuple[float, float] | None:
        """From which deviation on one is among the widest tenth, in grey values, and the usual local contrast."""

        def counted(k: int) -> np.ndarray:
            return _counts(self._outputs[PREDICTIVE][k], result[k], self._window)

        telling = [k for k in _spread(range(len(result))) if counted(k).any()]
        telling = telling or _spread([k for k in range(len(result)) if counted(k).any()])
        if not telling:
            return None
        found = []
        for k in telling:
            counts = counted(k)
            found.append((self._outputs[PREDICTIVE][k][counts], local_contrast(result, k, self._window)[counts]))
        deviations, contrasts = (np.concatenate(values) for values in zip(*found, strict=True))
        return float(np.percentile(deviations, WIDE)), float(np.percentile(contrasts, USUAL))

    def _by_contrast(self, result: np.ndarray, k: int, deviation: float, contrast: float) -> np.ndarray:
        narrow = np.clip(1 - self._outputs[PREDICTIVE][k] / np.float32(deviation), 0, 1) if deviation else 0
        relative = (local_contrast(result, k, self._window) + LEAST_CONTRAST) / np.float32(contrast + LEAST_CONTRAST)
        return relative ** (np.float32(self.contrast) * narrow)

    def summary(self) -> dict:
        """The figures of the whole, from a sample of its voxels; ready for JSON."""
        sample = _measured(self._outputs[PREDICTIVE], self._outputs[PREDICTIVE])
        median, high = (float(f"{GAUSSIAN * value:.4g}") for value in np.percentile(sample, (50, 95)))
        marked, above = marked_of(self._maps, self._warning_above, self._window.width)
        widest = marked_of(self._outputs, WIDEST, self._window.width)[1]
        of_bone = {}
        if MISCLASSIFIED in self._maps:
            chances = _measured(self._maps[MISCLASSIFIED], self._outputs[PREDICTIVE])
            of_bone = {
                "bone_above": float(f"{self.bone_above:.6g}"),
                "bone_misclassified": round(float(chances.mean()) / 100, 6),
            }
        return {
            "maps": list(self._maps),
            "draws": self.draws,
            "interval": SHARE,
            "deviations_of_interval": GAUSSIAN,
            "factor": round(self.factor, 4),
            "scaled_for_this_scan": round(self.factor / self.base_factor, 4),
            "scaled_because": TEXTURED if self._is_sure else UNSURE,
            "contrast": round(self.contrast, 4),
            "evenness": None if self.evenness is None else round(self.evenness, 4),
            "calibrated_on": self.intervals.made_on if self.intervals else None,
            "holds": not self.doubts,
            "doubts": list(self.doubts),
            "median": median,
            "percentile_95": high,
            **of_bone,
            "marked": marked,
            "warning_above": float(f"{above:.6g}"),
            "widest_above": float(f"{widest:.6g}"),
            "share_above": round(float(np.mean(_measured(self._maps[marked], self._outputs[PREDICTIVE]) > above)), 6),
        }

    def _of_draws(self, tile: Tile, prepared: Prepared) -> dict[str, np.ndarray]:
        mean = squares = told = np.float32(0)
        for draw in range(self.draws):
            with self._engine.one_pass(draw=draw):
                image, *spread = self._way.outputs(self._engine, prepared.slab, tile, self._axes, self._names)
            distance = image - mean  # Welford's running mean and sum of squares
            mean = mean + distance / np.float32(draw + 1)
            squares = squares + distance * (image - mean)
            if spread:
                told = told + np.exp(spread[0])
        found = {PARAMETER: squares / np.float32(self.draws - 1)}
        return {INTRINSIC: told / np.float32(self.draws), **found} if len(self._names) > 1 else found

    def _blank(self, tile: Tile) -> np.ndarray | None:
        """Which voxels of the tile's output nothing was measured in; None if that is none."""
        slices, *in_plane = (axis.positions(part) for axis, part in zip(self._axes, tile.write, strict=True))
        masks = [self._blanks.fine_mask(float(k), *in_plane) for k in slices]
        if all(mask is None for mask in masks):
            return None
        size = tuple(len(p) for p in in_plane)
        return np.stack([np.zeros(size, bool) if mask is None else mask for mask in masks])


def marked_of(maps: Mapping[str, np.ndarray], above: float | str, width: float) -> tuple[str, float]:
    """Which map tells what the warning mask marks, and above which of its values.

    Parameters
    ----------
    maps : mapping of str to ndarray
        By the names that `Plan.maps` gives.
    above : float or str
        See `Options.warning_above`: a share of the window, or a twentieth of the voxels that were measured; of those
        that may be misjudged fewer, where the chance of so many is not worth a word.
    width : float
        Of the window, in grey values.
    """
    if not isinstance(above, str):
        return PREDICTIVE, above * width
    marked = MISCLASSIFIED if MISCLASSIFIED in maps else PREDICTIVE
    likeliest = float(np.percentile(_measured(maps[marked], maps[PREDICTIVE]), 95))
    return marked, max(likeliest, LEAST_CHANCE) if marked == MISCLASSIFIED else likeliest


def _every_so_many(volume: np.ndarray) -> np.ndarray:
    """A sample of a volume's voxels."""
    return np.asarray(volume).reshape(-1)[:: max(1, round(volume.size / SAMPLE) | 1)]


def _measured(values: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """A sample of a map, without blank voxels."""
    sample, is_measured = _every_so_many(values), _every_so_many(deviations) > 0
    return sample[is_measured] if is_measured.any() else sample


def evenness_of(deviations: np.ndarray, result: np.ndarray, window: Window) -> float | None:
    """Median of the deviations over their root mean square, of a sample of the voxels within the window; None if there
    are none.
    """
    sample, grey = _every_so_many(deviations), _every_so_many(result)
    sample = sample[_counts(sample, grey, window)].astype(np.float64)
    return float(np.median(sample) / np.sqrt(np.mean(sample**2))) if sample.size else None


def _spread(numbers: Sequence[int]) -> list[int]:
    """Some of the slices, evenly spread."""
    chosen = np.linspace(0, len(numbers) - 1, SLICES_LOOKED_AT).round().astype(int) if len(numbers) else ()
    return [numbers[n] for n in np.unique(chosen)]


def _counts(deviations: np.ndarray, result: np.ndarray, window: Window) -> np.ndarray:
    """Where a deviation was told and the window cut nothing off."""
    margin = CUT * window.width
    return (result > window.lo + margin) & (result < window.hi - margin) & (deviations > 0)


def local_contrast(result: np.ndarray, k: int, window: Window) -> np.ndarray:
    """Root mean square gradient around the voxels of slice k, in units of the window for each voxel, float32 (j, i)."""
    near = [min(max(n, 0), len(result) - 1) for n in (k - 1, k, k + 1)]
    before, image, behind = (window.to_unit(np.asarray(result[n], np.float32)) for n in near)
    squares = (np.square(behind - image) + np.square(image - before)) / 2
    for axis in (0, 1):
        if image.shape[axis] > 1:
            squares += np.square(np.gradient(image, axis=axis))
    return np.sqrt(cv2.GaussianBlur(squares, (0, 0), AROUND))


def doubts_of(plan: Plan) -> tuple[str, ...]:
    """Sentences on why the error bars of a run need not hold; empty if they do, as far as is known."""
    if not plan.card.intervals:
        return (
            f"The error bars of {plan.card.name} were never compared with errors, and may be far too narrow or wide: "
            "calibrate the model first (models calibrate --intervals).",
        )
    found, conditions = [], plan.conditions
    outside = Intervals.from_json(plan.card.intervals).doubt(float(np.mean(conditions.blur[1:])), conditions.noise)
    if outside:
        found.append(f"The error bars do not hold: {outside}.")
    if plan.options.sharpness < 100:
        found.append("The error bars are those of a sharpness of 100 %; they do not hold for less.")
    if plan.options.smooth is not None and plan.options.smooth != plan.card.smooth:
        found.append("The error bars do not hold: another smoothing than the model's was chosen.")
    return tuple(found)
