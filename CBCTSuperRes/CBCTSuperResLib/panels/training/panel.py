"""The panel of CBCTSuperResTraining: its sections, and what one of them does to another."""

from __future__ import annotations

from ...scene.training_logic import TrainingLogic
from ..panel import Panel
from .choices import TrainingChoices
from .data import DataSection
from .models import ModelsSection, UseModelSection
from .parameters import TrainingParameters
from .run import RunSection
from .runs import RunsSection
from .settings import SettingsSection
from .setup import SetupSection
from .tensorboard import TensorBoardSection


class TrainingPanel(Panel):
    """Binds the widgets of CBCTSuperResTraining.ui to the parameters in the scene and to a logic.

    Parameters
    ----------
    widget : QWidget
        The loaded .ui file.
    logic : TrainingLogic
        Also offers `getParameterNode`.
    """

    def __init__(self, widget, logic: TrainingLogic) -> None:
        super().__init__(widget, logic, TrainingParameters)
        ui, choices = self.ui, TrainingChoices(logic)
        self.choices = choices
        self.setup, self.data = SetupSection(ui, choices), DataSection(ui, choices)
        self.settings = SettingsSection(ui, choices)
        self.run = RunSection(ui, choices)
        self.runs = RunsSection(ui, choices, lambda: self.run.job)
        self.board = TensorBoardSection(ui, choices)
        self.use, self.models = UseModelSection(ui, choices), ModelsSection(ui, choices)
        self.setSections(self.setup, self.data, self.settings, self.runs, self.run, self.board, self.use, self.models)
        self.run.started.connect(lambda job: self.runs.show(job.name))
        self.run.ended.connect(self.runs.update)
        self.runs.listed.connect(self.run.findTraining)
        self.use.modelMade.connect(self.models.choose)
        self.refresh()

    def onSceneStartClose(self) -> None:
        """Let go of the scene and of what was said of it; a training has its own files and goes on."""
        self.data.close()
        self.settings.close()
        self.run.forget()
        self.runs.close()
        self.use.close()
        self.letGo()
