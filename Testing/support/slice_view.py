"""A slice view without a window: real MRML nodes and the real slice logic, whose layers are what the view draws."""

from __future__ import annotations

import numpy as np

ORIENTATIONS = {"TestRed": "Axial", "TestGreen": "Coronal", "TestYellow": "Sagittal"}


class SliceView:
    """A view of 160 x 120 pixels."""

    def __init__(self, slicer, application, name: str) -> None:
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(application)
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.node = self.logic.AddSliceNode(name)
        self.composite = self.logic.GetSliceCompositeNode()
        self._name = name

    def reset(self) -> None:
        """As in a new scene, which keeps views but not what they show."""
        self.node.SetMappedInLayout(False)
        self.node.SetOrientation(ORIENTATIONS[self._name])
        self.node.SetDimensions(160, 120, 1)

    def show(self, volumeNode) -> None:
        """Put the volume into the background, turn the view into its planes and fit it."""
        self.reset()
        self.composite.SetBackgroundVolumeID(volumeNode.GetID())
        self.node.RotateToVolumePlane(volumeNode)
        self.logic.FitSliceToBackground()

    def foreground(self) -> np.ndarray:
        """Grey values (rows, columns) of the foreground as the view draws them."""
        return self._pixels(self.logic.GetForegroundLayer())

    def background(self) -> np.ndarray:
        return self._pixels(self.logic.GetBackgroundLayer())

    @staticmethod
    def _pixels(layer) -> np.ndarray:
        from vtk.util.numpy_support import vtk_to_numpy

        layer.UpdateTransforms()
        layer.GetReslice().Update()
        image = layer.GetReslice().GetOutput()
        columns, rows, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns).astype(float)


class SliceViews:
    """Views by name, made once, as in the application, where they outlive scenes."""

    def __init__(self, slicer) -> None:
        self._slicer, self._views = slicer, {}
        self._application = slicer.vtkSlicerApplicationLogic()
        self._application.SetMRMLScene(slicer.mrmlScene)
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(slicer.mrmlScene)

    def __call__(self, name: str = "TestRed") -> SliceView:
        if name not in self._views:
            self._views[name] = SliceView(self._slicer, self._application, name)
        self._views[name].reset()
        return self._views[name]

    def remove(self) -> None:
        """Leave no views for the tests of other files."""
        for view in self._views.values():
            for node in (view.node, view.composite):
                self._slicer.mrmlScene.RemoveNode(node)
