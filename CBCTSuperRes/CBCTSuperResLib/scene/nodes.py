"""Between MRML and the library: volume nodes as `Volume`, results as nodes, ROI nodes as boxes of voxels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

from ..core.atomic import json_of
from ..core.errors import InputError
from ..core.options import Ranges
from ..core.volume import Grid
from ..io.exchange import slab_depth
from ..io.volume import Volume

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
INPUT_ROLE, RESULT_ROLE = "CBCTSuperRes.input", "CBCTSuperRes.result"
DISAGREEMENT_ROLE = "CBCTSuperRes.disagreement"
MAP_ROLES = {  # of what was measured beside a result, by its name: how the result refers to it
    "predictive deviation": "CBCTSuperRes.predictiveDeviation",
    "intrinsic deviation": "CBCTSuperRes.intrinsicDeviation",
    "parameter deviation": "CBCTSuperRes.parameterDeviation",
    "bone misclassification": "CBCTSuperRes.boneMisclassification",
    "model disagreement": DISAGREEMENT_ROLE,
}
ATTRIBUTES = "CBCTSuperRes."
ROI_TOLERANCE = 1e-3  # voxels; control points are kept in single precision
STORED_AS = {np.dtype(np.float16): np.dtype(np.float32), np.dtype(bool): np.dtype(np.uint8)}  # MRML lacks these

REFUSED = {
    "vtkMRMLLabelMapVolumeNode": ("a label map", "Choose the scan that it was drawn on."),
    "vtkMRMLTensorVolumeNode": ("a vector volume, such as a colour image", "Choose a volume with one value a voxel."),
}


def volumeFromNode(node: slicer.vtkMRMLScalarVolumeNode) -> Volume:
    """The volume of a node: a read-only view of its voxels, no copy, in the node's own frame (parent transforms apart).

    Raises
    ------
    InputError
        If the node is not a scalar volume with voxels, or shows one time point of a sequence.
    """
    _checkIsPlainVolume(node)
    voxels = slicer.util.arrayFromVolume(node).view()
    voxels.flags.writeable = False
    return Volume(voxels, gridOfNode(node))


def gridOfNode(node: slicer.vtkMRMLVolumeNode) -> Grid:
    """Where the voxels of a node are, from its IJKToRAS matrix."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    columns = LPS_FROM_RAS @ slicer.util.arrayFromVTKMatrix(matrix)
    spacing = np.linalg.norm(columns[:3, :3], axis=0)
    size = node.GetImageData().GetDimensions()
    return Grid(size, tuple(spacing), tuple(columns[:3, 3]), columns[:3, :3] / spacing)


def updateNode(node: slicer.vtkMRMLScalarVolumeNode, volume: Volume) -> None:
    """Fill a node with a volume, at once. The parent transform stays as it is."""
    for _ in fillNode(node, volume):
        pass


def fillNode(node: slicer.vtkMRMLScalarVolumeNode, volume: Volume) -> Iterator[float]:
    """Fill a node slab by slab; yields the fraction that is copied. The node changes only when all is there.

    Each slab takes a few milliseconds, so that a timer can copy while the application stays responsive. The memory of
    the node's earlier voxels is given back by a step of its own, after the one that yields 1.
    """
    (image, voxels), earlier = newImage(volume.voxels), node.GetImageData()
    yield from copySlabs(volume.voxels, voxels)
    takeImage(node, image, volume.grid)
    yield 1.0
    del earlier


def newImage(like: np.ndarray) -> tuple[vtk.vtkImageData, np.ndarray]:
    """Image of the same shape and type, and its voxels as a (k, j, i) array that shares the memory."""
    image = vtk.vtkImageData()
    image.SetDimensions(like.shape[::-1])
    image.AllocateScalars(get_vtk_array_type(STORED_AS.get(like.dtype, like.dtype)), 1)
    return image, vtk_to_numpy(image.GetPointData().GetScalars()).reshape(like.shape)


def copySlabs(source: np.ndarray, target: np.ndarray) -> Iterator[float]:
    """Copy voxels slab by slab, a few milliseconds each; yields the fraction that was copied before."""
    depth = slab_depth(target)
    for start in range(0, len(target), depth):
        target[start : start + depth] = source[start : start + depth]
        yield start / len(target)


def takeImage(node: slicer.vtkMRMLScalarVolumeNode, image: vtk.vtkImageData, grid: Grid) -> None:
    """Let a node have the voxels of an image, and lie where a grid says; at once."""
    with slicer.util.NodeModify(node):
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(LPS_FROM_RAS @ grid.index_to_point))
        node.SetAndObserveImageData(image)


