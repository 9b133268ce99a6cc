"""Two volumes in the slice views, side by side or one over the other, and the way back to what was shown before."""

from __future__ import annotations

from dataclasses import dataclass

import qt
import slicer
import vtk

SIDE_BY_SIDE = 29  # vtkMRMLLayoutNode.SlicerLayoutSideBySideView: Red and Yellow
BEFORE_VIEW, AFTER_VIEW = "Red", "Yellow"
ALPHA = 0  # vtkMRMLSliceCompositeNode.Alpha
MARKS_COLOR, MARKS_OPACITY = "vtkMRMLColorTableNodeRed", 0.6
UNTIL_VIEWS_HAVE_THEIR_SIZE_MS = 100


class Comparison:
    """Shows a volume before and after. Does nothing where there are no slice views.

    >>> comparison = Comparison()
    >>> comparison.showSideBySide(scan, result)
    >>> comparison.showFade(scan, result, 0.5)
    >>> comparison.fade(0.8)
    >>> comparison.end()      # all views are as they were

    Attributes
    ----------
    mode : str
        "", "side by side", "fade" or "marks".
    """

    def __init__(self) -> None:
        self.mode = ""
        self._layout: int | None = None
        self._views: list[_View] = []
        self._window: _SharedWindow | None = None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(UNTIL_VIEWS_HAVE_THEIR_SIZE_MS)
        self._timer.connect("timeout()", self._placeAgain)

    @property
    def isPossible(self) -> bool:
        return slicer.app.layoutManager() is not None

    def showSideBySide(self, before: slicer.vtkMRMLVolumeNode, after: slicer.vtkMRMLVolumeNode) -> None:
        """The two in linked views, at the same place, in the same orientation, field of view and window."""
        if not self._begin("side by side", before, after):
            return
        slicer.app.layoutManager().setLayout(SIDE_BY_SIDE)
        for name, node in ((BEFORE_VIEW, before), (AFTER_VIEW, after)):
            view = self._view(name)
            view.composite.SetBackgroundVolumeID(node.GetID())
            view.composite.SetForegroundVolumeID(None)
        self._align()
        for view in self._views:
            view.composite.SetLinkedControl(True)
            view.composite.SetHotLinkedControl(True)
        self._timer.start()

    def showFade(self, before: slicer.vtkMRMLVolumeNode, after: slicer.vtkMRMLVolumeNode, share: float) -> None:
        """One over the other in all views; `share`, from 0 to 1, is how much is seen of the second."""
        if not self._begin("fade", before, after):
            return
        self._lay(before, after, share)

    def showMarks(self, result: slicer.vtkMRMLVolumeNode, marks: slicer.vtkMRMLVolumeNode) -> None:
        """What a thresholded volume leaves visible, over another one in all views."""
        if not self._begin("marks"):
            return
        marks.GetDisplayNode().SetAndObserveColorNodeID(MARKS_COLOR)
        self._lay(result, marks, MARKS_OPACITY)

    def fade(self, share: float) -> None:
        if self.mode == "fade":
            for view in self._views:
                view.composite.SetForegroundOpacity(share)

    def end(self) -> None:
        """Show what was shown before, in the layout that it was shown in."""
        if not self.mode:
            return
        self._window.release()
        self.mode, self._window = "", None
        manager = slicer.app.layoutManager()
        if manager is not None:
            manager.setLayout(self._layout)
        for view in self._views:
            view.restore()
        self._timer.start()

    def close(self) -> None:
        """Show what was shown before, and look after it no longer."""
        self.end()
        self._timer.stop()

    def _begin(self, mode: str, *alike: slicer.vtkMRMLVolumeNode) -> bool:
        """Remember what is shown, and show two volumes alike; whether there are views at all."""
        self.end()
        if not self.isPossible:
            return False
        self.mode, self._layout = mode, slicer.app.layoutManager().layout
        self._views = _views()
        for view in self._views:
            view.composite.SetLinkedControl(False)
        self._window = _SharedWindow(*alike)
        return True

    def _lay(self, below: slicer.vtkMRMLVolumeNode, above: slicer.vtkMRMLVolumeNode, share: float) -> None:
        for view in self._views:
            view.composite.SetBackgroundVolumeID(below.GetID())
            view.composite.SetForegroundVolumeID(above.GetID())
            view.composite.SetCompositing(ALPHA)
            view.composite.SetForegroundOpacity(share)

    def _view(self, name: str) -> _View:
        return next(view for view in self._views if view.slice.GetLayoutName() == name)

    def _align(self) -> None:
        """The second view shows the place that the first one shows, as large."""
        first, second = self._view(BEFORE_VIEW).slice, self._view(AFTER_VIEW).slice
        size, target, seen = first.GetDimensions(), second.GetDimensions(), first.GetFieldOfView()
        second.GetSliceToRAS().DeepCopy(first.GetSliceToRAS())
        second.SetFieldOfView(seen[0] * target[0] / size[0], seen[1] * target[1] / size[1], seen[2])
        second.SetXYZOrigin(*first.GetXYZOrigin())
        second.UpdateMatrices()

    def _placeAgain(self) -> None:
        """The views have the size now that the new layout gives them, which changes what they show."""
        if self.mode == "side by side":
            self._align()
        elif not self.mode:
            for view in self._views:
                view.restorePlace()


