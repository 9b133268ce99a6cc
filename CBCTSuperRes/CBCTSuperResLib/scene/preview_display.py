"""A preview in a slice view: a hidden volume node in the view's foreground, which leaves no trace when it goes."""

from __future__ import annotations

from dataclasses import replace

import slicer

from ..volume import Grid, Volume
from .nodes import fillNode, placeBeside
from .slice_views import compositeNodeOf

PREVIEW_ATTRIBUTE = "CBCTSuperRes.preview"


class PreviewDisplay:
    """Shows the picture of a slice in a view, in front of what is there; `remove` restores the view.

    >>> display = PreviewDisplay(sliceNode, inputVolume)
    >>> display.show(canvas, opacity=1.0)
    >>> display.update(canvas, box)
    >>> display.remove()

    Parameters
    ----------
    sliceNode : vtkMRMLSliceNode
        The view.
    inputNode : vtkMRMLScalarVolumeNode
        The volume that the picture is a slice of: gives transform, window and colors.
    thickness : float
        Of the picture, in voxels; see `SliceInView`.
    """

    def __init__(
        self,
        sliceNode: slicer.vtkMRMLSliceNode,
        inputNode: slicer.vtkMRMLScalarVolumeNode,
        thickness: float = 1.0,
    ) -> None:
        self.node: slicer.vtkMRMLScalarVolumeNode | None = None
        self._composite = compositeNodeOf(sliceNode)
        self._inputNode, self._scene = inputNode, inputNode.GetScene()
        self._thickness = thickness
        self._before: tuple[str | None, float] = (None, 0.0)

    def show(self, canvas: Volume, opacity: float) -> None:
        """Put the picture into the foreground."""
        self.node = _hiddenNode(self._scene, f"{self._inputNode.GetName()} preview")
        for _ in fillNode(self.node, replace(canvas, grid=_thickened(canvas.grid, self._thickness))):
            pass
        self.followInput()
        self.node.GetDisplayNode().SetSaveWithScene(False)
        if self._composite is not None:
            self._before = (self._composite.GetForegroundVolumeID(), self._composite.GetForegroundOpacity())
            with slicer.util.NodeModify(self._composite):
                self._composite.SetForegroundVolumeID(self.node.GetID())
                self._composite.SetForegroundOpacity(opacity)

    def update(self, canvas: Volume, box: tuple[slice, slice, slice]) -> None:
        """Show a part (k, j, i) of the picture anew."""
        if self._isThere():
            slicer.util.arrayFromVolume(self.node)[box] = canvas.voxels[box]
            slicer.util.arrayFromVolumeModified(self.node)

    def setOpacity(self, opacity: float) -> None:
        if self._isInFront():
            self._composite.SetForegroundOpacity(opacity)

    def followInput(self) -> None:
        """Take transform, window and colors from the input again."""
        if self._isThere() and self._scene.IsNodePresent(self._inputNode):
            placeBeside(self._inputNode, self.node)

    def remove(self) -> None:
        """Restore the view and remove the node. Safe at any time, and more than once."""
        if self._isInFront():
            volumeID, opacity = self._before
            isStillThere = volumeID and self._scene.GetNodeByID(volumeID)
            with slicer.util.NodeModify(self._composite):
                self._composite.SetForegroundVolumeID(volumeID if isStillThere else None)
                self._composite.SetForegroundOpacity(opacity)
        if self._isThere():
            if self.node.GetDisplayNode():
                self._scene.RemoveNode(self.node.GetDisplayNode())
            self._scene.RemoveNode(self.node)
        self.node = None

    def _isThere(self) -> bool:
        return self.node is not None and bool(self._scene.IsNodePresent(self.node))

    def _isInFront(self) -> bool:
        """Whether the view shows the picture; others may have put something else there."""
        if self._composite is None or not self._isThere() or not self._scene.IsNodePresent(self._composite):
            return False
        return self._composite.GetForegroundVolumeID() == self.node.GetID()


def _hiddenNode(scene: slicer.vtkMRMLScene, name: str) -> slicer.vtkMRMLScalarVolumeNode:
    """A volume node that no list shows and no file keeps."""
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName(name)
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    node.SetAttribute(PREVIEW_ATTRIBUTE, "1")
    return scene.AddNode(node)


def _thickened(grid: Grid, thickness: float) -> Grid:
    """The grid of a single slice made so many voxels thick, in its place."""
    if grid.size[2] != 1:
        return grid
    return replace(grid, spacing=(*grid.spacing[:2], grid.spacing[2] * thickness))
