"""The choice of a normalisation window for a scan and a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Protocol

import numpy as np

from ..core.errors import OptionError
from .blank_region import BlankRegion, Box, whole_box
from .tissue import (
    TissueLevels,
    levels_of,
    levels_without_air,
    sample_voxels,
)
from .window import PRESETS, Window

_TOLERANCE = 0.06
_ABOVE_ALLOWED = 0.05

DEFAULT_LEVELS = TissueLevels(air=0.08, soft=0.36, bone=0.70)
"""Unit levels for models that record none: a scan in Hounsfield units gets about [-1270, 2280], air to enamel."""


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
        None takes the model's window if the scan's tissue levels (or soft tissue and bone alone, in a scan without
        air) lie in it where the model expects them, and the automatic window otherwise. The automatic one is the
        straight line (least squares) that maps the tissue levels of the scan to those in the model card, or to
        `DEFAULT_LEVELS` where the card has none.
    card : ModelCard or None
        Its `window` and `levels` are used; both may be None. A window without levels fits a scan whose tissues span
        at least a third of it and are hardly ever brighter.
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
    choice = choose_window_for_sample(sample, levels_of(sample), request, card)
    if box is None or box == whole_box(voxels.shape):
        return choice
    return _described(choice.window, choice.reason, sample_voxels(voxels, blank, box), choice.levels, "ROI")


def choose_window_for_sample(
    sample: np.ndarray, levels: TissueLevels, request: str | Sequence[float] | None, card: Expectation | None
) -> WindowChoice:
    """`choose_window` for a sample of the non-blank voxels, 1-D, whose tissue levels are known already."""
    given = _requested_window(request, card)
    if given is not None:
        return _described(given[0], given[1], sample, levels)

    expected = getattr(card, "levels", None)
    automatic = _window_through(levels, expected or DEFAULT_LEVELS)
    if request == "auto":
        return _described(automatic, f"The window {automatic} was estimated from the tissue levels.", sample, levels)
    if getattr(card, "window", None) is None:
        reason = f"The model has no window of its own, so it was estimated from the tissue levels: {automatic}."
        return _described(automatic, reason, sample, levels)

    models = Window(*card.window, source="model")
    misfit = _misfit(models, levels, expected, sample)
    if misfit is None:
        return _described(models, f"The scan fits the model's window {models}.", sample, levels)
    if expected and models.clipped_shares(sample)[1] <= _ABOVE_ALLOWED:
        found = (np.array(levels_without_air(sample)) - models.lo) / models.width
        if np.abs(found - (expected.soft, expected.bone)).max() <= _TOLERANCE:
            reason = (
                f"The scan fits the model's window {models}: it shows hardly any air, but soft tissue and bone match."
            )
            return _described(models, reason, sample, levels)
    reason = (
        f"The scan does not fit the model's window {models} ({misfit}), "
        f"so the window was estimated from its tissue levels: {automatic}."
    )
    return _described(automatic, reason, sample, levels)


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


def _misfit(window: Window, levels: TissueLevels, expected: TissueLevels | None, sample: np.ndarray) -> str | None:
    """What speaks against a window, or None."""
    found = levels.in_window(window)
    above = window.clipped_shares(sample)[1]
    if above > _ABOVE_ALLOWED:
        return f"{100 * above:.0f} % of the voxels are brighter, bone is at {found.bone:.2g} of it"
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
    digits = 3 - int(np.floor(np.log10(width)))
    return Window(round(lo, digits), round(lo + width, digits), source="automatic")
