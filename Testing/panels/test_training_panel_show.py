"""What the training panel shows of a run: curves as plots of Slicer, the newest picture, TensorBoard, the folder."""

from __future__ import annotations

import json
import sys

import pytest
from CBCTSuperResLib.jobs.tensorboard import Board
from training_helpers import tick_until, write_run

pytestmark = pytest.mark.usefixtures("qt_or_skip")
BOARD = """
import argparse, http.server
parser = argparse.ArgumentParser()
for name in ("logdir", "host", "port"):
    parser.add_argument("--" + name)
told = parser.parse_args()
http.server.HTTPServer((told.host, int(told.port)), http.server.BaseHTTPRequestHandler).serve_forever()
"""


@pytest.fixture
def panel(training_panel):
    root = training_panel.choices.resultsFolder
    write_run(root, "Neu", updated=1.8e9)
    write_run(root, "Alt", steps=30)
    training_panel.runs.listRuns()
    training_panel.refresh()
    return training_panel


def nodes(scene, kind):
    found = [scene.GetNthNodeByClass(i, kind) for i in range(scene.GetNumberOfNodesByClass(kind))]
    return [node for node in found if node.GetAttribute("CBCTSuperRes.curves")]


def values_of(series):
    import slicer

    table = series.GetTableNode().GetTable()
    columns = [table.GetColumnByName(name) for name in (series.GetXColumnName(), series.GetYColumnName())]
    assert series.GetPlotType() == slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter
    return [tuple(round(column.GetTuple1(row), 6) for column in columns) for row in range(table.GetNumberOfRows())]


def test_the_run_that_was_active_last_is_shown_in_words(panel):
    texts = [panel.ui.runList.item(row).text() for row in range(panel.ui.runList.count)]
    assert texts[0].startswith("Neu: finished\nstep 20 of 20, best 33.00 dB, 2027-01-15")
    assert panel.ui.runList.currentRow == 0 and panel.parameters.shownRun == "Neu"
    assert "Losses: pixels 0.05, discriminator (real) 0.5" in panel.ui.runLabel.text
    assert "PSNR 32.20 dB, 0.05 dB better than cubic interpolation (32.15 dB), at step 20" in panel.ui.runLabel.text
    panel.ui.runList.setCurrentRow(1)
    assert panel.parameters.shownRun == "Alt" and "0.15 dB better" in panel.ui.runLabel.text


def test_what_a_run_did_while_the_module_was_left_is_seen_on_return(training_widget, panel):
    folder = panel.choices.resultsFolder / "experiments" / "Neu"
    training_widget.exit()
    status = {"state": "finished", "step": 40, "niter": 40, "updated": 1.9e9}
    (folder / "status.json").write_text(json.dumps(status))
    training_widget.enter()
    assert panel.ui.runLabel.text.startswith("Neu: finished\nStep 40 of 40")


def test_the_newest_picture_is_as_wide_as_the_panel(application, training_widget, panel):
    label = panel.ui.pictureLabel
    training_widget.parent.show()
    for width in (320, 500):
        training_widget.parent.resize(width, 900)
        application.qapp.processEvents()
        assert label.pixmap.width() == label.width > width / 2
        assert abs(label.pixmap.height() - label.width / 3) <= 1
    training_widget.parent.hide()
    panel.parameters.resultsFolder = panel.choices.resultsFolder / "nothing"
    assert label.isHidden()


def test_losses_and_psnr_are_plots_of_slicer(application, panel, scene):
    import slicer

    assert not nodes(scene, "vtkMRMLPlotChartNode")
    panel.ui.lossesButton.click()
    losses, psnr = nodes(scene, "vtkMRMLPlotChartNode")
    assert losses.GetNumberOfPlotSeriesNodes() == psnr.GetNumberOfPlotSeriesNodes() == 2
    pixels, real = (losses.GetNthPlotSeriesNode(i) for i in range(2))
    assert pixels.GetName() == "pixels" and values_of(pixels) == [(step, round(1 / step, 6)) for step in range(1, 21)]
    assert values_of(real) == [(step, 0.5) for step in range(11, 21)]
    model, cubic = (psnr.GetNthPlotSeriesNode(i) for i in range(2))
    assert values_of(model) == [(10, 32.1), (20, 32.2)] and values_of(cubic) == [(10, 32.15), (20, 32.15)]
    shown = slicer.app.applicationLogic().GetSelectionNode().GetActivePlotChartID()
    assert shown == losses.GetID()
    panel.ui.psnrButton.click()
    assert slicer.app.applicationLogic().GetSelectionNode().GetActivePlotChartID() == psnr.GetID()
    assert len(nodes(scene, "vtkMRMLPlotChartNode")) == 2


