"""Slicer module: train a model for CBCT Super-Resolution. What it does is in CBCTSuperResLib."""

import slicer
from CBCTSuperResLib.panels import forgetLibrary
from CBCTSuperResLib.panels.training.panel import TrainingPanel
from CBCTSuperResLib.panels.training.selftest import TrainingSelfTest
from CBCTSuperResLib.scene.training_logic import TrainingLogic
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class CBCTSuperResTraining(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("CBCT Super-Resolution Training")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Filtering")]
        parent.dependencies = []
        parent.contributors = ["CBCT Super-Resolution developers"]
        parent.helpText = _(
            "Trains models for CBCT Super-Resolution on your own scans: volumes of the scene or folders of images, "
            "alone or in pairs of a coarse and a fine scan. Runs are started, watched, stopped and resumed here; the "
            "model of a run is put where CBCT Super-Resolution lists it. Training takes hours on a GPU and days "
            "without one; the quick look takes minutes anywhere."
        )
        parent.acknowledgementText = _(
            "The shipped network follows SPSR: C. Ma et al., Structure-Preserving Super Resolution With Gradient "
            "Guidance, CVPR 2020."
        )


class CBCTSuperResTrainingWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)

    def setup(self):
        super().setup()
        widget = slicer.util.loadUI(self.resourcePath("UI/CBCTSuperResTraining.ui"))
        self.layout.addWidget(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = CBCTSuperResTrainingLogic()
        self.panel = TrainingPanel(widget, self.logic)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndClose)
        slicer.app.connect("aboutToQuit()", self.cleanup)  # not every Slicer unloads its modules when it is closed
        if getattr(self.parent, "isEntered", False):  # the module was reloaded, after which Slicer does not enter it
            self.panel.bind()

    def cleanup(self):
        slicer.app.disconnect("aboutToQuit()", self.cleanup)
        self.removeObservers()
        self.panel.close()

    def enter(self):
        self.panel.bind()

    def exit(self):
        self.panel.unbind()

    def onSceneStartClose(self, caller, event):
        self.panel.onSceneStartClose()

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.panel.bind()

    def onReload(self):
        self.panel.close()
        forgetLibrary()
        super().onReload()


class CBCTSuperResTrainingLogic(ScriptedLoadableModuleLogic, TrainingLogic):
    """`CBCTSuperResTrainingLogic().start("options.json")`: see `TrainingLogic`."""


class CBCTSuperResTrainingTest(TrainingSelfTest, ScriptedLoadableModuleTest):
    """Runs in the application with "Reload and Test"; the tests are in `TrainingSelfTest`."""

    logicClass = CBCTSuperResTrainingLogic
