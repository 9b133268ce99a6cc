"""The panel of CBCTSuperRes: its sections and what connects them.

The protocol of a section (`Section`): the panel makes it with the widgets (`ui`), the `Choices` and what else it needs;
`bind(parameters)` and `unbind()` as the module is entered and left or the scene changes; `refresh()` after every change
of the parameters, of the input volume and of a section (`whenChanged`); `poll()` ten times a second while `isBusy`;
`close()` at the end and when the scene closes. Sections never reach into each other: what one does to another is
written in `ApplyPanel._connect`.

- `RunSection.whenStarted()`: a run begins: `PreviewSection.remove()`.
- `BatchSection.whenStarted()`, `ResultSection.whenComparing()`: likewise.
- `RunSection.whenDone(job)`: there is a result: `ResultSection.show(job.outputVolume)`.
- `ModelSection`, `RunSection`: `tell(text)` keeps details: `LogSection.add`.
- `Choices.isLocked`: a run or a batch is going on: sections disable what would change it.
"""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer
import vtk

from ...scene.logic import SuperResLogic
from ..dialogs import askAndEnsurePackages
from ..widgets import Binding, NodeWatch, parametersOf
from .advanced import AdvancedSection, LogSection
from .batch import BatchSection
from .choices import Choices
from .input import InputSection
from .model import ModelSection
from .output import OutputSection, RunSection
from .parameters import ApplyParameters
from .preview import PreviewSection
from .result import ResultSection
from .window import WindowSection

POLL_INTERVAL_MS = 100


class ApplyPanel:
    """Binds the widgets of CBCTSuperRes.ui to the parameters in the scene and to a logic.

    >>> panel = ApplyPanel(slicer.util.loadUI(path), CBCTSuperResLogic())
    >>> panel.bind()      # on entering the module
    >>> panel.unbind()    # on leaving it, or when the scene closes; a run goes on
    >>> panel.close()     # at the end

    Parameters
    ----------
    widget : QWidget
        The loaded .ui file.
    logic : SuperResLogic
        Also offers `getParameterNode`.
    ensurePackages : callable, optional
        Called before anything is computed; installs what is missing.
    """

    def __init__(self, widget, logic: SuperResLogic, ensurePackages: Callable[[], None] = askAndEnsurePackages) -> None:
        self.widget, self.logic, self.ensurePackages = widget, logic, ensurePackages
        self.ui = slicer.util.childWidgetVariables(widget)
        self.parameters: ApplyParameters | None = None
        self._known: ApplyParameters | None = None
        self._binding: Binding | None = None
        self._observer = 0
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_INTERVAL_MS)
        self._timer.connect("timeout()", self.onTimer)
        self.choices = Choices()
        self._watch = NodeWatch(self.refresh)
        self._makeSections()
        self._connect()
        self.refresh()

    def _makeSections(self) -> None:
        ui, choices = self.ui, self.choices
        self.input = InputSection(ui, choices)
        self.model = ModelSection(ui, choices, self._ensure)
        self.window = WindowSection(ui, choices)
        self.output = OutputSection(ui, choices)
        self.preview = PreviewSection(ui, choices, self._ensure)
        self.run = RunSection(ui, choices, self.logic, self._ensure)
        self.result = ResultSection(ui, choices, self.logic)
        self.advanced = AdvancedSection(ui, choices, self._ensure)
        self.batch = BatchSection(ui, choices, self.logic, self._ensure)
        self.log = LogSection(ui)
        self.sections = [
            self.input,
            self.model,
            self.window,
            self.output,
            self.preview,
            self.run,
            self.result,
            self.advanced,
            self.batch,
            self.log,
        ]

    def bind(self) -> None:
        """Show and follow the parameters of the scene."""
        if self.parameters is not None:
            return
        self.parameters = self.choices.parameters = self._boundParameters()
        for section in self.sections:
            section.bind(self.parameters)
        self._observer = self.parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, self.refresh)
        self.refresh()

    def letGo(self) -> None:
        """Follow the scene no longer, as one is being loaded: selectors would choose the first node that comes."""
        self.unbind()
        self._release()

    def unbind(self) -> None:
        if self.parameters is None:
            return
        self.parameters.RemoveObserver(self._observer)
        self.parameters = self.choices.parameters = None
        for section in self.sections:
            section.unbind()
        self.refresh()

    def close(self) -> None:
        """Stop all that is running, processes included, and let go of the scene."""
        for section in self.sections:
            section.close()
        self.letGo()
        self.choices.forget()
        self._timer.stop()

    def refresh(self, caller=None, event=None) -> None:
        """Show everything as it is, and tick while something is running."""
        self._watch.follow([self.choices.inputNode, self.choices.roiNode])
        if self.choices.inputNode is None:
            self.choices.forget()
        self.choices.isLocked = self.run.isBusy or self.batch.isBusy
        for section in self.sections:
            section.refresh()
        self._tickWhileBusy()

    def onTimer(self) -> None:
        for section in self.sections:
            if section.isBusy:
                section.poll()
        self._tickWhileBusy()

    def _connect(self) -> None:
        for section in self.sections:
            section.whenChanged = self.refresh
        self.advanced.whenModelsMoved = self._modelsMoved
        self.model.tell = self.run.tell = self.batch.tell = self.log.add
        self.run.whenStarted = self.batch.whenStarted = self.result.whenComparing = self.preview.remove
        self.run.whenDone = lambda job: self.result.show(job.outputVolume)

    def _boundParameters(self) -> ApplyParameters:
        """The parameters of the scene, tied to the widgets.

        They stay tied while other modules are shown: Slicer's wrapper leaves an observer on the node with every tie.
        """
        node = self.logic.getParameterNode()
        if self._binding is None or self._known.parameterNode is not node:
            self._release()
            self._known = parametersOf(node, ApplyParameters, self._known)
            self._known.Modified()  # only then it looks again for nodes that were loaded after the parameters
            self._binding = Binding(self._known, self.widget)
        return self._known

    def _release(self) -> None:
        if self._binding:
            self._binding.release()
            self._binding = None

    def _ensure(self) -> None:
        self.ensurePackages()

    def _modelsMoved(self) -> None:
        self.model.listModels()
        self.refresh()

    def _tickWhileBusy(self) -> None:
        busy = any(section.isBusy for section in self.sections)
        if busy and not self._timer.isActive():
            self._timer.start()
        elif not busy and self._timer.isActive():
            self._timer.stop()
