"""Apply, Cancel, progress and outcome in the panel of CBCTSuperRes."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from apply_helpers import add_scan, advance
from CBCTSuperResLib.core.errors import Cancelled, DependencyError, ResourceError
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.jobs.job import WorkerError
from waiting import wait_until

pytestmark = pytest.mark.usefixtures("qt_or_skip")


@pytest.fixture
def widget(apply_widget):
    return apply_widget


@pytest.fixture
def fake(fake_job):
    return fake_job


def test_apply_becomes_cancel_and_shows_stage_and_remaining_time(panel, fake):
    panel.ui.applyButton.click()
    assert panel.ui.applyButton.text == "Cancel" and not panel.ui.progressBar.isHidden()
    assert not panel.ui.inputSelector.enabled and not panel.ui.modelSelector.enabled
    assert fake.nodes[0].GetName() == "Jaw" and fake.options["planes"] == "axial"
    advance(panel, fake, fraction=0.42, message="Network: 3 of 8 slices", remaining=31.0)
    assert panel.ui.progressBar.value == 42
    assert panel.ui.statusLabel.text == "Network: 3 of 8 slices, 31 s left"


def test_cancel_asks_the_run_to_stop_and_gives_the_panel_back(panel, fake):
    panel.ui.applyButton.click()
    panel.ui.applyButton.click()
    advance(panel, fake, message="Cancelling", remaining=120.0)
    assert fake.wasCancelled and panel.ui.statusLabel.text == "Cancelling"
    advance(panel, fake, isFinished=True, error=Cancelled())
    assert panel.ui.applyButton.text == "Apply" and panel.ui.applyButton.enabled
    assert panel.ui.statusLabel.text == "Cancelled." and panel.ui.progressBar.isHidden()
    assert fake.wasClosed and not panel._timer.isActive()


def test_the_result_is_chosen_as_output_and_named(panel, fake):
    result = add_scan("Jaw SR x2", (4, 48, 56))
    panel.ui.applyButton.click()
    fake.outputVolume, fake.warnings = result, ["Half of the voxels are clipped."]
    advance(panel, fake, isFinished=True)
    assert panel.ui.outputSelector.currentNode() is result
    assert panel.ui.statusLabel.text == "Done: Jaw SR x2" and panel.ui.statusIcon.isHidden()
    assert "Half of the voxels are clipped." in panel.ui.logText.plainText


def test_a_worker_that_died_is_told_with_advice_and_logged_in_detail(panel, fake, caplog):
    panel.ui.applyButton.click()
    error = WorkerError("The worker process was killed (signal 9).", "Choose a ROI.", detail="its last words")
    advance(panel, fake, isFinished=True, error=error)
    assert panel.ui.statusLabel.text == "The worker process was killed (signal 9). Choose a ROI."
    assert not panel.ui.statusIcon.isHidden()
    assert "its last words" in caplog.text
    assert "its last words" in panel.ui.logText.plainText and "its last words" not in panel.ui.statusLabel.text
    assert panel.ui.applyButton.text == "Apply"


def test_all_choices_reach_the_run(panel, fake):
    panel.ui.windowRange.setValues(300, 1000)
    panel.ui.fitRoiButton.click()
    panel.ui.qualitySelector.currentIndex = 1
    panel.ui.tileSpinBox.value = 64
    panel.ui.applyButton.click()
    assert fake.options["model"] == panel.choices.card().path
    given = {name: value for name, value in fake.options.items() if name != "model"}
    assert Options(**given) == panel.choices.options()
    assert given["window"] == (300, 1000) and given["roi"] == ((0, 28), (0, 24), (0, 4))
    assert given["ensemble"] == 2 and given["tile"] == 64


def test_while_a_run_goes_on_nothing_that_it_depends_on_can_be_changed(panel, fake):
    panel.ui.applyButton.click()
    locked = [
        "inputSelector",
        "roiSelector",
        "fitRoiButton",
        "modelSelector",
        "importModelButton",
        "windowPresetSelector",
        "windowRange",
        "outputSelector",
        "planesSelector",
        "qualitySelector",
        "deviceSelector",
        "tileSpinBox",
        "packagesButton",
    ]
    assert not [name for name in locked if getattr(panel.ui, name).enabled]
    advance(panel, fake, isFinished=True, error=Cancelled())
    assert not [name for name in locked if not getattr(panel.ui, name).enabled]


def test_the_log_tells_each_stage_once_and_can_be_copied(panel, fake):
    import slicer

    assert panel.ui.logSection.collapsed and not panel.ui.copyLogButton.enabled
    panel.ui.applyButton.click()
    for number in (1, 2, 3):
        advance(panel, fake, message=f"Network: {number} of 3")
    fake.warnings = ["Half of the voxels are clipped."]
    advance(panel, fake, isFinished=True, outputVolume=add_scan("Jaw SR x2", (4, 48, 56)))
    log = panel.ui.logText.plainText
    assert log.count("Network") == 1
    for words in ("Apply tiny to Jaw: no option changed", "Half of the voxels", "Done"):
        assert words in log
    panel.ui.copyLogButton.click()
    assert slicer.app.clipboard().text() == log


def test_a_run_that_cannot_start_is_told(panel, monkeypatch):
    def start(*nodes, **options):
        raise ResourceError("The disk is full.", "Free some space.")

    monkeypatch.setattr(panel.logic, "start", start)
    panel.ui.applyButton.click()
    assert panel.ui.statusLabel.text == "The disk is full. Free some space."
    assert panel.run.job is None and panel.ui.applyButton.text == "Apply"


def test_missing_packages_are_told_and_nothing_starts(panel, fake, monkeypatch):
    def refuse(*_, **__):
        raise DependencyError("PyTorch is missing.", "Install the extension PyTorch.")

    monkeypatch.setattr("CBCTSuperResLib.panels.dialogs.ensurePackages", refuse)
    panel.ui.applyButton.click()
    assert panel.run.job is None and "PyTorch is missing." in panel.ui.statusLabel.text


def test_closing_the_scene_during_a_run_ends_it_and_the_panel_starts_anew(widget, panel, fake, scene):
    panel.ui.applyButton.click()
    scene.Clear(0)
    assert fake.wasClosed and panel.run.job is None and not panel._timer.isActive()
    assert panel.ui.inputSelector.currentNode() is None and not panel.ui.applyButton.enabled
    add_scan("Next")
    assert panel.parameters is not None
    panel.ui.inputSelector.setCurrentNode(add_scan("Another"))
    assert panel.parameters.inputVolume.GetName() == "Another"


def test_a_run_goes_on_while_another_module_is_shown(widget, panel, fake):
    panel.ui.applyButton.click()
    widget.exit()
    advance(panel, fake, fraction=0.5)
    assert not fake.wasClosed and panel.run.job is fake
    widget.enter()
    assert panel.ui.applyButton.text == "Cancel" and panel.ui.progressBar.value == 50


def test_leaving_for_good_ends_the_run(panel, fake):
    panel.ui.applyButton.click()
    panel.close()
    assert fake.wasClosed and panel.run.job is None


def run_to_end(application, panel):
    panel.ui.applyButton.click()
    assert panel.run.job is not None, panel.ui.statusLabel.text
    wait_until(lambda: application.qapp.processEvents() or not panel.run.job)


def test_two_real_runs_give_the_same_and_the_second_replaces_the_first(application, panel, scene):
    import slicer

    run_to_end(application, panel)
    result = panel.ui.outputSelector.currentNode()
    assert panel.ui.statusLabel.text.startswith("Done: Jaw SR x2")
    assert result.GetImageData().GetDimensions() == (56, 48, 4) and not panel._timer.isActive()
    first = slicer.util.arrayFromVolume(result).copy()
    assert np.ptp(first) > 0
    run_to_end(application, panel)
    assert panel.ui.outputSelector.currentNode() is result
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 2
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(result), first)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals are POSIX's")
@pytest.mark.parametrize(("sign", "words"), [("SIGKILL", "was killed"), ("SIGSTOP", "stopped responding")])
def test_a_real_worker_that_is_killed_or_hangs_is_told_in_words(application, panel, monkeypatch, sign, words):
    panel.ui.inputSelector.setCurrentNode(add_scan("Long", (1500, 40, 40)))
    panel.ui.applyButton.click()
    job = panel.run.job
    wait_until(lambda: application.qapp.processEvents() or "Network" in job.message)
    job._worker._silence.limit_s = 2.0
    os.kill(job._worker._process.pid, getattr(signal, sign))
    wait_until(lambda: application.qapp.processEvents() or not panel.run.job)
    assert words in panel.ui.statusLabel.text and panel.ui.applyButton.text == "Apply"
    assert panel.ui.outputSelector.currentNode() is None


def test_a_real_run_is_cancelled_and_leaves_no_node(application, panel, scene):
    panel.ui.inputSelector.setCurrentNode(add_scan("Long", (1500, 40, 40)))
    panel.ui.applyButton.click()
    wait_until(lambda: application.qapp.processEvents() or "Network" in panel.run.job.message)
    worker = panel.run.job._worker
    panel.ui.applyButton.click()
    wait_until(lambda: application.qapp.processEvents() or not panel.run.job)
    assert panel.ui.statusLabel.text == "Cancelled." and worker._process.poll() is not None
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 2
    assert not worker.files.exists()
