"""What is known of the scanner that made a scan: what a model is told of it, and what speaks against the model.

Blur is a standard deviation before the voxel's own mean, in voxels of the scan; for people it is the full width at half
maximum in mm. It is what the user gives, or what the scan tells for sure. Else it is little, where the scan has grain
that the model's usual blur would not leave; or what one axis tells for sure, or the spectrum alone, where noise does
not hide it; or what the model usually meets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..acquisition.estimate import FWHM, EstimatedAcquisition
from ..core.volume import Grid, as_acquired
from ..models.card import MOST_BLUR, USUAL_BLUR

if TYPE_CHECKING:
    from ..core.options import Options
    from ..models.card import ModelCard

CAUTION = 0.38  # voxels: own softness of objects, that an estimate cannot tell from blur, beyond what it allows for
CLEAR = 0.035  # of the window: with more noise, and of trabecular bone, the spectrum alone tells nothing
TRABECULAR_CAUTION = 0.85  # voxels: the same of native micro-CT of trabecular bone, where it could be measured
LITTLE_BLUR = 0.2  # voxels: the most that leaves grain so fine, as far as was measured (`FINE_GRAIN`)
GRAIN = 0.03  # of the window: strength of such grain; trabecular bone has 0.032 to 0.04, averaged more
MOST_GRAIN = 0.05  # of the window: what is stronger is noise for the most part
SHARP = 0.35  # voxels: up to this blur, weak noise is kept, as denoising costs more there than noise that stays
WEAK_NOISE = 0.008, 0.0095  # of the window: what is weaker may be texture (the molar's is 0.0077); all, and none, of it
LESS_CAUTION = 0.2  # voxels: the same where the scan tells how soft its objects are, and of a usual blur
DOUBTFUL_NOISE = 0.08  # of the noise: with a larger uncertainty, texture may have been taken for it
MUCH = 0.15  # voxels: 0.3 fine pixels, by which a blur may differ from the usual one without a word
MUCH_LESS = 0.12  # voxels: the same of a smaller one, of which a model that met more makes edges that are not there
WHY_TAKEN = {
    "usual": "which the model usually meets",
    "little": "as its grain is so fine",
    "doubtful": "which is what else the scan tells",
}
NEAR = 1.25  # slices so much farther apart than pixels still have the slices' own blur across them, in mm
MORE_NOISE = 1.1


@dataclass(frozen=True)
class Conditions:
    """The scanner, as far as a run must know it.

    Attributes
    ----------
    blur : (k, j, i)
        In voxels of the scan: what the result is judged by.
    cautious_blur : (k, j, i)
        What may be undone of it: less than a blur that was not given by what objects' own softness may have added,
        which is less where that was measured. Who undoes too much draws edges that are not there; who undoes too little
        leaves them soft.
    told_blur : (k, j, i)
        What a model that wants to know is told: that, within what it learned from.
    noise : float
        Standard deviation in units of the window; what the model usually meets if the scan does not tell.
    told_noise : float
        The same within what the model learned from.
    source : "given", "estimated", "doubtful", "little" or "usual"
        Where the blur in the slices comes from: "estimated" in two ways that agree; "doubtful" where
        one axis, or the spectrum alone tells, which is hardly ever more than the scanner's; "little" where trabecular
        bone has finer grain than a usual blur would leave it; "usual" where nothing tells.
    reason : str
        A sentence: which blur is taken, and why.
    warnings : tuple of str
    """

    blur: tuple[float, float, float]
    cautious_blur: tuple[float, float, float]
    told_blur: tuple[float, float, float]
    noise: float
    told_noise: float
    source: str
    reason: str
    warnings: tuple[str, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether the blur in the slices is sure."""
        return self.source in ("given", "estimated")

    def of_blocks(self, kept: Sequence[bool], spacing: Sequence[float], card: ModelCard) -> Conditions:
        """The same for a model of blocks, of whose axes (k, j, i) some are not made finer: those are `kept`.

        There it is told of the least blur that it knows: the scanner's own then stays, as nobody asked for more. Along
        the others, where the scan does not tell its blur, it is told what it usually meets, as long in mm along all
        axes: no edge of an object has made that too large. A blur that was given is told everywhere.
        """
        if self.source == "given" or "blur" not in card.spec.conditions:
            return self
        told, reason = np.array(self.told_blur), self.reason
        if self.source in ("little", "usual"):
            told = np.array(self.blur) * min(spacing) / np.array(spacing)
            told = np.clip(told, *card.trained_blur) if card.trained_blur else told
        if any(kept):
            told[np.array(kept)] = card.trained_blur[0] if card.trained_blur else 0.0
            reason += " Along axes that are not made finer it stays."
        return replace(self, told_blur=tuple(map(float, told)), reason=reason)

    def to_json(self) -> dict:
        """For reports, without the warnings; blur along (i, j, k), in voxels."""
        facts = asdict(self)
        for name in ("blur", "cautious_blur", "told_blur"):
            facts[name] = [round(value, 4) for value in facts[name][::-1]]
        for name in ("noise", "told_noise"):
            facts[name] = round(facts[name], 5)
        return {name: value for name, value in facts.items() if name != "warnings"}


