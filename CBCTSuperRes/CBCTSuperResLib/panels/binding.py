"""Widgets and the parameters in the scene, tied together for as long as a panel is shown."""

from __future__ import annotations

import qt
import slicer


class Binding:
    """Ties every widget that has the property SlicerParameterName to the field of that name.

    `connectGui` of the parameters would do it too, but returns no tag, so that nothing could untie it again.

    >>> binding = Binding(parameters, widget)
    >>> binding.release()
    """

    def __init__(self, parameters, widget) -> None:
        named = {child.property("SlicerParameterName"): child for child in widget.findChildren(qt.QWidget)}
        self._parameters = parameters
        self._tag = parameters.connectParametersToGui({name: child for name, child in named.items() if name})

    def release(self) -> None:
        self._parameters.disconnectGui(self._tag)


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
