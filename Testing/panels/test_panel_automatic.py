"""The model that the scan chooses, in the panel of CBCTSuperRes: what is told, and what is computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from apply_helpers import FakeJob, add_scan, advance
from CBCTSuperResLib.acquisition.estimate import BlurAlongAxis, EstimatedAcquisition
from CBCTSuperResLib.acquisition.noise_level import NoiseLevel
from CBCTSuperResLib.core.errors import InputError
from waiting import wait_until

pytestmark = pytest.mark.usefixtures("qt_or_skip")
USUAL, CUBIC, CUSTOM, SAME = range(4)


class FakeLook(FakeJob):
    """A look that is over when the test says so."""

    scanner = None


@pytest.fixture
def looks(application, monkeypatch):
    """The looks that were begun, newest last; none of them sees anything by itself."""
    from CBCTSuperResLib.panels.apply import scanner
    from CBCTSuperResLib.scene.logic import SuperResLogic

    begun = []

    def start(logic, *asked):
        begun.append(FakeLook())
        begun[-1].asked = asked
        return begun[-1]

    monkeypatch.setattr(SuperResLogic, "startLook", start)
    monkeypatch.setattr(scanner, "QUIET_S", 0.0)
    return begun


@pytest.fixture
def widget(application, scene, apply_module, packages, nothing_fails_unseen):
    add_scan("Jaw").SetSpacing(0.2, 0.2, 0.2)
    widget = application.showWidget(apply_module)
    yield widget
    widget.cleanup()


@pytest.fixture
def panel(looks, widget):
    return widget.panel


def seen(blur: float, is_sure: bool = True) -> EstimatedAcquisition:
    """A scan's blur, a standard deviation in its voxels; light met 0.42 voxels."""
    axes = [BlurAlongAxis(blur, 0.02, blur, blur if is_sure else None, 90, is_sure, "" if is_sure else "few edges")] * 3
    return EstimatedAcquisition((0.2,) * 3, tuple(axes), NoiseLevel(60.0, 1.0, 0.0, 0.0, np.empty(0)))


def see(panel, looks, scanner: EstimatedAcquisition) -> None:
    """Let the look that is due begin, and end with what it was to find."""
    panel.onTimer()
    looks[-1].scanner = scanner
    advance(panel, looks[-1], isFinished=True)


def names(panel) -> list[str]:
    selector = panel.ui.modelSelector
    return [selector.itemText(n) for n in range(selector.count)]


def test_a_new_scene_leaves_the_model_to_the_scan_and_says_which_it_is_and_why(panel, looks):
    ui = panel.ui
    assert names(panel)[0] == ui.modelSelector.currentText == "Automatic (by the scan)"
    assert panel.parameters.model == "" and ui.applyButton.enabled
    assert ui.modelLabel.text == "light, or another one if the scan's blur asks for it: looking at the scan…"
    see(panel, looks, seen(0.75))
    why = "adaptive: the scan's blur, 0.3 mm without objects' softness, is unlike what light learned (0.2 mm)."
    assert ui.modelLabel.text == why
    assert panel.choices.card().name == "adaptive" and "told blur and noise" in ui.modelSelector.toolTip
    assert "i 0.35 ± 0.009 mm" in ui.scannerLabel.text and not panel._timer.isActive()
    assert panel.parameters.model == "" and "The model adaptive can" not in ui.notesLabel.text
    assert not panel.choices.needsTorch(), "whichever it is, its graph will do"
    spectral = BlurAlongAxis(by_spectrum=0.55, doubt="few edges")
    for scanner, why in (
        (seen(0.55), "light: nothing speaks against it; the scan's blur without objects' softness: 0.19 mm."),
        (seen(0.75, is_sure=False), "light: the scan does not tell its blur for sure."),
        (replace(seen(0.55), blur=(spectral,) * 3), "light: the scan does not tell its blur for sure."),
    ):
        panel.choices.inputNode.GetImageData().Modified()
        panel.refresh()
        see(panel, looks, scanner)
        assert ui.modelLabel.text == why and panel.choices.card().name == "light"
    panel.choices.inputNode.GetImageData().Modified()
    panel.refresh()
    window = panel.choices.window().window.width
    grain = NoiseLevel(0.035 * window, 0.0005 * window, 0.45, 0.7, corner=0.05)
    see(panel, looks, replace(seen(0.75, is_sure=False), noise=grain, crowding=0.4, fullness=0.7))
    assert ui.modelLabel.text == "adaptive: the scan may have little blur, 0.094 mm is taken; light learned 0.2 mm."
    panel.choices.inputNode.GetImageData().Modified()
    panel.refresh()
    see(panel, looks, replace(seen(0.75), blur=(BlurAlongAxis(by_spectrum=0.75, doubt="few edges"),) * 3))
    assert ui.modelLabel.text == (
        "adaptive: the scan's blur is not sure; it seems to be 0.3 mm without objects' softness, light learned 0.2 mm."
    )


