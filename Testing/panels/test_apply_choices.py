"""What is chosen in the panel of CBCTSuperRes, what it comes to and why Apply cannot run, without any widget."""

from __future__ import annotations

from dataclasses import replace

import pytest
from apply_helpers import add_scan
from CBCTSuperResLib.core.errors import ModelError
from CBCTSuperResLib.core.options import Options

pytestmark = pytest.mark.usefixtures("qt_or_skip")


@pytest.fixture
def choices(application, scene, apply_module, user_models):
    """The volume Jaw and the tiny model."""
    from CBCTSuperResLib.panels.apply.choices import ApplyChoices
    from CBCTSuperResLib.panels.apply.parameters import ApplyParameters

    made = ApplyChoices()
    made.parameters = ApplyParameters(apply_module.CBCTSuperResLogic().getParameterNode())
    made.parameters.inputVolume, made.parameters.model = add_scan("Jaw"), "tiny"
    return made


def test_untouched_choices_are_the_usual_options_with_which_apply_can_run(choices):
    assert choices.options() == Options() and choices.problem() == choices.previewProblem() == ""
    assert choices.notes() == [] and choices.plan().grid.size == (56, 48, 4)


def test_a_spacing_that_is_unusual_is_noticed(choices):
    for spacing, words in (
        ((1.0, 1.0, 1.0), "exactly 1 x 1 x 1 mm"),
        ((0.25, 0.25, 1.0), "The slices are 1 mm apart"),
        ((0.25, 0.35, 0.3), "The pixels are not square"),
    ):
        choices.inputNode.SetSpacing(*spacing)
        assert any(words in note for note in choices.notes()), words


def test_a_voxel_size_outside_the_model_s_range_is_noticed(choices):
    choices.parameters.model = "light"
    choices.inputNode.SetSpacing(0.9, 0.9, 0.9)
    assert any("outside the model's range" in note for note in choices.notes())


def test_better_quality_takes_as_many_times_longer(choices):
    from CBCTSuperResLib.panels.apply.parameters import Quality

    before = choices.plan().seconds
    choices.parameters.quality = Quality.best
    assert choices.plan().seconds == pytest.approx(8 * before)


def test_a_result_that_does_not_fit_into_the_memory_is_refused_with_the_numbers(choices, monkeypatch):
    from CBCTSuperResLib.apply import memory_and_disk

    monkeypatch.setattr(memory_and_disk, "available_memory", lambda: 10_000_000)
    assert "only 10 MB are free" in choices.problem() and "ROI" in choices.problem()


def test_what_the_window_clips_is_told_of_the_roi(choices, scene):
    import slicer
    from CBCTSuperResLib.panels.apply.parameters import WindowPreset

    voxels = slicer.util.arrayFromVolume(choices.inputNode)
    voxels[:, :, 14:] = 3000 + voxels[:, :, 14:] % 100
    voxels[:, :, :14] = 1000 + voxels[:, :, :14] % 100
    slicer.util.arrayFromVolumeModified(choices.inputNode)
    choices.parameters.windowPreset = WindowPreset.custom
    choices.parameters.windowLow, choices.parameters.windowHigh = 500.0, 2000.0
    assert choices.window().clipped_above == pytest.approx(0.5)
    choices.parameters.roi = roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetSize(0.7, 0.7, 0.7)
    clipped = []
    for column in (5, 23):
        x, y, z = choices.volume().grid.point((column, 12, 2))  # LPS
        roi.SetCenter(-x, -y, z)
        clipped.append(choices.window().clipped_above)
    assert clipped == [0, 1]


def test_why_apply_cannot_run_is_said(choices, scene):
    choices.parameters.outputVolume = choices.inputNode
    assert "The output volume is the input volume" in choices.problem()
    choices.parameters.outputVolume = None
    choices.parameters.model = "gone"
    assert "The model gone is not installed" in choices.problem()
    with pytest.raises(ModelError):
        choices.installedCard()
    choices.isLocked = True
    assert choices.problem() == choices.previewProblem() == "Something else is being computed."
    choices.isLocked = False
    choices.parameters.inputVolume = None
    assert "No input volume" in choices.problem() and "No input volume" in choices.previewProblem()
    assert choices.measuredBox() is None
    choices.parameters = None
    assert choices.problem() == "No scene is open." and choices.card() is None and choices.measuredBox() is None


def test_voxels_are_looked_at_again_only_when_they_have_changed(choices):
    import slicer

    volume, overview = choices.volume(), choices.overview()
    assert choices.volume() is volume and choices.overview() is overview
    slicer.util.arrayFromVolume(choices.inputNode)[0] = 0
    slicer.util.arrayFromVolumeModified(choices.inputNode)
    assert choices.volume() is not volume and choices.overview() is not overview
    choices.forget()
    assert choices.volume() is not volume