def usual_conditions(card: ModelCard) -> Conditions:
    """What a model usually meets, for a scan that has not been looked at."""
    blur, noise = _usual(card)
    return Conditions(*[(blur,) * 3] * 3, noise, noise, "usual", "The scan has not been looked at.")


def conditions_of(
    card: ModelCard,
    options: Options,
    grid: Grid,
    scanner: EstimatedAcquisition,
    window_width: float,
    is_denoised: bool = False,
) -> Conditions:
    """Decide on blur and noise of a scan, and compare them with what a model learned from.

    Parameters
    ----------
    grid : Grid
        Of the scan.
    scanner : EstimatedAcquisition
        What the scan tells.
    window_width : float
        In grey values.
    is_denoised : bool
        Whether nothing is made finer: then the blur stays, whatever it is, and there is nothing to warn of.
    """
    usual_blur, usual_noise = _usual(card)
    across = scanner.across  # that axis is the first of what follows, the two of the slices behind it
    steps = np.array(as_acquired(grid.spacing[::-1], across))
    noise = _noise(scanner, usual_noise, window_width)
    is_fine = scanner.is_of_fine_grain and usual_noise < noise < MOST_GRAIN and not is_denoised
    is_sure = scanner.in_plane_is_sure and not is_fine
    doubtful = _doubtful(scanner, noise, steps)
    doubts = "; ".join(sorted({axis.doubt for axis in scanner.in_plane if not axis.is_sure}))
    doubts = doubts and f" ({doubts})"
    if options.scanner_blur is not None:
        blur = np.array(as_acquired(np.broadcast_to(options.scanner_blur, 3)[::-1], across)) / FWHM / steps
        source, reason = "given", f"The scanner's blur was given: {_text(blur, steps)}."
        if blur.max() > MOST_BLUR:
            blur = np.minimum(blur, MOST_BLUR)
            reason += f" No scanner has so much; {_text(blur, steps)} is taken."
    elif is_sure:
        blur = _estimated(scanner, usual_blur, steps)
        source, reason = "estimated", f"The scanner's blur was estimated from the scan: {_text(blur, steps)}."
    elif is_fine and usual_blur > LITTLE_BLUR:
        blur = np.full(3, LITTLE_BLUR)
        source = "little"
        reason = (
            f"The scan does not tell its blur for sure{doubts}. Between its structures there is grain, finer than "
            f"the model's usual blur would leave it, so little is taken: {_text(blur, steps)}."
        )
    elif doubtful is not None:
        blur, source = doubtful, "doubtful"
        reason = (
            f"The scan does not tell its blur for sure{doubts}; what it seems to be is taken: {_text(blur, steps)}."
        )
    else:
        blur = np.full(3, usual_blur)
        source = "usual"
        reason = f"The scan does not tell its blur for sure{doubts}; what the model usually meets is taken: "
        reason += f"{_text(blur, steps)}."
    caution = LESS_CAUTION
    if source in ("estimated", "doubtful") and scanner.softness_mm is None:
        caution = TRABECULAR_CAUTION if scanner.is_trabecular else CAUTION
        if caution > CAUTION:
            reason += " Much of it may be softness of its structures, which stand close."
    undone = blur if source in ("given", "little") else cautious(blur, caution)
    if caution == TRABECULAR_CAUTION:  # of bone that is less soft not less than of a usual scan, or another object
        usual = cautious(np.full(3, usual_blur), LESS_CAUTION)
        undone = np.maximum(undone, np.minimum(usual, cautious(blur, CAUTION)))
    told_blur, told_noise = undone, noise
    if is_fine and source != "given":
        told_noise = max(usual_noise, float(np.sqrt(max(noise**2 - GRAIN**2, 0))))
    elif scanner.noise and not is_denoised and undone[1:].max() <= SHARP:
        told_noise = noise * float(np.interp(noise, WEAK_NOISE, (0, 1)))
        if told_noise < noise and "noise" in card.spec.conditions:
            reason += f" What looks like noise, {100 * noise:.2g} % of the window, may be texture and is kept."
    if card.trained_blur:
        told_blur = np.clip(undone, *card.trained_blur)
        shares = card.trained_blur[0] * FWHM * steps[1:].mean(), card.trained_blur[1] * FWHM * steps[1:].mean()
        reason += f" The model learned from {shares[0]:.2g} to {shares[1]:.2g} mm (in voxels of this size)."
    if card.strongest_noise is not None:
        told_noise = min(told_noise, card.strongest_noise)
    known = blur if source == "doubtful" else undone
    warnings = [] if source in ("little", "usual") else _blur_warnings(card, blur, known, steps)
    if source not in ("given", "estimated"):
        warnings += _doubt(card, scanner, blur, steps, source)
    warnings = [] if is_denoised else warnings
    if card.strongest_noise is not None and scanner.noise and noise > MORE_NOISE * card.strongest_noise:
        warnings.append(
            f"The scan's noise, {100 * noise:.2g} % of the window, is stronger than what the model learned from (up to "
            f"{100 * card.strongest_noise:.2g} %): structures may be made of noise."
        )
    if scanner.is_sharpened:
        warnings.append(
            f"The scan was sharpened by its reconstruction kernel: edges overshoot by {100 * scanner.overshoot:.0f} %. "
            "That stays, and may grow."
        )
    return Conditions(
        *(tuple(map(float, as_acquired(widths, across))) for widths in (blur, undone, told_blur)),
        *(float(noise), float(told_noise)),
        *(source, reason, tuple(warnings)),
    )


