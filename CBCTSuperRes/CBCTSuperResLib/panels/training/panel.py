"""The panel of CBCTSuperResTraining: data, settings, runs, models."""

from __future__ import annotations

import qt
import slicer
import vtk

from ...scene.training_logic import TrainingLogic
from ..widgets import Binding, parametersOf
from .board import BoardSection
from .choices import TrainingChoices
from .data import DataSection
from .models import ModelsSection, UseSection
from .parameters import TrainingParameters
from .run import RunSection
from .runs import RunsSection
from .settings import SettingsSection

POLL_INTERVAL_MS = 100


class TrainingPanel:
    """Builds the sections and lets them follow the parameters in the scene; one timer polls what is going on.

    >>> panel = TrainingPanel(slicer.util.loadUI(path), CBCTSuperResTrainingLogic())
    >>> panel.bind()                # on entering the module
    >>> panel.unbind()              # on leaving it; what runs goes on
    >>> panel.onSceneStartClose()   # a training goes on, what computes on nodes of the scene ends
    >>> panel.close()               # at the end

    Parameters
    ----------
    widget : QWidget
        The loaded .ui file.
    logic : TrainingLogic
        Also offers `getParameterNode`.
    """

    def __init__(self, widget, logic: TrainingLogic) -> None:
        self.widget, self.logic = widget, logic
        self.ui = slicer.util.childWidgetVariables(widget)
        self.choices = TrainingChoices(logic)
        self.data = DataSection(self.ui, self.choices)
        self.settings = SettingsSection(self.ui, self.choices)
        self.run = RunSection(self.ui, self.choices)
        self.runs = RunsSection(self.ui, self.choices, lambda: self.run.job)
        self.board = BoardSection(self.ui, self.choices)
        self.use = UseSection(self.ui, self.choices)
        self.models = ModelsSection(self.ui, logic)
        self.sections = (self.data, self.settings, self.runs, self.run, self.board, self.use, self.models)
        for section in self.sections:
            section.whenChanged = self.refresh
        self.run.whenStarted = lambda job: self.runs.show(job.name)
        self.run.whenEnded = self.runs.update
        self.runs.whenListed = self.run.findTraining
        self.use.whenModelMade = self.models.choose
        self._known: TrainingParameters | None = None
        self._bindings: tuple[Binding, int] | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_INTERVAL_MS)
        self._timer.connect("timeout()", self.onTimer)
        self.refresh()

    @property
    def parameters(self) -> TrainingParameters | None:
        return self.choices.parameters

    def bind(self) -> None:
        """Show and follow the parameters of the scene; again, if what they refer to has been loaded meanwhile."""
        if self.parameters is not None:
            self.refresh()
            return
        parameters = self._known = parametersOf(self.logic.getParameterNode(), TrainingParameters, self._known)
        self.choices.parameters = parameters
        binding = Binding(parameters, self.widget)
        for section in self.sections:
            section.bind(parameters)
        observer = parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, self.refresh)
        self._bindings = (binding, observer)
        self.refresh()

    def unbind(self) -> None:
        if self.parameters is None:
            return
        binding, observer = self._bindings
        binding.release()
        self.parameters.RemoveObserver(observer)
        for section in self.sections:
            section.unbind()
        self.choices.parameters = self._bindings = None
        self.refresh()

    def close(self) -> None:
        """End what runs, as its section says, and let go of the scene."""
        self._timer.stop()
        for section in self.sections:
            section.close()
        self.unbind()

    def onSceneStartClose(self) -> None:
        """Let go of the scene; a training has its own files and goes on."""
        self.data.close()
        self.settings.close()
        self.run.onSceneStartClose()
        self.runs.onSceneStartClose()
        self.unbind()

    def refresh(self, caller=None, event=None) -> None:
        """Show the parameters and what is going on; the timer runs as long as something is."""
        for section in self.sections:
            section.refresh()
        self._keepTime()

    def onTimer(self) -> None:
        for section in self.sections:
            if section.isBusy:
                section.poll()
        self._keepTime()

    def _keepTime(self) -> None:
        if not any(section.isBusy for section in self.sections):
            self._timer.stop()
        elif not self._timer.isActive():
            self._timer.start()
