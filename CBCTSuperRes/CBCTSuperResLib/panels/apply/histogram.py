"""A small picture of how often grey values occur."""

from __future__ import annotations

import numpy as np
import qt

from ...grey.glance import Glance

BINS = 160
HEIGHT = 56


def drawHistogram(label, seen: Glance, limits: tuple[float, float], window: tuple[float, float]) -> None:
    """Draw the histogram between two grey values onto a label, in the colors of its palette.

    Parameters
    ----------
    label : QLabel
    seen : Glance
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
