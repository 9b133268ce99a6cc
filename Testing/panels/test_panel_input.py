"""Input: choosing a volume and a part of it in the panel of CBCTSuperRes."""

from __future__ import annotations

import numpy as np
import pytest
from apply_helpers import add_scan

pytestmark = pytest.mark.usefixtures("qt_or_skip")


def add_cylinder(name="Cylinder", spacing=(0.25, 0.25, 0.3)):
    """A scan that is blank outside a cylinder along k, in the middle of 40 x 44 pixels."""
    import slicer
    from CBCTSuperResLib.core.volume import Grid, Volume
    from CBCTSuperResLib.scene.nodes import updateNode

    k, j, i = np.meshgrid(np.arange(12), np.arange(44), np.arange(40), indexing="ij")
    noise = np.random.default_rng(0).integers(0, 300, k.shape)
    voxels = np.where(np.hypot(j - 22, i - 20) <= 16, 900 + 20 * i + 500 * (j > 25) + noise, -1000)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    updateNode(node, Volume(voxels.astype(np.int16), Grid((40, 44, 12), spacing)))
    return node


def add_rotation():
    import slicer
    import vtk

    transform = vtk.vtkTransform()
    transform.RotateX(30)
    transform.Translate(3, 4, 5)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Turned")
    node.SetMatrixTransformToParent(transform.GetMatrix())
    return node


def test_the_first_volume_is_chosen_and_described(panel):
    assert panel.ui.inputSelector.currentNode().GetName() == "Jaw"
    assert panel.ui.inputLabel.text == "28 x 24 x 4 voxels of 0.25 x 0.25 x 0.3 mm, uint16, 5.4 kB"
    assert panel.ui.notesLabel.isHidden()
    assert panel.ui.outputLabel.text.startswith("56 x 48 x 4 voxels of 0.125 x 0.125 x 0.3 mm")
    assert "Model tiny: x2 in slices, license: unknown" in panel.ui.modelSelector.toolTip
    assert panel.ui.applyButton.enabled and panel.ui.applyButton.text == "Apply"


def test_neither_a_label_map_nor_a_hidden_volume_is_chosen_for_the_user(panel, scene):
    import slicer

    panel.close()
    scene.Clear(0)
    panel.close()
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Mask")
    add_scan("Hidden").SetHideFromEditors(True)
    add_scan("Scan")
    panel.bind()
    assert panel.ui.inputSelector.currentNode().GetName() == "Scan" == panel.parameters.inputVolume.GetName()


def test_without_a_scan_the_panel_says_where_to_get_one(panel, scene):
    scene.RemoveNode(panel.ui.inputSelector.currentNode())
    assert "Sample Data" in panel.ui.inputLabel.text
    assert not panel.ui.fitRoiButton.enabled and not panel.ui.applyButton.enabled


def test_new_voxels_and_what_is_noticed_about_them_are_told_at_once(panel):
    import slicer

    voxels = np.random.default_rng(0).integers(0, 3000, (6, 20, 22)).astype(np.int16)
    slicer.util.updateVolumeFromArray(panel.ui.inputSelector.currentNode(), voxels)
    assert panel.ui.inputLabel.text.startswith("22 x 20 x 6") and "int16" in panel.ui.inputLabel.text
    assert panel.ui.outputLabel.text.startswith("44 x 40 x 6")
    panel.ui.inputSelector.currentNode().SetSpacing(0.25, 0.35, 0.3)
    assert "The pixels are not square" in panel.ui.notesLabel.text and not panel.ui.notesLabel.isHidden()
    panel.ui.inputSelector.setCurrentNode(add_cylinder())
    assert "% is blank: outside the field of view" in panel.ui.notesLabel.text


