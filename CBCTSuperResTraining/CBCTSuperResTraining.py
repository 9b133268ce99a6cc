"""Slicer module: the models of CBCT Super-Resolution, and later the place where they are trained."""

import slicer
from CBCTSuperResLib.panels import forgetLibrary
from CBCTSuperResLib.panels.models_panel import ModelsPanel
from CBCTSuperResLib.panels.selftest import TrainingSelfTest
from CBCTSuperResLib.training_logic import TrainingLogic
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


class CBCTSuperResTraining(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("CBCT Super-Resolution Training")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Filtering")]
        parent.dependencies = []
        parent.contributors = ["CBCT Super-Resolution developers"]
        parent.helpText = _(
            "Shows the models that CBCT Super-Resolution can apply and opens the folder for your own. Models are "
            "trained from the Python console with <i>CBCTSuperResTrainingLogic</i>; a panel for it will be added here."
        )
        parent.acknowledgementText = _(
            "The shipped network follows SPSR: C. Ma et al., Structure-Preserving Super Resolution With Gradient "
            "Guidance, CVPR 2020."
        )


class CBCTSuperResTrainingWidget(ScriptedLoadableModuleWidget):
    def setup(self):
        super().setup()
        widget = slicer.util.loadUI(self.resourcePath("UI/CBCTSuperResTraining.ui"))
        self.layout.addWidget(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.panel = ModelsPanel(widget)

    def enter(self):
        self.panel.refresh()

    def onReload(self):
        forgetLibrary()
        super().onReload()


class CBCTSuperResTrainingLogic(ScriptedLoadableModuleLogic, TrainingLogic):
    """`CBCTSuperResTrainingLogic().start("options.json")`: see `TrainingLogic`."""


class CBCTSuperResTrainingTest(TrainingSelfTest, ScriptedLoadableModuleTest):
    """Runs in the application with "Reload and Test"; the tests are in `TrainingSelfTest`."""

    logicClass = CBCTSuperResTrainingLogic
