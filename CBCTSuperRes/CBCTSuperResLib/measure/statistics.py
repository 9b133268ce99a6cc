"""Means over scans, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 4000  # of the bootstrap (Efron, 1979); its seed is fixed, so that the same values give the same interval
SEED = 0


@dataclass(frozen=True)
class Mean:
    """A mean over scans.

    Attributes
    ----------
    value : float
        NaN if there is no value.
    low, high : float
        95 % interval; NaN with fewer than two values.
    count : int
    """

    value: float
    low: float
    high: float
    count: int

    def to_json(self) -> dict:
        facts = {"mean": self.value, "low": self.low, "high": self.high}
        return {**{key: None if np.isnan(v) else round(v, 6) for key, v in facts.items()}, "scans": self.count}


def mean_with_interval(values: Sequence[float]) -> Mean:
    """Mean of the finite values, and the interval in which 95 % of the means of resampled scans lie."""
    values = np.array([v for v in values if v is not None and np.isfinite(v)], float)
    if len(values) < 2:
        return Mean(float(values.mean()) if len(values) else float("nan"), float("nan"), float("nan"), len(values))
    drawn = np.random.default_rng(SEED).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(1), (2.5, 97.5))
    return Mean(float(values.mean()), float(low), float(high), len(values))


def mean_difference(ours: Sequence[float], theirs: Sequence[float]) -> Mean:
    """The same for the differences of pairs, one for each scan; pairs that lack a value do not count."""
    pairs = ((a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None)
    return mean_with_interval([a - b for a, b in pairs])