def test_options_that_were_changed_are_written_to_the_log(application):
    from CBCTSuperResLib.panels.apply.texts import optionsText

    assert optionsText(Options()) == "no option changed"
    assert optionsText(Options(ensemble=8, device="cpu")) == "device cpu, ensemble 8"


def add_result(name, scan):
    """A volume that says it was computed from another."""
    from CBCTSuperResLib.scene.nodes import recordProvenance

    node = add_scan(name)
    recordProvenance(scan, node, {"report": '{"super_resolution": {}}'})
    return node


def test_another_input_sets_the_output_back_to_a_new_volume(choices):
    jaw, other = choices.inputNode, add_scan("Other")
    choices.followInput()
    choices.parameters.outputVolume = mine = add_result("Jaw SR x2", jaw)
    choices.followInput()
    assert choices.outputNode is mine
    choices.parameters.inputVolume = other
    choices.followInput()
    assert choices.outputNode is None
    choices.parameters.inputVolume, choices.parameters.outputVolume = jaw, mine
    choices.followInput()
    assert choices.outputNode is mine, "it was made of the scan that is chosen now"
    choices.parameters.outputVolume = other
    choices.parameters = None
    choices.followInput()


def test_what_apply_replaces_is_named_and_a_scan_is_asked_for(choices, scene):
    jaw, other = choices.inputNode, add_scan("Other")
    assert choices.notes() == [] and choices.scanToReplace() is None
    choices.parameters.outputVolume = add_result("Jaw SR x2", jaw)
    assert choices.notes() == [] and choices.scanToReplace() is None
    choices.parameters.outputVolume = theirs = add_result("Other SR x2", other)
    assert choices.notes() == ["Replaces Other SR x2, the result of Other."] and choices.scanToReplace() is None
    scene.RemoveNode(other)
    assert choices.notes() == ["Replaces Other SR x2, the result of another scan."]
    theirs.SetAttribute("CBCTSuperRes.report", None)
    assert choices.scanToReplace() is theirs
    choices.parameters.outputVolume = loaded = add_scan("Follow-up")
    assert choices.notes() == ["Replaces Follow-up, which is no result of this module."]
    assert choices.scanToReplace() is loaded
    choices.parameters.outputVolume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    assert choices.notes() == [] and choices.scanToReplace() is None


def test_no_result_is_chosen_as_the_first_scan(choices, scene):
    jaw = choices.inputNode
    add_result("Jaw SR x2", jaw)
    scene.RemoveNode(jaw)
    assert choices.inputNode is None
    choices.chooseFirstScan()
    assert choices.inputNode is None
    other = add_scan("Other")
    choices.chooseFirstScan()
    assert choices.inputNode is other


def test_a_window_that_leaves_out_everything_is_refused_for_preview_and_run(choices):
    choices.parameters.windowLow, choices.parameters.windowHigh = 30000.0, 40000.0
    choices.parameters.windowPreset = type(choices.parameters.windowPreset).custom
    for problem in (choices.problem(), choices.previewProblem()):
        assert "leaves out the whole scan" in problem


def test_the_graphics_card_is_refused_where_there_is_none_and_no_terminal_is_spoken_of(choices, monkeypatch):
    from CBCTSuperResLib.panels.apply import choices as module
    from CBCTSuperResLib.panels.apply.parameters import Device

    monkeypatch.setattr(module, "count_gpus", lambda: 0)
    for choices.parameters.device in (Device.gpus, Device.gpu):
        assert "no graphics card" in choices.problem() and "--" not in choices.problem()
    monkeypatch.setattr(module, "count_gpus", lambda: 1)
    assert choices.problem() == ""


def test_a_preview_needs_no_room_for_the_result_and_may_show_what_replaces_the_input(choices, monkeypatch):
    from CBCTSuperResLib.apply import memory_and_disk

    monkeypatch.setattr(memory_and_disk, "available_memory", lambda: 10_000_000)
    choices.parameters.outputVolume = choices.inputNode
    assert choices.problem() and choices.previewProblem() == ""


def test_windows_and_models_are_named_in_a_few_words(choices):
    from CBCTSuperResLib.panels.apply.texts import windowLine, windowText

    choice = choices.window()
    window = f"{choice.window.lo:.5g} to {choice.window.hi:.5g}"
    assert windowLine("Automatic", choice) == f"Window: {window}, fits (automatic)"
    assert windowText(choice).endswith("All of the scan lies within it.")
    told = replace(choice, reason="The window [0, 1] was chosen, which holds all that the scan shows.")
    assert windowText(told) == told.reason
    labels = {card.name: card.label for card in choices.cards}
    assert labels["light"] == "Light (fast, x2)" and labels["unetspsr-light"] == "UNetSPSR-Light (fast, x2)"
