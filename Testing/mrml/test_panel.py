"""Both panels, built from their real .ui files on the stand-in for Qt and Slicer's widgets, driven as a user would."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from CBCTSuperResLib.errors import Cancelled, DependencyError
from CBCTSuperResLib.jobs.state import WorkerError
from scans import make_scan

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("qt_or_skip")


def test_the_first_volume_is_chosen_and_described(apply_panel):
    assert panel.ui.inputSelector.currentNode().GetName() == "Jaw"
    assert panel.ui.inputLabel.text == "28 x 24 x 4, 0.25 x 0.25 x 0.3 mm, uint16, 5.4 kB"
    assert panel.ui.outputLabel.text.startswith("56 x 48 x 4, 0.125 x 0.125 x 0.3 mm")
    assert "tiny: A tiny model for tests" in panel.ui.modelLabel.text
    assert panel.ui.applyButton.enabled and panel.ui.applyButton.text == "Apply"


def test_all_axes_change_the_predicted_size(apply_panel):
    panel.ui.planesSelector.currentIndex = 1
    assert panel.ui.outputLabel.text.startswith("56 x 48 x 8, 0.125 x 0.125 x 0.15 mm")
    assert panel.parameters.planes.value == "isotropic"


def test_apply_says_why_it_is_disabled(apply_panel, scene):
    import slicer

    panel.ui.outputSelector.setCurrentNode(panel.ui.inputSelector.currentNode())
    assert not panel.ui.applyButton.enabled and "is the input volume" in panel.ui.applyButton.toolTip
    panel.ui.outputSelector.setCurrentNode(None)
    assert panel.ui.applyButton.enabled

    flat = add_scan("Flat")
    flat.SetSpacing(0.2, 0.2, 2.0)
    panel.ui.inputSelector.setCurrentNode(flat)
    panel.ui.planesSelector.currentIndex = 1
    assert not panel.ui.applyButton.enabled and "spacing" in panel.ui.applyButton.toolTip
    slicer.mrmlScene.RemoveNode(flat)
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing")
    panel.ui.inputSelector.setCurrentNode(empty)
    assert "Nothing is empty" in panel.ui.applyButton.toolTip
    panel.parameters.inputVolume = None
    assert "No input volume" in panel.ui.applyButton.toolTip


def test_a_model_that_is_gone_is_said_by_name(apply_panel):
    panel.parameters.model = "gone"
    assert not panel.ui.applyButton.enabled and "The model gone is not installed" in panel.ui.applyButton.toolTip
    choose_model(panel)
    assert panel.ui.applyButton.enabled and panel.parameters.model == "tiny"


def test_apply_becomes_cancel_and_shows_stage_and_remaining_time(apply_panel, fake_job):
    panel.ui.applyButton.click()
    assert panel.ui.applyButton.text == "Cancel" and not panel.ui.progressBar.isHidden()
    assert not panel.ui.inputSelector.enabled and not panel.ui.modelSelector.enabled
    assert fake_job.nodes[0].GetName() == "Jaw" and fake_job.options["planes"] == "axial"
    advance(panel, fake_job, fraction=0.42, message="Network: 3 of 8 slices", remaining=31.0)
    assert panel.ui.progressBar.value == 42
    assert panel.ui.statusLabel.text == "Network: 3 of 8 slices, 31 s left"


def test_cancel_asks_the_run_to_stop_and_gives_the_panel_back(apply_panel, fake_job):
    panel.ui.applyButton.click()
    panel.ui.applyButton.click()
    assert fake_job.wasCancelled and panel.ui.statusLabel.text == "Cancelling"
    advance(panel, fake_job, isFinished=True, error=Cancelled())
    assert panel.ui.applyButton.text == "Apply" and panel.ui.applyButton.enabled
    assert panel.ui.statusLabel.text == "Cancelled." and panel.ui.progressBar.isHidden()
    assert fake_job.wasClosed and not panel._timer.isActive()


def test_the_result_is_chosen_as_output_and_named(apply_panel, fake_job):
    result = add_scan("Jaw SR x2", (4, 48, 56))
    panel.ui.applyButton.click()
    fake_job.outputVolume, fake_job.warnings = result, ["Half of the voxels are clipped."]
    advance(panel, fake_job, isFinished=True)
    assert panel.ui.outputSelector.currentNode() is result
    assert panel.ui.statusLabel.text == "Done: Jaw SR x2\nHalf of the voxels are clipped."


def test_a_worker_that_died_is_told_with_advice_and_logged_in_detail(apply_panel, fake_job, caplog):
    panel.ui.applyButton.click()
    error = WorkerError("The worker process was killed (signal 9).", "Choose a ROI.", detail="its last words")
    advance(panel, fake_job, isFinished=True, error=error)
    assert panel.ui.statusLabel.text == "The worker process was killed (signal 9). Choose a ROI."
    assert "its last words" in caplog.text
    assert panel.ui.applyButton.text == "Apply"


def test_missing_packages_are_told_and_nothing_starts(apply_panel, fake_job):
    def refuse():
        raise DependencyError("PyTorch is missing.", "Install the extension PyTorch.")

    panel.run.ensurePackages = refuse
    panel.ui.applyButton.click()
    assert panel.run.job is None and "PyTorch is missing." in panel.ui.statusLabel.text


def test_closing_the_scene_during_a_run_ends_it_and_the_panel_starts_anew(apply_widget, apply_panel, fake_job, scene):
    panel.ui.applyButton.click()
    scene.Clear(0)
    assert fake_job.wasClosed and panel.run.job is None and not panel._timer.isActive()
    assert panel.ui.inputSelector.currentNode() is None and not panel.ui.applyButton.enabled
    add_scan("Next")
    assert panel.parameters is not None
    panel.ui.inputSelector.setCurrentNode(add_scan("Another"))
    assert panel.parameters.inputVolume.GetName() == "Another"


def test_a_run_goes_on_while_another_module_is_shown(apply_widget, apply_panel, fake_job):
    panel.ui.applyButton.click()
    widget.exit()
    advance(panel, fake_job, fraction=0.5)
    assert not fake_job.wasClosed and panel.run.job is fake_job
    widget.enter()
    assert panel.ui.applyButton.text == "Cancel" and panel.ui.progressBar.value == 50


def test_leaving_for_good_ends_the_run(apply_panel, fake_job):
    panel.ui.applyButton.click()
    panel.close()
    assert fake_job.wasClosed and panel.run.job is None


def test_choices_are_saved_with_the_scene_and_come_back(apply_widget, apply_panel, scene, tmp_path):
    import slicer

    panel.ui.planesSelector.currentIndex = 1
    jaw = panel.ui.inputSelector.currentNode()
    storage = jaw.CreateDefaultStorageNode()
    storage.SetScene(scene)
    storage.SetFileName(str(tmp_path / "Jaw.nrrd"))
    assert storage.WriteData(jaw)
    scene.AddNode(storage)
    jaw.SetAndObserveStorageNodeID(storage.GetID())
    file = tmp_path / "Szene 1.mrml"
    scene.SetRootDirectory(str(tmp_path))
    assert scene.Commit(str(file))
    scene.Clear(0)
    assert panel.ui.planesSelector.currentIndex == 0
    scene.SetURL(str(file))
    scene.Connect()
    slicer.app.processEvents()
    assert panel.ui.planesSelector.currentIndex == 1
    assert panel.ui.inputSelector.currentNode().GetName() == "Jaw"
    assert panel.parameters.model == "tiny"


def test_a_real_run_from_click_to_result(application, apply_panel):
    panel.ui.applyButton.click()
    assert panel.run.job is not None, panel.ui.statusLabel.text
    end = time.monotonic() + 60
    while panel.run.job:
        assert time.monotonic() < end
        application.qapp.processEvents()
        time.sleep(0.02)
    result = panel.ui.outputSelector.currentNode()
    assert panel.ui.statusLabel.text.startswith("Done: Jaw SR x2")
    assert result.GetImageData().GetDimensions() == (56, 48, 4)
    assert np.ptp(np.array(result.GetImageData().GetScalarRange())) > 0


def test_reloading_forgets_the_library(apply_widget, monkeypatch):
    import slicer

    kept = dict(sys.modules)
    try:
        widget.onReload()
        assert slicer.reloaded[-1] == "CBCTSuperRes"
        assert not [name for name in sys.modules if name.startswith("CBCTSuperResLib")]
    finally:
        sys.modules.update(kept)


def test_the_module_tells_what_it_is(application, apply_module):
    import slicer

    parent = slicer.modules.cbctsuperres
    assert parent.title == "CBCT Super-Resolution" and parent.categories == ["Filtering"]
    assert parent.helpText and parent.acknowledgementText and parent.contributors


def test_the_module_logic_is_the_library_s_logic(apply_module):
    from CBCTSuperResLib.logic import SuperResLogic

    assert issubclass(module.CBCTSuperResLogic, SuperResLogic)


def test_the_self_tests_of_both_modules_pass_here_as_far_as_they_can(application, apply_module, scene, capsys):
    training = application.loadModule(str(ROOT / "CBCTSuperResTraining" / "CBCTSuperResTraining.py"))
    case = module.CBCTSuperResTest()
    case.setUp()
    case.test_nodes_that_are_no_volumes_are_refused()
    training.CBCTSuperResTrainingTest().runTest()
    assert "passed: test_every_shipped_model_can_be_used" in capsys.readouterr().out


def test_the_training_module_lists_models_with_their_cards_and_opens_their_folder(application, scene, user_models):
    (user_models / "broken.safetensors").write_bytes(b"rubbish")
    module = application.loadModule(str(ROOT / "CBCTSuperResTraining" / "CBCTSuperResTraining.py"))
    widget = application.showWidget(module)
    panel = widget.panel
    names = [panel.ui.modelList.item(row).text() for row in range(panel.ui.modelList.count)]
    assert "tiny" in names and "broken (unusable)" in names
    panel.ui.modelList.setCurrentRow(names.index("tiny"))
    assert "A tiny model for tests" in panel.ui.cardText.toPlainText()
    panel.ui.modelList.setCurrentRow(names.index("broken (unusable)"))
    assert "broken" in panel.ui.cardText.toPlainText()
    opened = []
    panel.models._openFolder = opened.append
    panel.ui.openFolderButton.click()
    assert opened == [str(user_models)]


@pytest.mark.parametrize("name", ["CBCTSuperRes", "CBCTSuperResTraining"])
def test_panels_fit_into_320_pixels(application, scene, user_models, name):
    add_scan("A volume with a rather long name, as they come from scanners")
    widget = application.showWidget(application.loadModule(str(ROOT / name / f"{name}.py")))
    widget.parent.show()
    widget.parent.resize(320, 600)
    application.qapp.processEvents()
    assert widget.parent.width <= 320
    widget.cleanup()
    widget.parent.hide()
