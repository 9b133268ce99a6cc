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
MADE_BY_US = "CBCTSuperRes.curves"
LOSSES = "l_"
MEASURES = ("psnr", "psnr_cubic")


class RunCurves:
    """Two charts in the scene, which are not saved with it: made by `show`, kept up to date by `update`.

    >>> curves = RunCurves()
    >>> curves.make("My model", job.history, job.validations)
    >>> curves.showLosses()
    >>> curves.update(job.history, job.validations)   # later; does nothing if they were not made
    >>> curves.remove()
    """

    def __init__(self) -> None:
        self._losses: Chart | None = None
        self._psnr: Chart | None = None

    @property
    def areShown(self) -> bool:
        """Whether there is anything in the scene."""
        return self._losses is not None

    def make(self, name: str, history: Sequence[Row], validations: Sequence[Row]) -> None:
        """Put the charts of a run into the scene, instead of another run's."""
        self.remove()
        self._losses = Chart(_("{name}: losses").format(name=name), _("Loss"), isLogarithmic=True)
        self._psnr = Chart(_("{name}: PSNR").format(name=name), _("PSNR (dB)"))
        self.update(history, validations)

    def update(self, history: Sequence[Row], validations: Sequence[Row]) -> None:
        """Show these rows; new losses get curves of their own."""
        if not self.areShown:
            return
        history, validations = thinned(history), thinned(validations)
        for name in _lossNames(history):
            self._losses.put(name, lossTitle(name), history)
        titles = {"psnr": _("model"), "psnr_cubic": _("cubic interpolation")}
        for name in MEASURES:
            self._psnr.put(name, titles[name], validations)

    def showLosses(self) -> bool:
        """Show the losses in the layout; returns whether there is one."""
        return self.areShown and self._losses.show()

    def showPsnr(self) -> bool:
        return self.areShown and self._psnr.show()

    def remove(self) -> None:
        """Take all that was made out of the scene."""
        for chart in (self._losses, self._psnr):
            if chart is not None:
                chart.remove()
        self._losses = self._psnr = None


class Chart:
    """A chart whose series each have a table of their own, since they have points at different steps."""

    def __init__(self, title: str, label: str, isLogarithmic: bool = False) -> None:
        self._node = _addNode("vtkMRMLPlotChartNode", title)
        self._node.SetTitle(title)
        self._node.SetXAxisTitle(_("Step"))
        self._node.SetYAxisTitle(label)
        self._node.SetYAxisLogScale(isLogarithmic)
        self._isLogarithmic = isLogarithmic
        self._tables: dict[str, slicer.vtkMRMLTableNode] = {}
        self._series: dict[str, slicer.vtkMRMLPlotSeriesNode] = {}

    def put(self, key: str, name: str, rows: Sequence[Row]) -> None:
        """Show the values of `key` in these rows; a series is made for the first."""
        points = [(row[STEP], row[key]) for row in rows if self._canShow(row.get(key))]
        if not points:
            return
        if key not in self._tables:
            self._addSeries(key, name)
        table = self._tables[key].GetTable()
        if table.GetNumberOfRows() == len(points) and table.GetValue(len(points) - 1, 0).ToInt() == points[-1][0]:
            return
        steps, values = zip(*points, strict=True)
        for column, numbers in enumerate((steps, values)):
            table.GetColumn(column).DeepCopy(numpy_to_vtk(np.asarray(numbers, float), deep=True))
            table.GetColumn(column).SetName((STEP, name)[column])
        table.Modified()

    def show(self) -> bool:
        """Show the chart in the layout; returns whether there is one to show it in."""
        plots = getattr(slicer.modules, "plots", None)
        if plots is None or slicer.app.layoutManager() is None:
            return False
        plots.logic().ShowChartInLayout(self._node)
        return True

    def remove(self) -> None:
        for node in (self._node, *self._series.values(), *self._tables.values()):
            if node.GetScene() is not None:
                node.GetScene().RemoveNode(node)

    def _canShow(self, value: float | None) -> bool:
        return value is not None and math.isfinite(value) and (value > 0 or not self._isLogarithmic)

    def _addSeries(self, key: str, name: str) -> None:
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
        series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
        series.SetUniqueColor()
        self._tables[key], self._series[key] = table, series
        self._node.AddAndObservePlotSeriesNodeID(series.GetID())


def thinned(rows: Sequence[Row]) -> Sequence[Row]:
    """At most `MOST_POINTS` of the rows, evenly; always the last one."""
    stride = -(-len(rows) // MOST_POINTS)
    return rows[::-stride][::-1] if stride > 1 else rows


def _lossNames(history: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in history for name in row if name.startswith(LOSSES)))


def _addNode(kind: str, name: str, isHidden: bool = False):
    node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
    node.SetSaveWithScene(False)
    node.SetHideFromEditors(isHidden)
    node.SetAttribute(MADE_BY_US, "1")
    return node
