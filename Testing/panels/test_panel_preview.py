"""The Preview section on the stand-in, driven as a user would; the views are real MRML, the process may be faked."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from apply_helpers import add_scan, advance
from CBCTSuperResLib.core.errors import DependencyError, InputError
from CBCTSuperResLib.jobs.job import WorkerError
from preview_helpers import (
    FakeSession,
    composite,
    look_at,
    make_straight,
    previews,
    sliceNode,
    switch,
    text,
    tick,
    wait_for_picture,
)
from waiting import wait_until

pytestmark = pytest.mark.usefixtures("qt_or_skip")

posix_only = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


@pytest.fixture(autouse=True)
def no_delay(monkeypatch, mrml):
    from CBCTSuperResLib.scene import preview as live_preview

    monkeypatch.setattr(live_preview, "DELAY_S", 0.0)


@pytest.fixture
def views(application, scene):
    """The layout's views, looking at nothing; they outlive scenes."""
    manager = application.slicer.app.layoutManager()
    yield manager
    for name in manager.sliceViewNames():
        manager.sliceWidget(name).mrmlSliceCompositeNode().SetBackgroundVolumeID(None)


@pytest.fixture
def panel(views, apply_panel):
    make_straight(apply_panel.ui.inputSelector.currentNode(), (20, 24, 28))
    look_at(views, apply_panel.ui.inputSelector.currentNode())
    apply_panel.refresh()
    return apply_panel


@pytest.fixture
def fake(panel, tmp_path):
    session = panel.preview.preview._session = FakeSession(tmp_path)
    return session


def test_the_views_of_the_layout_can_be_chosen(panel):
    selector = panel.ui.previewViewSelector
    texts = [selector.itemText(n) for n in range(selector.count)]
    assert {t.split()[0] for t in texts} == {"Red", "Green", "Yellow"} and selector.currentIndex == 0
    selector.currentIndex = 1
    assert panel.parameters.previewView == texts[1].split()[0]


def test_the_preview_can_be_switched_on_when_there_is_a_volume(panel):
    assert panel.ui.previewButton.enabled and not panel.ui.previewButton.checked
    panel.parameters.inputVolume = None
    assert not panel.ui.previewButton.enabled and "input volume" in panel.ui.previewButton.toolTip


def test_a_preview_is_shown_in_the_chosen_view_with_its_progress(panel, views, fake, scene):
    switch(panel)
    assert panel.ui.previewButton.text == "Stop preview" and "Starting" in text(panel)
    assert panel._timer.isActive()
    fake.give(share=0.25, complete=False)
    tick(panel)
    assert "25 % of what is in view" in text(panel)
    (node,) = previews(scene)
    assert composite(views).GetForegroundVolumeID() == node.GetID()
    assert composite(views, "Green").GetForegroundVolumeID() is None
    fake.give()
    tick(panel)
    assert "Computed in" in text(panel) and not panel._timer.isActive()


def test_the_opacity_changes_how_much_is_seen(panel, views, fake):
    switch(panel)
    fake.give()
    tick(panel)
    assert composite(views).GetForegroundOpacity() == 1.0
    panel.ui.previewOpacitySlider.value = 40.0
    assert panel.parameters.previewFade == 40.0
    assert composite(views).GetForegroundOpacity() == pytest.approx(0.4)
    assert len(fake.asked) == 1


def test_stopping_leaves_no_trace(panel, views, fake, scene):
    switch(panel)
    fake.give()
    tick(panel)
    switch(panel)
    assert not panel.ui.previewButton.checked and panel.ui.previewButton.text == "Preview" and text(panel) == ""
    assert previews(scene) == [] and composite(views).GetForegroundVolumeID() is None and not fake.isClosed


