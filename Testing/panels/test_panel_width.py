"""The panel of CBCTSuperRes as the application hosts it: as wide as it is wished, and nothing crushed, ever."""

from __future__ import annotations

import pytest
from apply_helpers import add_scan, advance

pytestmark = pytest.mark.usefixtures("qt_or_skip")
LONG = "A volume with a rather long name, as they come from scanners of all kinds"


@pytest.fixture
def window(apply_widget, hosted):
    return hosted(apply_widget)


def test_width_stays_as_it_is_through_runs_visits_results_and_long_names(window, apply_panel, fake_job):
    from panel_results import make_result

    window.drag(400)
    for number in range(5):
        result = make_result(f"{LONG} SR x2 {number}")
        apply_panel.ui.applyButton.click()
        fake_job.isFinished = False
        advance(
            apply_panel, fake_job, message="Network: 3 of 8 slices, and a long word of what is done", remaining=31.0
        )
        advance(apply_panel, fake_job, isFinished=True, outputVolume=result)
        window.visit()
        assert window.dockWidth() == 400
    window.openSections()
    assert window.dockWidth() == 400
    window.drag(310)
    assert window.dockWidth() == 310


def test_nothing_is_crushed_cut_off_or_painted_over_in_any_state(window, apply_panel, fake_job, scene):
    from CBCTSuperResLib.core.errors import ResourceError
    from panel_results import make_result

    def check(state):
        window.openSections()
        for width in (600, 400, 310):
            window.drag(width)
            assert window.faults() == [], (state, width)
            assert ui.qualityTable.isHidden() or is_as_high_as_its_rows(ui.qualityTable), (state, width)

    panel, ui = apply_panel, apply_panel.ui
    check("first")
    panel.choices.inputNode.SetSpacing(0.25, 0.35, 0.3)
    ui.inputSelector.setCurrentNode(add_scan(LONG))
    ui.fitRoiButton.click()
    ui.outputSelector.setCurrentNode(add_scan(f"{LONG} too"))
    check("notes")
    ui.windowRange.setValues(300, 310)
    check("window")
    ui.voxelSizeSelector.currentIndex = 2
    panel.parameters.model = "tiny"
    assert not ui.betterModelButton.isHidden()
    check("a model that does not suit")
    ui.voxelSizeSelector.currentIndex = 0
    ui.outputSelector.setCurrentNode(None)
    ui.applyButton.click()
    advance(panel, fake_job, message="Network: 3 of 8 slices of the scan", remaining=31.0)
    check("computing")
    advance(panel, fake_job, isFinished=True, error=ResourceError("The memory is full, " * 6, "Free some of it."))
    check("error")
    ui.inputSelector.setCurrentNode(scene.GetFirstNodeByName("Jaw"))
    ui.outputSelector.setCurrentNode(make_result())
    check("result")
    ui.fadeButton.click()
    check("fade")
    ui.batchVolumesButton.click()
    check("batch")
    ui.inputSelector.setCurrentNode(None)
    check("no scan")


def is_as_high_as_its_rows(table) -> bool:
    return table.height == table.horizontalHeader().height + table.verticalHeader().length() + 2 * table.frameWidth


def test_a_label_is_no_higher_than_its_text_after_a_longer_one(window, apply_panel):
    ui = apply_panel.ui
    window.drag(310)
    before, jaw = ui.inputLabel.height, ui.inputSelector.currentNode()
    ui.inputSelector.setCurrentNode(None)
    window.dockWidth()
    assert ui.inputLabel.height > before
    ui.inputSelector.setCurrentNode(jaw)
    window.dockWidth()
    assert ui.inputLabel.height == before


def test_apply_is_on_the_first_screen_and_stays_in_its_place(window, apply_panel, fake_job):
    import qt
    from panel_results import make_result

    def place():
        window.dockWidth()
        button = apply_panel.ui.applyButton
        return button.mapTo(window.module, qt.QPoint(0, button.height)).y()

    window.drag(400)
    first = place()
    assert first < 600, "the application's tool bars and its own sections take some 250 of 1000 pixels"
    apply_panel.ui.applyButton.click()
    assert place() == first
    advance(apply_panel, fake_job, message="Network: 1 of 8 slices", remaining=31.0)
    assert place() == first
    advance(apply_panel, fake_job, isFinished=True, outputVolume=make_result())
    assert place() == first
