"""A run becomes a model that CBCTSuperRes applies (section Run); the models that there are (section Models)."""

from __future__ import annotations

from pathlib import Path

from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from ...core.errors import OutputError, SuperResError
from ...models.card import read_card
from ...models.folder import SUFFIX, ModelEntry, is_own_model, list_models, remove_model, user_models_folder
from ...scene.training_volumes import fileName
from .. import dialogs
from ..apply.parameters import ApplyParameters
from ..section import Signal, offer, say, signalsBlocked
from .choices import TrainingChoices
from .parameters import Which
from .tasks import TaskSection
from .texts import entryText, usedText

APPLY_MODULE = "CBCTSuperRes"


class UseModelSection(TaskSection):
    """Writes the model of the chosen run into the user's folder and chooses it in CBCTSuperRes.

    Attributes
    ----------
    modelMade : Signal (path)
    """

    def __init__(self, ui, choices: TrainingChoices) -> None:
        super().__init__(ui, choices, ui.useModelLabel)
        self.modelMade = Signal()
        ui.useModelButton.connect("clicked(bool)", self.onUseOrCancel)

    def refresh(self) -> None:
        run, button = self.choices.shownRun(), self.ui.useModelButton
        self.ui.modelNameEdit.placeholderText = fileName(run.name) if run else ""
        button.text = _("Cancel") if self.isBusy else _("Use this model")
        if self.isBusy:
            offer(button, "", _("Make no model file."))
        else:
            hint = _("Make a model file of the chosen run and choose it in CBCT Super-Resolution.")
            offer(button, self.choices.whyNotUsed(), hint)

    def onUseOrCancel(self, checked: bool = False) -> None:
        if self.isBusy:
            self._task.cancel()
        else:
            self._use()
        self.changed.emit()

    def _use(self) -> None:
        run, which = self.choices.shownRun(), self.parameters.which
        name = fileName(self.ui.modelNameEdit.text.strip() or run.name)
        replace = (user_models_folder() / f"{name}{SUFFIX}").exists()
        question = _("There is a model {name} of yours already. Replace it?").format(name=name)
        if replace and not dialogs.confirm(_("Use this model"), question, _("Replace")):
            return
        self._task.start(
            lambda: self.logic.useModel(run, name, which=which.value, replace=replace),
            lambda report: self._tell(report["model"], name, which),
        )

    def _tell(self, path: str, name: str, which: Which) -> None:
        chooseInApplyModule(name)
        say(self.ui.useModelLabel, usedText(name, which, read_card(path)))
        self.modelMade.emit(path)


def chooseInApplyModule(name: str) -> None:
    """Let CBCTSuperRes have chosen this model, whether or not it has been opened."""
    logic = ScriptedLoadableModuleLogic()
    logic.moduleName = APPLY_MODULE
    ApplyParameters(logic.getParameterNode()).model = name


class ModelsSection(TaskSection):
    """Lists the models on this computer; shows the card of the chosen one, checks and removes it."""

    def __init__(self, ui, choices: TrainingChoices) -> None:
        super().__init__(ui, choices, ui.modelsLabel)
        self._entries: list[ModelEntry] = []
        ui.modelList.connect("currentRowChanged(int)", self.onModelChosen)
        ui.checkModelButton.connect("clicked(bool)", self.onCheckOrCancel)
        ui.removeModelButton.connect("clicked(bool)", self.onRemove)
        ui.openFolderButton.connect("clicked(bool)", self.onOpenFolder)

    def bind(self) -> None:
        self.listModels()

    def refresh(self) -> None:
        entry = self._chosen()
        reason = "" if entry is not None and is_own_model(entry.path) else _("Only models of your own can be removed.")
        if self.isBusy:
            reason = _("Wait for the check.")
        offer(self.ui.removeModelButton, reason, _("Delete the file of this model."))
        self.ui.checkModelButton.text = _("Cancel") if self.isBusy else _("Check")
        self.ui.checkModelButton.enabled = self.isBusy or (entry is not None and entry.card is not None)

    def listModels(self) -> None:
        """Look for models again; the chosen one stays chosen."""
        entry = self._chosen()
        self._entries = list_models()
        with signalsBlocked(self.ui.modelList):
            self.ui.modelList.clear()
            for one in self._entries:
                self.ui.modelList.addItem(one.card.label if one.card else _("{name} (unusable)").format(name=one.name))
        self._select(entry.path if entry else None)

    def choose(self, path: str) -> None:
        """Look for models again and show the card of this one."""
        self.listModels()
        self._select(Path(path))

    def onModelChosen(self, row: int) -> None:
        entry = self._chosen()
        self.ui.cardText.setPlainText(entryText(entry) if entry else _("No models are installed."))
        if not self.isBusy:
            say(self.ui.modelsLabel, "")
        self.refresh()

    def onCheckOrCancel(self, checked: bool = False) -> None:
        if self.isBusy:
            self._task.cancel()
        else:
            path = self._chosen().path
            self._task.start(lambda: self.logic.verifyModel(path), self._tellChecks, needsPackages=False)
        self.changed.emit()

    def _tellChecks(self, report: dict) -> None:
        checks = report["checks"]
        wrong = [f"{what}: {details}" for what, isRight, details in checks if isRight is False]
        unchecked = [details for _what, isRight, details in checks if isRight is None]
        text = _("The file is as it was saved, and the network computes what it should.")
        if unchecked:
            text = _("The file is as it was saved. What the network computes was not checked: {why}")
            text = text.format(why=" ".join(unchecked))
        if wrong:
            text = _("This model is damaged. {problems}").format(problems="; ".join(wrong))
        say(self.ui.modelsLabel, text)

    def onRemove(self, checked: bool = False) -> None:
        entry = self._chosen()
        question = _("Delete the model {name}, {path}?").format(name=entry.name, path=entry.path)
        if not dialogs.confirm(_("Remove model"), question, _("Delete")):
            return
        try:
            remove_model(entry.path)
        except SuperResError as error:
            self._task.showError(error)
        self.listModels()

    def onOpenFolder(self, checked: bool = False) -> None:
        folder = user_models_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._task.showError(OutputError(f"The folder {folder} cannot be made: {error}."))
            return
        dialogs.openFolder(str(folder))

    def _chosen(self) -> ModelEntry | None:
        row = self.ui.modelList.currentRow
        return self._entries[row] if 0 <= row < len(self._entries) else None

    def _select(self, path: Path | None) -> None:
        rows = [row for row, entry in enumerate(self._entries) if entry.path == path] or [0]
        self.ui.modelList.setCurrentRow(rows[0] if self._entries else -1)
        self.onModelChosen(rows[0])
