"""Output: what the panel of CBCTSuperRes foretells, when it refuses; the voxel size, and which model makes it."""

from __future__ import annotations

import pytest
from apply_helpers import add_scan, choose_model
from stub_networks import interpolating_points, register, stub_model

pytestmark = pytest.mark.usefixtures("qt_or_skip")
USUAL, CUBIC, CUSTOM, SAME = range(4)


@pytest.fixture
def panel(monkeypatch, user_models, apply_panel):
    """The scan Jaw of 28 x 24 x 4 voxels with slices of 0.9 mm, and a model of any size among the user's own."""
    register(monkeypatch)
    stub_model(interpolating_points(), name="zebra").save(user_models / "zebra.safetensors")
    apply_panel.model.listModels()
    apply_panel.choices.inputNode.SetSpacing(0.3, 0.3, 0.9)
    choose_model(apply_panel)
    return apply_panel


def test_cubic_voxels_are_one_click_away_and_the_model_follows_and_returns(panel):
    ui = panel.ui
    assert ui.outputLabel.text.startswith("56 x 48 x 4 voxels") and ui.voxelSizeFrame.isHidden()
    ui.voxelSizeSelector.currentIndex = CUBIC
    other = panel.parameters.model
    assert other != "tiny" and ui.outputLabel.text.startswith("28 x 24 x 12 voxels of 0.3 mm")
    assert ui.applyButton.enabled and ui.modelLabel.text == "Chosen for this voxel size, which tiny does not make."
    assert panel.choices.options().output_spacing == "cubic"
    ui.voxelSizeSelector.currentIndex = USUAL
    assert panel.parameters.model == "tiny" and ui.outputLabel.text.startswith("56 x 48 x 4 voxels")
    assert "Chosen for" not in ui.modelLabel.text


def test_a_size_of_ones_own_begins_with_the_finest_axis_and_may_differ_from_axis_to_axis(panel):
    ui = panel.ui
    ui.voxelSizeSelector.currentIndex = CUSTOM
    assert not ui.voxelSizeFrame.isHidden() and ui.voxelSizeKSpinBox.enabled
    assert [ui.voxelSizeISpinBox.value, ui.voxelSizeKSpinBox.value] == [0.3, 0.3]
    ui.voxelSizeISpinBox.value = ui.voxelSizeJSpinBox.value = 0.15
    ui.voxelSizeKSpinBox.value = 0.9
    assert panel.parameters.model == "tiny", "which makes just that"
    assert panel.choices.options().output_spacing == (0.15, 0.15, 0.9)
    ui.voxelSizeKSpinBox.value = 0.4
    assert panel.parameters.model != "tiny" and ui.outputLabel.text.startswith(
        "56 x 48 x 9 voxels of 0.15 x 0.15 x 0.4 mm"
    )


def test_a_model_that_the_user_has_chosen_since_stays_and_the_reason_is_said(panel):
    ui = panel.ui
    ui.voxelSizeSelector.currentIndex = CUBIC
    choose_model(panel)
    assert panel.parameters.model == "tiny" and not ui.applyButton.enabled
    assert "enlarges slices by 2, not by 1 x 1 x 3" in ui.statusLabel.text
    ui.voxelSizeSelector.currentIndex = USUAL
    assert panel.parameters.model == "tiny" and ui.applyButton.enabled


def test_another_scan_keeps_what_is_asked_and_a_cubic_one_has_nothing_to_win(panel):
    ui = panel.ui
    ui.voxelSizeSelector.currentIndex = CUBIC
    other = add_scan("Other")
    other.SetSpacing(0.2, 0.2, 0.2)
    ui.inputSelector.setCurrentNode(other)
    assert not ui.applyButton.enabled and "0.2 mm already: nothing would become finer" in ui.statusLabel.text
    ui.voxelSizeSelector.currentIndex = CUSTOM
    assert ui.voxelSizeISpinBox.value == 0.1


def test_the_choice_is_kept_with_the_scene_and_a_saved_model_is_not_replaced(panel):
    from CBCTSuperResLib.panels.apply.choices import ApplyChoices

    panel.ui.voxelSizeSelector.currentIndex = CUBIC
    panel.parameters.model = "tiny"
    restored = ApplyChoices()
    restored.parameters = panel.parameters
    restored.followInput()
    restored.followVoxelSize()
    assert restored.parameters.model == "tiny" and restored.options().output_spacing == "cubic"
    restored.parameters = None
    restored.followVoxelSize()
    assert restored.modelReason == ""


