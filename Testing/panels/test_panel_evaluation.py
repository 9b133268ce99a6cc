"""Evaluate against a reference: figures, curve, where the result is off, and a report that can be kept."""

from __future__ import annotations

import numpy as np
import pytest
from apply_helpers import add_scan
from panel_results import make_result
from waiting import wait_until

pytestmark = pytest.mark.usefixtures("qt_or_skip")


def make_pair(panel):
    """A drawn jaw, coarse as the input and fine as the reference, and a result between the two."""
    import slicer
    from CBCTSuperResLib.acquisition.phantom import jaw_scans
    from CBCTSuperResLib.io.volume import Volume
    from CBCTSuperResLib.scene.nodes import updateNode

    fine, coarse = jaw_scans((4, 64, 72), 0.15, seed=3, blank=None)
    result = make_result()
    updateNode(panel.ui.inputSelector.currentNode(), coarse)
    reference = add_scan("Jaw fine")
    updateNode(reference, fine)
    cubic = coarse.voxels.repeat(2, axis=1).repeat(2, axis=2)
    mean = (cubic.astype(float) + 3.0 * fine.voxels) / 4
    updateNode(result, Volume(mean.astype(fine.voxels.dtype), fine.grid))
    panel.ui.outputSelector.setCurrentNode(result)
    slicer.app.processEvents()
    return result, reference


def test_what_is_missing_is_said(panel):
    button = panel.ui.evaluateButton
    assert not button.enabled and "no result" in button.toolTip
    result = make_result()
    panel.ui.outputSelector.setCurrentNode(result)
    assert not button.enabled and "Choose a reference volume" in button.toolTip
    panel.ui.referenceSelector.setCurrentNode(panel.ui.inputSelector.currentNode())
    assert not button.enabled and "the scan or the result itself" in button.toolTip
    panel.ui.referenceSelector.setCurrentNode(add_scan("Fine"))
    assert button.enabled and not panel.ui.openReportButton.enabled


def test_a_result_is_measured_against_a_reference_and_the_report_is_kept(panel, application, monkeypatch, tmp_path):
    import slicer
    from CBCTSuperResLib.panels import dialogs

    result, reference = make_pair(panel)
    panel.ui.evaluateSection.collapsed = False
    panel.ui.referenceSelector.setCurrentNode(reference)
    panel.ui.evaluateButton.click()
    assert panel.ui.evaluateButton.text == "Cancel evaluation" and panel._timer.isActive(), (
        panel.ui.evaluationLabel.text
    )
    wait_until(lambda: application.qapp.processEvents() or not panel.evaluation.job)
    table = panel.ui.evaluationTable
    figures = {table.item(r, 0).text(): [table.item(r, c) for c in (1, 2)] for r in range(table.rowCount)}
    scan, ours = figures["PSNR (dB)"]
    assert float(ours.text()) > float(scan.text()) and ours.font().bold() and not scan.font().bold()
    assert not panel.ui.curveLabel.isHidden() and not panel.ui.curveLabel.pixmap.isNull()

    node = slicer.util.getNode("Jaw SR x2 minus Jaw fine")
    fine, off = slicer.util.arrayFromVolume(reference), slicer.util.arrayFromVolume(node)
    made = slicer.util.arrayFromVolume(result)
    assert off.dtype == np.float32 and node.GetNodeReference("CBCTSuperRes.result") is result
    if off.shape == fine.shape:
        assert np.abs(off - (made.astype(float) - fine)).mean() < 0.2 * np.abs(off).mean() + 1

    opened = []
    monkeypatch.setattr(dialogs, "openFile", opened.append)
    monkeypatch.setattr(dialogs, "chooseFolder", lambda *_: str(tmp_path))
    panel.ui.openReportButton.click()
    panel.ui.saveReportButton.click()
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Jaw SR x2 against Jaw fine" in html and "<svg" in html and ".npy" not in html
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "report.html",
        "report.json",
        "values.csv",
    ]
    asked = []
    monkeypatch.setattr(dialogs, "confirm", lambda *question: asked.append(question))
    (tmp_path / "report.html").write_text("another")
    panel.ui.saveReportButton.click()
    assert "report.html, report.json, values.csv" in asked[0][1] and str(tmp_path) in asked[0][1]
    assert (tmp_path / "report.html").read_text() == "another"
    monkeypatch.setattr(dialogs, "confirm", lambda *_: True)
    panel.ui.saveReportButton.click()
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html
    monkeypatch.setattr(dialogs, "chooseFolder", lambda *_: str(tmp_path / ("x" * 300)))  # which cannot be looked at
    panel.ui.saveReportButton.click()
    assert "cannot be saved" in panel.ui.evaluationLabel.text
    folder = panel.evaluation._folder
    assert opened == [str(folder / "report.html")] and folder.exists()
    panel.close()
    assert not folder.exists() and table.isHidden()


def test_a_reference_elsewhere_is_told_and_nothing_is_left(panel, application):
    result, reference = make_pair(panel)
    reference.SetOrigin(900, 900, 900)
    panel.ui.referenceSelector.setCurrentNode(reference)
    panel.ui.evaluateButton.click()
    folder = panel.evaluation._folder
    wait_until(lambda: application.qapp.processEvents() or not panel.evaluation.job)
    assert "show the same place" in panel.ui.evaluationLabel.text and not folder.exists()
    assert not panel.ui.openReportButton.enabled


def test_volumes_under_different_transforms_are_not_compared(panel, scene):
    result, reference = make_pair(panel)
    parent = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    reference.SetAndObserveTransformNodeID(parent.GetID())
    panel.ui.referenceSelector.setCurrentNode(reference)
    panel.ui.evaluateButton.click()
    assert "different transforms" in panel.ui.evaluationLabel.text and panel.evaluation.job is None
