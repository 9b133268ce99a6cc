"""How a model's own deviations become intervals that hold: what calibration found, and for which scans.

Split conformal prediction with a scaled score (Lei et al., J. Am. Stat. Assoc. 2018, section 5.2): of voxels whose
truth is known, |truth - result| / deviation has a quantile, and so many deviations on either side hold that share of
them. The quantile depends on the scan's blur and noise, and is kept for several of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite

import numpy as np

SHARE = 0.9  # of the voxels that an interval is to hold
GAUSSIAN = 1.6449  # deviations on either side that hold this share where errors are Gaussian
MARGIN_OF_BLUR, MARGIN_OF_NOISE = 0.1, 0.003  # input voxels, share of the window: an estimate is no surer


@dataclass(frozen=True)
class Intervals:
    """What a calibration found.

    Attributes
    ----------
    blur : tuple of float
        Standard deviations of the scans' blur in their slices, in voxels of the scan, ascending.
    noise : tuple of float
        Standard deviations of their noise, in units of the window, ascending.
    quantiles : tuple of tuple of float
        For each blur and each noise: how many of the network's own deviations hold `SHARE` of the errors.
    made_on : str
        What it was found on, for people.
    voxels : int
        How many were compared.
    """

    blur: tuple[float, ...]
    noise: tuple[float, ...]
    quantiles: tuple[tuple[float, ...], ...]
    made_on: str
    voxels: int = 0

    def factor(self, blur: float, noise: float) -> float:
        """What the network's deviation is multiplied with, so that 1.645 of it hold 90 % of the errors.

        Between the calibrated scans it is interpolated linearly; beyond them it stays as at the nearest.
        """
        rows = [np.interp(noise, self.noise, row) for row in self.quantiles]
        return float(np.interp(blur, self.blur, rows)) / GAUSSIAN

    def doubt(self, blur: float, noise: float) -> str:
        """Why the intervals need not hold for a scan; "" where they do."""
        ends = (
            ("blur", blur, self.blur, MARGIN_OF_BLUR, "{:.2g} voxels"),
            ("noise", noise, self.noise, MARGIN_OF_NOISE, "{:.2%} of the window"),
        )
        for what, value, known, margin, form in ends:
            if not known[0] - margin <= value <= known[-1] + margin:
                low, high = form.format(known[0]), form.format(known[-1])
                return f"the scan's {what} is {form.format(value)}, and they were calibrated from {low} to {high}"
        return ""

    def to_json(self) -> dict:
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping) -> Intervals:
        """Rebuild from a card; unknown keys of newer versions are ignored.

        Raises
        ------
        ValueError
            If it is no table of quantiles.
        """
        try:
            blur, noise = (tuple(map(float, values[name])) for name in ("blur", "noise"))
            quantiles = tuple(tuple(map(float, row)) for row in values["quantiles"])
            found = Intervals(blur, noise, quantiles, str(values["made_on"]), int(values.get("voxels", 0)))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"the intervals are no table of quantiles ({error})") from None
        numbers = [*blur, *noise, *(q for row in quantiles for q in row)]
        is_table = len(quantiles) == len(blur) and all(len(row) == len(noise) for row in quantiles)
        ascend = all(_ascend(knots) for knots in (blur, noise))
        if not (blur and noise and is_table and ascend and all(isfinite(n) and n >= 0 for n in numbers)):
            raise ValueError("the intervals are no table of quantiles by ascending blur and noise")
        return found


def _ascend(knots: Sequence[float]) -> bool:
    return all(low < high for low, high in zip(knots, knots[1:], strict=False))