@dataclass
class _View:
    """A slice view, and what it showed at first."""

    slice: slicer.vtkMRMLSliceNode
    composite: slicer.vtkMRMLSliceCompositeNode

    def __post_init__(self) -> None:
        composite, place = self.composite, self.slice
        self._volumes = [
            composite.GetBackgroundVolumeID(),
            composite.GetForegroundVolumeID(),
            composite.GetLabelVolumeID(),
        ]
        self._opacity, self._compositing = composite.GetForegroundOpacity(), composite.GetCompositing()
        self._links = composite.GetLinkedControl(), composite.GetHotLinkedControl()
        self._toRAS = vtk.vtkMatrix4x4()
        self._toRAS.DeepCopy(place.GetSliceToRAS())
        self._seen, self._origin = place.GetFieldOfView(), place.GetXYZOrigin()

    def restore(self) -> None:
        composite = self.composite
        composite.SetLinkedControl(False)
        background, foreground, label = (self._ifThere(volume) for volume in self._volumes)
        composite.SetBackgroundVolumeID(background)
        composite.SetForegroundVolumeID(foreground)
        composite.SetLabelVolumeID(label)
        composite.SetForegroundOpacity(self._opacity)
        composite.SetCompositing(self._compositing)
        self.restorePlace()
        composite.SetLinkedControl(self._links[0])
        composite.SetHotLinkedControl(self._links[1])

    def restorePlace(self) -> None:
        self.slice.GetSliceToRAS().DeepCopy(self._toRAS)
        self.slice.SetFieldOfView(*self._seen)
        self.slice.SetXYZOrigin(*self._origin)
        self.slice.UpdateMatrices()

    def _ifThere(self, volume: str | None) -> str | None:
        return volume if volume and self.composite.GetScene().GetNodeByID(volume) else None


class _SharedWindow:
    """Two volumes are shown with the window and level of the first, and of whichever is changed later."""

    def __init__(self, *nodes: slicer.vtkMRMLVolumeNode) -> None:
        displays = [node.GetScalarVolumeDisplayNode() for node in nodes]
        self._observers = []
        if len(displays) < 2 or None in displays:
            return
        self._copy(*displays)
        for source, target in (displays, displays[::-1]):
            tag = source.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda s, _, t=target: self._copy(s, t))
            self._observers.append((source, tag))

    def release(self) -> None:
        for display, tag in self._observers:
            display.RemoveObserver(tag)
        self._observers = []

    @staticmethod
    def _copy(source, target) -> None:
        window = source.GetWindow(), source.GetLevel()
        if window != (target.GetWindow(), target.GetLevel()):
            target.SetAutoWindowLevel(False)  # it would choose for itself again
            target.SetWindowLevel(*window)


def _views() -> list[_View]:
    scene = slicer.mrmlScene
    composites = {
        node.GetLayoutName(): node for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", scene)
    }
    places = {node.GetLayoutName(): node for node in slicer.util.getNodesByClass("vtkMRMLSliceNode", scene)}
    return [_View(places[name], composites[name]) for name in places if name in composites]
