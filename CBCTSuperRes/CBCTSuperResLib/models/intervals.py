"""How a model's own deviations become intervals that hold: what calibration found, and for which scans.

Split conformal prediction with a scaled score (Lei et al., J. Am. Stat. Assoc. 2018, section 5.2): of voxels whose
truth is known, |truth - result| / deviation has a quantile, and so many deviations on either side hold that share of
them. The quantile depends on the scan's blur and noise, and is kept for several of them.

It also depends on what the scan shows. Where edges stand in even tissue, a network's deviations are wide along them and
narrow elsewhere; where texture fills the picture, they are alike everywhere, and narrower than the errors.
How evenly they are spread, their median over their root mean square, tells one kind of scan from the other without a
truth, and each kind has quantiles of its own (conformal prediction by groups, Vovk et al., 2003).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite

import numpy as np

SHARE = 0.9  # of the voxels that an interval is to hold
CUT = 0.02  # of the window: nearer to its ends a voxel counts as cut off
GAUSSIAN = 1.6449  # deviations on either side that hold this share where errors are Gaussian
MARGIN_OF_BLUR, MARGIN_OF_NOISE = 0.1, 0.003  # input voxels, share of the window: an estimate is no surer
AS_EVEN, MORE_EVEN = 1.15, 1.35  # times a drawn jaw's evenness: up to here such a scan; from here on texture fills it
MARGIN_OF_EVENNESS = 1.25  # times what was met: beyond that a scan shows something else


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
    evenness : tuple of tuple of float
        For each blur and each noise: how evenly the deviations of a usual scan are spread. Empty if only one kind of
        scan was met.
    textured : float or None
        The quantile of scans that texture fills.
    evenness_met : (lowest, highest) or ()
        Of all calibrated scans.
    contrast : float or None
        How far narrow error bars follow the local contrast, in scans that texture does not fill: an exponent, see
        `apply.error_bars`. None: not at all.
    least : float
        Deviation that is never gone below, in units of the window: no truth is better known. Its square is added.
    """

    blur: tuple[float, ...]
    noise: tuple[float, ...]
    quantiles: tuple[tuple[float, ...], ...]
    made_on: str
    voxels: int = 0
    evenness: tuple[tuple[float, ...], ...] = ()
    textured: float | None = None
    evenness_met: tuple[float, ...] = ()
    contrast: float | None = None
    least: float = 0.0

    def factor(self, blur: float, noise: float, evenness: float | None = None, is_sure: bool = True) -> float:
        """What the network's deviation is multiplied with, so that 1.645 of it hold 90 % of the errors.

        Between the calibrated scans it is interpolated linearly; beyond them it stays as at the nearest.

        Parameters
        ----------
        blur, noise : float
            Of the scan.
        evenness : float, optional
            Of its deviations; without, those of a usual scan are meant.
        is_sure : bool
            Whether the scan itself told its blur: one that does not has no place in the table, and gets the wider bars.
        """
        base = self._at(self.quantiles, blur, noise)
        share = self.textured_share(blur, noise, evenness, is_sure)
        if share:
            base = (1 - share) * base + share * max(base, self.textured)
        return base / GAUSSIAN

    def textured_share(self, blur: float, noise: float, evenness: float | None, is_sure: bool = True) -> float:
        """How far a scan counts as one that texture fills, 0 to 1."""
        if self.textured is None or evenness is None:
            return 0.0
        if not is_sure:
            return 1.0
        ratio = evenness / self._at(self.evenness, blur, noise)
        return float(np.clip((ratio - AS_EVEN) / (MORE_EVEN - AS_EVEN), 0, 1))

    def strangeness(self, evenness: float) -> str:
        """Why a scan is none of the kinds that were calibrated, by the spread of its deviations; "" if it may be."""
        if not self.evenness_met:
            return ""
        low, high = self.evenness_met
        if low / MARGIN_OF_EVENNESS <= evenness <= high * MARGIN_OF_EVENNESS:
            return ""
        return (
            f"the network's deviations are spread in this scan as in none that they were calibrated with (evenness "
            f"{evenness:.2f}, known from {low:.2f} to {high:.2f}), so that it shows another kind of object"
        )

    def _at(self, table: Sequence[Sequence[float]], blur: float, noise: float) -> float:
        rows = [np.interp(noise, self.noise, row) for row in table]
        return float(np.interp(blur, self.blur, rows))

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
        """For a card, without what is not known."""
        known = {name: value for name, value in asdict(self).items() if value not in ((), None)}
        return known if self.least else {name: value for name, value in known.items() if name != "least"}

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
            evenness = tuple(tuple(map(float, row)) for row in values.get("evenness", ()))
            textured = None if values.get("textured") is None else float(values["textured"])
            met = tuple(map(float, values.get("evenness_met", ())))
            made_on, voxels = str(values["made_on"]), int(values.get("voxels", 0))
            contrast = None if values.get("contrast") is None else float(values["contrast"])
            least = float(values.get("least", 0.0))
            found = Intervals(blur, noise, quantiles, made_on, voxels, evenness, textured, met, contrast, least)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"the intervals are no table of quantiles ({error})") from None
        numbers = [
            *blur,
            *noise,
            *met,
            contrast or 0.0,
            least,
            *(q for row in quantiles for q in row),
            *([textured] if evenness else []),
        ]
        tables = [quantiles, evenness] if evenness or textured is not None else [quantiles]
        is_table = all(len(t) == len(blur) and all(len(row) == len(noise) for row in t) for t in tables)
        is_table = is_table and (not evenness or textured is not None and min(map(min, evenness)) > 0)
        is_table = is_table and len(met) in (0, 2)
        ascend = all(_ascend(knots) for knots in (blur, noise))
        if not (blur and noise and is_table and ascend and all(isfinite(n) and n >= 0 for n in numbers)):
            raise ValueError("the intervals are no table of quantiles by ascending blur and noise")
        return found


def _ascend(knots: Sequence[float]) -> bool:
    return all(low < high for low, high in zip(knots, knots[1:], strict=False))