def test_what_is_no_scan_is_refused_in_words(panel, scene):
    import slicer

    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Teeth")
    slicer.util.updateVolumeFromArray(labels, (np.indices((20, 20, 20)).sum(0) // 15).astype(np.uint8))
    panel.ui.inputSelector.setCurrentNode(labels)
    assert "label map" in panel.ui.statusLabel.text and not panel.ui.statusIcon.isHidden()
    assert "label map" in panel.ui.applyButton.toolTip and not panel.ui.applyButton.enabled

    slicer.util.updateVolumeFromArray(labels, np.zeros((20, 20, 20), np.int16))
    assert "same value" in panel.ui.statusLabel.text

    colored = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Photo")
    mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Mask")
    assert not {colored, mask} & set(panel.ui.inputSelector.nodes())


def test_a_time_point_of_a_sequence_is_refused_in_words(panel, scene):
    import slicer

    jaw = panel.ui.inputSelector.currentNode()
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Sequence")
    browser = slicer.mrmlScene.AddNode(slicer.vtkMRMLSequenceBrowserNode())
    sequence.SetDataNodeAtValue(jaw, "0")
    browser.AddSynchronizedSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(jaw, sequence, False)
    panel.refresh()
    assert "time point of a sequence" in panel.ui.statusLabel.text
    assert "Clone the volume" in panel.ui.applyButton.toolTip


@pytest.mark.parametrize("isTurned", [False, True])
def test_a_roi_is_made_around_the_field_of_view(panel, isTurned):
    from CBCTSuperResLib.scene.nodes import roiBox

    cylinder = add_cylinder()
    if isTurned:
        cylinder.SetAndObserveTransformNodeID(add_rotation().GetID())
    panel.ui.inputSelector.setCurrentNode(cylinder)
    panel.ui.fitRoiButton.click()
    roi = panel.ui.roiSelector.currentNode()
    assert roi.GetName() == "Cylinder ROI" and roi.GetTransformNodeID() == cylinder.GetTransformNodeID()
    box = roiBox(roi, cylinder)
    assert box == panel.choices.overview().measured == panel.choices.options().roi
    for (start, stop), (first, end) in zip(box, ((4, 37), (6, 39), (0, 12)), strict=True):
        assert first - 2 <= start <= first and end <= stop <= end + 2
    size = [2 * (box[0][1] - box[0][0]), 2 * (box[1][1] - box[1][0]), 12]
    assert panel.ui.outputLabel.text.startswith(" x ".join(map(str, size)))


def test_a_roi_is_fitted_again_followed_when_it_moves_and_refused_outside_the_volume(panel, scene):
    panel.ui.inputSelector.setCurrentNode(add_cylinder())
    panel.ui.fitRoiButton.click()
    roi = panel.ui.roiSelector.currentNode()
    assert panel.ui.fitRoiButton.text == "Fit to field of view"
    before = list(roi.GetSize())
    roi.SetSize(1, 1, 1)
    panel.ui.fitRoiButton.click()
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 1
    np.testing.assert_allclose(roi.GetSize(), before)
    before = panel.ui.outputLabel.text
    roi.SetSize(2.0, 2.0, 1.2)
    assert panel.ui.outputLabel.text != before
    roi.SetCenter(1000, 1000, 1000)
    assert "lies outside the volume" in panel.ui.applyButton.toolTip and not panel.ui.applyButton.enabled
    panel.ui.roiSelector.setCurrentNode(None)
    assert panel.ui.applyButton.enabled and panel.choices.options().roi is None


def test_nodes_are_followed_only_while_they_are_chosen(panel, monkeypatch):
    first = panel.ui.inputSelector.currentNode()
    panel.ui.inputSelector.setCurrentNode(add_scan("Second"))
    seen = []
    monkeypatch.setattr(panel._watch, "_onChanged", lambda: seen.append(1))
    first.SetSpacing(0.3, 0.3, 0.3)
    assert not seen
    panel.ui.inputSelector.currentNode().SetSpacing(0.3, 0.3, 0.3)
    assert seen
    panel.unbind()
    seen.clear()
    first.SetSpacing(0.4, 0.4, 0.4)
    assert not seen