def changes(views, panel, scene):
    """What a user may change, by name."""
    ui, red = panel.ui, sliceNode(views)
    crosshair = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    jaw = panel.choices.inputNode

    def scroll():
        red.SetSliceOffset(red.GetSliceOffset() + jaw.GetSpacing()[panel.preview.preview.seen.normal])

    def move_crosshair():
        point = np.array(red.GetSliceToRAS().MultiplyPoint([1.0, 1.0, 0.0, 1.0]))[:3]
        crosshair.SetCrosshairRAS(*point)

    def choose(widget, value):
        return lambda: setattr(widget, "currentIndex", value)

    def change_voxels():
        import slicer

        slicer.util.arrayFromVolume(jaw)[...] += 1
        slicer.util.arrayFromVolumeModified(jaw)

    def change_input():
        other = make_straight(add_scan("Other"), (18, 20, 22))
        ui.inputSelector.setCurrentNode(other)

    return {
        "slice": scroll,
        "crosshair": move_crosshair,
        "view": choose(ui.previewViewSelector, 1),
        "window": choose(ui.windowPresetSelector, 1),
        "quality": choose(ui.qualitySelector, 1),
        "voxels": change_voxels,
        "input": change_input,
        "zoom": lambda: red.SetFieldOfView(*(np.array(red.GetFieldOfView()) / (4, 4, 1))),
    }


@pytest.mark.parametrize("what", ["slice", "crosshair", "view", "window", "quality", "voxels", "input", "zoom"])
def test_any_change_cancels_and_begins_anew(panel, views, fake, scene, what):
    sliceNode(views).SetSliceOffset(sliceNode(views).GetSliceOffset() + 0.3)
    switch(panel)
    fake.give()
    tick(panel)
    assert len(fake.asked) == 1 and not panel._timer.isActive()
    changes(views, panel, scene)[what]()
    assert panel._timer.isActive()
    tick(panel)
    assert len(fake.asked) == 2 and fake.asked[0] != fake.asked[1]
    isOfTheSameSlice = what in ("crosshair", "zoom")
    assert bool(previews(scene)) == isOfTheSameSlice
    fake.give(value=2000)
    tick(panel)
    assert len(previews(scene)) == 1


def test_what_changes_nothing_begins_nothing(panel, views, fake, scene):
    switch(panel)
    panel.refresh()
    sliceNode(views, "Green").SetSliceOffset(3.0)
    panel.choices.inputNode.SetName("Jaw again")
    sliceNode(views).Modified()
    tick(panel)
    assert len(fake.asked) == 1


def test_a_moved_transform_takes_the_preview_along(panel, views, fake, scene):
    import vtk

    switch(panel)
    fake.give()
    tick(panel)
    parent = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    panel.choices.inputNode.SetAndObserveTransformNodeID(parent.GetID())
    (node,) = previews(scene)
    assert node.GetParentTransformNode() is parent
    turn = vtk.vtkTransform()
    turn.RotateX(30)
    parent.SetMatrixTransformToParent(turn.GetMatrix())
    assert "tilted by" in text(panel) and previews(scene) == []


def test_window_and_level_of_the_input_are_followed(panel, views, fake, scene):
    switch(panel)
    fake.give()
    tick(panel)
    panel.choices.inputNode.GetDisplayNode().SetAutoWindowLevel(False)
    panel.choices.inputNode.GetDisplayNode().SetWindowLevel(321, 123)
    (node,) = previews(scene)
    assert (node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetLevel()) == (321, 123)


def test_a_tilted_view_is_aligned_which_is_said_and_by_a_button_when_it_is_tilted_later(panel, views, fake, scene):
    import vtk

    turn = vtk.vtkTransform()
    turn.RotateX(20)
    parent = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    parent.SetMatrixTransformToParent(turn.GetMatrix())
    panel.choices.inputNode.SetAndObserveTransformNodeID(parent.GetID())
    switch(panel)
    assert "The view Red was turned by 20 degrees" in text(panel) and len(fake.asked) == 1
    assert panel.ui.alignViewButton.isHidden()
    turn.RotateX(-15)
    parent.SetMatrixTransformToParent(turn.GetMatrix())
    assert "tilted by 15 degrees" in text(panel) and not panel.ui.alignViewButton.isHidden()
    panel.ui.alignViewButton.click()
    tick(panel)
    assert len(fake.asked) == 2 and panel.ui.alignViewButton.isHidden()


def test_the_background_of_a_preview_is_the_scan_and_what_was_shown_comes_back(panel, views, fake, scene):
    earlier, label = make_straight(add_scan("Jaw SR x2"), (20, 24, 28)), "Red"
    composite(views, label).SetBackgroundVolumeID(earlier.GetID())
    switch(panel)
    fake.give()
    tick(panel)
    assert composite(views, label).GetBackgroundVolumeID() == panel.choices.inputNode.GetID()
    switch(panel)
    assert composite(views, label).GetBackgroundVolumeID() == earlier.GetID()


