"""The quality card: what a result says of itself, by comparison with the scan that it was made of.

There is no truth to compare with. What can be said is whether the result still agrees with the scan, how noise and
edges changed, and whether the scan is like what the model learned from. It is measured on up to eight slices.

The card is a JSON object, "quality" in the report of `super_resolve`; in the report of a file, that of
`apply_to_file`, it is report["super_resolution"]["quality"]::

    {
      "format": 1,
      "figures": [{"key": ..., "label": ..., "text": ..., "hint": ..., "attention": ...,
                   "value": ..., "before": ..., "unit": ...}, ...],
      "warnings": ["a sentence for the user", ...],
      "assumptions": "a sentence: the blur that was assumed, how many slices were looked at",
      "slices": [0, 12, ...],        slices of the scan that were looked at
      "blur_pixels": 0.85,           assumed blur in the slices, in pixels of the result
      "noise_share_of_window": 0.02, noise of the scan; null if unknown
      "seconds": 0.4                 what the card took
    }

A figure's `label` and `text` are to be shown as "label: text", with `hint` as tool tip; `attention` tells whether it
deserves a look. `value` is a number, or null where nothing could be measured (`text` then says so), and `before` is
there if the scan has the same figure. In this order, with these keys and units:

consistency ("x noise")
    The result is blurred and averaged as the model assumes the scanner to have done; the root mean square of what
    is left to the scan, divided by the scan's noise. Where the window cut values off, nothing is compared. Of a result
    with the scan's own voxels it is what was taken away, as it is: its label is then "Taken away". Of a result with the
    grey values of another scanner, those are first brought to the scan's by a straight line.
noise ("grey values"; `before`)
    Standard deviation about a plane in small flat pieces (8 pixels), the same before and after; median. Which pieces
    are flat is told by the neighbouring slice, whose noise is another.
edge_width ("mm"; `before`)
    Distance in which the strongest edges rise from 20 to 80 %, across the edge and within the slice (within coronal
    slices and across axial ones, where only the slices' distance has changed); median. Before is the scan under cubic
    interpolation. Smaller is sharper.
outside_window (share, 0 to 1)
    Voxels, blank ones apart, with grey values outside the window; there the network was not used. More than 0.5 % above
    a window that is not automatic deserve attention: they may be enamel.
outside_domain (share, 0 to 1)
    Voxels for which the model was not made: all if the voxel size or the noise of the scan is outside what it learned
    from, otherwise those brighter than the window.
certificate ("% of voxels"), only where back-projection was done
    Share of the scan's voxels whose local mean the result misses by more than three deviations of its noise.
error_bars ("grey values"), only if it was asked for, of a model that tells its own
    Half of the interval that holds the truth in 90 % of the voxels: what 95 % of the voxels do not exceed; see
    `error_bars`.
disagreement ("grey values"), only if it was asked for, of any other
    What 95 % of the measured voxels of the second volume do not exceed; see `maps`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..core.volume import Volume, as_acquired
from .conditions import MORE_NOISE
from .factors import is_same_size
from .plan import MISCLASSIFIED, PREDICTIVE
from .plan_checks import are_other_pixels
from .quality_measures import LEAST_NOISE, Measured, measure
from .tiles import Axis

if TYPE_CHECKING:
    from ..models.card import ModelCard
    from ..scan.blank_region import BlankRegion
    from ..scan.window import Window
    from ..scan.window_choice import WindowChoice
    from .conditions import Conditions
    from .consistency import Agreement

FORMAT = 1
FEWEST_EDGES = 20
CONTRADICTED, COPIED = 1.3, 0.6
KEPT = 0.8  # of the scan's noise, in a result that is only denoised
BLUNTER = 1.15  # times the width of the scan's edges, which noise makes look narrower, there
MUCH_BEYOND = 0.5  # per cent of the voxels that contradict the scan: deserves a look
VISIBLY_WIDER = 1.05  # times
MUCH = 0.1  # of the window: disagreement that deserves a look
FEW = 0.001  # share of the voxels below which no figure is told
UNKNOWN = "could not be measured"
SOURCES = {
    "usual": "what the model usually meets",
    "doubtful": "what the scan seems to tell, not for sure",
    "little": "little, as fine grain of the scan suggests",
    "estimated": "estimated from the scan",
    "given": "as was given",
}
OTHER_KIND = "not compared: the result is another kind of image than the scan"


def quality_card(
    volume: Volume,
    result: np.ndarray,
    axes: Sequence[Axis],
    choice: WindowChoice,
    blanks: BlankRegion,
    card: ModelCard,
    conditions: Conditions,
) -> dict:
    """Measure a result; see this module's text for what is returned.

    Parameters
    ----------
    volume : Volume
        The scan.
    result : ndarray, shape (k, j, i)
        Only the slices that are looked at are read.
    axes : three Axis
        From the volume to the result, along (k, j, i).
    conditions : Conditions
        Whose blur the result is judged by.
    """
    start = time.perf_counter()
    blur = [round(sd * axis.scale, 3) for sd, axis in zip(conditions.blur, axes, strict=True)]
    if across := card.across(volume.spacing):
        volume = Volume(volume.voxels.swapaxes(0, across), volume.grid.as_acquired(across))
        result, blanks = result.swapaxes(0, across), blanks.as_acquired(across)
        axes, blur = as_acquired(axes, across), as_acquired(blur, across)
    measured = measure(volume, result, axes, choice.window, blanks, blur, card.spec.domain != "other")
    same_size = is_same_size([axis.scale for axis in axes])
    judged = Judgement(measured, volume, choice, card, SOURCES[conditions.source], same_size)
    figures = [
        judged.consistency(),
        judged.noise(),
        judged.edges(),
        judged.outside_window(),
        judged.outside_domain(),
    ]
    return {
        "format": FORMAT,
        "figures": figures,
        "warnings": judged.warnings,
        "assumptions": judged.assumptions,
        "slices": measured.slices,
        "blur_pixels": judged.blur,
        "noise_share_of_window": judged.noise_share,
        "seconds": round(time.perf_counter() - start, 3),
    }


def card_of_failure() -> dict:
    """The card of a result that could not be measured."""
    names = ("assumptions", "slices", "blur_pixels", "noise_share_of_window", "seconds")
    return {"format": FORMAT, "figures": [], "warnings": [], **dict(zip(names, ("", [], None, None, 0.0), strict=True))}


def agreement_figure(agreement: Agreement) -> dict:
    """The figure for what was left to contradict the scan after the correction: a certificate."""
    text = f"The result {agreement}"
    hint = (
        "The result, blurred and sampled as the scan was, against the scan, place by place, after it was corrected. "
        "What is left can be metal, motion, or detail that the network insists on."
    )
    share = 100 * agreement.share_beyond
    return _figure("certificate", "Does not contradict the scan", text, hint, share > MUCH_BEYOND, share, "% of voxels")


def disagreement_figure(facts: dict, window: Window) -> dict:
    """The figure for what `maps.Disagreement.summary` tells."""
    share = 100 * facts["percentile_95"] / window.width
    text = (
        f"{_digits(facts['median'])} grey values in half of the voxels, more than {_digits(facts['percentile_95'])} "
        f"({share:.2g} % of the window) in a twentieth"
    )
    if facts["above"] is not None:
        text += f"; more than {facts['above']:g} in {100 * facts['share_above']:.2g} %"
    hint = (
        f"How far {facts['passes']} answers of the network to the same scan, turned and with a little noise, lie apart "
        "(standard deviation). Where it is large, detail hangs on chance; where it is small, it may still be wrong."
    )
    return _figure(
        "disagreement", "Model disagreement", text, hint, share > 100 * MUCH, facts["percentile_95"], "grey values"
    )


def error_bars_figure(facts: dict, window: Window) -> dict:
    """The figure for what `error_bars.ErrorBars.summary` tells."""
    share = 100 * facts["percentile_95"] / window.width
    text = (
        f"+- {_digits(facts['median'])} grey values in half of the voxels, more than "
        f"+- {_digits(facts['percentile_95'])} ({share:.2g} % of the window) in a twentieth; "
        f"marked: {100 * facts['share_above']:.2g} %"
    )
    if facts["marked"] == MISCLASSIFIED:
        text += (
            f" (chance above {facts['warning_above']:.2g} % to lie on the other side of bone's threshold, "
            f"{facts['bone_above']:g}; {100 * facts['bone_misclassified']:.2g} % of the voxels are expected to)"
        )
    else:
        text += f" (deviation above {_digits(facts['warning_above'], 4)})"
    if not facts["share_above"] and facts["marked"] == PREDICTIVE:
        text += f", as the widest twentieth begins at {_digits(facts['widest_above'], 4)}"
    more = facts["scaled_for_this_scan"]
    if more > VISIBLY_WIDER:
        text += f"; scaled {more:.2g}x for this scan: {facts['scaled_because']}"
    hint = (
        f"The result +- this holds the truth in {100 * facts['interval']:.0f} % of the voxels, as calibrated on "
        f"{facts['calibrated_on']}."
        if facts["holds"]
        else " ".join(facts["doubts"])
    )
    attention = not facts["holds"] or share > 100 * MUCH * facts["deviations_of_interval"]
    return _figure("error_bars", "Error bars", text, hint, attention, facts["percentile_95"], "grey values")


class Judgement:
    """The figures of a card, in words, and the warnings that go with them.

    Parameters
    ----------
    source : str
        Of the blur that is assumed.
    is_denoised : bool
        Whether the result has the scan's own voxels: then it is to have less noise, and edges as they were.
    """

    def __init__(
        self,
        measured: Measured,
        volume: Volume,
        choice: WindowChoice,
        card: ModelCard,
        source: str,
        is_denoised: bool = False,
    ) -> None:
        self.warnings: list[str] = []
        self._is_denoised = is_denoised
        self._measured, self._volume, self._card, self._source = measured, volume, card, source
        self._choice, self._window = choice, choice.window
        self._is_other_kind = card.spec.domain == "other"
        self._unknown = OTHER_KIND if self._is_other_kind else UNKNOWN

    @property
    def _is_noisy(self) -> bool:
        noise = self._measured.noise
        return bool(noise) and noise[0] >= self._measured.floor

    @property
    def _unit(self) -> str:
        if self._is_noisy:
            return "the scan's noise"
        known = "the scan has hardly any noise" if self._measured.noise else "the scan's noise could not be measured"
        return f"{100 * LEAST_NOISE:g} % of the window, as {known}"

    @property
    def noise_share(self) -> float | None:
        noise = self._measured.noise
        return round(noise[0] / self._window.width, 5) if noise else None

    @property
    def blur(self) -> float:
        """In the slices, in pixels of the result."""
        return round(float(np.mean(self._measured.blur[1:])), 3)

    @property
    def assumptions(self) -> str:
        if self._is_other_kind:
            return (
                "The result has the grey values of another scanner. For the agreement with the scan it is blurred by "
                f"a Gaussian of {self.blur:.3g} pixels of the result ({self._source}), averaged over the scan's pixels "
                "and brought to the scan's grey values by a straight line. Noise and edges are not compared."
            )
        if self._is_denoised:
            return f"Measured on {len(self._measured.slices)} slices. The result has the scan's voxels, and its blur."
        return (
            f"Measured on {len(self._measured.slices)} slices. Agreement with the scan assumes that the scan is the "
            f"result, blurred by a Gaussian of {self.blur:.3g} pixels of the result ({self._source}) and averaged over "
            "its own pixels."
        )

    def consistency(self) -> dict:
        found = self._measured
        value = None if found.residual is None else round(found.residual / found.floor, 3)
        if self._is_other_kind:
            return self._averaged(value)
        if self._is_denoised:
            return self._taken_away(value)
        if value is not None and value > CONTRADICTED:
            self.warnings.append(
                f"Blurred again, the result differs from the scan by {value:.2g} x {self._unit}: it shows things that "
                "the scan does not, or the scan is sharper than is assumed."
            )
        copied = value is not None and value < COPIED and self._is_noisy
        if copied:
            self.warnings.append(
                f"Blurred again, the result differs from the scan by only {value:.2g} x {self._unit}: the scan's noise "
                "was kept, and looks like detail."
            )
        return _figure(
            "consistency",
            "Agreement with the scan",
            self._unknown if value is None else f"{value:.2f} x {self._unit}",
            "The result, blurred again, against the scan, in units of the scan's noise. About 1: what the result adds "
            "explains the scan. Well above 1: it contradicts the scan. Well below 1: the scan's noise was kept.",
            copied or (value is not None and value > CONTRADICTED),
            value,
            "x noise",
        )

    def _averaged(self, value: float | None) -> dict:
        """As `consistency`, of a result with the grey values of another scanner."""
        hint = (
            "Averages of the result over the scan's pixels, brought to the scan's grey values by a straight line, "
            "against the scan, in units of its noise. Some more than 1 is usual, as grey values of two scanners do not "
            "lie on a straight line. Far above 1: the result shows other things than the scan."
        )
        text = UNKNOWN if value is None else f"{value:.2f} x {self._unit}, by averages alone"
        return _figure("consistency", "Agreement with the scan", text, hint, False, value, "x noise")

    def _taken_away(self, value: float | None) -> dict:
        """As `consistency`, where nothing lies between scan and result but the noise that is gone."""
        much = value is not None and value > CONTRADICTED
        if much:
            self.warnings.append(
                f"What was taken away is {value:.2g} x {self._unit}: more than noise alone, so something of the scan."
            )
        hint = (
            "Scan minus result, in units of the scan's noise. Up to 1: as much as there was noise. Well above 1: more "
            "than noise was taken away, or changed."
        )
        text = self._unknown if value is None else f"{value:.2f} x {self._unit}"
        return _figure("consistency", "Taken away", text, hint, much, value, "x noise")

    def noise(self) -> dict:
        before, after = (None, None) if self._is_other_kind else self._measured.noise or (None, None)
        more = before is not None and after > max(1.05 * before, LEAST_NOISE * self._window.width)
        if more:
            self.warnings.append("The result is noisier than the scan.")
        kept = self._is_denoised and before is not None and not more and after > KEPT * before and self._is_noisy
        if kept:
            self.warnings.append("The result has hardly less noise than the scan.")
        text = self._unknown
        if before is not None:
            shares = [100 * value / self._window.width for value in (before, after)]
            text = f"{_digits(before)} before, {_digits(after)} after "
            text += f"({shares[0]:.2g} % and {shares[1]:.2g} % of the window)"
        hint = "Standard deviation of the grey values where nothing is but noise, in the scan and in the result."
        return _figure("noise", "Noise", text, hint, more or kept, _rounded(after), "grey values", _rounded(before))

    def edges(self) -> dict:
        before = after = None
        if self._measured.edge_widths.shape[1] >= FEWEST_EDGES:
            before, after = map(float, np.median(self._measured.edge_widths, axis=1))
        blunt = before is not None and after > (BLUNTER * before if self._is_denoised else before)
        if blunt and self._is_denoised:
            self.warnings.append("Edges are blunter than in the scan: more than noise was smoothed.")
        elif blunt:
            self.warnings.append("Edges are no sharper than with cubic interpolation.")
        few = self._unknown if self._is_other_kind else f"{UNKNOWN}: too few clear edges"
        text = few if before is None else f"{before:.3g} mm before, {after:.3g} mm after"
        hint = (
            "Distance over which clear edges rise from 20 to 80 %, in the scan (interpolated) and in the result. "
            "Smaller is sharper; sharper is not yet true."
        )
        if self._is_denoised:
            hint = (
                "Distance over which clear edges rise from 20 to 80 %, in the scan and in the result: about the same."
            )
        return _figure("edge_width", "Width of edges", text, hint, blunt, _rounded(after), "mm", _rounded(before))

    def outside_window(self) -> dict:
        below, above = self._choice.clipped_below, self._choice.clipped_above
        text = _share_text(below + above)
        if below + above >= FEW:
            text += f" are only interpolated: {100 * below:.1f} % darker, {100 * above:.1f} % brighter"
        hint = (
            "Grey values outside the window, such as metal, are interpolated; the network adds nothing there. Few are "
            "not always unimportant: enamel is often less than one per cent of a scan."
        )
        # The automatic window leaves out what is metal beyond doubt; any other may cut teeth off.
        attention = above > (0.05 if self._window.source == "automatic" else 0.005) or below + above > 0.5
        return _figure("outside_window", "Outside the window", text, hint, attention, round(below + above, 5), "share")

    def outside_domain(self) -> dict:
        reasons = [*self._size_reasons(), *self._noise_reasons()]
        value = 1.0 if reasons else self._choice.clipped_above
        text = "; ".join(reasons) if reasons else _share_text(value)
        hint = (
            "Voxels unlike those that the model learned from: all, if the voxel size or the noise of the scan is "
            "outside its range; otherwise those brighter than the window."
        )
        attention = bool(reasons) or value > 0.05
        return _figure("outside_domain", "Unlike the training data", text, hint, attention, round(value, 5), "share")

    def _size_reasons(self) -> list[str]:
        in_plane = self._volume.spacing[:2]
        if not are_other_pixels(self._card, in_plane):
            return []
        smallest, largest = self._card.voxel_size_mm
        return [f"pixels of {in_plane[0]:.3g} mm, where it learned from {smallest:g} to {largest:g} mm"]

    def _noise_reasons(self) -> list[str]:
        known = self._card.strongest_noise
        if known is None or self.noise_share is None or self.noise_share <= MORE_NOISE * known:
            return []
        found, known = 100 * self.noise_share, 100 * known
        return [f"noise of {found:.2g} % of the window, where it learned from up to {known:.2g} %"]


def _share_text(share: float) -> str:
    """ "1.2 % of the voxels", "fewer than 0.1 % of the voxels", "no voxels"."""
    if not share:
        return "no voxels"
    return f"{100 * share:.1f} % of the voxels" if share >= FEW else "fewer than 0.1 % of the voxels"


def _figure(key, label, text, hint, attention, value, unit, before=None) -> dict:
    figure = {"key": key, "label": label, "text": text, "hint": hint, "attention": bool(attention)}
    figure.update(value=value, unit=unit)
    return figure if before is None else {**figure, "before": before}


def _digits(value: float, count: int = 3) -> str:
    """A number to so many digits, written out: 1070, not 1.07e+03."""
    return f"{float(f'{value:.{count}g}'):.12g}"


def _rounded(value: float | None) -> float | None:
    """Four digits."""
    return None if value is None else float(f"{value:.4g}")
