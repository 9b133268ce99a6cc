"""What the panel of CBCTSuperResTraining remembers in the scene."""

from enum import Enum
from pathlib import Path

from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper


class Which(Enum):
    """Which weights of a run become a model, as `TrainingLogic.useModel` names them."""

    best = "best"
    latest = "latest"

    @staticmethod
    def label(which: "Which") -> str:
        if which is Which.best:
            return _("Best in validation")
        return _("Latest")


class WindowChoice(Enum):
    """Where the normalization range of the training images comes from."""

    estimated = "estimated"
    custom = "custom"

    @staticmethod
    def label(choice: "WindowChoice") -> str:
        if choice is WindowChoice.estimated:
            return _("From the first fine scan")
        return _("As given")


@parameterNodeWrapper
class TrainingParameters:
    """Bound to the widgets whose property SlicerParameterName is the name of a field; the rest by the sections.

    `settings` is the JSON of the training's options, without its name and root, which are `runName` and
    `resultsFolder`; `data` is the table of scans, see `data_rows`; `shownRun` is the name of the run that is shown.
    """

    settings: str = ""
    data: str = ""
    window: WindowChoice = WindowChoice.estimated
    measurePace: bool = False
    runName: str = "My model"
    resultsFolder: Path = Path.home() / "CBCT Super-Resolution training"
    keepTraining: bool = False
    shownRun: str = ""
    which: Which = Which.best