def test_where_no_other_model_can_take_over_the_usual_one_is_not_said_to_suit(panel, looks, monkeypatch):
    monkeypatch.setattr("CBCTSuperResLib.apply.suited_model.told_model", lambda *_: None)
    see(panel, looks, seen(0.75))
    why = "light: the scan's blur, 0.3 mm without objects' softness, is unlike what light learned (0.2 mm)."
    assert panel.ui.modelLabel.text == why and "The model adaptive can" in panel.ui.notesLabel.text


def test_the_voxel_size_decides_before_the_scan_s_blur_and_giving_it_up_gives_the_choice_back(panel, looks):
    see(panel, looks, seen(0.75))
    panel.choices.inputNode.SetSpacing(0.2, 0.2, 0.6)
    see(panel, looks, seen(0.75))
    assert panel.choices.card().name == "adaptive"
    panel.ui.voxelSizeSelector.currentIndex = CUBIC
    assert panel.ui.modelLabel.text == "any-size: light does not make this voxel size."
    assert panel.parameters.model == "" and panel.ui.outputLabel.text.startswith("28 x 24 x 12 voxels")
    panel.choices.inputNode.SetSpacing(0.2, 0.2, 0.2)
    panel.ui.voxelSizeSelector.currentIndex = CUSTOM
    closer = "In all axes it does, closer to the truth and some 3 times as long."
    assert panel.ui.modelLabel.text == f"any-size: light does not make this voxel size slice by slice. {closer}"
    panel.choices.inputNode.SetSpacing(0.2, 0.2, 0.6)
    panel.ui.voxelSizeSelector.currentIndex = SAME
    assert panel.ui.modelLabel.text == "any-size: light does not denoise without enlarging."
    panel.ui.voxelSizeSelector.currentIndex = USUAL
    assert panel.parameters.model == "" and panel.choices.card().name == "adaptive" and len(looks) == 2


def test_a_chosen_model_stays_and_the_way_back_to_a_suited_one_is_a_click(panel, looks):
    ui = panel.ui
    ui.modelSelector.currentIndex = ui.modelSelector.findText("Light (fast, x2)")
    see(panel, looks, seen(0.75))
    assert panel.choices.card().name == "light" and "The model adaptive can" in ui.notesLabel.text
    assert "it would be Adaptive (fast, x2)" in ui.betterModelButton.toolTip and not ui.betterModelButton.isHidden()
    ui.betterModelButton.click()
    assert panel.parameters.model == "" and panel.choices.card().name == "adaptive" and ui.betterModelButton.isHidden()
    assert "The model adaptive can" not in ui.notesLabel.text and len(looks) == 1
    ui.modelSelector.currentIndex = ui.modelSelector.findText("Adaptive (fast, x2)")
    assert panel.parameters.model == "adaptive" and ui.betterModelButton.isHidden()


def test_a_chosen_model_that_cannot_make_the_voxel_size_is_left_by_a_click(panel, looks):
    ui = panel.ui
    panel.choices.inputNode.SetSpacing(0.2, 0.2, 0.6)
    ui.voxelSizeSelector.currentIndex = CUBIC
    ui.modelSelector.currentIndex = ui.modelSelector.findText("Light (fast, x2)")
    assert not ui.applyButton.enabled and "it would be Any-size" in ui.betterModelButton.toolTip
    ui.betterModelButton.click()
    assert ui.applyButton.enabled and panel.choices.card().name == "any-size"


