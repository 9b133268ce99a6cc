"""Widgets and the parameters in the scene, tied together for as long as a panel is shown."""

from __future__ import annotations

from pathlib import Path

import ctk
import qt
import slicer
import vtk

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
