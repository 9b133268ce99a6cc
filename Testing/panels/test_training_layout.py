"""The training panel as the application hosts it: as wide as it was, whatever it shows, and nothing crushed."""

from __future__ import annotations

import pytest
from apply_helpers import add_scan
from slicer_code import UI_FILES, text_of, widgets_of
from training_helpers import write_run

pytestmark = pytest.mark.usefixtures("qt_or_skip")
LONG = "Scan_of_patient_17_fine, as a scanner has named it, in a folder of a name that is long " * 3
OPEN_AT_FIRST = {"trainSection", "runSection"}


@pytest.fixture
def window(training_widget, hosted):
    return hosted(training_widget)


def show_everything(panel) -> None:
    """A run with a picture, scans that will not do, settings that are wrong, and long texts in every label."""
    ui, root = panel.ui, panel.choices.resultsFolder
    write_run(root, "A run with a rather long name, as they are given")
    panel.runs.listRuns()
    ui.fineSelector.setCurrentNode(add_scan(LONG))
    ui.addButton.click()
    panel.choices.change({"train.lr_G": "much", "train.lr_D": "fast"})
    for label in (ui.addLabel, ui.dataStatusLabel, ui.fileLabel, ui.planLabel, ui.trainingLabel, ui.boardLabel):
        label.text, label.visible = LONG, True
    for label in (ui.useModelLabel, ui.modelsLabel, ui.boardLink):
        label.text, label.visible = LONG, True
    ui.dataReport.setPlainText(LONG)
    for widget in (ui.dataReport, ui.dataProgressBar, ui.planProgressBar, ui.trainingProgressBar):
        widget.visible = True


def test_the_panel_is_as_wide_as_it_was_whatever_it_shows_and_however_often_it_is_visited(window, training_widget):
    window.drag(444)
    assert window.dockWidth() == 444
    show_everything(training_widget.panel)
    for _visit in range(3):
        window.visit()
    assert window.dockWidth() == 444
    window.narrow()
    assert window.dockWidth() <= 310


def test_nothing_is_crushed_cut_off_or_painted_over_in_any_state(window, training_widget):
    def check(state):
        for width in (600, 400, 310):
            window.drag(width)
            assert window.faults() == [], (state, width)

    check("first")
    show_everything(training_widget.panel)
    assert not training_widget.panel.ui.pictureLabel.isHidden()
    check("everything")
    training_widget.panel.close()
    check("closed")


def test_what_is_needed_to_start_is_on_the_first_screen(training_widget, hosted):
    """Sections as they are at first start, which the fixture has opened."""
    ui, window = training_widget.panel.ui, hosted(training_widget)
    for section in window.sections():
        section.collapsed = section.name not in OPEN_AT_FIRST
    window.drag(400)
    contents = window.panel.contents()
    bottom = ui.startButton.mapTo(contents, ui.startButton.rect.bottomLeft()).y()
    assert bottom < 400
    for control in (ui.kindSelector, ui.presetSelector, ui.iterationsBox, ui.deviceSelector, ui.startButton):
        assert control.isVisible()
    open_at_first = {w.get("name") for w in widgets_of(UI_FILES["CBCTSuperResTraining"]) if is_open_section(w)}
    assert open_at_first == OPEN_AT_FIRST


def is_open_section(widget) -> bool:
    return widget.get("class") == "ctkCollapsibleButton" and text_of(widget, "collapsed") != "true"
