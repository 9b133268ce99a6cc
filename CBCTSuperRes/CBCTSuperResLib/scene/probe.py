"""What a result says at the mouse cursor, with its error bar: "31 200 +- 400"."""

from __future__ import annotations

from collections.abc import Callable
from math import floor, log10

import numpy as np
import slicer
from slicer.util import VTKObservationMixin

from ..models.intervals import GAUSSIAN
from .nodes import deviationOf, reportOf, voxelAt
from .slice_views import crosshairNode


class Probe:
    """Reads a result and its predictive deviation where the mouse is.

    Parameters
    ----------
    tell : callable (text)
        Called whenever the cursor has moved; with "" where there is nothing to say.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._result: slicer.vtkMRMLScalarVolumeNode | None = None
        self._observers = VTKObservationMixin()

    def follow(self, result: slicer.vtkMRMLScalarVolumeNode | None) -> None:
        """Tell of this result from now on; of none where it has no error bars."""
        result = result if result is not None and deviationOf(result) is not None else None
        if result is self._result:
            return
        self._observers.removeObservers()
        self._result = result
        cursor = crosshairNode(result.GetScene()) if result is not None else None
        if cursor is not None:
            self._observers.addObserver(cursor, cursor.CursorPositionModifiedEvent, self.onMoved)
        self._tell("")

    def close(self) -> None:
        """Tell nothing more."""
        self.follow(None)

    def onMoved(self, cursor: slicer.vtkMRMLCrosshairNode, event: str) -> None:
        """The mouse is at another place, or outside the views."""
        point = [0.0, 0.0, 0.0]
        self._tell(self._textAt(point) if cursor.GetCursorPositionRAS(point) else "")

    def _textAt(self, point: list[float]) -> str:
        result, deviation = self._result, deviationOf(self._result)
        if result.GetScene() is None or deviation is None or deviation.GetImageData() is None:
            return ""
        values = [valueAt(node, point) for node in (result, deviation)]
        if None in values:
            return ""
        bars = (reportOf(result) or {}).get("super_resolution", {}).get("error_bars") or {}
        return valueText(values[0], GAUSSIAN * values[1]) + ("" if bars.get("holds") else " ?")


def valueAt(node: slicer.vtkMRMLScalarVolumeNode, point: list[float]) -> float | None:
    """Grey value of the voxel at a point of the world (RAS, mm); None outside the volume."""
    place = voxelAt(node, point)
    return None if place is None else node.GetImageData().GetScalarComponentAsDouble(*place, 0)


def valueText(value: float, half: float) -> str:
    """ "31 200 +- 400": half of the interval to one digit, two where it begins with 1, and the value as far."""
    if not half > 0 or not np.isfinite([value, half]).all():
        return f"{value:,.6g}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    digits = 1 - floor(log10(half)) if f"{half:e}"[0] == "1" else -floor(log10(half))
    decimals = max(0, digits)
    texts = (f"{round(number, digits):,.{decimals}f}" for number in (value, half))
    return " \N{PLUS-MINUS SIGN} ".join(texts).replace(",", "\N{NARROW NO-BREAK SPACE}")
