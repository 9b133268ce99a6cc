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


@parameterNodeWrapper
class TrainingParameters:
    """Bound to the widgets whose property SlicerParameterName is the name of a field; the rest by the sections.

    `settings` is the JSON of the training's options, without its name and root, which are `runName` and
    `resultsFolder`; `shownRun` is the name of the run that is shown.
    """

    settings: str = ""
    runName: str = "My model"
    resultsFolder: Path = Path.home() / "CBCT Super-Resolution training"
    keepTraining: bool = False
    shownRun: str = ""
    which: Which = Which.best
