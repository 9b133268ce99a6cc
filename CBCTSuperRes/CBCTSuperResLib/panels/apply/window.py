"""A small picture of how often grey values occur.

Window: which grey values the model sees.
"""

from __future__ import annotations

from math import ceil, log10

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from ...core.errors import SuperResError
from ...scan.overview import Overview
from ...scan.window import Window
from ...scan.window_choice import WindowChoice
from ..widgets import Section
from .choices import Choices
from .parameters import WindowPreset

BINS = 160
HEIGHT = 56


def drawHistogram(label, seen: Overview, limits: tuple[float, float], window: tuple[float, float]) -> None:
    """Draw the histogram between two grey values onto a label, in the colors of its palette.

    Parameters
    ----------
    label : QLabel
    seen : Overview
    limits : (low, high)
        Grey values at the left and right edge.
    window : (low, high)
        What is highlighted.
    """
    heights = np.log1p(seen.histogram(*limits, BINS))
    heights = np.rint(heights / max(heights.max(), 1e-9) * (HEIGHT - 2)).astype(int)
    centers = limits[0] + (np.arange(BINS) + 0.5) * (limits[1] - limits[0]) / BINS
    inside = (centers >= window[0]) & (centers <= window[1])
    pixmap = qt.QPixmap(2 * BINS, HEIGHT)
    palette = label.palette
    pixmap.fill(palette.color(qt.QPalette.Base))
    brushes = {True: qt.QBrush(palette.color(qt.QPalette.Highlight)), False: qt.QBrush(palette.color(qt.QPalette.Mid))}
    painter = qt.QPainter()
    painter.begin(pixmap)
    for number, (height, isInside) in enumerate(zip(heights, inside, strict=True)):
        painter.fillRect(qt.QRect(2 * number, HEIGHT - int(height), 2, int(height)), brushes[bool(isInside)])
    painter.end()
    label.setPixmap(pixmap)


MARGIN = 0.1


class WindowSection(Section):
    """Shows the window that the choices come to, and what it leaves out; moving its ends makes it a custom one."""

    def __init__(self, ui, choices: Choices) -> None:
        super().__init__(ui)
        self.choices = choices
        self._limits: tuple[Overview, float, float] | None = None
        self.ui.windowRange.connect("valuesChanged(double,double)", self.onRangeMoved)

    def refresh(self) -> None:
        choice, text = self._choice()
        if choice is not None:
            self._show(choice, self.choices.glance())
        self.ui.windowLabel.text = text
        self.ui.histogramLabel.visible = choice is not None
        self.ui.windowRange.enabled = choice is not None and not self.choices.isLocked
        self.ui.windowPresetSelector.enabled = not self.choices.isLocked

    def onRangeMoved(self, low: float, high: float) -> None:
        if self.parameters is None or low >= high:
            return
        with slicer.util.NodeModify(self.parameters.parameterNode):
            self.parameters.windowLow, self.parameters.windowHigh = low, high
            self.parameters.windowPreset = WindowPreset.custom

    def _choice(self) -> tuple[WindowChoice | None, str]:
        """The window, and a text about it or about why there is none."""
        if self.parameters is None or self.choices.inputNode is None:
            return None, ""
        try:
            choice = self.choices.window()
        except SuperResError as error:
            return None, str(error)
        return choice, "\n".join([choice.reason, clippedText(choice), *choice.warnings])

    def _show(self, choice: WindowChoice, seen: Overview) -> None:
        window, widget = choice.window, self.ui.windowRange
        low, high = self._sliderLimits(seen, window)
        wasBlocked = widget.blockSignals(True)
        widget.decimals = _decimals(high - low)
        widget.setRange(low, high)
        widget.singleStep = 10.0 ** -_decimals(high - low)  # refused if it is wider than the range
        widget.setValues(window.lo, window.hi)
        widget.blockSignals(wasBlocked)
        drawHistogram(self.ui.histogramLabel, seen, (low, high), (window.lo, window.hi))

    def _sliderLimits(self, seen: Overview, window: Window) -> tuple[float, float]:
        """What the slider spans; kept while the same scan is shown, so that nothing moves under the user's mouse."""
        if self._limits is None or self._limits[0] is not seen:
            self._limits = (seen, *sliderLimits(seen.limits, window))
        low, high = self._limits[1:]
        if not low <= window.lo < window.hi <= high:
            self._limits = (seen, *sliderLimits((low, high), window))
        return self._limits[1:]


def sliderLimits(robust: tuple[float, float], window: Window) -> tuple[float, float]:
    """The grey values that occur and a window, with a margin, in round numbers."""
    low, high = min(robust[0], window.lo), max(robust[1], window.hi)
    margin, digits = MARGIN * (high - low), _decimals(high - low)
    return round(low - margin, digits), round(high + margin, digits)


def clippedText(choice: WindowChoice) -> str:
    """How much of what was measured is outside of a window."""
    text = _("Outside the window: {below:.1f} % darker, {above:.1f} % brighter.")
    return text.format(below=100 * choice.clipped_below, above=100 * choice.clipped_above)


def _decimals(width: float) -> int:
    """Digits after the point with which a range has some hundreds of steps or more; 0 for grey values as they are."""
    return max(0, ceil(log10(200 / width)))
