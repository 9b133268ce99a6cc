"""Window: which grey values the model sees."""

from __future__ import annotations

from math import ceil, log10

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from ...core.errors import SuperResError
from ...scan.overview import Overview
from ...scan.window import Window
from ..error_text import errorText
from ..section import Section, signalsBlocked
from .choices import ApplyChoices
from .parameters import WindowPreset
from .texts import windowLine, windowText

BINS = 160
HEIGHT = 56
MARGIN = 0.1


class WindowSection(Section):
    """Shows the window that the choices come to, and what it leaves out; moving its ends makes it a custom one."""

    def __init__(self, ui, choices: ApplyChoices) -> None:
        super().__init__(ui, choices)
        self._limits: tuple[Overview, float, float] | None = None
        ui.windowRange.connect("valuesChanged(double,double)", self.onRangeMoved)
        ui.windowRange.spinBoxAlignment = qt.Qt.AlignBottom  # so that the slider is as wide as the histogram above
        handle = ui.windowRange.style().pixelMetric(qt.QStyle.PM_SliderLength)
        ui.histogramLabel.setContentsMargins(handle // 2, 0, handle - handle // 2, 0)

    def refresh(self) -> None:
        choice, text, line = None, "", _("Window")
        if self.choices.inputNode is not None:
            try:
                choice = self.choices.window()
                text = windowText(choice)
                line = windowLine(WindowPreset.label(self.parameters.windowPreset), choice)
            except SuperResError as error:
                text = errorText(error)
        if choice is not None:
            self._show(choice.window, self.choices.overview())
        self.ui.windowLabel.text = text
        self.ui.windowSection.text = line
        self.ui.histogramLabel.visible = choice is not None
        self.ui.windowRange.enabled = choice is not None and not self.choices.isLocked
        self.ui.windowPresetSelector.enabled = not self.choices.isLocked

    def onRangeMoved(self, low: float, high: float) -> None:
        if self.parameters is None or low >= high:
            return
        with slicer.util.NodeModify(self.parameters.parameterNode):
            self.parameters.windowLow, self.parameters.windowHigh = low, high
            self.parameters.windowPreset = WindowPreset.custom

    def _show(self, window: Window, seen: Overview) -> None:
        """Slider and histogram span the same; they are kept as long as nothing would shift under the user's mouse."""
        if self._limits is None or self._limits[0] is not seen:
            self._limits = (seen, *sliderLimits(seen.limits, window))
        low, high = self._limits[1:]
        if not low <= window.lo < window.hi <= high:
            low, high = sliderLimits((low, high), window)
            self._limits = (seen, low, high)
        widget = self.ui.windowRange
        with signalsBlocked(widget):
            widget.decimals = decimals(high - low)
            widget.setRange(low, high)
            widget.singleStep = 10.0 ** -decimals(high - low)  # refused if it is wider than the range
            widget.setValues(window.lo, window.hi)
        drawHistogram(self.ui.histogramLabel, seen, (low, high), (window.lo, window.hi))


def sliderLimits(robust: tuple[float, float], window: Window) -> tuple[float, float]:
    """The grey values that occur and a window, with a margin, in round numbers."""
    low, high = min(robust[0], window.lo), max(robust[1], window.hi)
    margin, digits = MARGIN * (high - low), decimals(high - low)
    return round(low - margin, digits), round(high + margin, digits)


def decimals(width: float) -> int:
    """Digits after the point with which a range has some hundreds of steps or more; 0 for grey values as they are."""
    return max(0, ceil(log10(200 / width)))


def drawHistogram(label, seen: Overview, limits: tuple[float, float], window: tuple[float, float]) -> None:
    """Draw the histogram between two grey values onto a label, in the colors of its palette.

    Parameters
    ----------
    label : QLabel
    seen : Overview
    limits : (low, high)
        Grey values at the left and right edge.
    window : (low, high)
        What is highlighted, with a line at either end.
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
    ends = qt.QBrush(palette.color(qt.QPalette.Text))
    for value in window:
        place = round(2 * BINS * (value - limits[0]) / (limits[1] - limits[0]))
        painter.fillRect(qt.QRect(min(max(place - 1, 0), 2 * BINS - 2), 0, 2, HEIGHT), ends)
    painter.end()
    label.setPixmap(pixmap)