def is_unlike_usual(card: ModelCard, conditions: Conditions) -> bool:
    """Whether a model that is not told the scanner's blur usually met another one than is known of this scan.

    What objects' softness may have added to a blur that is sure does not count: a sharp scan of a soft tooth is no scan
    of the usual blur. One that is not sure must itself be unlike.
    """
    may_differ = conditions.source != "usual" and "blur" not in card.spec.conditions and bool(card.trained_blur)
    blur = conditions.blur if conditions.source == "doubtful" else conditions.cautious_blur
    return may_differ and _is_unlike(float(np.mean(blur[1:])), _usual(card)[0])


def _is_unlike(blur: float, usual: float) -> bool:
    return not -MUCH_LESS <= blur - usual <= MUCH


def cautious(blur: np.ndarray, softness: float = CAUTION) -> np.ndarray:
    """A blur in voxels without what objects' own softness, in voxels, may have added to it."""
    return np.sqrt(np.maximum(blur**2 - softness**2, 0))


def _usual(card: ModelCard) -> tuple[float, float]:
    """Blur in voxels of the scan and noise that a model usually meets; without what no scanner has."""
    blur, noise = card.usual_conditions
    return blur if 0 <= blur <= MOST_BLUR else USUAL_BLUR, noise


def _noise(scanner: EstimatedAcquisition, usual: float, window_width: float) -> float:
    """In units of the window: what the scan tells; not more than usual where that is in doubt."""
    if scanner.noise is None:
        return usual
    told = scanner.noise.sd / window_width
    return min(told, usual) if scanner.noise.error > DOUBTFUL_NOISE * scanner.noise.sd else told


def _estimated(scanner: EstimatedAcquisition, usual: float, steps: np.ndarray) -> np.ndarray:
    """Across the slices, what the scan tells, or the blur in them, or the usual one; and along their two axes."""
    across, *in_plane = as_acquired(scanner.blur, scanner.across)
    rows, columns = (axis.sd for axis in in_plane)
    in_mm = (rows * steps[1] + columns * steps[2]) / 2
    like_in_plane = in_mm / steps[0] if steps[0] <= NEAR * steps[1:].max() else usual
    return np.array([across.sd if across.is_sure else like_in_plane, rows, columns])


def _doubtful(scanner: EstimatedAcquisition, noise: float, steps: np.ndarray) -> np.ndarray | None:
    """What one axis tells for sure, or the spectrum alone, of the same length in mm along all; None if neither does.

    Of the spectra of rows and columns the larger: what noise hides of a spectrum makes its blur look less. They tell
    nothing of a scan of much noise, or of trabecular bone.
    """
    axes = list(zip(scanner.in_plane, steps[1:], strict=True))
    widths = [axis.sd * step for axis, step in axes if axis.is_sure]
    if not widths and scanner.noise is not None and noise < CLEAR and not scanner.is_trabecular:
        widths = [axis.by_spectrum * step for axis, step in axes if axis.by_spectrum is not None]
    if not widths:
        return None
    across, like = as_acquired(scanner.blur, scanner.across)[0], max(widths) / steps
    return np.array([across.sd if across.is_sure else like[0], *like[1:]])


def _doubt(
    card: ModelCard, scanner: EstimatedAcquisition, blur: np.ndarray, steps: np.ndarray, source: str
) -> list[str]:
    """What to say where edges look unlike the blur that is taken because the scan does not tell for sure."""
    widths = [axis.sd for axis in scanner.in_plane if axis.sd is not None]
    if not card.trained_blur:
        return []
    taken, usual, in_mm = float(blur[1:].mean()), _usual(card)[0], FWHM * float(steps[1:].mean())
    if source == "little" and "blur" not in card.spec.conditions:
        return [
            "The scan may have little blur: between its structures there is grain, finer than the blur that this "
            f"model usually met, {usual * in_mm:.2g} mm, would leave it, and the model cannot be told. Edges may be "
            "drawn too sharp, and the result may be worse than interpolation. The model adaptive can."
        ]
    seen = float(np.mean(widths)) if widths else taken
    if abs(seen - taken) <= MUCH:
        return []
    than, what = ("more", "stay soft") if seen > taken else ("less", "be drawn too sharp")
    why = WHY_TAKEN[source]
    return [
        f"The scanner's blur is not sure: the scan's edges look like {seen * in_mm:.2g} mm, and {taken * in_mm:.2g} mm "
        f"is taken, {why}. If the scanner has {than}, edges may {what}: give its blur if you know it."
    ]


def _blur_warnings(card: ModelCard, blur: np.ndarray, undone: np.ndarray, steps: np.ndarray) -> list[str]:
    """What to say of a blur in the slices a model did not learn, or cannot be told; `undone` of it may be undone."""
    step = float(steps[1:].mean())
    if "blur" in card.spec.conditions:
        if not card.trained_blur:
            return []
        lowest, highest = card.trained_blur
        if blur[1:].max() > 1.02 * highest:
            return [
                f"The scanner's blur, {_text(blur, steps)}, is beyond what the model learned (up to "
                f"{FWHM * highest * step:.2g} mm): it is told as much, and the result is mild."
            ]
        if blur[1:].min() < lowest - MUCH:
            return [
                f"The scan is sharper than what the model learned from: its blur is {_text(blur, steps)}, theirs from "
                f"{FWHM * lowest * step:.2g} mm on. Edges may be drawn too sharp. Choose a lower sharpness."
            ]
        return []
    usual, mean = _usual(card)[0], float(undone[1:].mean())
    if not card.trained_blur or not _is_unlike(mean, usual):
        return []
    what = "stay soft" if mean > usual else "be drawn too sharp, and the result may be worse than interpolation"
    softness = "" if undone is blur else " without what objects' softness may have added"
    return [
        f"The scanner's blur, {_text(undone, steps)}{softness}, is {'stronger' if mean > usual else 'weaker'} than "
        f"what this model usually met ({FWHM * usual * step:.2g} mm), and it cannot be told: edges may {what}. The "
        "model adaptive can."
    ]


def _text(blur: np.ndarray, steps: np.ndarray) -> str:
    """ "0.29 x 0.29 mm", along i and j."""
    return (
        " x ".join(f"{FWHM * value * step:.2g}" for value, step in zip(blur[:0:-1], steps[:0:-1], strict=True)) + " mm"
    )
