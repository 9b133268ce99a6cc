"""The model, in the section Input: which one, what is known of it, and where others come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slicer.i18n import tr as _

from ...core.errors import Cancelled, SuperResError
from ...jobs.job import Job
from ...models.card import ModelCard, read_card
from ...models.folder import adopt_model, is_model_file
from .. import dialogs
from ..card_text import cardHtml, cardSummary
from ..widgets import Section, modelsFolder
from .choices import Choices
from .parameters import ApplyParameters


class ModelSection(Section):
    """Chooses a model, shows its card and brings in others.

    Attributes
    ----------
    tell : callable (text)
        Set by the panel; keeps details in the log.
    """

    def __init__(self, ui, choices: Choices, ensurePackages: Callable[[], None]) -> None:
        super().__init__(ui)
        self.choices = choices
        self.ensurePackages = ensurePackages
        self.tell: Callable[[str], None] = lambda text: None
        self._task: Job | None = None
        self._said = ""
        self.ui.modelSelector.connect("currentIndexChanged(int)", self.onModelChosen)
        self.ui.modelDetailsButton.connect("clicked(bool)", self.onDetails)
        self.ui.importModelButton.connect("clicked(bool)", self.onImportOrCancel)

    @property
    def isBusy(self) -> bool:
        return self._task is not None

    def bind(self, parameters: ApplyParameters) -> None:
        super().bind(parameters)
        self.listModels()

    def listModels(self) -> None:
        """Look for models again."""
        self.choices.listModels()
        selector = self.ui.modelSelector
        wasBlocked = selector.blockSignals(True)
        selector.clear()
        for card in self.choices.cards:
            selector.addItem(card.title or card.name)
        selector.blockSignals(wasBlocked)

    def refresh(self) -> None:
        card = self.choices.card()
        wasBlocked = self.ui.modelSelector.blockSignals(True)
        self.ui.modelSelector.currentIndex = self.choices.cards.index(card) if card else -1
        self.ui.modelSelector.blockSignals(wasBlocked)
        self.ui.modelLabel.text = self._said or (cardSummary(card) if card else self._whyNone())
        self.ui.modelSelector.enabled = not self.choices.isLocked
        self.ui.modelDetailsButton.enabled = card is not None
        self.ui.importModelButton.text = _("Cancel import") if self.isBusy else _("Import model…")
        self.ui.importModelButton.enabled = self.isBusy or not self.choices.isLocked

    def poll(self) -> None:
        self._task.poll()
        self._said = self._task.message or _("Importing")
        self.ui.modelLabel.text = self._said
        if self._task.isFinished:
            self._end()

    def close(self) -> None:
        if self._task:
            self._task.close()
            self._end()

    def onModelChosen(self, index: int) -> None:
        if self.parameters is not None and 0 <= index < len(self.choices.cards):
            self._said = ""
            self.parameters.model = self.choices.cards[index].name

    def onDetails(self, checked: bool = False) -> None:
        card = self.choices.card()
        dialogs.showDetails(card.title or card.name, cardHtml(card))

    def onImportOrCancel(self, checked: bool = False) -> None:
        if self._task:
            self._task.cancel()
            return
        kinds = _("Models and weights (*.safetensors *.pth *.pt *.ckpt);;All files (*)")
        path = dialogs.chooseFile(_("Import a model"), kinds)
        if path:
            self._import(Path(path))

    def _import(self, path: Path) -> None:
        self._said = ""
        try:
            if is_model_file(path):
                self._adopt(path)
            else:
                self.ensurePackages()
                job = {"kind": "import", "path": str(path), "models": str(modelsFolder())}
                self._task = Job(job).start()
        except SuperResError as error:
            self._tellError(error)
        self.whenChanged()

    def _adopt(self, path: Path) -> None:
        new = read_card(path)
        same = next((card for card in self.choices.cards if card.name == new.name), None)
        if same is not None and same.weights_sha256 != new.weights_sha256:
            question = _("There is a model called {name} already. Should the new one take its place?")
            if not dialogs.confirm(_("Import a model"), question.format(name=new.name), _("Replace")):
                return
        self._choose(adopt_model(path, modelsFolder()))

    def _choose(self, card: ModelCard) -> None:
        self.listModels()
        if self.parameters is not None:
            self.parameters.model = card.name
        self.tell(_("Imported: {path}").format(path=card.path))

    def _end(self) -> None:
        task, self._task = self._task, None
        task.close()
        self._said = ""
        if task.error:
            self._tellError(task.error)
        else:
            for warning in task.warnings:
                self.tell(warning)
            self._choose(read_card(task.report["model"]))
        self.whenChanged()

    def _tellError(self, error: SuperResError) -> None:
        self._said = str(error)
        if not isinstance(error, Cancelled):
            self.tell("\n".join(part for part in (str(error), getattr(error, "detail", "")) if part))

    def _whyNone(self) -> str:
        if self.parameters is None:
            return ""
        return _("The model {name} is not installed.").format(name=self.parameters.model)
