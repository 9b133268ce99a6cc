"""What the self tests of both modules share; they run in the real application ("Reload and Test"), off line."""

from __future__ import annotations

import time
import unittest
from collections.abc import Callable
from pathlib import Path

import numpy as np
import slicer

from ..core.packages import missing_packages

LIMIT_S = 180.0
TICK_S = 0.02


class SelfTest:
    """Runs every `test_*` method and tells which it skipped; a mixin for a class of `unittest.TestCase`."""

    moduleName: str

    def runTest(self, **_) -> None:
        for name in [name for name in dir(self) if name.startswith("test_")]:
            self.setUp()
            try:
                getattr(self, name)()
                print(f"passed: {name}")
            except unittest.SkipTest as reason:
                print(f"skipped: {name}: {reason}")
            finally:
                self.doCleanups()

    def setUp(self) -> None:
        slicer.mrmlScene.Clear(0)

    def needPackages(self) -> None:
        missing = missing_packages()
        if missing:
            self.skipTest(f"packages are missing: {', '.join(missing)}; press Apply in the module, which installs them")

    def loadWidget(self):
        """The widgets of the module's .ui file, apart from those that the module shows."""
        module = getattr(slicer.modules, self.moduleName.lower())
        path = Path(module.path).parent / "Resources" / "UI" / f"{self.moduleName}.ui"
        widget = slicer.util.loadUI(str(path))
        widget.setMRMLScene(slicer.mrmlScene)
        self.addCleanup(widget.setMRMLScene, None)
        return widget

    def waitUntil(self, isDone: Callable[[], bool], told: Callable[[], str] = str) -> None:
        """Let the application go on until something is the case."""
        end = time.monotonic() + LIMIT_S
        while not isDone():
            self.assertLess(time.monotonic(), end, told())
            slicer.app.processEvents()
            time.sleep(TICK_S)

    def saveAndLoadScene(self, folder: str) -> None:
        path = str(Path(folder) / "scene.mrml")
        slicer.mrmlScene.SetURL(path)
        slicer.mrmlScene.Commit(path)
        slicer.mrmlScene.Clear(0)
        slicer.mrmlScene.SetURL(path)
        slicer.mrmlScene.Connect()


def makeScan() -> slicer.vtkMRMLScalarVolumeNode:
    """A bright cylinder with a canal in darker surroundings, oblique in space."""
    k, j, i = np.meshgrid(np.arange(6), np.arange(40), np.arange(48), indexing="ij")
    radius = np.hypot(j - 20, i - 24)
    voxels = np.where(radius < 12, 2500, 600) - np.where(radius < 4, 1500, 0) + 10 * k
    angle = np.deg2rad(20)
    matrix = np.diag([0.3, 0.3, 0.3, 1.0])
    matrix[:2, :2] = 0.3 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix[:3, 3] = (12.0, -34.0, 56.0)
    node = slicer.util.addVolumeFromArray(voxels.astype(np.int16), ijkToRAS=matrix, name="Phantom")
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevel(3000, 1500)
    return node