def test_curves_leave_with_their_run_and_with_the_panel_and_are_not_saved(training_widget, panel, scene):
    kinds = ("vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode", "vtkMRMLTableNode")
    panel.ui.lossesButton.click()
    assert all(nodes(scene, kind) for kind in kinds)
    assert not any(node.GetSaveWithScene() for kind in kinds for node in nodes(scene, kind))
    panel.ui.runList.setCurrentRow(1)
    assert not any(nodes(scene, kind) for kind in kinds)
    panel.ui.psnrButton.click()
    assert nodes(scene, "vtkMRMLPlotChartNode")[0].GetTitle() == "Alt: losses"
    training_widget.cleanup()
    assert not any(nodes(scene, kind) for kind in kinds)


def test_a_scene_that_closes_takes_the_curves_along(panel, scene):
    folder = panel.choices.resultsFolder
    panel.ui.lossesButton.click()
    scene.Clear(0)
    panel.parameters.resultsFolder = folder
    panel.ui.lossesButton.click()
    assert len(nodes(scene, "vtkMRMLPlotChartNode")) == 2


def test_without_a_main_window_it_is_said_that_there_are_no_curves(panel, scene, monkeypatch):
    import slicer

    monkeypatch.setattr(slicer.app, "hasMainWindow", False)
    panel.ui.lossesButton.click()
    assert "main window" in panel.ui.runLabel.text and not nodes(scene, "vtkMRMLTableNode")


def test_the_folder_of_the_run_is_opened(panel, monkeypatch):
    from CBCTSuperResLib.panels import dialogs

    opened = []
    monkeypatch.setattr(dialogs, "openFolder", opened.append)
    panel.ui.runFolderButton.click()
    assert opened == [str(panel.choices.resultsFolder / "experiments" / "Neu")]


@pytest.fixture
def board(panel, monkeypatch, tmp_path):
    """TensorBoard is installed, and a small server stands for it; returns the addresses that were opened."""
    from CBCTSuperResLib.panels import dialogs

    opened = []
    script = tmp_path / "board.py"
    script.write_text(BOARD)
    monkeypatch.setattr(dialogs, "openAddress", opened.append)
    monkeypatch.setattr("CBCTSuperResLib.panels.training.tensorboard.isMissing", lambda: False)
    monkeypatch.setattr(
        "CBCTSuperResLib.panels.training.tensorboard.Board", lambda folder: Board(folder, [sys.executable, str(script)])
    )
    (panel.choices.boardFolder / "Neu").mkdir(parents=True)
    (panel.choices.boardFolder / "Neu" / "events.out.tfevents.17").touch()
    panel.refresh()
    return opened


def test_tensorboard_runs_in_a_process_of_its_own_until_the_panel_closes(application, training_widget, panel, board):
    panel.ui.boardButton.click()
    tick_until(application, panel, lambda: board)
    link = panel.ui.boardLink
    assert board[0].startswith("http://127.0.0.1:") and f'<a href="{board[0]}">' in link.text and not link.isHidden()
    assert link.openExternalLinks and panel.ui.boardLabel.isHidden() and not panel._timer.isActive()
    panel.ui.boardButton.click()
    tick_until(application, panel, lambda: len(board) == 2)
    assert board[0] == board[1]
    process = panel.board._board._process
    training_widget.cleanup()
    assert process.poll() is not None and link.isHidden()


def test_tensorboard_ends_with_slicer_which_may_not_unload_its_modules(application, panel, board):
    import slicer

    panel.ui.boardButton.click()
    tick_until(application, panel, lambda: board)
    process = panel.board._board._process
    slicer.app.aboutToQuit.emit()
    assert process.poll() is not None


def test_a_tensorboard_that_ends_is_told_with_what_it_said(application, panel, board, monkeypatch):
    monkeypatch.setattr(
        "CBCTSuperResLib.panels.training.tensorboard.Board",
        lambda folder: Board(folder, [sys.executable, "-c", "raise SystemExit('no numpy')"]),
    )
    panel.ui.boardButton.click()
    tick_until(application, panel, lambda: not panel.board.isBusy)
    assert "TensorBoard has ended. It said: no numpy" in panel.ui.boardLabel.text and not board


