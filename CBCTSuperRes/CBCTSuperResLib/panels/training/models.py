"""Section Run, its lower part: a run becomes a model that CBCTSuperRes applies.

Section Models: which models are installed, whether they are sound, and where one puts others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from ...core.errors import OutputError, SuperResError
from ...jobs.job import Job
from ...models.folder import SUFFIX, ModelEntry, is_own_model, list_models, remove_model, user_models_folder
from ...scene.training_logic import TrainingLogic
from ...scene.training_volumes import fileName
from .. import dialogs
from ..apply.parameters import ApplyParameters
from ..dialogs import askAndEnsurePackages
from ..widgets import Section, logError
from .choices import TrainingChoices
from .run import shownRun

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
        self._task: Job | None = None
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


class ModelsSection(Section):
    """Lists the models on this computer; shows the card of the chosen one, checks and removes it.

    Attributes
    ----------
    ensurePackages : callable
        Called before a model is checked; installs what is missing.
    """

    def __init__(self, ui, logic: TrainingLogic) -> None:
        super().__init__(ui)
        self.logic = logic
        self.ensurePackages = askAndEnsurePackages
        self._entries: list[ModelEntry] = []
        self._task: Job | None = None
        self.ui.modelList.connect("currentRowChanged(int)", self.onModelChosen)
        self.ui.checkModelButton.connect("clicked(bool)", self.onCheckOrCancel)
        self.ui.removeModelButton.connect("clicked(bool)", self.onRemove)
        self.ui.openFolderButton.connect("clicked(bool)", self.onOpenFolder)

    @property
    def isBusy(self) -> bool:
        return self._task is not None

    def bind(self, parameters) -> None:
        super().bind(parameters)
        self.listModels()

    def refresh(self) -> None:
        entry = self._chosen()
        isOwn = entry is not None and is_own_model(entry.path)
        self.ui.removeModelButton.enabled = isOwn and not self.isBusy
        self.ui.removeModelButton.toolTip = (
            _("Delete the file of this model.") if isOwn else _("Only models of your own can be removed.")
        )
        self.ui.checkModelButton.text = _("Cancel") if self.isBusy else _("Check")
        self.ui.checkModelButton.enabled = self.isBusy or (entry is not None and entry.card is not None)

    def poll(self) -> None:
        self._task.poll()
        if self._task.isFinished:
            self._end()

    def close(self) -> None:
        if self._task is not None:
            self._task.close()
            self._task = None
            self._say("")

    def listModels(self) -> None:
        """Look for models again; the chosen one stays chosen."""
        entry = self._chosen()
        self._entries = list_models()
        wasBlocked = self.ui.modelList.blockSignals(True)
        self.ui.modelList.clear()
        for one in self._entries:
            self.ui.modelList.addItem(one.name if one.card else _("{name} (unusable)").format(name=one.name))
        self.ui.modelList.blockSignals(wasBlocked)
        self._select(entry.path if entry else None)

    def choose(self, path: str) -> None:
        """Look for models again and show the card of this one."""
        self.listModels()
        self._select(Path(path))

    def onModelChosen(self, row: int) -> None:
        entry = self._chosen()
        self.ui.cardText.setPlainText(entryText(entry) if entry else _("No models are installed."))
        if not self.isBusy:
            self._say("")
        self.refresh()

    def onCheckOrCancel(self, checked: bool = False) -> None:
        try:
            if self._task is not None:
                self._task.cancel()
            else:
                self._check()
        except SuperResError as error:
            self._showError(error)
        self.whenChanged()

    def onRemove(self, checked: bool = False) -> None:
        entry = self._chosen()
        question = _("Delete the model {name}, {path}?").format(name=entry.name, path=entry.path)
        if not dialogs.confirm(_("Remove model"), question, _("Delete")):
            return
        try:
            remove_model(entry.path)
        except SuperResError as error:
            self._showError(error)
        self.listModels()

    def onOpenFolder(self, checked: bool = False) -> None:
        folder = user_models_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._showError(OutputError(f"The folder {folder} cannot be made: {error}."))
            return
        dialogs.openFolder(str(folder))

    def _chosen(self) -> ModelEntry | None:
        row = self.ui.modelList.currentRow
        return self._entries[row] if 0 <= row < len(self._entries) else None

    def _select(self, path: Path | None) -> None:
        rows = [row for row, entry in enumerate(self._entries) if entry.path == path] or [0]
        self.ui.modelList.setCurrentRow(rows[0] if self._entries else -1)
        self.onModelChosen(rows[0])

    def _check(self) -> None:
        self.ensurePackages()
        entry = self._chosen()
        self._task = self.logic.verifyModel(entry.path)
        self._say(_("Checking {name}").format(name=entry.name))

    def _end(self) -> None:
        task, self._task = self._task, None
        if task.error:
            self._showError(task.error)
        else:
            wrong = [f"{what}: {details}" for what, isRight, details in task.report["checks"] if not isRight]
            right = _("The file is as it was saved, and the network computes what it should.")
            self._say(_("This model is damaged. {problems}").format(problems="; ".join(wrong)) if wrong else right)
        self.whenChanged()

    def _showError(self, error: SuperResError) -> None:
        self._say(str(error))
        logError(error)

    def _say(self, text: str) -> None:
        self.ui.modelsLabel.text = text
        self.ui.modelsLabel.visible = bool(text)


def entryText(entry: ModelEntry) -> str:
    """What is known of a model, for people."""
    if entry.card is None:
        return entry.problem
    card = entry.card
    parts = [card.line, card.summary, card.limits and _("Limits: {limits}").format(limits=card.limits), str(entry.path)]
    return "\n\n".join(part for part in parts if part)
