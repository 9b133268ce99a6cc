"""Section Run, its lower part: a run becomes a model that CBCTSuperRes applies."""

from __future__ import annotations

from collections.abc import Callable

from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from ...errors import SuperResError
from ...jobs.training import Task
from ...models.listing import SUFFIX, user_models_folder
from ...scene.training_volumes import fileName
from .. import dialogs
from ..apply.parameters import ApplyParameters
from ..packages import askAndEnsurePackages
from ..section import Section, logError
from .choices import TrainingChoices
from .shown_run import shownRun

APPLY_MODULE = "CBCTSuperRes"


class UseSection(Section):
    """Writes the model of the chosen run into the user's folder and chooses it in CBCTSuperRes.

    Attributes
    ----------
    whenModelMade : callable (path)
        Set by the panel.
    ensurePackages : callable
        Called before; installs what is missing.
    """

    def __init__(self, ui, choices: TrainingChoices) -> None:
        super().__init__(ui)
        self.choices, self.logic = choices, choices.logic
        self.ensurePackages = askAndEnsurePackages
        self.whenModelMade: Callable[[str], None] = lambda path: None
        self._task: Task | None = None
        self._name = ""
        self.ui.useModelButton.connect("clicked(bool)", self.onUseOrCancel)

    @property
    def isBusy(self) -> bool:
        return self._task is not None

    def refresh(self) -> None:
        run = shownRun(self.choices)
        self.ui.modelNameEdit.placeholderText = fileName(run.name) if run else ""
        button = self.ui.useModelButton
        if self.isBusy:
            button.enabled, button.text, button.toolTip = True, _("Cancel"), _("Make no model file.")
            return
        hasModel = run is not None and any((run.folder / "models").glob(f"*{SUFFIX}"))
        button.enabled, button.text = hasModel, _("Use this model")
        button.toolTip = (
            _("Make a model file of the chosen run and choose it in CBCT Super-Resolution.")
            if hasModel
            else _("Choose a run that has saved a model: the first is saved at its first checkpoint.")
        )

    def poll(self) -> None:
        self._task.poll()
        self._say(self._task.message)
        if self._task.isFinished:
            self._end()

    def close(self) -> None:
        if self._task is not None:
            self._task.close()
            self._task = None
            self._say("")

    def onUseOrCancel(self, checked: bool = False) -> None:
        if self._task is not None:
            self._task.cancel()
            return
        try:
            self._use()
        except SuperResError as error:
            self._fail(error)
        self.whenChanged()

    def _use(self) -> None:
        run = shownRun(self.choices)
        name = fileName(self.ui.modelNameEdit.text.strip() or run.name)
        replace = (user_models_folder() / f"{name}{SUFFIX}").exists()
        if replace and not self._mayReplace(name):
            return
        self.ensurePackages()
        self._task = self.logic.useModel(run, name, which=self.parameters.which.value, replace=replace)
        self._name = name
        self._say(_("Making the model file"))

    def _mayReplace(self, name: str) -> bool:
        question = _("There is a model {name} of yours already. Replace it?").format(name=name)
        return dialogs.confirm(_("Use this model"), question, _("Replace"))

    def _end(self) -> None:
        task, self._task = self._task, None
        if task.error:
            self._fail(task.error)
        else:
            chooseInApplyModule(self._name)
            self._say(_("CBCT Super-Resolution lists the model {name} and has chosen it.").format(name=self._name))
            self.whenModelMade(task.report["model"])
        self.whenChanged()

    def _fail(self, error: SuperResError) -> None:
        self._say(str(error))
        logError(error)

    def _say(self, text: str) -> None:
        self.ui.useModelLabel.text = text
        self.ui.useModelLabel.visible = bool(text)


def chooseInApplyModule(name: str) -> None:
    """Let CBCTSuperRes have chosen this model, whether or not it has been opened."""
    logic = ScriptedLoadableModuleLogic()
    logic.moduleName = APPLY_MODULE
    ApplyParameters(logic.getParameterNode()).model = name
