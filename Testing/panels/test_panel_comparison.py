"""Input and result side by side, faded, split or marked, and the way back; on real slice logics and composite nodes."""

from __future__ import annotations

import time

import numpy as np
import pytest
from apply_helpers import add_scan, advance
from panel_results import arrange, make_result, view, views

pytestmark = pytest.mark.usefixtures("qt_or_skip")


@pytest.fixture
def layout(apply_panel):
    import slicer

    return slicer.app.layoutManager()


def test_compare_shows_input_and_result_at_the_same_place_in_linked_views(panel, result, layout):
    scan = panel.ui.inputSelector.currentNode()
    arrange(layout, scan)
    scan.GetDisplayNode().SetAutoWindowLevel(False)
    scan.GetDisplayNode().SetWindowLevel(1234, 567)
    panel.ui.compareButton.click()
    assert layout.layout == 29
    (red, before), (yellow, after) = view("Red"), view("Yellow")
    assert before.GetBackgroundVolumeID() == scan.GetID() and after.GetBackgroundVolumeID() == result.GetID()
    assert before.GetForegroundVolumeID() is None and after.GetForegroundVolumeID() is None
    assert red.GetOrientation() == yellow.GetOrientation() == "Axial"
    assert red.GetSliceOffset() == yellow.GetSliceOffset() == 12.5
    assert red.GetFieldOfView() == yellow.GetFieldOfView() and red.GetXYZOrigin() == yellow.GetXYZOrigin()
    assert all(node.GetLinkedControl() and node.GetHotLinkedControl() for node in (before, after))
    assert result.GetDisplayNode().GetWindow() == 1234 and result.GetDisplayNode().GetLevel() == 567


def test_compare_keeps_in_view_what_was_in_view_and_both_sides_of_the_arch(panel, result, layout):
    import slicer

    def seen(place):
        """The ends of what a view shows of its plane, along its width and height, in mm."""
        middle, extent = np.array(place.GetXYZOrigin()[:2]), np.array(place.GetFieldOfView()[:2])
        return middle - extent / 2, middle + extent / 2

    scan, red = panel.ui.inputSelector.currentNode(), view("Red")[0]
    slicer.util.setSliceViewerLayers(background=scan, fit=True)
    red.SetDimensions(1000, 500, 1)
    layout.sliceWidget("Red").fitSliceToBackground()
    bounds = np.zeros(6)
    scan.GetRASBounds(bounds)
    panel.ui.compareButton.click()
    for name in ("Red", "Yellow"):
        view(name)[0].SetDimensions(250, 700, 1)
    panel.result.comparison._placeAgain()
    for name in ("Red", "Yellow"):
        low, high = seen(view(name)[0])
        assert np.all(high - low >= (bounds[1::2] - bounds[::2])[:2] - 1e-6), "the whole width was in view"
        assert view(name)[0].GetFieldOfView()[1] == pytest.approx(view(name)[0].GetFieldOfView()[0] * 700 / 250)
    panel.ui.backButton.click()
    tooth = np.array(red.GetXYZOrigin()[:2]) + (1.0, 0.5)
    red.SetFieldOfView(2.0, 1.0, 1.0)
    red.SetXYZOrigin(*tooth, 0.0)
    panel.ui.compareButton.click()
    low, high = seen(view("Yellow")[0])
    assert np.allclose((low + high) / 2, tooth, atol=0.5) and (high - low)[0] < 4, "a detail stays a detail"


@pytest.mark.parametrize("button", ["compareButton", "fadeButton"])
def test_comparing_ends_a_preview_that_uses_the_same_views(panel, result, monkeypatch, button):
    ended = []
    monkeypatch.setattr(panel.preview.preview, "switchOff", lambda: ended.append(views()))
    before = views()
    getattr(panel.ui, button).click()
    assert ended[0] == before != views()


