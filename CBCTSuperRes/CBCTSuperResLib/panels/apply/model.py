"""The model: which one, what is known of it, and where others come from."""

from __future__ import annotations

from pathlib import Path

from slicer.i18n import tr as _

from ...core.errors import Cancelled, SuperResError
from ...jobs.job import Job
from ...models.card import ModelCard, read_card
from ...models.folder import adopt_model, is_model_file
from .. import dialogs
from ..section import JobSection, Signal, plainToolTip, signalsBlocked
from .card_html import cardHtml
from .choices import ApplyChoices, modelsFolder
from .texts import cardText, voxelsText


class ModelSection(JobSection):
    """Chooses a model, shows its card and brings in others.

    Attributes
    ----------
    logged : Signal (text)
        Details for the log.
    """

    def __init__(self, ui, choices: ApplyChoices) -> None:
        super().__init__(ui, choices, ui.importLabel)
        self.logged = Signal()
        ui.modelSelector.connect("currentIndexChanged(int)", self.onModelChosen)
        ui.modelDetailsButton.connect("clicked(bool)", self.onDetails)
        ui.importModelButton.connect("clicked(bool)", self.onImportOrCancel)

    def bind(self) -> None:
        self.listModels()

    def listModels(self) -> None:
        """Look for models again."""
        self.choices.listModels()
        with signalsBlocked(self.ui.modelSelector):
            self.ui.modelSelector.clear()
            for card in self.choices.cards:
                self.ui.modelSelector.addItem(card.label)

    def refresh(self) -> None:
        card, text = self.choices.card(), ""
        if card is not None:
            text = self.choices.modelReason or voxelsText(card)
        elif self.parameters is not None:
            text = _("The model {name} is not installed.").format(name=self.parameters.model)
        with signalsBlocked(self.ui.modelSelector):
            self.ui.modelSelector.currentIndex = self.choices.cards.index(card) if card else -1
        self.ui.modelLabel.text = text
        self.ui.modelSelector.toolTip = plainToolTip(f"{card.title}\n{cardText(card)}" if card else text)
        self.ui.modelSelector.enabled = not self.choices.isLocked
        self.ui.modelDetailsButton.enabled = card is not None
        self.ui.importModelButton.text = _("Cancel import") if self.isBusy else _("Import model…")
        self.ui.importModelButton.enabled = self.isBusy or not self.choices.isLocked

    def onModelChosen(self, index: int) -> None:
        if self.parameters is not None and 0 <= index < len(self.choices.cards):
            if not self.isBusy:
                self.tell("")
            self.parameters.model = self.choices.cards[index].name

    def onDetails(self, checked: bool = False) -> None:
        card = self.choices.card()
        dialogs.showDetails(card.title or card.name, cardHtml(card))

    def onImportOrCancel(self, checked: bool = False) -> None:
        self.startOrCancel(self._begin)

    def done(self, job: Job) -> None:
        self.tell("")
        for warning in job.warnings:
            self.logged.emit(warning)
        self._choose(read_card(job.report["model"]))

    def failed(self, error: SuperResError) -> None:
        super().failed(error)
        if not isinstance(error, Cancelled):
            self.logged.emit(f"{error}\n{getattr(error, 'detail', '')}".strip())

    def _begin(self) -> Job | None:
        """Copy a model file at once; read weights of another program in a process of its own."""
        kinds = _("Models and weights (*.safetensors *.pth *.pt *.ckpt *.pkl);;All files (*)")
        path = dialogs.chooseFile(_("Import a model"), kinds)
        if not path:
            return None
        if is_model_file(path):
            self._adopt(Path(path))
            return None
        dialogs.ensurePackages()
        return Job({"kind": "import", "path": path, "models": str(modelsFolder())}).start()

    def _adopt(self, path: Path) -> None:
        """Copy a model file into the user's folder, in place of another model of its name only if the user agrees."""
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
        self.logged.emit(_("Imported: {path}").format(path=card.path))
