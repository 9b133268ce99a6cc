"""Output: what the panel of CBCTSuperRes foretells, and when it refuses."""

from __future__ import annotations

import pytest
from apply_helpers import add_scan

pytestmark = pytest.mark.usefixtures("qt_or_skip")


@pytest.fixture
def panel(apply_panel):
    return apply_panel


def test_size_memory_and_time_are_foretold_and_follow_axes_and_output_type(panel):
    from CBCTSuperResLib.panels.apply.parameters import OutputType

    text, hint = panel.ui.outputLabel.text, panel.ui.outputLabel.toolTip
    assert "21.5 kB" in text and " s or so" in text and "MB of memory" in hint and "guess" in hint
    panel.ui.outputTypeSelector.currentIndex = list(OutputType).index(OutputType.float32)
    assert "43.0 kB" in panel.ui.outputLabel.text
    assert "number of slices stays" in panel.ui.planesSelector.toolTip
    panel.ui.planesSelector.currentIndex = 1
    assert panel.ui.outputLabel.text.startswith("56 x 48 x 8 voxels of 0.125 x 0.125 x 0.15 mm")
    assert panel.parameters.planes.value == "isotropic"
    assert "coronal" in panel.ui.planesSelector.toolTip


def test_apply_says_why_it_is_disabled(panel, scene):
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
    assert "spacing" in panel.ui.statusLabel.text and panel.ui.outputLabel.text == ""
    slicer.mrmlScene.RemoveNode(flat)
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing")
    panel.ui.inputSelector.setCurrentNode(empty)
    assert "Nothing is empty" in panel.ui.applyButton.toolTip
    panel.parameters.inputVolume = None
    assert "No input volume" in panel.ui.applyButton.toolTip
