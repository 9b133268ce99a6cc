"""What the sections of both panels have in common.

Widgets and the parameters in the scene, tied together for as long as a panel is shown.

Telling when nodes in the scene have changed.

Tables of two columns that are readable in a narrow panel.

What the panels remember for the person, whatever the scene: in Slicer's own settings.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import ctk
import qt
import slicer
import vtk

from ..core.errors import Cancelled, SuperResError
from ..models.folder import user_models_folder


class Section:
    """One collapsible part of a panel; a subclass overrides what it needs.

    Attributes
    ----------
    parameters : a parameter node wrapper, or None
        What is shown and changed; None while no scene is followed.
    isBusy : bool
        Whether `poll` is to be called every tenth of a second.
    whenChanged : callable ()
        Set by the panel. To be called when something that another section shows has changed outside of the parameters,
        and when `isBusy` has changed; the panel then refreshes all sections.
    """

    isBusy = False

    def __init__(self, ui) -> None:
        self.ui = ui
        self.parameters = None
        self.whenChanged: Callable[[], None] = lambda: None

    def bind(self, parameters) -> None:
        """Show and follow these parameters; widgets with SlicerParameterName are connected by the panel."""
        self.parameters = parameters

    def unbind(self) -> None:
        """Follow them no longer: the module is left, or the scene closes. Work that was asked for goes on."""
        self.parameters = None

    def refresh(self) -> None:
        """Show everything as it is now. Called after every change, so it must be cheap and must not cause another."""

    def poll(self) -> None:
        """Go on with what is running, for at most 50 ms."""

    def close(self) -> None:
        """End everything, now: processes, timers, observers, nodes that were only shown. The panel may go on after."""


def logError(error: SuperResError) -> None:
    """Write an error with its details to the application's log, unless the user asked for the end."""
    if not isinstance(error, Cancelled):
        logging.error("%s\n%s", error, getattr(error, "detail", ""))


TYPED = {
    qt.QLineEdit: ("text", "textChanged", str),
    ctk.ctkPathLineEdit: ("currentPath", "currentPathChanged", Path),
}


class Binding:
    """Ties every widget that has the property SlicerParameterName to the field of that name.

    `connectGui` of the parameters would do it too, but returns no tag, so that nothing could untie it again; and it
    writes every text back while it is typed, which puts the cursor at the end (Slicer issue 8620).

    >>> binding = Binding(parameters, widget)
    >>> binding.release()
    """

    def __init__(self, parameters, widget) -> None:
        named = {child.property("SlicerParameterName"): child for child in widget.findChildren(qt.QWidget)}
        named = {name: child for name, child in named.items() if name}
        self._parameters = parameters
        self._texts = [TypedText(parameters, name, child) for name, child in named.items() if type(child) in TYPED]
        others = {name: child for name, child in named.items() if type(child) not in TYPED}
        self._tag = parameters.connectParametersToGui(others)

    def release(self) -> None:
        self._parameters.disconnectGui(self._tag)
        for text in self._texts:
            text.release()


class TypedText:
    """Ties a line that people type in to a field; the line is written only where it says something else."""

    def __init__(self, parameters, name: str, edit) -> None:
        self._parameters, self._name, self._edit = parameters, name, edit
        self._property, self._signal, self._kind = TYPED[type(edit)]
        self._show()
        getattr(edit, self._signal).connect(self._take)
        self._observer = parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, self._show)

    def release(self) -> None:
        getattr(self._edit, self._signal).disconnect(self._take)
        self._parameters.RemoveObserver(self._observer)

    def _read(self) -> str | Path:
        return self._kind(getattr(self._edit, self._property))

    def _take(self, text: str) -> None:
        setattr(self._parameters, self._name, self._read())

    def _show(self, caller=None, event=None) -> None:
        value = getattr(self._parameters, self._name)
        if self._read() != value:
            setattr(self._edit, self._property, str(value))


def parametersOf(node: slicer.vtkMRMLScriptedModuleNode, kind: type, known=None):
    """The typed parameters in a node; the known ones if they are of this node, as each object watches it for ever.

    Parameters
    ----------
    node : vtkMRMLScriptedModuleNode
    kind : type
        A class made by `parameterNodeWrapper`.
    known : object of that class, optional
    """
    if known is not None and known.parameterNode is node:
        return known
    return kind(node)


EVENTS = (
    vtk.vtkCommand.ModifiedEvent,
    slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent,
    slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
    slicer.vtkMRMLMarkupsNode.PointModifiedEvent,
)


class NodeWatch:
    """Calls a function when one of some nodes changes: voxels, places, points.

    >>> watch = NodeWatch(panel.refresh)
    >>> watch.follow([volumeNode, roiNode])
    >>> watch.follow([])
    """

    def __init__(self, whenChanged: Callable[[], None]) -> None:
        self._whenChanged = whenChanged
        self._followed: list[tuple[slicer.vtkMRMLNode, list[int]]] = []

    def follow(self, nodes: Iterable[slicer.vtkMRMLNode | None]) -> None:
        """Follow these nodes and no others; None is left out."""
        nodes = [node for node in nodes if node is not None]
        if nodes == [node for node, _ in self._followed]:
            return
        for node, tags in self._followed:
            for tag in tags:
                node.RemoveObserver(tag)
        self._followed = [(node, [self._observe(node, event) for event in EVENTS]) for node in nodes]

    def _observe(self, node: slicer.vtkMRMLNode, event: int) -> int:
        return node.AddObserver(event, lambda caller, event: self._whenChanged())


def fitColumns(table) -> None:
    """Give the second column the rest of the width, and each row the height that its texts need."""
    table.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.Stretch)
    table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)


def showCell(table, row: int, column: int, text: str, hint: str, bold: bool = False) -> None:
    """Write a cell; the table is not touched where nothing has changed."""
    item = table.item(row, column)
    if item is None:
        item = qt.QTableWidgetItem()
        item.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
        table.setItem(row, column, item)
    if item.text() != text:
        item.setText(text)
    if item.toolTip() != hint:
        item.setToolTip(hint)
    font = item.font()
    if font.bold() != bold:
        font.setBold(bold)
        item.setFont(font)


MODELS_FOLDER = "CBCTSuperRes/modelsFolder"


def modelsFolder() -> Path:
    """Where the user's own models are looked for and put."""
    chosen = slicer.app.userSettings().value(MODELS_FOLDER)
    return Path(chosen) if chosen else user_models_folder()


def setModelsFolder(folder: str | Path) -> None:
    """Remember another folder; "" goes back to the usual one."""
    slicer.app.userSettings().setValue(MODELS_FOLDER, str(folder))