def test_without_a_look_the_run_decides_and_says_afterwards(panel, looks, monkeypatch):
    job = FakeJob(panel.choices.inputNode)
    job.report = {"super_resolution": {"model": "adaptive", "notes": ["The model adaptive was taken because …"]}}
    asked = []
    monkeypatch.setattr(panel.logic, "start", lambda *nodes, **options: asked.append(options) or job)
    panel.ui.applyButton.click()
    assert asked[0]["model"] is None and "Apply the model that the scan chooses to Jaw" in panel.ui.logText.plainText
    panel.onTimer()
    assert not looks, "a look would take the run's time"
    job.outputVolume = add_scan("Jaw SR x2")
    advance(panel, job, isFinished=True)
    assert panel.ui.statusLabel.text == "Done: Jaw SR x2, by the model adaptive"
    assert "was taken because" in panel.ui.logText.plainText


def test_a_look_belongs_to_its_scan_and_ends_when_nobody_needs_it(looks, widget, panel, scene):
    panel.onTimer()
    (first,) = looks
    assert first.asked[0].GetName() == "Jaw" and first.asked[2].roi is None
    panel.ui.inputSelector.setCurrentNode(add_scan("Other"))
    assert first.wasClosed and panel.choices.scanner is None
    see(panel, looks, seen(0.42))
    panel.choices.inputNode.SetName("Renamed")
    panel.onTimer()
    assert len(looks) == 2 and panel.choices.scanner is not None
    panel.ui.windowPresetSelector.currentIndex = 2
    panel.onTimer()
    assert len(looks) == 3, "another window may show another blur"
    widget.exit()
    assert looks[-1].wasClosed and not panel._timer.isActive()
    widget.enter()
    panel.onTimer()
    assert len(looks) == 4
    scene.Clear(0)
    assert looks[-1].wasClosed and not panel._timer.isActive()


def test_what_a_look_found_is_kept_through_a_visit_elsewhere_and_no_roi_keeps_it_from_being_found(panel, looks, widget):
    far = panel.choices.inputNode.GetScene().AddNewNodeByClass("vtkMRMLMarkupsROINode")
    far.SetCenter(1e4, 1e4, 1e4)
    panel.parameters.roi = far
    see(panel, looks, seen(0.75))
    assert panel.choices.scanner is not None and not panel.ui.applyButton.enabled
    widget.exit()
    widget.enter()
    panel.onTimer()
    assert len(looks) == 1 and panel.choices.scanner is not None
    panel.parameters.roi = None
    panel.choices.listModels()  # reads the same models again
    panel.refresh()
    assert panel.ui.modelLabel.text.startswith("adaptive: the scan's blur")


def test_files_alone_need_no_pytorch(panel):
    assert not panel.choices.needsTorch()
    panel.parameters.inputVolume = None
    assert not panel.choices.needsTorch()


def test_a_look_that_fails_is_not_tried_again_and_leaves_the_choice_to_the_run(panel, looks):
    panel.onTimer()
    advance(panel, looks[-1], isFinished=True, error=InputError("It is odd.", "Look."))
    panel.refresh()
    assert panel.ui.modelLabel.text == "light, or another one if the scan's blur asks for it; the run decides."
    assert panel.ui.applyButton.enabled and len(looks) == 1 and not panel._timer.isActive()


def test_a_batch_leaves_the_choice_to_each_scan(panel, looks, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(panel.batch.queue, "start", lambda recipe, items: asked.append(recipe))
    panel.ui.batchVolumesButton.click()
    see(panel, looks, seen(0.75))
    panel.ui.batchStartButton.click()
    assert asked[0].card is None


def test_look_preview_and_run_of_real_workers_agree_on_the_model(application, widget):
    import slicer

    panel, ui = widget.panel, widget.panel.ui
    ui.precisionSelector.currentIndex = 1
    wait_until(lambda: application.qapp.processEvents() or panel.choices.isLookedAt)
    assert panel.choices.scanner is not None and "for sure" in ui.modelLabel.text
    ui.scannerBlurSpinBox.value = 0.6
    assert ui.modelLabel.text.startswith("adaptive: the scan's blur, 0.6 mm without objects' softness, is unlike")
    slicer.util.setSliceViewerLayers(background=panel.choices.inputNode, fit=True)
    ui.previewButton.click()
    wait_until(
        lambda: application.qapp.processEvents() or panel.preview.preview.seconds[1:] or ui.previewFrame.isHidden()
    )
    assert "By the model adaptive, as Apply will take it." in ui.previewLabel.text
    ui.applyButton.click()
    wait_until(lambda: application.qapp.processEvents() or not panel.run.job)
    assert ui.statusLabel.text.endswith("by the model adaptive"), ui.statusLabel.text
