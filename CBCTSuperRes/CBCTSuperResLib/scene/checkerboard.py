"""A registered pair as one volume for the slice views: cubes of the fine and of the coarse scan by turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import slicer
from slicer.util import VTKObservationMixin

from ..core.errors import InputError
from ..io.raw_nrrd import map_raw_nrrd
from ..io.volume import Volume
from .nodes import fillNode

TICK_S = 0.04
TILES = 7  # across the shorter edge of a slice
CHECKERBOARD_ATTRIBUTE = "CBCTSuperRes.checkerboard"
LAYERS = ("Background", "Foreground", "Label")


class Checkerboard:
    """Shows a pair in all slice views, and afterwards what was there before. Neither saved nor listed.

    When the scene is saved it goes, as what is saved must not refer to a node that is not.

    >>> board = Checkerboard()
    >>> board.show(coarsePath, finePath)
    >>> while board.isBusy:
    ...     board.poll()                   # a part of the copying, from a timer
    >>> board.remove()

    Parameters
    ----------
    whenGone : callable
        Called when it has gone by itself.
    """

    def __init__(self, whenGone: Callable[[], None] = lambda: None) -> None:
        self._whenGone = whenGone
        self._observers = VTKObservationMixin()
        self._node: slicer.vtkMRMLScalarVolumeNode | None = None
        self._filling: Iterator[float] | None = None
        self._before: dict[str, tuple[str | None, ...]] = {}

    @property
    def isBusy(self) -> bool:
        return self._filling is not None

    @property
    def isShown(self) -> bool:
        return self._node is not None

    def show(self, coarse: str | Path, fine: str | Path) -> None:
        """Begin to fill a node with a prepared pair, which is read as it is copied.

        Raises
        ------
        InputError
            If a file cannot be read, or the two do not cover the same extent.
        """
        self.remove()
        low, high = map_raw_nrrd(coarse), map_raw_nrrd(fine)
        shapes = list(zip(high.voxels.shape, low.voxels.shape, strict=True))
        if any(a % b for a, b in shapes):
            raise InputError("The coarse and the fine scan do not cover the same region.", "Prepare them again.")
        name = slicer.mrmlScene.GenerateUniqueName("Checkerboard of fine and coarse scan")
        self._node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        self._node.SetSaveWithScene(False)
        self._node.SetHideFromEditors(True)
        self._node.SetAttribute(CHECKERBOARD_ATTRIBUTE, "1")
        self._observers.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartSaveEvent, self.onSave)
        self._filling = _fillInSteps(self._node, low, high, [a // b for a, b in shapes])

    def poll(self) -> None:
        end = time.monotonic() + TICK_S
        while time.monotonic() < end:
            if next(self._filling, None) is None:
                self._filling = None
                self._showNode()
                return

    def remove(self) -> None:
        """Show again what was shown before."""
        self._filling = None
        self._observers.removeObservers()
        if self._node is None:
            return
        node, self._node = self._node, None
        for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            if view.GetBackgroundVolumeID() == node.GetID():
                for layer, volume in zip(LAYERS, self._before.get(view.GetID(), (None,) * 3), strict=True):
                    isThere = volume is not None and slicer.mrmlScene.GetNodeByID(volume) is not None
                    getattr(view, f"Set{layer}VolumeID")(volume if isThere else None)
        if node.GetScene() is not None:
            if node.GetDisplayNode():
                slicer.mrmlScene.RemoveNode(node.GetDisplayNode())
            slicer.mrmlScene.RemoveNode(node)

    def onSave(self, caller=None, event=None) -> None:
        self.remove()
        self._whenGone()

    def _showNode(self) -> None:
        self._node.CreateDefaultDisplayNodes()
        display = self._node.GetDisplayNode()
        display.SetSaveWithScene(False)
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(0, 65535)
        self._before = {}
        for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            self._before[view.GetID()] = tuple(getattr(view, f"Get{layer}VolumeID")() for layer in LAYERS)
            view.SetBackgroundVolumeID(self._node.GetID())
            view.SetForegroundVolumeID(None)
            view.SetLabelVolumeID(None)
        if slicer.app.layoutManager() is not None:
            slicer.util.resetSliceViews()


def checkered(coarse: Volume, fine: Volume, factors: Sequence[int]) -> Iterator[np.ndarray]:
    """Slices of the fine volume with every second cube of the coarse one, whose voxels are repeated.

    Parameters
    ----------
    coarse, fine : Volume
    factors : sequence of int
        How many voxels of `fine` lie along one of `coarse`, along (k, j, i).
    """
    edge = max(1, min(fine.voxels.shape[1:]) // TILES)
    edges = [max(1, round(edge * fine.spacing[0] / step)) for step in fine.spacing[::-1]]
    k, j, i = (np.arange(n) // e for n, e in zip(fine.voxels.shape, edges, strict=True))
    board = (j[:, None] + i) % 2
    for number, turn in enumerate(k):
        low = coarse.voxels[number // factors[0]].repeat(factors[1], 0).repeat(factors[2], 1)
        yield np.where((board + turn) % 2 == 1, low, fine.voxels[number])


def _fillInSteps(node, coarse: Volume, fine: Volume, factors: Sequence[int]) -> Iterator[float]:
    voxels = np.empty_like(fine.voxels)
    for number, part in enumerate(checkered(coarse, fine, factors)):
        voxels[number] = part
        yield number / len(voxels)
    yield from fillNode(node, Volume(voxels, fine.grid))