def test_where_three_planes_are_closer_to_the_truth_it_is_said_and_one_choice_away(panel):
    ui = panel.ui
    panel.choices.inputNode.SetSpacing(0.3, 0.3, 0.3)
    panel.parameters.model = "light"
    ui.voxelSizeSelector.currentIndex = CUSTOM
    why = "light does not make slice by slice. In all axes it does, closer to the truth and some 3 times as long."
    assert panel.parameters.model == "any-size" and ui.modelLabel.text == f"Chosen for this voxel size, which {why}"
    ui.planesSelector.currentIndex = 1
    assert panel.parameters.model == "light" and ui.applyButton.enabled
    assert ui.outputLabel.text.startswith("56 x 48 x 8 voxels of 0.15 mm")
    assert "slice by slice" not in ui.modelLabel.text


def test_the_same_size_with_less_noise_is_a_choice_and_brings_its_model(panel):
    ui = panel.ui
    ui.voxelSizeSelector.currentIndex = SAME
    assert ui.voxelSizeSelector.currentText == "Same size, less noise" and ui.voxelSizeFrame.isHidden()
    assert panel.choices.options().scale == 1 and panel.choices.options().output_spacing is None
    assert panel.parameters.model != "tiny" and ui.outputLabel.text.startswith("28 x 24 x 4 voxels")
    assert ui.applyButton.enabled and ui.modelLabel.text == "Chosen because tiny does not denoise without enlarging."
    choose_model(panel)
    assert not ui.applyButton.enabled and "tiny was trained for x2" in ui.statusLabel.text
    ui.voxelSizeSelector.currentIndex = USUAL
    assert panel.parameters.model == "tiny" and ui.applyButton.enabled


def test_size_memory_and_time_are_foretold_and_follow_axes_and_output_type(apply_panel):
    from CBCTSuperResLib.panels.apply.parameters import OutputType

    text, hint = apply_panel.ui.outputLabel.text, apply_panel.ui.outputLabel.toolTip
    assert "21.5 kB" in text and " s or so" in text and "MB of memory" in hint and "guess" in hint
    apply_panel.ui.outputTypeSelector.currentIndex = list(OutputType).index(OutputType.float32)
    assert "43.0 kB" in apply_panel.ui.outputLabel.text
    assert "number of slices stays" in apply_panel.ui.planesSelector.toolTip
    apply_panel.ui.planesSelector.currentIndex = 1
    assert apply_panel.ui.outputLabel.text.startswith("56 x 48 x 8 voxels of 0.125 x 0.125 x 0.15 mm")
    assert apply_panel.parameters.planes.value == "isotropic"
    assert "coronal" in apply_panel.ui.planesSelector.toolTip


def test_apply_says_why_it_is_disabled(apply_panel, scene):
    import slicer

    apply_panel.ui.outputSelector.setCurrentNode(apply_panel.ui.inputSelector.currentNode())
    assert not apply_panel.ui.applyButton.enabled and "is the input volume" in apply_panel.ui.applyButton.toolTip
    apply_panel.ui.outputSelector.setCurrentNode(None)
    assert apply_panel.ui.applyButton.enabled
    flat = add_scan("Flat")
    flat.SetSpacing(0.2, 0.2, 2.0)
    apply_panel.ui.inputSelector.setCurrentNode(flat)
    apply_panel.ui.planesSelector.currentIndex = 1
    assert not apply_panel.ui.applyButton.enabled and "spacing" in apply_panel.ui.applyButton.toolTip
    assert "spacing" in apply_panel.ui.statusLabel.text and apply_panel.ui.outputLabel.text == ""
    slicer.mrmlScene.RemoveNode(flat)
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing")
    apply_panel.ui.inputSelector.setCurrentNode(empty)
    assert "Nothing is empty" in apply_panel.ui.applyButton.toolTip
    apply_panel.parameters.inputVolume = None
    assert "No input volume" in apply_panel.ui.applyButton.toolTip
