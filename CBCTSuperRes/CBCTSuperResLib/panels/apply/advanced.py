"""Advanced: how it is computed, where models are, what is installed. Log: what was done."""

from __future__ import annotations

import time

import slicer
from slicer.i18n import tr as _

from ...apply.engines import installed_engines
from ...core.errors import Cancelled, SuperResError
from ...core.gpus import count_gpus
from ...jobs.job import Job
from .. import dialogs
from ..error_text import errorText
from ..section import JobSection, Section, Signal
from .choices import ApplyChoices, modelsFolder, setModelsFolder
from .parameters import Blank, Device
from .texts import enginesText, versionsText


class AdvancedSection(Section):
    """The rarer choices; each has a usual value that suits most scans.

    Attributes
    ----------
    modelsMoved : Signal ()
        Another folder of models was chosen.
    """

    def __init__(self, ui, choices: ApplyChoices) -> None:
        super().__init__(ui, choices)
        self.modelsMoved = Signal()
        self._controls = [
            ui.scannerBlurSpinBox,
            ui.sharpnessSpinBox,
            ui.backProjectionCheckBox,
            ui.qualitySelector,
            ui.deviceSelector,
            ui.precisionSelector,
            ui.engineSelector,
            ui.tileSpinBox,
            ui.smoothingCheckBox,
            ui.smoothingSpinBox,
            ui.blankSelector,
            ui.blankValueSpinBox,
            ui.outputTypeSelector,
            ui.disagreementCheckBox,
            ui.boneCheckBox,
            ui.changeModelsFolderButton,
            ui.packagesButton,
        ]
        ui.openModelsFolderButton.connect("clicked(bool)", self.onOpenFolder)
        ui.changeModelsFolderButton.connect("clicked(bool)", self.onChangeFolder)
        ui.packagesButton.connect("clicked(bool)", self.onPackages)

    def bind(self) -> None:
        self.ui.versionsLabel.text = versionsText()

    def refresh(self) -> None:
        isFree = not self.choices.isLocked
        for control in self._controls:
            control.enabled = isFree
        if self.parameters is not None:
            self.ui.smoothingSpinBox.enabled = isFree and not self.parameters.modelSmoothing
            self.ui.blankValueSpinBox.enabled = isFree and self.parameters.blank is Blank.value
            self.ui.boneCheckBox.enabled = isFree and self.choices.canMarkBone
        self.ui.modelsFolderEdit.text = str(modelsFolder())
        self._offerGraphicsCard()

    def _offerGraphicsCard(self) -> None:
        """Grey out the graphics card where there is none, and all of them together where there is one."""
        selector, count = self.ui.deviceSelector, count_gpus()
        for device, needed in ((Device.gpu, 1), (Device.gpus, 2)):
            item = selector.model().item(selector.findText(Device.label(device)))
            if item is not None and item.isEnabled() != (count >= needed):
                item.setEnabled(count >= needed)

    def onOpenFolder(self, checked: bool = False) -> None:
        folder = modelsFolder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = _("The folder {folder} cannot be made: {error}.").format(folder=folder, error=error.strerror)
            self.ui.versionsLabel.text = f"{versionsText()}\n{text}"
            return
        dialogs.openFolder(str(folder))

    def onChangeFolder(self, checked: bool = False) -> None:
        folder = dialogs.chooseFolder(_("Folder of your own models"), str(modelsFolder()))
        if folder:
            setModelsFolder(folder)
            self.modelsMoved.emit()

    def onPackages(self, checked: bool = False) -> None:
        try:
            dialogs.ensurePackages(self.choices.needsTorch(), self.choices.options().engine)
            answer = _("All Python packages that computing needs are installed.")
        except SuperResError as error:
            answer = errorText(error)
        self.ui.versionsLabel.text = f"{versionsText()}\n{answer}"


class EnginesSection(JobSection):
    """Which engines are installed, and how fast each is here; measured when it is asked for, without waiting for it."""

    def __init__(self, ui, choices: ApplyChoices) -> None:
        super().__init__(ui, choices, ui.enginesLabel)
        self._error: tuple[str, str] | None = None  # of a model, by its hash
        self._measured = ""  # the hash of the model that is or was measured
        self._told: tuple[tuple, str] | None = None  # what there is to say of a model and the engines that are there
        ui.enginesButton.connect("clicked(bool)", self.onMeasure)

    def refresh(self) -> None:
        isFree = not self.choices.isLocked and self.choices.card() is not None
        self.ui.enginesButton.enabled = self.isBusy or isFree
        self.ui.enginesButton.text = _("Cancel") if self.isBusy else _("Measure engines")
        if self.isBusy:
            return
        card = self.choices.card()
        model = card.weights_sha256 if card else ""
        key = model, *installed_engines().items()
        if self._told is None or self._told[0] != key:
            self._told = key, enginesText(card)
        self.tell(self._error[1] if self._error and self._error[0] == model else self._told[1])

    def done(self, job) -> None:
        self._told = None

    def onMeasure(self, checked: bool = False) -> None:
        self._error = None
        self.startOrCancel(self._begin)

    def failed(self, error: SuperResError) -> None:
        if not isinstance(error, Cancelled):
            self._error = self._measured, errorText(error)

    def _begin(self) -> Job:
        card = self.choices.installedCard()
        self._measured = card.weights_sha256
        dialogs.ensurePackages(self.choices.needsTorch(), self.choices.options().engine)
        return Job({"kind": "engines", "model": str(card.path)}).start()


class LogSection(Section):
    """Keeps what the other sections tell, for those who report problems; newest at the end."""

    def __init__(self, ui, choices: ApplyChoices) -> None:
        super().__init__(ui, choices)
        ui.copyLogButton.connect("clicked(bool)", self.onCopy)

    def add(self, text: str) -> None:
        """Append a text with the time of day."""
        self.ui.logText.appendPlainText(f"{time.strftime('%H:%M:%S')}  {text}")

    def refresh(self) -> None:
        self.ui.copyLogButton.enabled = bool(self.ui.logText.plainText)

    def onCopy(self, checked: bool = False) -> None:
        slicer.app.clipboard().setText(self.ui.logText.plainText)
