"""Volumes in the slice views, side by side or one over the other, and the way back to what was shown before."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import qt
import slicer
import vtk

from ...scene.nodes import inputOf, marksOf
from ...scene.slice_views import sliceViews
from ...scene.split_view import SplitView

SIDE_BY_SIDE = 29  # vtkMRMLLayoutNode.SlicerLayoutSideBySideView: Red and Yellow
BEFORE_VIEW, AFTER_VIEW = "Red", "Yellow"
ALPHA = 0  # vtkMRMLSliceCompositeNode.Alpha
MARKS_COLOR, MARKS_OPACITY = "vtkMRMLColorTableNodeCyan", 0.6
ROOM_AROUND = 1.04  # what is compared does not touch the edge of the views
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
        "", "side by side", "fade", "split", "marks" or "difference".
    """

    def __init__(self) -> None:
        self.mode = ""
        self._layout: int | None = None
        self._views: list[_View] = []
        self._window: _SharedWindow | None = None
        self._region: tuple[np.ndarray, np.ndarray] | None = None
        self._splits: list[SplitView] = []
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(UNTIL_VIEWS_HAVE_THEIR_SIZE_MS)
        self._timer.connect("timeout()", self._placeAgain)

    @property
    def isPossible(self) -> bool:
        return slicer.app.layoutManager() is not None

    def showSideBySide(self, before: slicer.vtkMRMLVolumeNode, after: slicer.vtkMRMLVolumeNode) -> None:
        """The two in linked views, at the same place, in the same orientation, field of view and window.

        What was in view of them is in view of both, however narrow the views are now.
        """
        if not self._begin("side by side", before, after):
            return
        self._region = _regionInView(self._view(BEFORE_VIEW).slice, before)
        slicer.app.layoutManager().setLayout(SIDE_BY_SIDE)
        for name, node in ((BEFORE_VIEW, before), (AFTER_VIEW, after)):
            view = self._view(name)
            view.composite.SetBackgroundVolumeID(node.GetID())
            view.composite.SetForegroundVolumeID(None)
        self._fit()
        for view in self._views:
            view.composite.SetLinkedControl(True)
            view.composite.SetHotLinkedControl(True)
        self._timer.start()

    def showFade(self, before: slicer.vtkMRMLVolumeNode, after: slicer.vtkMRMLVolumeNode, share: float) -> None:
        """One over the other in all views; `share`, from 0 to 1, is how much is seen of the second."""
        if not self._begin("fade", before, after):
            return
        self._lay(before, after, share)

    def showSplit(self, before: slicer.vtkMRMLVolumeNode, after: slicer.vtkMRMLVolumeNode) -> None:
        """One left of a line, the other right of it, in all views; the mouse drags the line, in all of them at once."""
        if not self._begin("split", before, after):
            return
        self._lay(before, after, 0.0)
        manager = slicer.app.layoutManager()
        for node in sliceViews(slicer.mrmlScene):
            self._splits.append(SplitView(manager.sliceWidget(node.GetLayoutName()), 0.5, self._moveSplits))

    def showMarks(self, result: slicer.vtkMRMLVolumeNode, marks: slicer.vtkMRMLVolumeNode) -> None:
        """What a thresholded volume leaves visible, over another one in all views."""
        if not self._begin("marks"):
            return
        marks.GetDisplayNode().SetAndObserveColorNodeID(MARKS_COLOR)
        self._lay(result, marks, MARKS_OPACITY)

    def showDifference(self, difference: slicer.vtkMRMLVolumeNode) -> None:
        """A volume alone in all views."""
        if not self._begin("difference"):
            return
        for view in self._views:
            view.composite.SetBackgroundVolumeID(difference.GetID())
            view.composite.SetForegroundVolumeID(None)

    def takeUp(self, result: slicer.vtkMRMLVolumeNode) -> None:
        """Go on with what a scene was saved with: marks or a fade of this result, which can be taken off again."""
        if self.mode or not self.isPossible:
            return
        marks, scan = marksOf(result), inputOf(result)
        for mode, below, above in (("marks", result, marks), ("fade", scan, result)):
            if below is None or above is None:
                continue
            shown = [view for view in _views() if view.shows(below, above)]
            if shown and self._begin(mode, *([below, above] if mode == "fade" else [])):
                for view in self._views:
                    view.forgetForeground(above)
                return

    def fade(self, share: float) -> None:
        if self.mode == "fade":
            for view in self._views:
                view.composite.SetForegroundOpacity(share)

    def end(self) -> None:
        """Show what was shown before, in the layout that it was shown in."""
        if not self.mode:
            return
        self._window.release()
        for split in self._splits:
            split.remove()
        self.mode, self._window, self._splits = "", None, []
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

    def _moveSplits(self, share: float) -> None:
        for split in self._splits:
            split.place(share)

    def _view(self, name: str) -> _View:
        return next(view for view in self._views if view.slice.GetLayoutName() == name)

    def _fit(self) -> None:
        """Both views show the same region, as large as it fits into the smaller of them."""
        first, second = self._view(BEFORE_VIEW).slice, self._view(AFTER_VIEW).slice
        second.GetSliceToRAS().DeepCopy(first.GetSliceToRAS())
        low, high = self._region
        sizes = [np.array(place.GetDimensions()[:2], float) for place in (first, second)]
        scale = max(float(np.max((high - low) / np.maximum(size, 1))) for size in sizes) * ROOM_AROUND
        for place, size in zip((first, second), sizes, strict=True):
            place.SetFieldOfView(*(scale * np.maximum(size, 1)), place.GetFieldOfView()[2])
            place.SetXYZOrigin(*((low + high) / 2), 0.0)
            place.UpdateMatrices()

    def _placeAgain(self) -> None:
        """The views have the size now that the new layout gives them, which changes what they show."""
        if self.mode == "side by side":
            self._fit()
        elif not self.mode:
            for view in self._views:
                view.restorePlace()


def _regionInView(place: slicer.vtkMRMLSliceNode, volume: slicer.vtkMRMLVolumeNode) -> tuple[np.ndarray, np.ndarray]:
    """The part of a volume that a slice view shows: its lower and upper corner in the plane of the view, in mm."""
    bounds = np.zeros(6)
    volume.GetRASBounds(bounds)
    fromRAS = np.linalg.inv(slicer.util.arrayFromVTKMatrix(place.GetSliceToRAS()))
    corners = np.array([(fromRAS @ [*corner, 1.0])[:2] for corner in product(*bounds.reshape(3, 2))])
    whole = corners.min(axis=0), corners.max(axis=0)
    middle, seen = np.array(place.GetXYZOrigin()[:2]), np.array(place.GetFieldOfView()[:2])
    low, high = np.maximum(whole[0], middle - seen / 2), np.minimum(whole[1], middle + seen / 2)
    return (low, high) if np.all(low < high) else whole


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

    def shows(self, background: slicer.vtkMRMLVolumeNode, foreground: slicer.vtkMRMLVolumeNode) -> bool:
        return self._volumes[:2] == [background.GetID(), foreground.GetID()]

    def forgetForeground(self, volume: slicer.vtkMRMLVolumeNode) -> None:
        """What is shown before the comparison is what is shown now without this volume."""
        if self._volumes[1] == volume.GetID():
            self._volumes[1] = None

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
