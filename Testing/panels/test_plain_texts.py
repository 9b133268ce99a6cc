"""Names, paths and messages are shown as they are, though Qt takes what looks like HTML for HTML; in panels' words."""

from __future__ import annotations

import ast

import pytest
from apply_helpers import add_scan
from slicer_code import LIBRARY, parse

pytestmark = pytest.mark.usefixtures("qt_or_skip")
NAME = '<b>x</b> & "y"'


def read(text: str) -> str:
    """What a person reads of a text whose format Qt guesses, as it does for tool tips."""
    from PySide6.QtGui import Qt, QTextDocument

    if not Qt.mightBeRichText(text):
        return text
    document = QTextDocument()
    document.setHtml(text)
    return document.toPlainText()


def labels_with(widget, text: str) -> list:
    import qt

    return [label for label in widget.findChildren(qt.QLabel) if text in label.text]


def check_labels(widget, at_least: int) -> None:
    import qt

    labels = labels_with(widget, NAME)
    assert len(labels) >= at_least
    assert [label.name for label in labels if label.textFormat != qt.Qt.PlainText] == []


def test_a_volume_with_markup_in_its_name_is_named_as_it_is(apply_panel, scene):
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", NAME)
    apply_panel.ui.inputSelector.setCurrentNode(empty)
    check_labels(apply_panel.widget, 2)
    assert f"The volume {NAME} is empty." in read(apply_panel.ui.applyButton.toolTip)


def test_a_result_and_its_batch_are_named_as_they_are(apply_panel, fake_job):
    from apply_helpers import advance

    apply_panel.ui.applyButton.click()
    advance(apply_panel, fake_job, outputVolume=add_scan(NAME), isFinished=True)
    assert apply_panel.ui.statusLabel.text == f"Done: {NAME}"
    check_labels(apply_panel.widget, 1)
    apply_panel.ui.batchVolumesButton.click()
    table = apply_panel.ui.batchTable
    tips = [read(table.item(row, 0).toolTip()) for row in range(table.rowCount)]
    assert NAME in tips


def test_scans_and_runs_of_a_training_are_named_as_they_are(training_panel, scene):
    ui = training_panel.ui
    node = add_scan(NAME)
    ui.fineSelector.setCurrentNode(node)
    ui.addButton.click()
    assert read(ui.dataTable.item(0, 0).toolTip()) == f"{NAME}; its coarse images are simulated."
    scene.RemoveNode(node)
    check_labels(training_panel.widget, 1)
    for button in (ui.startButton, ui.checkButton):
        assert f"The volume {NAME} is no longer in the scene." in read(button.toolTip)


def test_lines_of_a_tool_tip_stay_apart(application):
    from CBCTSuperResLib.panels.section import plainToolTip

    assert read(plainToolTip(f"{NAME}\nFailed: a < b")).splitlines() == [NAME, "Failed: a < b"]
    assert plainToolTip("As it is.") == "As it is."


def test_questions_name_runs_as_they_are(application, monkeypatch):
    import qt
    from CBCTSuperResLib.panels import dialogs

    shown = []
    monkeypatch.setattr(qt.QMessageBox, "exec_", lambda box: shown.append((box.text, box.textFormat)), raising=False)
    assert not dialogs.confirm("Start training", f"There is a run {NAME} already.")
    assert shown == [(f"There is a run {NAME} already.", qt.Qt.PlainText)]


def test_errors_of_the_library_name_no_option_of_a_terminal_in_a_panel(application):
    from CBCTSuperResLib.core.errors import InputError
    from CBCTSuperResLib.panels.error_text import errorText

    rooms = ("core", "io", "scan", "apply", "prepare", "train", "jobs", "scene", "models")
    raised = [
        "".join(part.value for part in ast.walk(text) if isinstance(part, ast.Constant) and isinstance(part.value, str))
        for room in rooms
        for path in (LIBRARY / room).rglob("*.py")
        if not path.name.startswith("cluster")  # which a panel cannot ask for
        for error in ast.walk(parse(path))
        if isinstance(error, ast.Raise) and isinstance(error.exc, ast.Call)
        for text in error.exc.args
    ]
    of_terminals = [text for text in raised if "--" in text and "--nproc" not in text]  # of torchrun
    assert len(of_terminals) > 10
    assert [text for text in map(errorText, map(InputError, of_terminals)) if "--" in text] == []
    text = errorText(InputError("Full.", "Choose an ROI, or --device cpu. Go on with --resume auto."))
    assert text == "Full. Choose an ROI, or the processor as device. Resume the run."
