"""The curves of a run as plots of Slicer: its losses, and its PSNR beside that of cubic interpolation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import numpy_to_vtk

from ...train.curves import STEP, Row
from .texts import lossTitle

MOST_POINTS = 2000
FEW_POINTS = 30  # each of which is marked
MADE_BY_US = "CBCTSuperRes.curves"
LOSSES, PSNR = "losses", "psnr"
MEASURES = ("psnr", "psnr_cubic")


class RunCurves:
    """Two charts in the scene, which are not saved with it: made by `make`, kept up to date by `update`.

    >>> curves = RunCurves()
    >>> curves.make("My model", job.history, job.validations)
    >>> curves.show(LOSSES)
    >>> curves.update(job.history, job.validations)   # later; does nothing if they were not made
    >>> curves.hide()                                 # the layout is as it was
    >>> curves.remove()
    """

    def __init__(self) -> None:
        self._charts: dict[str, Chart] = {}
        self._layoutBefore: int | None = None
        self._layout: int | None = None  # that the chart is shown in
        self._shown = ""

    @property
    def areMade(self) -> bool:
        """Whether there is anything in the scene."""
        return bool(self._charts)

    @property
    def shown(self) -> str:
        """`LOSSES` or `PSNR`; "" if neither is, or the user has chosen another layout since."""
        manager = slicer.app.layoutManager()
        return self._shown if manager is not None and manager.layout == self._layout else ""

    def make(self, name: str, history: Sequence[Row], validations: Sequence[Row]) -> None:
        """Put the charts of a run into the scene, instead of another run's."""
        self.remove()
        losses = Chart(_("{name}: losses").format(name=name), _("Loss"), isLogarithmic=True)
        psnr = Chart(_("{name}: PSNR").format(name=name), _("PSNR (dB)"))
        self._charts = {LOSSES: losses, PSNR: psnr}
        self.update(history, validations)

    def update(self, history: Sequence[Row], validations: Sequence[Row]) -> None:
        """Show these rows; new losses get curves of their own."""
        if not self.areMade:
            return
        history, validations = thinned(history), thinned(validations)
        for name in dict.fromkeys(name for row in history for name in row if name.startswith("l_")):
            self._charts[LOSSES].put(name, lossTitle(name), history)
        titles = {"psnr": _("model"), "psnr_cubic": _("cubic interpolation")}
        for name in MEASURES:
            self._charts[PSNR].put(name, titles[name], validations)

    def show(self, which: str) -> bool:
        """Show a chart in the layout; returns whether there is one to show it in."""
        plots, manager = getattr(slicer.modules, "plots", None), slicer.app.layoutManager()
        if plots is None or manager is None:
            return False
        if not self.shown:
            self._layoutBefore = manager.layout
        plots.logic().ShowChartInLayout(self._charts[which].node)
        self._shown, self._layout = which, manager.layout
        return True

    def hide(self) -> None:
        """Show the layout that was there before the curves."""
        if self.shown:
            slicer.app.layoutManager().setLayout(self._layoutBefore)
        self._shown = ""

    def remove(self) -> None:
        """Take all that was made out of the scene."""
        self.hide()
        for chart in self._charts.values():
            chart.remove()
        self._charts = {}


class Chart:
    """A chart whose series each have a table of their own, since they have points at different steps."""

    def __init__(self, title: str, label: str, isLogarithmic: bool = False) -> None:
        self.node = _addNode("vtkMRMLPlotChartNode", title)
        self.node.SetTitle(title)
        self.node.SetXAxisTitle(_("Step"))
        self.node.SetYAxisTitle(label)
        self.node.SetYAxisLogScale(isLogarithmic)
        self._isLogarithmic = isLogarithmic
        self._series: dict[str, slicer.vtkMRMLPlotSeriesNode] = {}
        self._points: dict[str, list[tuple[int, float]]] = {}

    def put(self, key: str, name: str, rows: Sequence[Row]) -> None:
        """Show the values of `key` in these rows; a series is made for the first.

        A single point is there twice: Slicer draws no line of one, and complains.
        """
        points = [(row[STEP], row[key]) for row in rows if self._canShow(row.get(key))]
        if not points or points == self._points.get(key):
            return
        self._points[key] = points
        if key not in self._series:
            self._series[key] = self._addSeries(name)
        series, marks = self._series[key], slicer.vtkMRMLPlotSeriesNode
        series.SetMarkerStyle(marks.MarkerStyleCircle if len(points) < FEW_POINTS else marks.MarkerStyleNone)
        table = series.GetTableNode().GetTable()
        for column, numbers in enumerate(zip(*(points if len(points) > 1 else points * 2), strict=True)):
            table.GetColumn(column).DeepCopy(numpy_to_vtk(np.asarray(numbers, float), deep=True))
            table.GetColumn(column).SetName((STEP, name)[column])
        table.Modified()

    def remove(self) -> None:
        tables = [series.GetTableNode() for series in self._series.values()]
        for node in (self.node, *self._series.values(), *tables):
            if node is not None and node.GetScene() is not None:
                node.GetScene().RemoveNode(node)

    def _canShow(self, value: float | None) -> bool:
        return value is not None and math.isfinite(value) and (value > 0 or not self._isLogarithmic)

    def _addSeries(self, name: str):
        table = _addNode("vtkMRMLTableNode", name, isHidden=True)
        for title in (STEP, name):
            column = vtk.vtkDoubleArray()
            column.SetName(title)
            table.AddColumn(column)
        series = _addNode("vtkMRMLPlotSeriesNode", name, isHidden=True)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName(STEP)
        series.SetYColumnName(name)
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetUniqueColor()
        self.node.AddAndObservePlotSeriesNodeID(series.GetID())
        return series


def thinned(rows: Sequence[Row]) -> Sequence[Row]:
    """At most `MOST_POINTS` of the rows, evenly; always the last one."""
    stride = -(-len(rows) // MOST_POINTS)
    return rows[::-stride][::-1] if stride > 1 else rows


def _addNode(kind: str, name: str, isHidden: bool = False):
    node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
    node.SetSaveWithScene(False)
    node.SetHideFromEditors(isHidden)
    node.SetAttribute(MADE_BY_US, "1")
    return node