def test_a_window_that_is_changed_while_comparing_changes_for_both_and_not_afterwards(panel, result):
    shown, other = (node.GetDisplayNode() for node in (panel.ui.inputSelector.currentNode(), result))
    panel.ui.compareButton.click()
    other.SetWindowLevel(321, 99)
    assert (shown.GetWindow(), shown.GetLevel()) == (321, 99)
    shown.SetWindowLevel(400, 200)
    assert (other.GetWindow(), other.GetLevel()) == (400, 200)
    panel.ui.backButton.click()
    shown.SetWindowLevel(500, 250)
    assert other.GetWindow() == 400


@pytest.mark.parametrize("button", ["compareButton", "fadeButton", "splitButton"])
def test_back_restores_layout_volumes_opacities_links_and_places(panel, result, layout, button, application):
    arrange(layout, panel.ui.inputSelector.currentNode())
    before = views()
    getattr(panel.ui, button).click()
    assert views() != before and panel.ui.backButton.enabled
    view("Red")[0].SetOrientation("Sagittal")
    view("Yellow")[0].SetFieldOfView(3.0, 3.0, 1.0)
    panel.ui.backButton.click()
    assert layout.layout == 6 and views() == before and not panel.ui.backButton.enabled
    time.sleep(0.12)
    application.qapp.processEvents()
    assert views() == before


def test_going_from_one_comparison_to_the_other_does_not_forget_what_was_shown_first(panel, result, layout):
    arrange(layout, panel.ui.inputSelector.currentNode())
    before = views()
    for button in (panel.ui.compareButton, panel.ui.fadeButton, panel.ui.fadeButton, panel.ui.compareButton):
        button.click()
    panel.ui.backButton.click()
    assert layout.layout == 6 and views() == before


def test_fading_goes_from_input_to_result_in_all_views(panel, result, layout):
    assert panel.ui.fadeSlider.isHidden()
    before = layout.layout
    panel.ui.fadeButton.click()
    assert layout.layout == before and not panel.ui.fadeSlider.isHidden() and not panel.ui.fadeLabel.isHidden()
    composites = [view(name)[1] for name in layout.sliceViewNames()]
    for percent in (0, 80, 100):
        panel.ui.fadeSlider.value = percent
        assert [node.GetForegroundOpacity() for node in composites] == [percent / 100] * 3
    assert {node.GetBackgroundVolumeID() for node in composites} == {panel.ui.inputSelector.currentNode().GetID()}
    assert {node.GetForegroundVolumeID() for node in composites} == {result.GetID()}
    panel.ui.backButton.click()
    assert panel.ui.fadeSlider.isHidden()


def test_a_volume_that_was_shown_and_removed_meanwhile_is_not_asked_for_again(panel, result, layout, scene):
    other = add_scan("Other")
    arrange(layout, other)
    panel.ui.compareButton.click()
    scene.RemoveNode(other)
    panel.ui.backButton.click()
    assert view("Red")[1].GetBackgroundVolumeID() is None


def test_removing_input_or_result_while_comparing_leaves_the_way_back(panel, result, layout, scene):
    panel.ui.compareButton.click()
    scene.RemoveNode(panel.ui.inputSelector.currentNode())
    panel.refresh()
    assert not panel.ui.compareButton.enabled and "no longer in the scene" in panel.ui.compareButton.toolTip
    scene.RemoveNode(result)
    panel.ui.backButton.click()
    assert layout.layout != 29 and panel.ui.resultLabel.text == "There is no result yet."


def test_closing_the_scene_while_comparing_gives_the_views_back(panel, result, layout, scene):
    arrange(layout, panel.ui.inputSelector.currentNode())
    panel.ui.compareButton.click()
    scene.Clear(0)
    assert layout.layout == 6 and panel.result.comparison.mode == "" and not panel.ui.backButton.enabled
    assert panel.ui.resultLabel.text == "There is no result yet."


