"""A panel: sections that follow the parameters in the scene, widgets bound to these, and one timer for what runs."""

from __future__ import annotations

from pathlib import Path

import ctk
import qt
import slicer
import vtk

from .section import Section

POLL_INTERVAL_MS = 100
TYPED = {
    qt.QLineEdit: ("text", "textChanged", str),
    ctk.ctkPathLineEdit: ("currentPath", "currentPathChanged", Path),
}


class Panel:
    """Binds the widgets of a .ui file to the parameters in the scene; a subclass makes the sections.

    >>> panel = ApplyPanel(slicer.util.loadUI(path), CBCTSuperResLogic())
    >>> panel.bind()      # on entering the module, and when a scene has been loaded
    >>> panel.unbind()    # on leaving it; what runs goes on
    >>> panel.close()     # at the end

    Parameters
    ----------
    widget : QWidget
        The loaded .ui file.
    logic
        Of the module; offers `getParameterNode`.
    parametersClass : type
        A class made by `parameterNodeWrapper`.

    Attributes
    ----------
    choices
        Made by the subclass before the sections, which share it; has `parameters`.
    sections : sequence of Section
    """

    choices = None
    sections: tuple[Section, ...] = ()

    def __init__(self, widget, logic, parametersClass: type) -> None:
        self.widget, self.logic = widget, logic
        self.ui = slicer.util.childWidgetVariables(widget)
        self._parametersClass = parametersClass
        self._known = None
        self._binding: Binding | None = None
        self._observer = 0
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_INTERVAL_MS)
        self._timer.connect("timeout()", self.onTimer)

    @property
    def parameters(self):
        """What is chosen, in the scene; None while no scene is followed."""
        return self.choices.parameters

    def setSections(self, *sections: Section) -> None:
        """Show these from now on; whatever one of them tells of, all are refreshed."""
        self.sections = sections
        for section in sections:
            section.changed.connect(self.refresh)

    def bind(self) -> None:
        """Show and follow the parameters of the scene."""
        if self.parameters is None:
            parameters = self.choices.parameters = self._boundParameters()
            for section in self.sections:
                section.bind()
            self._observer = parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, self.refresh)
        self.refresh()

    def unbind(self) -> None:
        if self.parameters is None:
            return
        self.parameters.RemoveObserver(self._observer)
        self.choices.parameters = None
        for section in self.sections:
            section.unbind()
        self.refresh()

    def letGo(self) -> None:
        """Follow the scene no longer, as one is being loaded: selectors would choose the first node that comes."""
        self.unbind()
        if self._binding:
            self._binding.release()
            self._binding = None

    def close(self) -> None:
        """Stop all that is running, processes included, and let go of the scene."""
        for section in self.sections:
            section.close()
        self.letGo()
        self._timer.stop()

    def refresh(self, caller=None, event=None) -> None:
        """Show everything as it is, and tick while something is running."""
        for section in self.sections:
            section.refresh()
        self._tickWhileBusy()

    def onTimer(self) -> None:
        for section in self.sections:
            if section.isBusy:
                section.poll()
        self._tickWhileBusy()

    def _tickWhileBusy(self) -> None:
        busy = any(section.isBusy for section in self.sections)
        if busy and not self._timer.isActive():
            self._timer.start()
        elif not busy and self._timer.isActive():
            self._timer.stop()

    def _boundParameters(self):
        """The parameters of the scene, tied to the widgets.

        They stay tied while other modules are shown: Slicer's wrapper leaves an observer on the node with every tie,
        and each wrapper watches its node for ever.
        """
        node = self.logic.getParameterNode()
        isOther = self._known is None or self._known.parameterNode is not node
        if self._binding is None or isOther:
            self.letGo()
            if isOther:
                self._known = self._parametersClass(node)
            self._known.Modified()  # only then it looks again for nodes that were loaded after the parameters
            self._binding = Binding(self._known, self.widget)
        return self._known


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
        self._lines = [BoundLine(parameters, name, child) for name, child in named.items() if type(child) in TYPED]
        others = {name: child for name, child in named.items() if type(child) not in TYPED}
        self._tag = parameters.connectParametersToGui(others)

    def release(self) -> None:
        self._parameters.disconnectGui(self._tag)
        for line in self._lines:
            line.release()


class BoundLine:
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

    def _take(self, text: str) -> None:
        setattr(self._parameters, self._name, self._kind(getattr(self._edit, self._property)))

    def _show(self, caller=None, event=None) -> None:
        value = getattr(self._parameters, self._name)
        if self._kind(getattr(self._edit, self._property)) != value:
            setattr(self._edit, self._property, str(value))
