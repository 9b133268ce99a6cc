"""Result: what it is, its figures and its difference volume; what of it a saved scene keeps."""

from __future__ import annotations

import time

import numpy as np
import pytest
from apply_helpers import add_scan
from panel_results import make_result, view, views

pytestmark = pytest.mark.usefixtures("qt_or_skip")


def test_without_a_result_nothing_can_be_compared_and_it_says_so(panel):
    for button in (panel.ui.compareButton, panel.ui.fadeButton, panel.ui.differenceButton):
        assert not button.enabled and "no result" in button.toolTip
    assert not panel.ui.backButton.enabled and panel.ui.resultLabel.text == "There is no result yet."


def test_an_earlier_result_tells_what_it_is_and_its_figures(panel, result):
    text = panel.ui.resultLabel.text
    assert text.startswith("Jaw SR x2: super-resolved volume (model prediction)") and "not for diagnosis" in text
    assert "From Jaw, with the model tiny, in slices, window 0 to 4000; 56 x 48 x 4 voxels" in text
    assert "42 s on CPU" in text
    assert panel.ui.resultWarningsLabel.text.splitlines() == ["The pixels are not square.", "It contradicts the scan."]
    table = panel.ui.qualityTable
    assert [table.item(row, 0).text() for row in range(2)] == ["Noise", "Agreement"]
    assert table.item(1, 1).text() == "3 x noise" and table.item(1, 1).toolTip() == "About 1 is good."
    assert [table.item(row, 0).font().bold() for row in range(2)] == [False, True]
    panel.ui.outputSelector.setCurrentNode(None)
    assert panel.ui.resultLabel.text == "There is no result yet." and table.isHidden()


def test_a_report_without_figures_leaves_no_empty_table(panel):
    report = {"super_resolution": {"model": "tiny"}}
    panel.ui.outputSelector.setCurrentNode(make_result(report=report))
    assert "with the model tiny" in panel.ui.resultLabel.text
    assert panel.ui.qualityTable.isHidden() and panel.ui.resultWarningsLabel.isHidden()


def test_volumes_that_are_no_results_are_not_taken_for_one(panel):
    panel.ui.outputSelector.setCurrentNode(add_scan("Other"))
    assert panel.ui.resultLabel.text == "There is no result yet."


def test_an_earlier_result_is_known_again_after_the_scene_was_saved_and_loaded(panel, result, scene, tmp_path):
    import slicer

    for name in ("Jaw", "Jaw SR x2"):
        save(slicer.util.getNode(name), tmp_path / f"{name}.nrrd")
    scene.SetRootDirectory(str(tmp_path))
    assert scene.Commit(str(tmp_path / "Szene 1.mrml"))
    scene.Clear(0)
    scene.SetURL(str(tmp_path / "Szene 1.mrml"))
    scene.Connect()
    slicer.app.processEvents()
    assert panel.ui.resultLabel.text.startswith("Jaw SR x2:") and panel.ui.compareButton.enabled


def save(node, path):
    storage = node.CreateDefaultStorageNode()
    storage.SetScene(node.GetScene())
    storage.SetFileName(str(path))
    assert storage.WriteData(node)
    node.GetScene().AddNode(storage)
    node.SetAndObserveStorageNodeID(storage.GetID())


def finish(panel, application):
    end = time.monotonic() + 240
    while panel.result.job:
        assert time.monotonic() < end
        application.qapp.processEvents()
        time.sleep(0.02)


def test_the_difference_volume_is_computed_beside_the_result(panel, result, application):
    import slicer

    result.SetVoxelValueUnits(slicer.vtkCodedEntry())
    before = views()
    panel.ui.differenceButton.click()
    assert panel.ui.differenceButton.text == "Cancel difference" and panel._timer.isActive()
    finish(panel, application)
    node = slicer.util.getNode("Jaw SR x2 difference")
    assert panel.ui.differenceLabel.text.startswith("Jaw SR x2 difference: gray")
    voxels = slicer.util.arrayFromVolume(node)
    assert voxels.dtype == np.int16 and voxels.shape == (4, 48, 56)
    assert np.abs(voxels).max() > 5 and abs(float(voxels.mean())) < 2
    assert node.GetNodeReference("CBCTSuperRes.result") is result
    assert node.GetNodeReference("CBCTSuperRes.input") is panel.ui.inputSelector.currentNode()
    assert node.GetDisplayNode().GetLevel() == 0 and node.GetDisplayNode().GetWindow() > 0
    assert view("Red")[1].GetBackgroundVolumeID() == node.GetID()
    assert panel.ui.differenceButton.text == "Compute difference volume" and not panel._timer.isActive()
    panel.ui.backButton.click()
    assert views() == before


def test_a_difference_can_be_cancelled_and_ends_with_the_scene(panel, result, scene):
    import slicer

    panel.ui.differenceButton.click()
    job = panel.result.job
    panel.ui.differenceButton.click()
    end = time.monotonic() + 240
    while panel.result.job:
        assert time.monotonic() < end
        panel.onTimer()
        time.sleep(0.02)
    assert "ancel" in panel.ui.differenceLabel.text
    panel.ui.differenceButton.click()
    job = panel.result.job
    scene.Clear(0)
    assert job.isFinished and panel.result.job is None
    assert not slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")


def test_a_difference_needs_the_input(panel, result, scene):
    scene.RemoveNode(panel.ui.inputSelector.currentNode())
    panel.refresh()
    assert not panel.ui.differenceButton.enabled and "no longer" in panel.ui.differenceButton.toolTip


def test_a_result_looks_like_its_input(panel, application):

    scan = panel.ui.inputSelector.currentNode()
    shown = scan.GetDisplayNode()
    shown.SetAutoWindowLevel(False)
    shown.SetWindowLevel(1234, 567)
    shown.SetAndObserveColorNodeID("vtkMRMLColorTableNodeRainbow")
    shown.SetInterpolate(0)
    made = make_result().GetDisplayNode()
    assert (made.GetWindow(), made.GetLevel(), made.GetInterpolate()) == (1234, 567, 0)
    assert made.GetColorNodeID() == "vtkMRMLColorTableNodeRainbow"


def test_the_disagreement_is_computed_when_it_is_asked_for(panel, fake_job):
    panel.ui.disagreementCheckBox.checked = True
    panel.ui.applyButton.click()
    assert fake_job.options["uncertainty"] == 4
