"""Tests of CBCTSuperResTraining that run in the real application."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import slicer

from ...models.card import read_card
from ...models.folder import DEFAULT_MODEL, list_models
from ..selftest import SelfTest, makeScan
from .panel import TrainingPanel

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
DRAWN = {"mode": "HR", "procedural": 4, **SMALL["datasets"]["train"]}


class TrainingSelfTest(SelfTest):
    """`logicClass` is set by the module file."""

    moduleName = "CBCTSuperResTraining"
    logicClass: type

    def makePanel(self) -> TrainingPanel:
        """A panel of its own with a results folder of its own."""
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        panel = TrainingPanel(self.loadWidget(), self.logicClass())
        self.addCleanup(panel.close)
        panel.setup.measures = False
        panel.bind()
        panel.parameters.resultsFolder = Path(folder.name)
        return panel

    def test_a_small_training_on_a_volume_ends_with_a_model(self) -> None:
        self.needPackages()
        logic, scan = self.logicClass(), makeScan()
        before = slicer.util.arrayFromVolume(scan).copy()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root:
            job = logic.start({**SMALL, "path": {"root": root}}, volumes=[scan])
            report = job.wait()
            self.assertEqual((report["step"], job.step, len(job.history)), (4, 4, 4))
            self.assertEqual([run.state for run in logic.runs(root)], ["finished"])
            model = logic.export(job.folder, f"{root}/small.safetensors").wait()["model"]
            self.assertEqual(read_card(model).spec.scale, (2, 2))
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(scan), before)

    def test_every_shipped_model_can_be_used(self) -> None:
        self.assertIn(DEFAULT_MODEL, [entry.name for entry in list_models() if entry.card])

    def test_the_panel_lists_models_options_and_scans(self) -> None:
        panel, scan = self.makePanel(), makeScan()
        self.assertGreater(panel.ui.modelList.count, 0)
        self.assertGreater(panel.ui.optionsTable.rowCount, 50)
        panel.ui.fineSelector.setCurrentNode(scan)
        panel.ui.addButton.click()
        self.assertEqual(panel.ui.dataTable.rowCount, 1)
        self.assertEqual(panel.choices.volumes(), [scan])

    def test_a_training_is_checked_started_and_listed_in_the_panel(self) -> None:
        self.needPackages()
        panel = self.makePanel()
        panel.choices.setSettings({**SMALL, "datasets": {"train": DRAWN}, "path": {}})
        panel.parameters.runName = "small"
        panel.ui.checkButton.click()
        self.waitUntil(lambda: not panel.data.isBusy, lambda: panel.ui.dataStatusLabel.text)
        self.assertTrue(panel.ui.dataReport.toPlainText(), panel.ui.dataStatusLabel.text)
        panel.ui.startButton.click()
        self.waitUntil(lambda: not panel.run.isBusy, lambda: panel.ui.trainingLabel.text)
        self.assertEqual([run.state for run in panel.logic.runs(panel.parameters.resultsFolder)], ["finished"])
        self.assertEqual(panel.ui.runList.count, 1)

    def test_what_was_chosen_is_saved_with_the_scene(self) -> None:
        panel = self.makePanel()
        panel.parameters.runName, panel.parameters.keepTraining = "Jaws 7", True
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            panel.close()
            self.saveAndLoadScene(folder)
        panel.bind()
        self.assertEqual((panel.parameters.runName, panel.parameters.keepTraining), ("Jaws 7", True))
