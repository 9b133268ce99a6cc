"""The layout manager and the slice views of the application, without a window: real MRML nodes and slice logics."""

import qt
import slicer
import vtk

ORIENTATIONS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}


class SliceWidget(qt.QWidget):
    """What `layoutManager().sliceWidget("Red")` returns."""

    def __init__(self, name, applicationLogic, scene):
        super().__init__()
        self.objectName = f"qMRMLSliceWidget{name}"
        self._name, self._view = name, None
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(applicationLogic)
        self._logic.SetMRMLScene(scene)
        self._logic.AddSliceNode(name)
        self.reset()

    def reset(self):
        """As it is when the application has started; closing a scene leaves some of it in slicer-core."""
        node = self._logic.GetSliceNode()
        node.SetOrientation(ORIENTATIONS[self._name])
        node.SetXYZOrigin(0, 0, 0)
        node.SetDimensions(256, 256, 1)
        node.SetFieldOfView(256, 256, 1)

    def sliceLogic(self):
        return self._logic

    def mrmlSliceNode(self):
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self):
        return self._logic.GetSliceCompositeNode()

    def fitSliceToBackground(self):
        self._logic.FitSliceToBackground()

    def sliceView(self):
        self._view = self._view or SliceView()
        return self._view


class SliceView:
    """What is drawn into, and tells of the mouse; nothing is drawn before somebody asks the window for it."""

    def __init__(self):
        self._window, self._interactor = vtk.vtkRenderWindow(), vtk.vtkGenericRenderWindowInteractor()
        self._window.SetOffScreenRendering(1)
        self._window.AddRenderer(vtk.vtkRenderer())
        self._interactor.SetRenderWindow(self._window)
        self._interactor.SetInteractorStyle(None)

    def renderWindow(self):
        return self._window

    def interactor(self):
        return self._interactor

    def scheduleRender(self):
        """Nobody looks."""


class LayoutManager(qt.QObject):
    """Three slice views, of which the layout shows some."""

    layoutChanged = qt.Signal(int)

    def __init__(self, applicationLogic, scene):
        super().__init__()
        if not scene.GetSingletonNode("default", "vtkMRMLCrosshairNode"):
            crosshair = slicer.vtkMRMLCrosshairNode()
            crosshair.SetSingletonTag("default")
            crosshair.SetCrosshairName("default")
            scene.AddNode(crosshair)
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
        self._widgets = {name: SliceWidget(name, applicationLogic, scene) for name in ORIENTATIONS}
        self._layoutLogic = slicer.vtkMRMLLayoutLogic()
        self._layoutLogic.SetMRMLScene(scene)
        scene.AddNewNodeByClass("vtkMRMLPlotViewNode")
        self.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    def setLayout(self, layout):
        node = self._layoutLogic.GetLayoutNode()
        if not node.IsLayoutDescription(layout):
            raise ValueError(f"there is no layout {layout}")
        if layout != node.GetViewArrangement():
            node.SetViewArrangement(layout)
            self._map()
            self.layoutChanged.emit(layout)

    def _map(self):
        """Tell the slice nodes which of them are seen; slicer-core's own logic leaves that to the application."""
        shown = self._layoutLogic.GetLayoutNode().GetCurrentLayoutDescription() or ""
        for name, widget in self._widgets.items():
            widget.mrmlSliceNode().SetMappedInLayout(f'singletontag="{name}"' in shown)

    def reset(self):
        """For the next test."""
        self.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self._map()
        for widget in self._widgets.values():
            widget.reset()

    layout = property(lambda self: self._layoutLogic.GetLayoutNode().GetViewArrangement(), setLayout)

    def sliceViewNames(self):
        return tuple(self._widgets)

    def sliceWidget(self, name):
        return self._widgets.get(name)

    def mrmlSliceLogics(self):
        logics = vtk.vtkCollection()
        for widget in self._widgets.values():
            logics.AddItem(widget.sliceLogic())
        return logics

    def resetSliceViews(self):
        for widget in self._widgets.values():
            widget.sliceLogic().FitSliceToAll()
