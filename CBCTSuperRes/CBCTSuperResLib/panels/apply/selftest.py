"""Tests of CBCTSuperRes that run in the real application."""

from __future__ import annotations

import tempfile

import numpy as np
import slicer

from ...core.errors import InputError, OutputError
from ...models.folder import DEFAULT_MODEL, list_models
from ...scene.nodes import gridOfNode, volumeFromNode
from ..selftest import SelfTest, makeScan
from .panel import ApplyPanel
from .parameters import AUTOMATIC, Planes


class ApplySelfTest(SelfTest):
    """`logicClass` is set by the module file."""

    moduleName = "CBCTSuperRes"
    logicClass: type

    def makePanel(self) -> ApplyPanel:
        """A panel of its own; it follows the same parameters as the one that is shown."""
        panel = ApplyPanel(self.loadWidget(), self.logicClass())
        self.addCleanup(panel.close)
        panel.bind()
        panel.parameters.model = AUTOMATIC
        return panel

    def test_a_result_covers_its_input_and_keeps_its_display(self) -> None:
        self.needPackages()
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

    def test_the_panel_tells_what_apply_would_do_or_why_it_cannot(self) -> None:
        panel = self.makePanel()
        self.assertFalse(panel.ui.applyButton.enabled)
        self.assertTrue(panel.ui.applyButton.toolTip)
        panel.parameters.inputVolume = makeScan()
        self.assertIn("48 x 40 x 6", panel.ui.inputLabel.text)
        self.assertIn("96 x 80 x 6", panel.ui.outputLabel.text)
        self.assertTrue(panel.ui.windowLabel.text)
        self.assertTrue(panel.ui.applyButton.enabled, panel.ui.applyButton.toolTip)
        panel.parameters.outputVolume = panel.parameters.inputVolume
        self.assertFalse(panel.ui.applyButton.enabled)

    def test_the_scan_is_looked_at_and_chooses_the_model(self) -> None:
        panel = self.makePanel()
        panel.parameters.inputVolume = makeScan()
        self.waitUntil(lambda: panel.choices.isLookedAt, lambda: panel.ui.modelLabel.text)
        self.assertIsNotNone(panel.choices.scanner)
        self.assertIn(panel.choices.card().name, panel.ui.modelLabel.text)
        self.assertTrue(panel.ui.scannerLabel.text)

    def test_apply_in_the_panel_gives_a_result_that_is_compared_and_put_back(self) -> None:
        self.needPackages()
        panel = self.makePanel()
        panel.parameters.inputVolume = makeScan()
        panel.ui.applyButton.click()
        self.waitUntil(lambda: not panel.run.isBusy, lambda: panel.ui.statusLabel.text)
        result = panel.parameters.outputVolume
        self.assertIsNotNone(result, panel.ui.statusLabel.text)
        self.assertEqual(result.GetImageData().GetDimensions(), (96, 80, 6))
        manager = slicer.app.layoutManager()
        if manager is not None:
            before = manager.layout
            panel.ui.compareButton.click()
            self.assertEqual(manager.layout, slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
            panel.ui.backButton.click()
            self.assertEqual(manager.layout, before)

    def test_cancel_leaves_the_scene_as_it_was(self) -> None:
        self.needPackages()
        panel = self.makePanel()
        panel.parameters.inputVolume = makeScan()
        panel.ui.applyButton.click()
        panel.ui.applyButton.click()
        self.waitUntil(lambda: not panel.run.isBusy, lambda: panel.ui.statusLabel.text)
        self.assertIsNone(panel.parameters.outputVolume)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode"), 1)

    def test_what_was_chosen_is_saved_with_the_scene(self) -> None:
        panel = self.makePanel()
        panel.parameters.planes, panel.parameters.tile, panel.parameters.model = Planes.isotropic, 128, DEFAULT_MODEL
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            panel.close()
            self.saveAndLoadScene(folder)
        panel.bind()
        self.assertEqual((panel.parameters.planes, panel.parameters.tile), (Planes.isotropic, 128))
        self.assertEqual(panel.parameters.model, DEFAULT_MODEL)