def test_without_slice_views_the_reason_is_given_and_nothing_fails(panel, result, monkeypatch):
    import slicer

    monkeypatch.setattr(type(slicer.app), "layoutManager", lambda self: None)
    panel.refresh()
    assert not panel.ui.compareButton.enabled and "no slice views" in panel.ui.compareButton.toolTip
    panel.result.onCompare()
    panel.result.onFade()
    assert panel.result.comparison.mode == ""
    assert panel.ui.differenceButton.enabled


def test_slice_views_that_vanish_while_comparing_do_no_harm(panel, result, monkeypatch):
    import slicer

    panel.ui.compareButton.click()
    monkeypatch.setattr(type(slicer.app), "layoutManager", lambda self: None)
    panel.close()
    assert panel.result.comparison.mode == ""


def test_the_result_of_a_run_is_shown_and_replaces_what_is_compared(panel, result, fake_job, layout):
    panel.ui.compareButton.click()
    panel.ui.outputSelector.setCurrentNode(None)
    panel.ui.applyButton.click()
    again = make_result("Jaw SR x2_1")
    advance(panel, fake_job, isFinished=True, outputVolume=again)
    assert panel.ui.resultLabel.text.startswith("Jaw SR x2_1:")
    assert view("Yellow")[1].GetBackgroundVolumeID() == again.GetID()
    panel.ui.backButton.click()
    assert view("Red")[1].GetBackgroundVolumeID() == again.GetID()


def test_a_line_between_input_and_result_is_dragged_with_the_mouse_in_all_views(panel, result, layout):
    import vtk

    def drag(name, start, end):
        """Press, move and release the mouse in a view; what reaches the view's own interaction."""
        interactor, seen = layout.sliceWidget(name).sliceView().interactor(), []
        events = ("LeftButtonPressEvent", "MouseMoveEvent", "LeftButtonReleaseEvent")
        tags = [interactor.AddObserver(event, lambda _, event: seen.append(event)) for event in events]
        for event, column in zip(events, (start, end, end), strict=True):
            interactor.SetEventInformation(column, 50)
            interactor.InvokeEvent(event)
        for tag in tags:
            interactor.RemoveObserver(tag)
        return seen

    def pictures(name):
        renderer = layout.sliceWidget(name).sliceView().renderWindow().GetRenderers().GetFirstRenderer()
        return [prop for prop in renderer.GetViewProps() if isinstance(prop.GetMapper(), vtk.vtkImageMapper)]

    scan = panel.ui.inputSelector.currentNode()
    panel.ui.splitButton.click()
    names = ("Red", "Yellow", "Green")
    for name in names:
        composite = view(name)[1]
        assert (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()) == (scan.GetID(), result.GetID())
        assert composite.GetForegroundOpacity() == 0
        assert [picture.GetPosition()[0] for picture in pictures(name)] == [128]
    assert drag("Red", 130, 64) == []
    for name in names:
        (picture,) = pictures(name)
        assert picture.GetPosition() == (64, 0)
        assert picture.GetMapper().GetCustomDisplayExtents() == (64, 255, 0, 255)
    assert len(drag("Red", 200, 10)) == 3, "away from the line the mouse does what it always does"
    view("Red")[0].SetDimensions(512, 100, 1)
    assert pictures("Red")[0].GetPosition() == (128, 0)
    panel.ui.backButton.click()
    assert [pictures(name) for name in names] == [[], [], []] and len(drag("Red", 128, 10)) == 3


@pytest.fixture
def marks(panel, result):
    """Where the model disagrees: more in the left half of the result."""
    import slicer
    from CBCTSuperResLib.io.volume import Volume
    from CBCTSuperResLib.scene.nodes import (
        DISAGREEMENT_ROLE,
        createOutputNode,
        fillNode,
        placeBeside,
        volumeFromNode,
    )

    node = createOutputNode(result, "Jaw SR x2 model disagreement")
    placeBeside(result, node)
    volume = volumeFromNode(result)
    for _ in fillNode(node, Volume(np.zeros(volume.voxels.shape, np.float32), volume.grid)):
        pass
    display = node.GetScalarVolumeDisplayNode()
    display.SetWindowLevelMinMax(0, 80)
    display.SetLowerThreshold(40)
    display.SetApplyThreshold(True)
    result.SetNodeReferenceID(DISAGREEMENT_ROLE, node.GetID())
    panel.refresh()
    slicer.app.processEvents()
    return node


