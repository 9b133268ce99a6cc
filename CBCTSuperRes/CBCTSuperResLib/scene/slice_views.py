"""What a slice view shows of a volume: which slice, which part of it, around which point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
import vtk

from ..core.errors import InputError
from ..core.options import Ranges

LARGEST_TILT = 2.0  # degrees


class TiltedView(InputError):
    """The slices of the view are not slices of the volume.

    Attributes
    ----------
    degrees : float
        How far it is tilted against the nearest of them.
    """

    def __init__(self, viewName: str, volumeName: str, degrees: float) -> None:
        self.degrees = degrees
        super().__init__(
            f"The view {viewName} is tilted by {degrees:.0f} degrees against the slices of {volumeName}, in which the "
            "network works.",
            "Align the view with the volume.",
        )


@dataclass(frozen=True)
class SliceInView:
    """The slice of a volume that a view shows.

    Attributes
    ----------
    normal : int
        The axis across it: 0, 1, 2 for i, j, k.
    visible : three pairs of int
        Half-open ranges of voxels along (i, j, k) that are in view; one voxel along `normal`.
    focus : three int
        Voxel (i, j, k) of interest: the crosshair, or the middle of what is visible.
    thickness : float
        How thick, in voxels, a picture in the place of the slice has to be for the view to show all of it.
    isAtCrosshair : bool
        Whether the focus is the crosshair.
    """

    normal: int
    visible: Ranges
    focus: tuple[int, int, int]
    thickness: float
    isAtCrosshair: bool


def sliceInView(
    sliceNode: slicer.vtkMRMLSliceNode,
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
    crosshair: np.ndarray | None = None,
    box: Ranges | None = None,
) -> SliceInView:
    """The slice of a volume that a view shows; of several that it crosses, the one at the focus.

    Parameters
    ----------
    crosshair : ndarray, optional
        World position in mm (RAS); without it, or if it is out of sight, the middle of what is visible counts.
    box : three pairs of int, optional
        The part of the volume that counts, half-open ranges along (i, j, k).

    Raises
    ------
    InputError
        If the view does not show the volume, or its box; `TiltedView` if it shows no plane of voxels.
    """
    box = box or tuple((0, n) for n in volumeNode.GetImageData().GetDimensions())
    toIJK = _worldToIJK(volumeNode) @ slicer.util.arrayFromVTKMatrix(sliceNode.GetXYToRAS())
    plane = _Plane(toIJK, _normal(sliceNode, volumeNode))
    visible = plane.visible(sliceNode.GetDimensions()[:2], box)
    focus, isAtCrosshair = None, False
    if visible and crosshair is not None:
        fromWorld = np.linalg.inv(slicer.util.arrayFromVTKMatrix(sliceNode.GetXYToRAS()))
        focus = plane.voxel((fromWorld @ [*crosshair, 1.0])[:2])
        isAtCrosshair = plane.contains(visible, focus)
    if visible and not isAtCrosshair:
        focus = plane.middle(visible)
    if not visible or not box[plane.normal][0] <= focus[plane.normal] < box[plane.normal][1]:
        raise _notInView(sliceNode, volumeNode, box)
    visible[plane.normal] = (focus[plane.normal], focus[plane.normal] + 1)
    return SliceInView(plane.normal, tuple(visible), focus, plane.thickness(visible), isAtCrosshair)


def sliceViews(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLSliceNode]:
    """The slice views that the layout shows."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode", scene)
    return [node for node in nodes if node.IsMappedInLayout()]