def test_what_cannot_be_applied_cannot_be_previewed(panel, fake, scene):
    panel.ui.inputSelector.setCurrentNode(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing"))
    assert not panel.ui.previewButton.enabled and "Nothing is empty" in panel.ui.previewButton.toolTip


def test_a_layout_without_slice_views_is_told(panel, views, fake):
    import slicer

    views.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUp3DView)
    switch(panel)
    assert "The layout shows no slice view" in text(panel) and fake.asked == []


def test_files_of_a_process_that_has_left_are_removed_while_nobody_asks(panel, views):
    switch(panel)
    wait_for_picture(panel)
    session = panel.preview.preview._session
    folder = session._worker.files
    panel.preview.onTidy()
    assert folder.exists()
    (session._worker.files / "request-99.json").unlink(missing_ok=True)
    session._worker.cancel()
    wait_until(lambda: panel.preview.onTidy() or not folder.exists())
    assert not panel.preview._tidyTimer.isActive() or panel.preview.onTidy() is None


def test_a_view_that_left_the_volume_says_so_and_goes_on_when_it_is_back(panel, views, fake, scene):
    switch(panel)
    fake.give()
    tick(panel)
    offset = sliceNode(views).GetSliceOffset()
    sliceNode(views).SetSliceOffset(offset + 500)
    assert "does not show Jaw" in text(panel) and previews(scene) == []
    sliceNode(views).SetSliceOffset(offset)
    tick(panel)
    assert len(fake.asked) == 2


def test_a_view_across_the_slices_is_said_to_gain_less_unless_all_axes_are_enlarged(panel, views, fake):
    switch(panel)
    words = {}
    for index in range(3):
        panel.ui.previewViewSelector.currentIndex = index
        tick(panel)
        words[fake.asked[-1][1].normal] = text(panel)
    assert {normal: "one direction" in said for normal, said in words.items()} == {0: True, 1: True, 2: False}
    panel.ui.previewViewSelector.currentIndex = next(n for n in range(3) if n != list(words).index(2))
    panel.ui.planesSelector.currentIndex = 1
    tick(panel)
    assert "one direction" not in text(panel) and fake.asked[-1][1].options.planes == "isotropic"


def test_a_model_that_looks_at_whole_slices_has_no_preview_in_all_axes(panel, fake):
    import dataclasses

    cards, card = panel.choices.cards, panel.choices.card()
    spec = dataclasses.replace(card.spec, context="global")
    cards[cards.index(card)] = dataclasses.replace(card, spec=spec)
    panel.ui.planesSelector.currentIndex = 1
    assert not panel.ui.previewButton.enabled and "as long as Apply" in panel.ui.previewButton.toolTip
    panel.ui.planesSelector.currentIndex = 0
    assert panel.ui.previewButton.enabled


def test_a_crosshair_beside_the_volume_is_told_in_words(panel, views, fake, scene):
    crosshair = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    crosshair.SetCrosshairRAS(*np.array(sliceNode(views).GetSliceToRAS().MultiplyPoint([900.0, 0.0, 0.0, 1.0]))[:3])
    switch(panel)
    assert "crosshair is not on" in text(panel) and len(fake.asked) == 1
    crosshair.SetCrosshairRAS(*np.array(sliceNode(views).GetSliceToRAS().MultiplyPoint([1.0, 1.0, 0.0, 1.0]))[:3])
    tick(panel)
    assert "crosshair" not in text(panel) and len(fake.asked) == 2
    crosshair.SetCrosshairRAS(0.0, 0.0, 0.0)


def test_apply_takes_the_preview_away(panel, fake, fake_job, scene):
    switch(panel)
    fake.give()
    tick(panel)
    panel.ui.applyButton.click()
    assert not panel.ui.previewButton.checked and previews(scene) == []
    assert not panel.ui.previewButton.enabled and "Something else" in panel.ui.previewButton.toolTip
    advance(panel, fake_job, isFinished=True, error=InputError("no"))
    assert panel.ui.previewButton.enabled


def test_leaving_the_module_takes_the_preview_away_and_keeps_the_process(panel, apply_widget, views, fake, scene):
    switch(panel)
    fake.give()
    tick(panel)
    apply_widget.exit()
    assert previews(scene) == [] and not panel.preview.preview.isOn and not fake.isClosed
    sliceNode(views).SetSliceOffset(sliceNode(views).GetSliceOffset() + 0.6)
    assert not panel._timer.isActive()
    apply_widget.enter()
    assert not panel.ui.previewButton.checked
    switch(panel)
    assert len(fake.asked) == 2