def createOutputNode(inputNode: slicer.vtkMRMLScalarVolumeNode, name: str) -> slicer.vtkMRMLScalarVolumeNode:
    """An empty node with a name that no other node has."""
    scene = inputNode.GetScene()
    return scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))


def placeBeside(inputNode: slicer.vtkMRMLScalarVolumeNode, outputNode: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Give the output what makes it comparable with the input: transform, units, display, place in the hierarchy."""
    outputNode.SetAndObserveTransformNodeID(inputNode.GetTransformNodeID())
    outputNode.SetVoxelValueUnits(inputNode.GetVoxelValueUnits())
    outputNode.SetVoxelValueQuantity(inputNode.GetVoxelValueQuantity())
    _copyDisplay(inputNode, outputNode)
    _shareHierarchyParent(inputNode, outputNode)


def recordProvenance(
    inputNode: slicer.vtkMRMLScalarVolumeNode, outputNode: slicer.vtkMRMLScalarVolumeNode, facts: dict[str, str]
) -> None:
    """Remember on the output what it was computed from and how; saved with the scene."""
    with slicer.util.NodeModify(outputNode):
        outputNode.SetNodeReferenceID(INPUT_ROLE, inputNode.GetID())
        for name, value in facts.items():
            outputNode.SetAttribute(ATTRIBUTES + name, str(value))


def inputOf(outputNode: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLScalarVolumeNode | None:
    """What a result was computed from; None if that is gone, or the node is no result of ours."""
    return outputNode.GetNodeReference(INPUT_ROLE)


def disagreementOf(outputNode: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLScalarVolumeNode | None:
    """Where the model disagreed with itself about a result; None if that was not asked for."""
    return outputNode.GetNodeReference(DISAGREEMENT_ROLE)


def deviationOf(outputNode: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLScalarVolumeNode | None:
    """How far from the truth the model expects a result to be: its predictive deviation; None if it did not tell."""
    return outputNode.GetNodeReference(MAP_ROLES["predictive deviation"])


def marksOf(outputNode: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLScalarVolumeNode | None:
    """What marks the doubtful places of a result: how likely bone is misjudged if that was asked for, its deviation, or
    the model's disagreement; or None."""
    return misclassificationOf(outputNode) or deviationOf(outputNode) or disagreementOf(outputNode)


def misclassificationOf(outputNode: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLScalarVolumeNode | None:
    """How likely a voxel lies on the other side of bone's threshold, in per cent; None if that was not asked for."""
    return outputNode.GetNodeReference(MAP_ROLES["bone misclassification"])


def reportOf(outputNode: slicer.vtkMRMLScalarVolumeNode) -> dict | None:
    """How a result was computed, see `apply_to_file`; None if the node is no result of ours."""
    try:
        report = json_of(outputNode.GetAttribute(ATTRIBUTES + "report") or "null")
    except ValueError:
        return None
    return report if isinstance(report, dict) and isinstance(report.get("super_resolution"), dict) else None


def voxelAt(volumeNode: slicer.vtkMRMLScalarVolumeNode, point: np.ndarray | list[float]) -> tuple[int, int, int] | None:
    """Index (i, j, k) of the voxel at a point of the world (RAS, mm); None outside the volume."""
    index = np.rint(_worldToIJK(volumeNode, point)).astype(int)
    inside = np.all(index >= 0) and np.all(index < volumeNode.GetImageData().GetDimensions())
    return tuple(int(n) for n in index) if inside else None


def roiBox(roiNode: slicer.vtkMRMLMarkupsROINode, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> Ranges:
    """The voxels of a volume that a ROI touches, as half-open ranges along (i, j, k).

    Both may be rotated, and both may lie under transforms: the box encloses the ROI's corners.

    Raises
    ------
    InputError
        If the ROI lies outside the volume.
    """
    corners = np.array([_worldToIJK(volumeNode, corner) for corner in _roiCorners(roiNode)])
    size = np.array(volumeNode.GetImageData().GetDimensions())
    # A voxel reaches half an index to either side of its centre; a face exactly between two voxels touches one of them.
    start = np.clip(np.floor(corners.min(axis=0) + 0.5 + ROI_TOLERANCE), 0, size).astype(int)
    stop = np.clip(np.ceil(corners.max(axis=0) + 0.5 - ROI_TOLERANCE), 0, size).astype(int)
    if np.any(stop <= start):
        raise InputError(
            f"The ROI {roiNode.GetName()} lies outside the volume {volumeNode.GetName()}.", "Move it or choose another."
        )
    return tuple((int(a), int(b)) for a, b in zip(start, stop, strict=True))


def fitRoi(
    roiNode: slicer.vtkMRMLMarkupsROINode,
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
    box: Ranges,
) -> None:
    """Let a ROI enclose voxels of a volume, half-open ranges along (i, j, k), as rotated and transformed as these."""
    grid = gridOfNode(volumeNode)
    start, stop = np.array(box, float).T
    axes = (LPS_FROM_RAS @ grid.index_to_point)[:3, :3] / grid.spacing
    if np.linalg.det(axes) < 0:  # a box is the same for the opposite axis, and handles want a right-handed frame
        axes[:, 2] *= -1
    toNode = np.eye(4)
    toNode[:3, :3] = axes
    toNode[:3, 3] = (LPS_FROM_RAS @ [*grid.point((start + stop - 1) / 2), 1.0])[:3]
    with slicer.util.NodeModify(roiNode):
        roiNode.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        roiNode.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(toNode))
        roiNode.SetSize(*((stop - start) * grid.spacing))


def _checkIsPlainVolume(node: slicer.vtkMRMLScalarVolumeNode | None) -> None:
    if node is None:
        raise InputError("No input volume is chosen.", "Choose one.")
    name = node.GetName()
    for className, (kind, advice) in REFUSED.items():
        if node.IsA(className):
            raise InputError(f"{name} is {kind}.", advice)
    if not node.IsA("vtkMRMLScalarVolumeNode"):
        raise InputError(f"{name} is not a volume.", "Choose a scalar volume.")
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        raise InputError(f"The volume {name} is empty.", "Load it again or choose another one.")
    if image.GetPointData().GetScalars().GetNumberOfTuples() != image.GetNumberOfPoints():
        raise InputError(f"The voxels of {name} do not fill its size.", "Wait until it is loaded, or load it again.")
    if image.GetNumberOfScalarComponents() != 1:
        raise InputError(f"{name} has several values a voxel.", "Choose a volume with one value a voxel.")
    if _isSequenceProxy(node):
        raise InputError(
            f"{name} shows one time point of a sequence.", "Clone the volume in the Data module and choose the clone."
        )


def _isSequenceProxy(node: slicer.vtkMRMLScalarVolumeNode) -> bool:
    browsers = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode", node.GetScene()) if node.GetScene() else []
    return any(browser.IsProxyNodeID(node.GetID()) for browser in browsers)


def _copyDisplay(inputNode: slicer.vtkMRMLScalarVolumeNode, outputNode: slicer.vtkMRMLScalarVolumeNode) -> None:
    outputNode.CreateDefaultDisplayNodes()
    source, target = inputNode.GetScalarVolumeDisplayNode(), outputNode.GetScalarVolumeDisplayNode()
    with slicer.util.NodeModify(target):
        target.SetAutoWindowLevel(False)  # it would go through all voxels as soon as they come, for seconds
        if source is None:
            voxels = slicer.util.arrayFromVolume(inputNode)
            target.SetWindowLevelMinMax(float(np.nanmin(voxels)), float(np.nanmax(voxels)))
            return
        target.SetWindowLevel(source.GetWindow(), source.GetLevel())
        target.SetInterpolate(source.GetInterpolate())
        target.SetAndObserveColorNodeID(source.GetColorNodeID())


def _shareHierarchyParent(
    inputNode: slicer.vtkMRMLScalarVolumeNode, outputNode: slicer.vtkMRMLScalarVolumeNode
) -> None:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(inputNode.GetScene())
    if hierarchy is None:
        return
    inputItem, outputItem = hierarchy.GetItemByDataNode(inputNode), hierarchy.GetItemByDataNode(outputNode)
    if inputItem and outputItem:  # items are made by the application; outside of it there may be none
        hierarchy.SetItemParent(outputItem, hierarchy.GetItemParent(inputItem))


def _roiCorners(roiNode: slicer.vtkMRMLMarkupsROINode) -> Iterator[np.ndarray]:
    """World positions of the eight corners, RAS in mm."""
    toWorld = slicer.util.arrayFromVTKMatrix(roiNode.GetObjectToWorldMatrix())
    half = np.array(roiNode.GetSize()) / 2
    for signs in product((-1, 1), repeat=3):
        yield (toWorld @ [*(half * signs), 1.0])[:3]


def _worldToIJK(volumeNode: slicer.vtkMRMLScalarVolumeNode, point: np.ndarray) -> np.ndarray:
    fromWorld = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, volumeNode.GetParentTransformNode(), fromWorld)
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetRASToIJKMatrix(matrix)
    local = fromWorld.TransformPoint(point)
    return (slicer.util.arrayFromVTKMatrix(matrix) @ [*local, 1.0])[:3]