def compositeNodeOf(sliceNode: slicer.vtkMRMLSliceNode) -> slicer.vtkMRMLSliceCompositeNode | None:
    """What a view shows in its background and foreground."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", sliceNode.GetScene())
    return next((node for node in nodes if node.GetLayoutName() == sliceNode.GetLayoutName()), None)


def crosshairNode(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLCrosshairNode | None:
    return scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")


def crosshairPosition(scene: slicer.vtkMRMLScene) -> np.ndarray | None:
    """Where the crosshair was put, in mm (RAS); None if nobody did."""
    node = crosshairNode(scene)
    if node is None:
        return None
    position = np.array(node.GetCrosshairRAS())
    isShown = node.GetCrosshairMode() != slicer.vtkMRMLCrosshairNode.NoCrosshair
    return position if isShown or position.any() else None


class _Plane:
    """The plane of a view in voxels of the volume.

    Parameters
    ----------
    toIJK : ndarray, shape (4, 4)
        From pixels of the view (x, y, depth) to voxels (i, j, k).
    normal : int
        The axis across the plane.
    """

    def __init__(self, toIJK: np.ndarray, normal: int) -> None:
        self.normal = normal
        self._toIJK = toIJK
        self._inPlane = [axis for axis in range(3) if axis != normal]

    def visible(self, size: tuple[int, int], box: Ranges) -> list | None:
        """Ranges of voxels of the box that are in a view of that size in pixels; None if there are none."""
        corners = np.array([self._point((x, y)) for x in (0, size[0]) for y in (0, size[1])])
        ranges = list(box)
        for axis in self._inPlane:
            start = max(box[axis][0], int(np.floor(corners[:, axis].min() + 0.5)))
            stop = min(box[axis][1], int(np.ceil(corners[:, axis].max() + 0.5)))
            if start >= stop:
                return None
            ranges[axis] = (start, stop)
        return ranges

    def voxel(self, pixel: np.ndarray) -> tuple[int, int, int]:
        return tuple(int(n) for n in np.floor(self._point(pixel) + 0.5))

    def contains(self, ranges: list, voxel: tuple[int, int, int]) -> bool:
        return all(ranges[axis][0] <= voxel[axis] < ranges[axis][1] for axis in self._inPlane)

    def middle(self, ranges: list) -> tuple[int, int, int]:
        middle = np.array([(start + stop - 1) / 2 for start, stop in ranges])
        middle[self.normal] = self._depth(middle)
        return tuple(int(n) for n in np.floor(middle + 0.5))

    def thickness(self, ranges: list) -> float:
        """Twice the largest distance of the plane from the middle of the one slice in these ranges, in voxels."""
        lowest, highest = (np.array(ends, float) - 0.5 for ends in zip(*ranges, strict=True))
        a, b = self._inPlane
        farthest = 0.5
        for first in (lowest[a], highest[a]):
            for second in (lowest[b], highest[b]):
                corner = np.zeros(3)
                corner[[a, b]] = first, second
                farthest = max(farthest, abs(self._depth(corner) - lowest[self.normal] - 0.5))
        return 2 * farthest + 0.02  # a little more, so that rounding does not make a hole

    def _point(self, pixel: np.ndarray) -> np.ndarray:
        return (self._toIJK @ [pixel[0], pixel[1], 0.0, 1.0])[:3]

    def _depth(self, voxel: np.ndarray) -> float:
        """Where along the normal axis the plane is at a place within it."""
        across = np.cross(self._toIJK[:3, 0], self._toIJK[:3, 1])
        level = across @ self._toIJK[:3, 3] - across[self._inPlane] @ voxel[self._inPlane]
        return float(level / across[self.normal])


def _normal(sliceNode: slicer.vtkMRMLSliceNode, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> int:
    """The axis of the volume across the view.

    Raises
    ------
    TiltedView
        If the nearest one is more than two degrees off.
    """
    planes = np.linalg.inv(_worldToIJK(volumeNode))[:3, :3]
    normals = np.array([np.cross(planes[:, (axis + 1) % 3], planes[:, (axis + 2) % 3]) for axis in range(3)])
    view = slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())[:3, 2]
    cosines = np.abs(normals @ view) / np.linalg.norm(normals, axis=1) / np.linalg.norm(view)
    nearest = int(np.argmax(cosines))
    tilt = float(np.degrees(np.arccos(min(1.0, cosines[nearest]))))
    if tilt > LARGEST_TILT:
        raise TiltedView(sliceNode.GetName(), volumeNode.GetName(), tilt)
    return nearest


def _worldToIJK(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
    """Matrix (4, 4) from world positions in mm (RAS) to voxels."""
    parent = volumeNode.GetParentTransformNode()
    toLocal, toIJK = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    if parent is not None and not parent.IsTransformToWorldLinear():
        raise InputError(
            f"{volumeNode.GetName()} lies under a transform that bends it, so that no view shows its slices.",
            "Preview the volume without the transform.",
        )
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(None, parent, toLocal)
    volumeNode.GetRASToIJKMatrix(toIJK)
    return slicer.util.arrayFromVTKMatrix(toIJK) @ slicer.util.arrayFromVTKMatrix(toLocal)


def _notInView(
    sliceNode: slicer.vtkMRMLSliceNode, volumeNode: slicer.vtkMRMLScalarVolumeNode, box: Ranges
) -> InputError:
    isWhole = box == tuple((0, n) for n in volumeNode.GetImageData().GetDimensions())
    what = volumeNode.GetName() if isWhole else f"the ROI in {volumeNode.GetName()}"
    return InputError(f"The view {sliceNode.GetName()} does not show {what}.", "Scroll to it, or choose another view.")
