"""Tissue levels: which grey values air, soft tissue and bone have in a scan."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from ..core.errors import InputError
from ..core.thresholds import otsu_cuts
from .blank_region import BlankRegion, Box, whole_box
from .window import Window

_SAMPLES = 2_000_000
_BINS = 256  # of a histogram
_RAREST = 1e-4  # of the brightest (darkest) class: what lies beyond is an outlier, and enamel is not
_MOST_METAL = 0.03
_MUCH_WIDER = 2.0
_METAL_REACH = 3.3  # in contrasts: enamel is up to 2.9 times as far above soft tissue as that is above air
_APART = 4.0  # SDs of the noise: tissues that are nearer to each other may be noise alone
_HU_AIR, _HU_METAL = (-1100.0, -900.0), 3000.0


@dataclass(frozen=True)
class TissueLevels:
    """Typical values of the three kinds of matter in a scan, in grey values or, in a model card, in [0, 1].

    A scan without air (micro-CT of bone in fluid) has its darkest matter in the place of air; the levels always ascend.
    """

    air: float
    soft: float
    bone: float

    def in_window(self, window: Window) -> TissueLevels:
        """The levels as unit values of a window, not clipped."""
        return TissueLevels(*((level - window.lo) / window.width for level in astuple(self)))


PHANTOM_LEVELS = TissueLevels(air=-0.199, soft=0.161, bone=0.702)
"""What `levels_of` finds in scans of drawn jaws (`acquisition.phantom.jaw_scans`), in units of the window: where
models that were trained on drawn slices know their tissues."""


@dataclass(frozen=True, eq=False)
class TissueExtent:
    """Grey values from the darkest to the brightest tissue of a scan, noise included, metal apart.

    Attributes
    ----------
    lowest, highest : float
        All but 0.01 % of the darkest tissue is above `lowest`, all but 0.01 % of the brightest below `highest`.
    dark, bright : ndarray, 1-D
        Grey values of the darkest and of the brightest of the three classes that Otsu's criterion separates best. In a
        scan of inverted contrast air is the brightest.
    has_metal : bool
        Whether metal (in inverted contrast, its opposite) was left out.
    """

    lowest: float
    highest: float
    dark: np.ndarray
    bright: np.ndarray
    has_metal: bool = False

    @property
    def width(self) -> float:
        """highest - lowest in grey values."""
        return self.highest - self.lowest

    @property
    def levels(self) -> tuple[float, float]:
        """Median of the darkest and of the brightest tissue."""
        return float(np.median(self.dark)), float(np.median(self.bright))

    def cut_off(self, window: Window) -> tuple[float, float]:
        """Share of the darkest tissue that is below a window, and share of the brightest that is above it."""
        return float(np.mean(self.dark < window.lo)), float(np.mean(self.bright > window.hi))


def tissue_extent(sample: np.ndarray) -> TissueExtent:
    """Which grey values the tissues span in a sample of a scan's voxels that is not constant, 1-D.

    Percentiles of the whole scan would cut off what is small in it: a tooth in much air, enamel in much tooth. So those
    of its outer classes count. Metal (or, in inverted contrast, its opposite) is left out only where that is sure and
    would make the span more than twice as wide: up to there a network loses less than 1 dB of what it gains, whereas
    bone or enamel taken for metal loses everything.
    """
    whole, metal, inverted = sample, _sure_metal(sample), _sure_metal(-sample)
    if metal is not None:
        sample = sample[sample < metal]
    if inverted is not None:
        sample = sample[sample > -inverted]
    lower, upper = _otsu_thresholds(sample, 3)
    dark, bright = sample[sample < lower], sample[sample >= upper]
    dark, bright = (part if part.size else sample for part in (dark, bright))
    few = _RAREST / 10  # of the whole: where something small and faint is no class of its own
    lowest = min(np.quantile(dark, _RAREST, method="lower"), np.quantile(sample, few, method="lower"))
    highest = max(np.quantile(bright, 1 - _RAREST, method="higher"), np.quantile(sample, 1 - few, method="higher"))
    return TissueExtent(float(lowest), float(highest), dark, bright, has_metal=sample is not whole)


def _sure_metal(sample: np.ndarray) -> float | None:
    """Grey value from which voxels are metal beyond doubt, or None.

    Two tissues apart (else it is the only object in a noisy background), and a few voxels so much brighter than both
    that no enamel is, nor, in Hounsfield units, below `_HU_METAL`.
    """
    bottom, top = np.quantile(sample, (_MOST_METAL, 1 - _MOST_METAL))  # the bottom may hold dead voxels
    span = sample.max() - bottom
    if bottom == top or span <= _MUCH_WIDER * (top - bottom):
        return None
    bulk = sample[(sample >= bottom) & (sample <= top)]
    dark, bright = _class_medians(bulk, 2)
    # Neighbours but one along a row: where most of a scan is flat they differ by noise alone, if it was not clamped.
    steps = np.abs(sample[2:] - sample[:-2])
    noise = 1.4826 / np.sqrt(2) * float(np.median(steps[steps > 0]))
    if bright - dark <= _APART * noise:
        return None
    metal = bright + _METAL_REACH * (bright - dark)
    if _HU_AIR[0] <= dark <= _HU_AIR[1]:
        metal = max(metal, _HU_METAL)
    rest = sample[sample < metal]
    beyond = sample.size - rest.size
    if not 0 < beyond <= _MOST_METAL * sample.size or span <= _MUCH_WIDER * (rest.max() - bottom):
        return None
    return float(metal)


def sample_voxels(voxels: np.ndarray, blank: BlankRegion | None, box: Box | None = None) -> np.ndarray:
    """At most `_SAMPLES` of the non-blank voxels on a regular lattice, as a 1-D float32 or float64 array.

    Parameters
    ----------
    box : three pairs of int along (k, j, i), optional
        Half-open; only its voxels are sampled.
    """
    box = box or whole_box(voxels.shape)
    steps = [1, 1, 1]
    while np.prod(counts := [-((a - b) // s) for (a, b), s in zip(box, steps, strict=True)]) > _SAMPLES:
        steps[int(np.argmax(counts))] += 1
    ks, js, is_ = (np.arange(*ends, s) for ends, s in zip(box, steps, strict=True))
    kind = np.float32 if np.can_cast(voxels.dtype, np.float32) else np.float64
    rows = []
    for k in ks:
        slice_ = voxels[k, slice(*box[1], steps[1]), slice(*box[2], steps[2])]
        mask = None if blank is None else blank.fine_mask(float(k), js.astype(float), is_.astype(float))
        rows.append((slice_ if mask is None else slice_[~mask]).astype(kind, copy=False).ravel())
    return np.concatenate(rows)


def levels_of(sample: np.ndarray) -> TissueLevels:
    """Tissue levels of a scan, in grey values.

    The medians of the three classes that Otsu's criterion separates best, metal left out. They follow every change of
    gain and offset, so that they carry a window from one scanner to another.

    Parameters
    ----------
    sample : ndarray, 1-D
        Of the whole scan, see `sample_voxels`.

    Raises
    ------
    InputError
        If all of them are the same, or there are none.
    """
    if sample.size == 0:
        raise InputError("All voxels are blank.", "Choose another blank value, or none.")
    if not np.isfinite(sample).all():
        raise InputError("The volume holds values that are not numbers.", "Replace them by air.")
    if sample.min() == sample.max():
        raise InputError(f"All voxels have the same value, {sample[0]:g}.", "Check that the scan was read correctly.")
    return TissueLevels(*_class_medians(_without_metal(sample), 3))


def levels_without_air(sample: np.ndarray) -> tuple[float, float]:
    """Levels of soft tissue and bone in a scan that shows hardly anything else, such as one of a few teeth."""
    soft, bone = _class_medians(_without_metal(sample), 2)
    return soft, bone


def _without_metal(sample: np.ndarray) -> np.ndarray:
    for _ in range(3):
        metal = _metal_threshold(sample)
        if metal is None:
            break
        sample = sample[sample < metal]
    return sample


def _class_medians(sample: np.ndarray, classes: int) -> list[float]:
    """Medians of Otsu's classes; an empty class, where there are too few values, lies between its neighbours."""
    edges = [-np.inf, *_otsu_thresholds(sample, classes), np.inf]
    parts = [sample[(sample >= lower) & (sample < upper)] for lower, upper in zip(edges, edges[1:], strict=False)]
    found = [float(np.median(part)) if part.size else np.nan for part in parts]
    found[0] = float(sample.min()) if np.isnan(found[0]) else found[0]
    found[-1] = float(sample.max()) if np.isnan(found[-1]) else found[-1]
    known = np.flatnonzero(np.isfinite(found))
    return [float(level) for level in np.interp(range(classes), known, np.array(found)[known])]


