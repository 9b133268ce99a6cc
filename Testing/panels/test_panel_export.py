"""Export: a result into a file with its report, as a DICOM series, and the report alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from dicom_files import ramp, write_slices
from panel_results import make_result
from waiting import wait_until

pytestmark = pytest.mark.usefixtures("qt_or_skip")


@pytest.fixture
def chosen(monkeypatch):
    """What the windows that open are answered with; "asked" keeps what they ask."""
    from CBCTSuperResLib.panels import dialogs

    answers = {"file": "", "folder": "", "texts": {}, "confirm": False, "asked": []}

    def answer(kind):
        return lambda *question, **_: answers["asked"].append((kind, *question)) or answers[kind]

    monkeypatch.setattr(dialogs, "chooseNewFile", answer("file"))
    monkeypatch.setattr(dialogs, "chooseFolder", answer("folder"))
    monkeypatch.setattr(dialogs, "askTexts", answer("texts"))
    monkeypatch.setattr(dialogs, "confirm", answer("confirm"))
    return answers


@pytest.fixture
def panel(apply_panel):
    """The panel with a result of a full report, as a run leaves it."""
    result = make_result()
    report = json.loads(result.GetAttribute("CBCTSuperRes.report"))
    report["super_resolution"] |= {
        "scale": [2, 2, 1],
        "planes": "axial",
        "model": "tiny",
        "network": "unetspsr",
        "model_sha256": "0" * 64,
        "window": [0, 3000],
    }
    result.SetAttribute("CBCTSuperRes.report", json.dumps(report))
    apply_panel.ui.outputSelector.setCurrentNode(result)
    return apply_panel


def load_from(path, node="Jaw"):
    """Let a volume have come from a file."""
    import slicer

    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    slicer.util.getNode(node).SetAndObserveStorageNodeID(storage.GetID())


def wait(application, panel):
    wait_until(lambda: application.qapp.processEvents() or not panel.export.isBusy)
    return panel.ui.exportLabel.text


def test_without_a_result_there_is_nothing_to_save(apply_panel):
    ui = apply_panel.ui
    for button in (ui.saveResultButton, ui.saveDicomButton, ui.saveAccountButton):
        assert not button.enabled and button.toolTip == "There is no result yet."
    apply_panel.ui.outputSelector.setCurrentNode(make_result())
    assert ui.saveResultButton.enabled and ui.saveDicomButton.enabled and ui.saveAccountButton.enabled


def test_a_result_is_saved_beside_its_scan_with_its_report_and_its_place(panel, application, chosen, tmp_path):
    import slicer
    from CBCTSuperResLib.io.read import read_volume
    from CBCTSuperResLib.scene.nodes import volumeFromNode

    scan = tmp_path / "Zähne 1.nrrd"
    scan.write_bytes(b"the scan")
    load_from(scan)
    (tmp_path / "Jaw SR x2.nrrd").write_bytes(b"of yesterday")
    panel.ui.saveResultButton.click()
    assert chosen["asked"][-1][-1] == str(tmp_path / "Jaw SR x2 2.nrrd") and not panel.export.isBusy
    chosen["file"] = str(tmp_path / "sharper")  # without an ending
    panel.ui.saveResultButton.click()
    assert panel.ui.saveResultButton.text == "Cancel" and not panel.ui.saveDicomButton.enabled
    assert wait(application, panel) == f"Saved: {tmp_path / 'sharper.nrrd'}"
    shown, saved = volumeFromNode(slicer.util.getNode("Jaw SR x2")), read_volume(tmp_path / "sharper.nrrd")
    assert np.array_equal(saved.voxels, shown.voxels) and saved.voxels.dtype == shown.voxels.dtype
    assert np.allclose(saved.grid.index_to_point, shown.grid.index_to_point)
    report = json.loads((tmp_path / "sharper.nrrd.json").read_text(encoding="utf-8"))
    assert report["output"]["path"] == str(tmp_path / "sharper.nrrd") and report["super_resolution"]["model"] == "tiny"
    assert panel.ui.saveResultButton.text == "Save file…" and scan.read_bytes() == b"the scan"


def test_nothing_is_replaced_without_a_question_and_never_the_scan(panel, application, chosen, tmp_path):
    scan = tmp_path / "scan.nrrd"
    scan.write_bytes(b"the scan")
    load_from(scan)
    for there in ("a.nrrd", "b.nrrd.json"):
        (tmp_path / there).write_bytes(b"there")
        chosen["file"] = str(tmp_path / there[0])
        panel.ui.saveResultButton.click()
        kind, _title, question, _action = chosen["asked"][-1]
        assert kind == "confirm" and str(tmp_path / there) in question and not panel.export.isBusy
    chosen["file"] = str(scan)
    panel.ui.saveResultButton.click()
    assert "never overwritten" in wait(application, panel) and panel.ui.exportLabel.text.startswith("⚠")
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.nrrd*")} == {
        "scan.nrrd": b"the scan",
        "a.nrrd": b"there",
        "b.nrrd.json": b"there",
    }


def test_a_result_of_a_scan_of_nobody_becomes_dicom_when_the_patient_is_told(panel, application, chosen, tmp_path):
    import pydicom

    folder = tmp_path / "series"
    folder.mkdir()
    chosen["folder"] = str(folder)
    panel.ui.saveDicomButton.click()
    assert chosen["asked"][-1][0] == "texts" and not panel.export.isBusy and not list(folder.iterdir())
    chosen["texts"] = {"patient_name": "Doe^Jane", "patient_id": "P1"}
    panel.ui.saveDicomButton.click()
    assert panel.ui.saveDicomButton.text == "Cancel" and not panel.ui.saveResultButton.enabled
    assert wait(application, panel) == f"Saved: {folder / 'Jaw SR x2'}"
    images = [pydicom.dcmread(path) for path in sorted((folder / "Jaw SR x2").iterdir())]
    assert len(images) == 4 and str(images[0].PatientName) == "Doe^Jane"
    assert "detail is predicted" in images[0].SeriesDescription
    panel.ui.saveDicomButton.click()
    assert wait(application, panel) == f"Saved: {folder / 'Jaw SR x2 2'}"


def test_a_result_of_a_dicom_scan_belongs_to_its_patient_and_nobody_is_asked(panel, application, chosen, tmp_path):
    import pydicom

    write_slices(tmp_path / "scan", ramp(), np.arange(8) * 0.3)
    load_from(sorted((tmp_path / "scan").iterdir())[0])
    chosen["folder"] = str(tmp_path)
    panel.ui.saveDicomButton.click()
    assert wait(application, panel).startswith("Saved"), panel.ui.exportLabel.text
    assert [kind for kind, *_ in chosen["asked"]] == ["folder"]
    image = pydicom.dcmread(tmp_path / "Jaw SR x2" / "IM0001.dcm")
    assert (image.PatientID, image.StudyInstanceUID) == ("P1", "1.2")


def test_the_dicom_database_knows_the_files_of_a_scan(panel, monkeypatch, tmp_path):
    import slicer
    from CBCTSuperResLib.scene.export import fileOf

    class Database:
        def fileForInstance(self, uid):
            return str(tmp_path / uid)

    scan = slicer.util.getNode("Jaw")
    assert fileOf(scan) is None
    scan.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    monkeypatch.setattr(slicer, "dicomDatabase", Database(), raising=False)
    assert fileOf(scan) is None
    (tmp_path / "1.2.3").write_bytes(b"")
    assert fileOf(scan) == tmp_path / "1.2.3"


def test_writing_is_cancelled_and_leaves_nothing(panel, application, chosen, tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    chosen |= {"folder": str(folder), "texts": {"patient_name": "Doe^Jane", "patient_id": "P1"}}
    panel.ui.saveDicomButton.click()
    panel.ui.saveDicomButton.click()
    assert wait(application, panel) == "Cancelled." and not list(folder.iterdir())


def test_the_report_alone_is_saved_and_what_keeps_it_from_that_is_told(panel, chosen, tmp_path):
    chosen["file"] = str(tmp_path / "report")
    panel.ui.saveAccountButton.click()
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["super_resolution"]["model"] == "tiny"
    chosen["file"] = str(tmp_path / "report.json" / "other.json")
    panel.ui.saveAccountButton.click()
    assert panel.ui.exportLabel.text.startswith("⚠") and "cannot be written" in panel.ui.exportLabel.text
    panel.ui.outputSelector.setCurrentNode(make_result("Another"))
    assert panel.ui.exportLabel.isHidden()


def test_the_window_that_asks_for_texts_wants_all_of_them(application, monkeypatch):
    import qt
    from CBCTSuperResLib.panels import dialogs

    seen = []

    def fill(window):
        name, number = window.findChildren(qt.QLineEdit)
        ok = next(button for button in window.findChildren(qt.QPushButton) if "OK" in button.text)
        seen.append(ok.enabled)
        name.text, number.text = "Doe^Jane", " "
        seen.append(ok.enabled)
        number.text = " P1 "
        seen.append(ok.enabled)
        return qt.QDialog.Accepted

    monkeypatch.setattr(qt.QDialog, "exec_", fill, raising=False)
    labels = {"patient_name": "Name:", "patient_id": "ID:"}
    assert dialogs.askTexts("Save", "Whose is it?", labels) == {"patient_name": "Doe^Jane", "patient_id": "P1"}
    assert seen == [False, False, True]
    monkeypatch.setattr(qt.QDialog, "exec_", lambda window: qt.QDialog.Rejected, raising=False)
    assert dialogs.askTexts("Save", "Whose is it?", labels) == {}
