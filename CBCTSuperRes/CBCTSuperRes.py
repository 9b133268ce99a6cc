"""Slicer module: super-resolve a CBCT volume. What it does is in CBCTSuperResLib."""

import slicer
import vtk
from CBCTSuperResLib.panels import forgetLibrary
from CBCTSuperResLib.panels.apply.panel import ApplyPanel
from CBCTSuperResLib.panels.apply.selftest import ApplySelfTest
from CBCTSuperResLib.scene.example_scan import registerExampleScan
from CBCTSuperResLib.scene.logic import SuperResLogic
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class CBCTSuperRes(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("CBCT Super-Resolution")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Filtering")]
        parent.dependencies = []
        parent.contributors = ["CBCT Super-Resolution developers"]
        parent.helpText = _(
            "Computes a sharper, more finely sampled volume from a cone-beam CT scan with a neural network, in the "
            "same place as the input. Fine detail is predicted by a network; not for diagnosis. To try it, load "
            "<i>CBCTDentalSurgery</i> from the module Sample Data or, without internet, <i>Procedural jaw</i>."
        )
        parent.acknowledgementText = _(
            "The shipped network follows SPSR: C. Ma et al., Structure-Preserving Super Resolution With Gradient "
            "Guidance, CVPR 2020."
        )
        thumbnail = self.resourcePath("Icons/ProceduralJaw.png")
        slicer.app.connect("startupCompleted()", lambda: registerExampleScan(thumbnail))


class CBCTSuperResWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)

    def setup(self):
        super().setup()
        widget = slicer.util.loadUI(self.resourcePath("UI/CBCTSuperRes.ui"))
        self.layout.addWidget(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = CBCTSuperResLogic()
        self.panel = ApplyPanel(widget, self.logic)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneReady)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartImportEvent, self.onSceneStartImport)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneReady)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeAddedEvent, self.onNodeAdded)
        if getattr(self.parent, "isEntered", False):  # it was reloaded, after which Slicer does not enter it
            self.panel.bind()

    def cleanup(self):
        self.removeObservers()
        self.panel.close()

    def enter(self):
        self.panel.bind()

    def exit(self):
        self.panel.unbind()

    def onSceneStartClose(self, caller, event):
        self.panel.close()

    def onSceneStartImport(self, caller, event):
        self.panel.letGo()

    def onSceneReady(self, caller, event):
        if self.parent.isEntered:
            self.panel.bind()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAdded(self, caller, event, node):
        self.panel.input.onNodeAdded(node)

    def onReload(self):
        self.panel.close()
        forgetLibrary()
        super().onReload()


class CBCTSuperResLogic(ScriptedLoadableModuleLogic, SuperResLogic):
    """`CBCTSuperResLogic().process(inputVolume)`: see `SuperResLogic`."""


class CBCTSuperResTest(ApplySelfTest, ScriptedLoadableModuleTest):
    """Runs in the application with "Reload and Test"; the tests are in `ApplySelfTest`."""

    logicClass = CBCTSuperResLogic
