"""Apply, Cancel, progress and outcome in the panel of CBCTSuperRes."""

from __future__ import annotations

import time

import numpy as np
import pytest
from apply_helpers import add_scan, advance
from CBCTSuperResLib.errors import Cancelled, DependencyError
from CBCTSuperResLib.jobs.state import WorkerError

pytestmark = pytest.mark.usefixtures("qt_or_skip")


@pytest.fixture
def widget(apply_widget):
    return apply_widget


@pytest.fixture
def panel(apply_panel):
    return apply_panel


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
    assert panel.ui.statusLabel.text == "Done: Jaw SR x2\nHalf of the voxels are clipped."


def test_a_worker_that_died_is_told_with_advice_and_logged_in_detail(panel, fake, caplog):
    panel.ui.applyButton.click()
    error = WorkerError("The worker process was killed (signal 9).", "Choose a ROI.", detail="its last words")
    advance(panel, fake, isFinished=True, error=error)
    assert panel.ui.statusLabel.text == "The worker process was killed (signal 9). Choose a ROI."
    assert "its last words" in caplog.text
    assert panel.ui.applyButton.text == "Apply"


def test_missing_packages_are_told_and_nothing_starts(panel, fake):
    def refuse():
        raise DependencyError("PyTorch is missing.", "Install the extension PyTorch.")

    panel.ensurePackages = refuse
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


def test_a_real_run_from_click_to_result(application, panel):
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