def test_tensorboard_is_offered_where_it_is_missing(panel, board, monkeypatch):
    offered = []
    monkeypatch.setattr("CBCTSuperResLib.panels.training.tensorboard.isMissing", lambda: True)
    monkeypatch.setattr("CBCTSuperResLib.panels.dialogs.offerTrainingExtras", lambda: offered.append(True))
    panel.ui.boardButton.click()
    assert offered and "not installed" in panel.ui.boardLabel.text


def test_tensorboard_cannot_be_opened_while_there_is_nothing_to_show(panel):
    assert not panel.ui.boardButton.enabled and "use_tb_logger" in panel.ui.boardButton.toolTip
    assert panel.ui.boardLink.isHidden()


def test_long_histories_are_thinned_evenly_up_to_the_last_row(training_panel):
    from CBCTSuperResLib.panels.training.curves import MOST_POINTS, thinned

    rows = [{"step": step} for step in range(100_001)]
    kept = thinned(rows)
    assert MOST_POINTS / 2 < len(kept) <= MOST_POINTS and kept[-1] == rows[-1]
    assert len({after["step"] - before["step"] for before, after in zip(kept, kept[1:], strict=False)}) == 1
    assert thinned(rows[:5]) == rows[:5]


def test_losses_that_a_logarithmic_axis_cannot_show_are_left_out(training_panel, scene):
    from CBCTSuperResLib.panels.training.curves import RunCurves

    curves = RunCurves()
    values = (0.5, 0.0, -1.0, float("inf"), 0.25)
    curves.make("x", [{"step": step, "l_d_real": value} for step, value in enumerate(values)], [])
    losses = nodes(scene, "vtkMRMLPlotChartNode")[0]
    assert losses.GetYAxisLogScale() and values_of(losses.GetNthPlotSeriesNode(0)) == [(0, 0.5), (4, 0.25)]
    curves.remove()


def test_a_single_point_is_marked_and_makes_a_line_that_can_be_drawn(training_panel, scene):
    """Slicer complains in red of a line of one point, and shows nothing."""
    import slicer
    from CBCTSuperResLib.panels.training.curves import FEW_POINTS, RunCurves

    curves, marks = RunCurves(), slicer.vtkMRMLPlotSeriesNode
    rows = [{"step": step, "l_g_pix": 1 / step} for step in range(1, FEW_POINTS + 1)]
    curves.make("x", rows[:1], [])
    (series,) = nodes(scene, "vtkMRMLPlotSeriesNode")
    assert values_of(series) == [(1, 1.0)] * 2 and series.GetMarkerStyle() == marks.MarkerStyleCircle
    curves.update(rows[:2], [])
    assert values_of(series) == [(1, 1.0), (2, 0.5)] and series.GetMarkerStyle() == marks.MarkerStyleCircle
    curves.update(rows, [])
    assert len(values_of(series)) == FEW_POINTS and series.GetMarkerStyle() == marks.MarkerStyleNone
    curves.remove()


def test_curves_that_are_not_there_yet_are_said_to_be_so(panel, scene):
    folder = write_run(panel.choices.resultsFolder, "Jung", updated=1.9e9)
    (folder / "curves.csv").write_text("step,seconds,l_g_pix\n1,0.1,0.5\n")
    panel.runs.listRuns()
    panel.parameters.shownRun = "Jung"
    assert panel.ui.lossesButton.enabled and not panel.ui.psnrButton.enabled
    assert panel.ui.psnrButton.toolTip == "Nothing has been validated in this run yet."
    (folder / "curves.csv").unlink()
    panel.runs.update()
    assert panel.ui.lossesButton.toolTip == "This run has not written any losses yet."


def test_the_layout_from_before_the_curves_comes_back(panel, scene):
    import slicer

    manager = slicer.app.layoutManager()
    before = manager.layout
    panel.ui.lossesButton.click()
    shown = manager.layout
    assert shown != before and panel.ui.lossesButton.text == "Hide losses"
    panel.ui.psnrButton.click()
    assert manager.layout == shown and panel.ui.lossesButton.text == "Show losses"
    panel.ui.psnrButton.click()
    assert manager.layout == before and panel.ui.psnrButton.text == "Show PSNR"
    panel.ui.lossesButton.click()
    panel.ui.runList.setCurrentRow(1)  # whose curves are others
    assert manager.layout == before
    panel.ui.lossesButton.click()
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    panel.refresh()
    assert panel.ui.lossesButton.text == "Show losses"
    panel.close()
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView
