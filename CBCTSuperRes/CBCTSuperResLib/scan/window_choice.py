"""The choice of a normalisation window for a scan and a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Protocol

import numpy as np

from ..core.errors import OptionError
from .blank_region import BlankRegion, Box, whole_box
from .tissue import TissueExtent, TissueLevels, levels_of, levels_without_air, sample_voxels, tissue_extent
from .window import PRESETS, Window

_TOLERANCE = 0.06
_CUT_OFF = 0.001  # of the darkest or the brightest tissue: less is noise, or nothing
_SATURATED = 0.02
_MARGIN = 0.1  # of the width, beyond air and bone: there noise is noise on both sides


class Expectation(Protocol):
    """What a model expects of the grey values; a `ModelCard` is one."""

    window: tuple[float, float] | None
    levels: TissueLevels | None


@dataclass(frozen=True)
class WindowChoice:
    """A window and why it was chosen.

    Attributes
    ----------
    window : Window
    reason : str
        A sentence for the user.
    clipped_below, clipped_above : float
        Shares of the non-blank voxels outside the window, in the scan or in the ROI that is computed.
    levels : TissueLevels
        Levels found in the scan, in grey values.
    warnings : tuple of str
        Sentences for the user.
    """

    window: Window
    reason: str
    clipped_below: float
    clipped_above: float
    levels: TissueLevels
    warnings: tuple[str, ...] = ()

    @property
    def clipped_share(self) -> float:
        return self.clipped_below + self.clipped_above


def choose_window(
    voxels: np.ndarray,
    blank: BlankRegion | None,
    request: str | Sequence[float] | None,
    card: Expectation | None,
    box: Box | None = None,
) -> WindowChoice:
    """Choose the normalisation window for a scan and a model.

    Parameters
    ----------
    voxels : ndarray, shape (k, j, i)
        Grey values of the whole scan.
    blank : BlankRegion or None
        Voxels that do not count.
    request : None, "auto", "model", a preset's name, or (lo, hi) in grey values
        None takes the model's window if that is sure: the scan's tissue levels (or soft tissue and bone alone, in a
        scan without air) lie in it where the model expects them, and it cuts nothing off. Otherwise, and for "auto",
        the automatic window. That is the straight line (least squares) that maps the tissue levels of the scan to those
        in the model card, if it is sure in the same way; else all that the scan's tissues span, enamel included and
        metal apart (`tissue_extent`), and at least a tenth of that beyond the levels of air and of bone.
    card : ModelCard or None
        Its `window` and `levels` are used; both may be None. A window without levels fits a scan whose tissues span
        at least a third of it. Below a window that was learned without air, air may be cut off, but only whole.
    box : three pairs of int along (k, j, i), optional
        Part of the scan that is to be computed: what the window clips is told of it. The whole scan decides the window.

    Raises
    ------
    OptionError
        If the request is no window, or the model's window is asked for and it has none.
    InputError
        If all non-blank voxels have the same value.
    """
    _requested_window(request, card)  # a request that makes no sense is refused before the scan is looked at
    sample = sample_voxels(voxels, blank)
    is_whole = box is None or box == whole_box(voxels.shape)
    part = None if is_whole else sample_voxels(voxels, blank, box)
    return choose_window_for_sample(sample, levels_of(sample), request, card, part)


def choose_window_for_sample(
    sample: np.ndarray,
    levels: TissueLevels,
    request: str | Sequence[float] | None,
    card: Expectation | None,
    part: np.ndarray | None = None,
) -> WindowChoice:
    """`choose_window` for a sample of the non-blank voxels, 1-D, whose tissue levels are known already.

    What the window clips is told of `part`, a sample of the ROI, if there is one.
    """
    choice = _chosen(sample, levels, request, card)
    return choice if part is None else _described(choice.window, choice.reason, part, levels, "ROI")


def _chosen(
    sample: np.ndarray, levels: TissueLevels, request: str | Sequence[float] | None, card: Expectation | None
) -> WindowChoice:
    given = _requested_window(request, card)
    if given is not None:
        return _described(given[0], given[1], sample, levels)

    expected, extent = getattr(card, "levels", None), tissue_extent(sample)
    models = getattr(card, "window", None) and Window(*card.window, source="model")
    against = ""
    if request is None and models:
        misfit = _misfit(models, levels, expected, extent)
        if misfit is None:
            return _described(models, f"The scan fits the model's window {models}.", sample, levels)
        if expected and max(extent.cut_off(models)) <= _CUT_OFF:
            found = (np.array(levels_without_air(sample)) - models.lo) / models.width
            if np.abs(found - (expected.soft, expected.bone)).max() <= _TOLERANCE:
                reason = (
                    f"The scan fits the model's window {models}: it shows hardly any air, but soft tissue and bone "
                    "match."
                )
                return _described(models, reason, sample, levels)
        against = f"The scan does not fit the model's window {models} ({misfit}), so "

    matched = _window_through(levels, expected) if expected else None
    if matched and _misfit(matched, levels, expected, extent) is None:
        reason = f"{against}the window {matched} was estimated from the scan's tissue levels."
        return _described(matched, _capitalized(reason), sample, levels)
    automatic = _window_around(extent)
    but = " but metal" if extent.has_metal else ""
    reason = f"{against}the window {automatic} was chosen, which holds all that the scan shows{but}."
    return _described(automatic, _capitalized(reason), sample, levels)


def _requested_window(request: str | Sequence[float] | None, card: Expectation | None) -> tuple[Window, str] | None:
    """The window that the request fixes and the reason for it, or None where the scan decides."""
    if request is None or (isinstance(request, str) and request == "auto"):
        return None
    if isinstance(request, str) and request == "model":
        if getattr(card, "window", None) is None:
            raise OptionError("The model has no window of its own.", 'Give a window, a preset or "auto".')
        window = Window(*card.window, source="model")
        return window, f"The model's window {window} was asked for."
    if isinstance(request, str):
        name = request.strip().lower()
        if name not in PRESETS:
            raise OptionError(f"There is no window preset {request!r}.", f"Choose one of {', '.join(PRESETS)}.")
        window = Window(PRESETS[name].lo, PRESETS[name].hi, source=f"preset {name}")
        return window, f"The window {window} of the preset {name} ({PRESETS[name].title}) was asked for."
    try:
        lo, hi = (float(bound) for bound in request)
    except (TypeError, ValueError):
        raise OptionError(
            f"The window {request!r} is not a pair of numbers.", "Give LO and HI in grey values."
        ) from None
    window = Window(lo, hi)
    return window, f"The window {window} was given."


def _described(
    window: Window, reason: str, sample: np.ndarray, levels: TissueLevels, what: str = "scan"
) -> WindowChoice:
    below, above = window.clipped_shares(sample)
    warnings = ()
    if below + above > 0.5:
        warnings = (
            f"The window {window} clips {100 * (below + above):.0f} % of the {what} ({100 * below:.0f} % below it, "
            f"{100 * above:.0f} % above it); what lies outside is only interpolated.",
        )
    return WindowChoice(window, reason, below, above, levels, warnings)


def _misfit(window: Window, levels: TissueLevels, expected: TissueLevels | None, extent: TissueExtent) -> str | None:
    """What speaks against a window, or None."""
    found = levels.in_window(window)
    below, above = extent.cut_off(window)
    if above > _CUT_OFF:
        return f"it cuts off {_percent(above)} of the brightest tissue"
    air_is_unknown = expected is None or abs(expected.air) < _SATURATED  # cut off in what it learned from, too
    if _CUT_OFF < below < (1 - _CUT_OFF if air_is_unknown else 1.1):
        return f"it cuts off {_percent(below)} of the darkest tissue"
    if expected is None:
        span = found.bone - found.air
        return None if span > 1 / 3 else f"its tissues span only {100 * span:.1f} % of it"
    # Levels that both saturate are the same to the network, so they are compared after clipping.
    offsets = np.abs(np.clip(astuple(found), 0, 1) - np.clip(astuple(expected), 0, 1))
    worst = int(np.argmax(offsets))
    if offsets[worst] <= _TOLERANCE:
        return None
    name = ("air", "soft tissue", "bone")[worst]
    return f"{name} at {astuple(found)[worst]:.2g} of it, where the model expects {astuple(expected)[worst]:.2g}"


def _window_through(levels: TissueLevels, expected: TissueLevels) -> Window:
    """Least-squares line through the pairs (unit level, grey level), read off at 0 and 1.

    Unit levels at or beyond 0 and 1 were clipped and say only "at least as far out"; they are left out if two remain.
    """
    unit, grey = np.array(astuple(expected)), np.array(astuple(levels))
    inside = (unit > 0) & (unit < 1)
    if np.count_nonzero(inside) >= 2:
        unit, grey = unit[inside], grey[inside]
    width, lo = np.polyfit(unit, grey, 1)
    return _rounded(lo, lo + width)


def _window_around(extent: TissueExtent) -> Window:
    """All that the tissues span, and a margin beyond the levels of the darkest and the brightest of them."""
    dark, bright = extent.levels
    margin = _MARGIN * extent.width
    return _rounded(min(extent.lowest, dark - margin), max(extent.highest, bright + margin))


def _rounded(lo: float, hi: float) -> Window:
    """Outwards, to about four digits of the width."""
    digits = 3 - int(np.floor(np.log10(hi - lo)))
    step = 10.0**-digits
    lo, hi = np.floor(lo / step) * step, np.ceil(hi / step) * step
    return Window(round(float(lo), digits), round(float(hi), digits), source="automatic")


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def _capitalized(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
