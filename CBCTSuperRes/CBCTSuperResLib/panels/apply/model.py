"""The model: which one, what is known of it, and where others come from."""

from __future__ import annotations

from pathlib import Path

from slicer.i18n import tr as _

from ...apply.conditions import is_unlike_usual
from ...apply.suited_model import blur_in_mm
from ...core.errors import Cancelled, SuperResError
from ...jobs.job import Job
from ...models.card import ModelCard, read_card
from ...models.folder import DEFAULT_MODEL, adopt_model, is_model_file
from .. import dialogs
from ..section import JobSection, Signal, plainToolTip, signalsBlocked
from .card_html import cardHtml
from .choices import ApplyChoices, modelsFolder
from .parameters import AUTOMATIC, VoxelSize
from .texts import cardText, threePlanesText, voxelsText


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
        ui.betterModelButton.connect("clicked(bool)", self.onAutomatic)
        ui.importModelButton.connect("clicked(bool)", self.onImportOrCancel)

    def bind(self) -> None:
        self.listModels()

    def listModels(self) -> None:
        """Look for models again."""
        self.choices.listModels()
        with signalsBlocked(self.ui.modelSelector):
            self.ui.modelSelector.clear()
            self.ui.modelSelector.addItem(_("Automatic (by the scan)"))
            for card in self.choices.cards:
                self.ui.modelSelector.addItem(card.label)

    def refresh(self) -> None:
        choices, card, text = self.choices, self.choices.card(), ""
        if choices.isAutomatic:
            text, index = self._automaticText(), 0
        elif card is not None:
            text, index = choices.modelReason or voxelsText(card), 1 + choices.cards.index(card)
        else:
            index = -1
            if self.parameters is not None:
                text = _("The model {name} is not installed.").format(name=self.parameters.model)
        with signalsBlocked(self.ui.modelSelector):
            self.ui.modelSelector.currentIndex = index
        self.ui.modelLabel.text = text
        self.ui.modelSelector.toolTip = plainToolTip(f"{card.title}\n{cardText(card)}" if card else text)
        self.ui.modelSelector.enabled = not choices.isLocked
        better = None if choices.isLocked else choices.betterCard()
        self.ui.betterModelButton.visible = better is not None
        if better is not None:
            hint = _("The chosen model does not suit this scan. Let the scan choose: it would be {name}.")
            self.ui.betterModelButton.toolTip = plainToolTip(hint.format(name=better.label))
        self.ui.modelDetailsButton.enabled = card is not None
        self.ui.importModelButton.text = _("Cancel import") if self.isBusy else _("Import model…")
        self.ui.importModelButton.enabled = self.isBusy or not self.choices.isLocked

    def onModelChosen(self, index: int) -> None:
        if self.parameters is not None and 0 <= index <= len(self.choices.cards):
            if not self.isBusy:
                self.tell("")
            self.parameters.model = AUTOMATIC if index == 0 else self.choices.cards[index - 1].name

    def onAutomatic(self, checked: bool = False) -> None:
        self.parameters.model = AUTOMATIC

    def _automaticText(self) -> str:
        """Which model is taken, and why, as far as is known."""
        choices, card = self.choices, self.choices.card()
        if choices.inputNode is None:
            return _("Chosen as soon as there is a scan.")
        if card is None:
            return ""  # beside Apply it is told
        usual, known = choices.usualCard(), None
        if usual.name != DEFAULT_MODEL:
            text = _("{name}: {usual} does not make this voxel size.")
            if self.parameters.voxelSize is VoxelSize.same:
                text = _("{name}: {usual} does not denoise without enlarging.")
            elif choices.areThreePlanesCloser():
                text = _("{name}: {usual} does not make this voxel size slice by slice.") + " " + threePlanesText()
            return text.format(name=card.name, usual=DEFAULT_MODEL)
        if choices.isLookedAt:
            known = choices.scanned(usual)
            isUnlike = known is not None and is_unlike_usual(usual, known.conditions)
            text = _("{name}: the scan does not tell its blur for sure.")
            if known is None:
                text = _("{name}, or another one if the scan's blur asks for it; the run decides.")
            elif isUnlike and known.conditions.source == "little":
                text = _("{name}: the scan may have little blur, {seen:.2g} mm is taken; {usual} learned {met:.2g} mm.")
            elif isUnlike and known.conditions.source == "doubtful":
                text = _(
                    "{name}: the scan's blur is not sure; it seems to be {seen:.2g} mm without objects' softness, "
                    "{usual} learned {met:.2g} mm."
                )
            elif isUnlike:
                text = _(
                    "{name}: the scan's blur, {seen:.2g} mm without objects' softness, is unlike what {usual} "
                    "learned ({met:.2g} mm)."
                )
            elif known.conditions.is_known:
                text = _("{name}: nothing speaks against it; the scan's blur without objects' softness: {seen:.2g} mm.")
        else:
            text = _("{name}, or another one if the scan's blur asks for it: looking at the scan…")
        seen, met = blur_in_mm(known) if known else (0.0, 0.0)
        return text.format(name=card.name, usual=usual.name, seen=seen, met=met)

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
