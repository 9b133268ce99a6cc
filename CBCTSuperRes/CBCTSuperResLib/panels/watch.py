"""Telling when nodes in the scene have changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import slicer
import vtk

EVENTS = (
    vtk.vtkCommand.ModifiedEvent,
    slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent,
    slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
    slicer.vtkMRMLMarkupsNode.PointModifiedEvent,
)


class NodeWatch:
    """Calls a function when one of some nodes changes: voxels, places, points.

    >>> watch = NodeWatch(panel.refresh)
    >>> watch.follow([volumeNode, roiNode])
    >>> watch.follow([])
    """

    def __init__(self, whenChanged: Callable[[], None]) -> None:
        self._whenChanged = whenChanged
        self._followed: list[tuple[slicer.vtkMRMLNode, list[int]]] = []

    def follow(self, nodes: Iterable[slicer.vtkMRMLNode | None]) -> None:
        """Follow these nodes and no others; None is left out."""
        nodes = [node for node in nodes if node is not None]
        if nodes == [node for node, _ in self._followed]:
            return
        for node, tags in self._followed:
            for tag in tags:
                node.RemoveObserver(tag)
        self._followed = [(node, [self._observe(node, event) for event in EVENTS]) for node in nodes]

    def _observe(self, node: slicer.vtkMRMLNode, event: int) -> int:
        return node.AddObserver(event, lambda caller, event: self._whenChanged())
