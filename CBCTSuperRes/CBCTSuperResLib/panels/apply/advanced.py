"""Log: what was done, for those who report problems.

Advanced: how it is computed, where models are, what is installed.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib import metadata

import slicer
from slicer.i18n import tr as _

from ... import __version__
from ...core.errors import SuperResError
from ...core.packages import missing_packages
from .. import dialogs
from ..widgets import Section, modelsFolder, setModelsFolder
from .choices import Choices
from .parameters import ApplyParameters, Blank


class LogSection(Section):
    """Keeps what the other sections tell; newest at the end."""

    def __init__(self, ui) -> None:
        super().__init__(ui)
        self.ui.copyLogButton.connect("clicked(bool)", self.onCopy)

    def add(self, text: str) -> None:
        """Append a text with the time of day."""
        self.ui.logText.appendPlainText(f"{time.strftime('%H:%M:%S')}  {text}")

    def refresh(self) -> None:
        self.ui.copyLogButton.enabled = bool(self.ui.logText.plainText)

    def onCopy(self, checked: bool = False) -> None:
        slicer.app.clipboard().setText(self.ui.logText.plainText)


class AdvancedSection(Section):
    """The rarer choices; each has a usual value that suits most scans.

    Attributes
    ----------
    whenModelsMoved : callable ()
        Set by the panel; another folder of models was chosen.
    """

    def __init__(self, ui, choices: Choices, ensurePackages: Callable[[], None]) -> None:
        super().__init__(ui)
        self.choices = choices
        self.ensurePackages = ensurePackages
        self.whenModelsMoved: Callable[[], None] = lambda: None
        self.ui.openModelsFolderButton.connect("clicked(bool)", self.onOpenFolder)
        self.ui.changeModelsFolderButton.connect("clicked(bool)", self.onChangeFolder)
        self.ui.packagesButton.connect("clicked(bool)", self.onPackages)

    def bind(self, parameters: ApplyParameters) -> None:
        super().bind(parameters)
        self.ui.versionsLabel.text = versionsText()

    def refresh(self) -> None:
        isFree = not self.choices.isLocked
        for control in self._choosers():
            control.enabled = isFree
        if self.parameters is not None:
            self.ui.smoothingSpinBox.enabled = isFree and not self.parameters.modelSmoothing
            self.ui.blankValueSpinBox.enabled = isFree and self.parameters.blank is Blank.value
        self.ui.modelsFolderEdit.text = str(modelsFolder())

    def onOpenFolder(self, checked: bool = False) -> None:
        folder = modelsFolder()
        folder.mkdir(parents=True, exist_ok=True)
        dialogs.openFolder(str(folder))

    def onChangeFolder(self, checked: bool = False) -> None:
        folder = dialogs.chooseFolder(_("Folder of your own models"), str(modelsFolder()))
        if folder:
            setModelsFolder(folder)
            self.whenModelsMoved()

    def onPackages(self, checked: bool = False) -> None:
        try:
            self.ensurePackages()
            answer = _("All Python packages that computing needs are installed.")
        except SuperResError as error:
            answer = str(error)
        self.ui.versionsLabel.text = f"{versionsText()}\n{answer}"

    def _choosers(self) -> list:
        return [
            self.ui.qualitySelector,
            self.ui.deviceSelector,
            self.ui.precisionSelector,
            self.ui.tileSpinBox,
            self.ui.smoothingCheckBox,
            self.ui.smoothingSpinBox,
            self.ui.blankSelector,
            self.ui.blankValueSpinBox,
            self.ui.outputTypeSelector,
            self.ui.disagreementCheckBox,
            self.ui.changeModelsFolderButton,
            self.ui.packagesButton,
        ]


def versionsText() -> str:
    """This extension, Slicer, Python and PyTorch; nothing is imported to find out."""
    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:
        torch = _("not installed")
    text = _("CBCT Super-Resolution {ours}, Slicer {slicer}, Python {python}, PyTorch {torch}")
    text = text.format(
        ours=__version__, slicer=slicer.app.applicationVersion, python=platform.python_version(), torch=torch
    )
    missing = missing_packages()
    if missing:
        text += "\n" + _("Missing, offered on Apply: {packages}").format(packages=", ".join(missing))
    return text
