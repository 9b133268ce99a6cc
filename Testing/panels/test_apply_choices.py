"""What is chosen in the panel of CBCTSuperRes, what it comes to and why Apply cannot run, without any widget."""

from __future__ import annotations

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
    assert choices.inputNotes() == [] and choices.plan().grid.size == (56, 48, 4)


def test_a_spacing_that_is_unusual_is_noticed(choices):
    for spacing, words in (
        ((1.0, 1.0, 1.0), "exactly 1 x 1 x 1 mm"),
        ((0.25, 0.25, 1.0), "The slices are 1 mm apart"),
        ((0.25, 0.35, 0.3), "The pixels are not square"),
    ):
        choices.inputNode.SetSpacing(*spacing)
        assert any(words in note for note in choices.inputNotes()), words


def test_a_voxel_size_outside_the_model_s_range_is_noticed(choices):
    choices.parameters.model = "light"
    choices.inputNode.SetSpacing(0.9, 0.9, 0.9)
    assert any("outside the model's range" in note for note in choices.inputNotes())


def test_better_quality_takes_as_many_times_longer(choices):
    from CBCTSuperResLib.panels.apply.parameters import Quality

    before = choices.plan().seconds
    choices.parameters.quality = Quality.best
    assert choices.plan().seconds == pytest.approx(8 * before)


def test_a_result_that_does_not_fit_into_the_memory_is_refused_with_the_numbers(choices, monkeypatch):
    from CBCTSuperResLib.apply import plan

    monkeypatch.setattr(plan, "available_memory", lambda: 10_000_000)
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
    assert "No input volume" in choices.problem() and choices.previewProblem() == "Choose an input volume."
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

    assert optionsText(Options()) == "usual options"
    assert optionsText(Options(ensemble=8, device="cpu")) == "device cpu, ensemble 8"