def test_closing_the_scene_ends_the_process(panel, fake, scene):
    switch(panel)
    fake.give(complete=False, share=0.5)
    tick(panel)
    scene.Clear(0)
    assert fake.isClosed and not panel.preview.preview.isOn and not panel._timer.isActive()
    assert previews(scene) == []


def test_saving_the_scene_takes_the_preview_away_first(panel, views, fake, scene, tmp_path):
    switch(panel)
    fake.give()
    tick(panel)
    file = tmp_path / "Szene.mrml"
    scene.SetURL(str(file))
    scene.StartState(scene.SaveState)
    scene.EndState(scene.SaveState)
    assert previews(scene) == [] and composite(views).GetForegroundVolumeID() is None
    assert not panel.ui.previewButton.checked


def test_missing_packages_are_told_and_nothing_is_switched_on(panel, fake, monkeypatch):
    def refuse(*_, **__):
        raise DependencyError("PyTorch is missing.", "Install the extension PyTorch.")

    monkeypatch.setattr("CBCTSuperResLib.panels.dialogs.ensurePackages", refuse)
    switch(panel)
    assert "PyTorch is missing" in text(panel) and not panel.ui.previewButton.checked and fake.asked == []


def test_a_process_that_fails_is_told_in_words_and_the_next_change_tries_again(panel, views, fake, caplog):
    switch(panel)
    fake.error = WorkerError("The worker process was killed (signal 9).", "Close.", detail="a trace")
    tick(panel)
    assert text(panel) == "The worker process was killed (signal 9). Close." and "a trace" in caplog.text
    assert panel.preview.preview.isOn and not panel.preview.isBusy
    red = sliceNode(views)
    red.SetFieldOfView(*(np.array(red.GetFieldOfView()) / (4, 4, 1)))
    tick(panel)
    assert len(fake.asked) == 2 and "killed" not in text(panel)


def test_a_volume_that_goes_takes_its_preview_with_it(panel, fake, scene):
    switch(panel)
    fake.give()
    tick(panel)
    scene.RemoveNode(panel.choices.inputNode)
    assert previews(scene) == []


def test_the_chosen_view_is_saved_with_the_scene(panel, scene):
    panel.ui.previewViewSelector.currentIndex = 2
    panel.ui.previewOpacitySlider.value = 60.0
    node = panel.parameters.parameterNode
    assert node.GetParameter("previewView") and float(node.GetParameter("previewFade")) == 60.0


def test_without_a_layout_the_panel_works_and_says_that_there_is_no_view(panel, fake, monkeypatch):
    from CBCTSuperResLib.panels.apply import preview as preview_section

    monkeypatch.setattr(preview_section, "sliceViews", lambda scene: [])
    panel.refresh()
    switch(panel)
    assert "no slice view" in text(panel)


def test_a_real_preview_from_click_to_picture(panel, views, scene):
    """The real process; what the view draws in the end is what the file of the picture held."""
    switch(panel)
    wait_for_picture(panel)
    (node,) = previews(scene)
    assert composite(views).GetForegroundVolumeID() == node.GetID()
    assert "Computed in" in text(panel)
    worker = panel.preview.preview._session._worker
    sliceNode(views).SetFieldOfView(*(np.array(sliceNode(views).GetFieldOfView()) / (3, 3, 1)))
    wait_for_picture(panel)
    assert panel.preview.preview._session._worker is worker


@posix_only
def test_a_real_process_that_is_killed_is_told_in_words(panel, views, scene):
    switch(panel)
    wait_for_picture(panel)
    worker = panel.preview.preview._session._worker
    os.killpg(worker._process.pid, signal.SIGSTOP)
    sliceNode(views).SetFieldOfView(*(np.array(sliceNode(views).GetFieldOfView()) / (3, 3, 1)))
    tick(panel)
    os.killpg(worker._process.pid, signal.SIGKILL)
    wait_until(lambda: tick(panel) or "was killed" in text(panel))


def test_files_of_the_process_are_removed_when_the_panel_closes(panel, apply_widget, views):
    switch(panel)
    wait_for_picture(panel)
    folder = panel.preview.preview._session._worker.files
    assert folder.exists()
    apply_widget.cleanup()
    assert not folder.exists()
