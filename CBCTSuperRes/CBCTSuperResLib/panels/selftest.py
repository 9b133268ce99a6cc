"""Tests that run in the real application ("Reload and Test"), on procedural data."""

from __future__ import annotations

import tempfile
import unittest

import numpy as np
import slicer

from ..card import read_card
from ..errors import InputError, OutputError
from ..install import missing_packages
from ..models import DEFAULT_MODEL, list_models
from ..nodes import gridOfNode, volumeFromNode


class _RunsAll:
    """Runs every `test_*` method and tells which it skipped."""

    def runTest(self, **_) -> None:
        for name in [name for name in dir(self) if name.startswith("test_")]:
            self.setUp()
            try:
                getattr(self, name)()
                print(f"passed: {name}")
            except unittest.SkipTest as reason:
                print(f"skipped: {name}: {reason}")


class ApplySelfTest(_RunsAll):
    """Tests of CBCTSuperRes; `logicClass` is set by the module file."""

    logicClass: type

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def test_a_result_covers_its_input_and_keeps_its_display(self) -> None:
        if missing_packages():
            self.skipTest(f"packages are missing: {', '.join(missing_packages())}")
        scan = makeScan()
        result = self.logicClass().process(scan)
        self.assertEqual(result.GetImageData().GetDimensions(), (96, 80, 6))
        self.assertEqual(result.GetName(), "Phantom SR x2")
        expected = gridOfNode(scan).resampled((96, 80, 6))
        np.testing.assert_allclose(gridOfNode(result).index_to_point, expected.index_to_point, atol=1e-6)
        self.assertEqual(result.GetDisplayNode().GetWindow(), scan.GetDisplayNode().GetWindow())
        difference = volumeFromNode(result).voxels[:, ::2, ::2].astype(float) - volumeFromNode(scan).voxels
        self.assertLess(np.abs(difference).mean(), 300.0)

    def test_nodes_that_are_no_volumes_are_refused(self) -> None:
        with self.assertRaises(InputError):
            self.logicClass().process(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode"))
        scan = makeScan()
        with self.assertRaises(OutputError):
            self.logicClass().process(scan, scan)

    def test_the_shipped_model_is_found(self) -> None:
        self.assertIn(DEFAULT_MODEL, [entry.name for entry in list_models() if entry.card])


class TrainingSelfTest(_RunsAll):
    """Tests of CBCTSuperResTraining; `logicClass` is set by the module file."""

    logicClass: type

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def test_a_small_training_on_a_volume_ends_with_a_model(self) -> None:
        if missing_packages():
            self.skipTest(f"packages are missing: {', '.join(missing_packages())}")
        logic, scan = self.logicClass(), makeScan()
        before = slicer.util.arrayFromVolume(scan).copy()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root:
            job = logic.start({**SMALL, "path": {"root": root}}, volumes=[scan])
            report = job.wait()
            self.assertEqual((report["step"], job.step, len(job.history)), (4, 4, 4))
            self.assertEqual([run.state for run in logic.runs(root)], ["finished"])
            model = logic.export(job.folder, f"{root}/small.safetensors").wait()["model"]
            self.assertEqual(read_card(model).spec.scale, 2)
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(scan), before)

    def test_every_shipped_model_can_be_used(self) -> None:
        self.assertIn(DEFAULT_MODEL, [entry.name for entry in list_models() if entry.card])


SMALL = {
    "name": "small",
    "gpu_ids": [],
    "use_tb_logger": False,
    "datasets": {"train": {"HR_size": 16, "batch_size": 2, "n_workers": 0}},
    "network_G": {"nf": 4, "nb": 4, "gc": 4},
    "network_D": {"nf": 4},
    "train": {"feature_weight": 0, "niter": 4},
    "logger": {"print_freq": 1},
}


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
