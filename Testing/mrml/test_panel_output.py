"""Output: what the panel of CBCTSuperRes foretells, and when it refuses."""

from __future__ import annotations

import pytest
from apply_helpers import add_scan

pytestmark = pytest.mark.usefixtures("qt_or_skip")


@pytest.fixture
def panel(apply_panel):
    return apply_panel


def test_all_axes_change_the_predicted_size(panel):
    panel.ui.planesSelector.currentIndex = 1
    assert panel.ui.outputLabel.text.startswith("56 x 48 x 8, 0.125 x 0.125 x 0.15 mm")
    assert panel.parameters.planes.value == "isotropic"


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
    slicer.mrmlScene.RemoveNode(flat)
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing")
    panel.ui.inputSelector.setCurrentNode(empty)
    assert "Nothing is empty" in panel.ui.applyButton.toolTip
    panel.parameters.inputVolume = None
    assert "No input volume" in panel.ui.applyButton.toolTip