def _metal_threshold(sample: np.ndarray) -> float | None:
    """Grey value from which voxels are metal, or None.

    Metal is a small fourth class far above the third: farther than bone is from air, or, where it is saturated, which
    brings it nearer, most of that distance.
    """
    *_, lower, upper = _otsu_thresholds(sample, 4)
    top = sample[sample >= upper]
    third = sample[(sample >= lower) & (sample < upper)]
    if not (0 < top.size < 0.06 * sample.size and third.size):
        return None
    darkest, bright, brightest = (float(v) for v in (np.percentile(sample, 2), np.median(third), np.median(top)))
    if bright <= darkest:
        return None
    reach = (brightest - bright) / (bright - darkest)
    saturated = np.count_nonzero(top == sample.max()) > 0.5 * top.size
    return float(upper) if reach > (0.7 if saturated else 1.2) else None


def _otsu_thresholds(sample: np.ndarray, classes: int) -> np.ndarray:
    """Grey values between Otsu's classes; the histogram spans the data without its outermost 0.05 %."""
    lo, hi = (float(bound) for bound in np.percentile(sample, (0.05, 99.95)))
    if lo == hi:
        lo, hi = float(sample.min()), float(sample.max())
    index = np.clip((sample - lo) * (_BINS / (hi - lo)), 0, _BINS - 1).astype(np.uint16)
    cuts = otsu_cuts(np.bincount(index, minlength=_BINS), classes)
    return np.array([lo + cut * (hi - lo) / _BINS for cut in cuts])