def test_marks_are_offered_only_where_the_disagreement_was_computed(panel, result):
    assert panel.ui.disagreementButton.isHidden() and panel.ui.disagreementSlider.isHidden()


def test_where_the_model_disagrees_is_marked_above_a_threshold_and_the_way_back_is_kept(panel, result, marks, layout):
    arrange(layout, panel.ui.inputSelector.currentNode())
    before = views()
    panel.ui.disagreementButton.click()
    red = view("Red")[1]
    assert red.GetBackgroundVolumeID() == result.GetID() and red.GetForegroundVolumeID() == marks.GetID()
    assert 0 < red.GetForegroundOpacity() < 1
    slider = panel.ui.disagreementSlider
    assert not slider.isHidden() and (slider.value, slider.maximum) == (40, 80)
    slider.value = 25
    assert marks.GetDisplayNode().GetLowerThreshold() == 25
    panel.ui.compareButton.click()
    assert slider.isHidden()
    panel.ui.backButton.click()
    assert views() == before


def test_error_bars_are_marked_above_their_threshold_and_read_at_the_cursor(panel, result, marks, scene):
    import slicer
    from CBCTSuperResLib.scene.nodes import MAP_ROLES

    assert panel.ui.probeLabel.isHidden() and "disagrees" in panel.ui.disagreementButton.text
    slicer.util.arrayFromVolume(marks)[:] = 20
    result.SetNodeReferenceID(MAP_ROLES["predictive deviation"], marks.GetID())
    panel.refresh()
    assert not panel.ui.probeLabel.isHidden() and "error bars" in panel.ui.disagreementButton.text
    assert "Move the mouse" in panel.ui.probeLabel.text
    matrix = vtk_matrix(result)
    cursor = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    cursor.SetCursorPositionRAS((matrix @ [3, 4, 1, 1])[:3].tolist())
    assert "\u00b1 30" in panel.ui.probeLabel.text  # 1.645 x 20
    panel.ui.disagreementButton.click()
    assert view("Red")[1].GetForegroundVolumeID() == marks.GetID()
    assert "gray values" in panel.ui.disagreementSlider.toolTip
    result.SetNodeReferenceID(MAP_ROLES["bone misclassification"], marks.GetID())
    panel.refresh()
    assert "bone" in panel.ui.disagreementButton.text and "per cent" in panel.ui.disagreementSlider.toolTip
    panel.ui.backButton.click()


def vtk_matrix(node) -> np.ndarray:
    """From voxels (i, j, k) to the world."""
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def test_marks_and_fade_of_a_restored_scene_can_be_taken_off(panel, result, marks, layout):
    for button, mode in ((panel.ui.disagreementButton, "marks"), (panel.ui.fadeButton, "fade")):
        button.click()
        panel.unbind()
        panel.result.comparison.mode = ""  # as in another session
        panel.bind()
        assert panel.result.comparison.mode == mode and panel.ui.backButton.enabled
        panel.ui.backButton.click()
        assert view("Red")[1].GetForegroundVolumeID() is None and not panel.ui.backButton.enabled


def test_marks_have_another_color_than_a_roi_which_is_drawn_as_an_outline(panel, result, marks):
    panel.ui.fitRoiButton.click()
    assert not panel.parameters.roi.GetDisplayNode().GetFillVisibility()
    panel.ui.disagreementButton.click()
    color = np.zeros(4)
    table = marks.GetDisplayNode().GetColorNode()
    table.GetColor(table.GetNumberOfColors() - 1, color)
    assert color[0] == 0 and color[1] == color[2] > 0.9
