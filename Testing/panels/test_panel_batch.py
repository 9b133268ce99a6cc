"""Batch: volumes and files in one queue, with one progress and a result for each."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from apply_helpers import add_scan
from CBCTSuperResLib.core.errors import Cancelled, InputError
from CBCTSuperResLib.jobs import queue as queue_file

pytestmark = pytest.mark.usefixtures("qt_or_skip")


@pytest.fixture
def panel(apply_panel):
    apply_panel.ui.batchSection.collapsed = False
    return apply_panel


@pytest.fixture
def dialogs(monkeypatch):
    """What the next windows answer."""
    from CBCTSuperResLib.panels import dialogs

    answers = {"files": [], "folder": ""}
    monkeypatch.setattr(dialogs, "chooseFiles", lambda *_: answers["files"])
    monkeypatch.setattr(dialogs, "chooseFolder", lambda *_: answers["folder"])
    return answers


class FakeWorker:
    """A file that goes as far as the test says."""

    def __init__(self, job):
        self.job, self.isFinished, self.fraction, self.message = job, False, 0.0, ""
        self.warnings, self.error, self.remaining = [], None, None

    def start(self):
        return self

    def poll(self):
        """The test moves it."""

    def cancel(self):
        self.isFinished, self.error = True, Cancelled()

    def close(self):
        self.isFinished = True


@pytest.fixture
def workers(panel, monkeypatch):
    made = []

    def make(job, worker=None):
        made.append(FakeWorker(job))
        return made[-1]

    monkeypatch.setattr(queue_file, "Job", make)
    return made


@pytest.fixture
def files(panel, dialogs, tmp_path):
    """Three files in the queue, and a folder for their results."""
    dialogs["files"] = [str(tmp_path / name) for name in ("a.nrrd", "bad.nrrd", "Zähne.nii.gz")]
    panel.ui.batchFilesButton.click()
    panel.ui.batchFolderEdit.currentPath = str(tmp_path / "Ergebnisse")
    return [Path(file) for file in dialogs["files"]]


def rows(panel):
    table = panel.ui.batchTable
    return [(table.item(row, 0).text(), table.item(row, 1).text()) for row in range(table.rowCount)]


def finish(worker, error=None):
    worker.isFinished, worker.error = True, error


def test_nothing_to_do_is_said_in_the_tool_tip(panel):
    assert not panel.ui.batchStartButton.enabled and "Add volumes or files" in panel.ui.batchStartButton.toolTip
    assert not panel.ui.batchRetryButton.enabled and not panel.ui.batchRemoveButton.enabled
    assert panel.ui.batchProgressBar.isHidden()


def test_loaded_volumes_are_added_once_and_results_are_not(panel, scene):
    from CBCTSuperResLib.scene.nodes import recordProvenance

    jaw = panel.ui.inputSelector.currentNode()
    recordProvenance(jaw, add_scan("Jaw SR x2"), {"model": "tiny"})
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Teeth")
    add_scan("Skull")
    panel.ui.batchVolumesButton.click()
    panel.ui.batchVolumesButton.click()
    assert rows(panel) == [("Jaw", "Waiting"), ("Skull", "Waiting")]
    assert panel.ui.batchStartButton.enabled


def test_chosen_rows_are_taken_out(panel, files):
    panel.ui.batchVolumesButton.click()
    panel.ui.batchTable.selectRow(2)
    assert panel.ui.batchRemoveButton.enabled
    panel.ui.batchRemoveButton.click()
    assert [name for name, _ in rows(panel)] == ["Jaw", "a.nrrd", "Zähne.nii.gz"]
    assert not panel.ui.batchRemoveButton.enabled


def test_files_ask_for_a_folder(panel, files):
    panel.ui.batchFolderEdit.currentPath = ""
    assert not panel.ui.batchStartButton.enabled and "folder" in panel.ui.batchStartButton.toolTip


def test_a_folder_is_searched_for_scans(panel, dialogs, scan_file, tmp_path):
    dialogs["folder"] = str(scan_file.parent)
    panel.ui.batchFolderButton.click()
    assert [name for name, _ in rows(panel)] == [scan_file.name]
    dialogs["folder"] = ""
    panel.ui.batchFolderButton.click()
    dialogs["folder"] = str(tmp_path / "missing")
    panel.ui.batchFolderButton.click()
    assert len(rows(panel)) == 1 and "Nothing matches" in panel.ui.batchLabel.text


def test_what_is_left_out_of_a_folder_is_named(panel, dialogs, scan_file):
    (scan_file.parent / "notes.txt").touch()
    dialogs["folder"] = str(scan_file.parent)
    panel.ui.batchFolderButton.click()
    assert [name for name, _ in rows(panel)] == [scan_file.name]
    assert "notes.txt (an empty file)" in panel.ui.batchLabel.text


def test_one_after_the_other_and_on_after_a_failure(panel, files, workers):
    panel.ui.planesSelector.currentIndex = 1
    panel.ui.batchStartButton.click()
    assert panel.ui.batchStartButton.text == "Cancel batch" and not panel.ui.batchProgressBar.isHidden()
    assert not panel.ui.applyButton.enabled and "else" in panel.ui.applyButton.toolTip
    panel.onTimer()
    workers[0].fraction, workers[0].message = 0.4, "Network: 4 of 10"
    panel.onTimer()
    assert rows(panel)[0] == ("a.nrrd", "40 %, Network: 4 of 10") and rows(panel)[1][1] == "Waiting"
    assert panel.ui.batchProgressBar.value == 13 and panel.ui.batchLabel.text == "0 of 3 done"
    finish(workers[0])
    panel.onTimer()
    panel.onTimer()
    finish(workers[1], InputError("It is bad.", "Choose another."))
    panel.onTimer()
    assert rows(panel)[0][1].startswith("Done, a SR x2.nrrd, ")
    assert rows(panel)[1][1] == "Failed: It is bad. Choose another."
    panel.onTimer()
    finish(workers[2])
    panel.onTimer()
    assert panel.ui.batchLabel.text == "2 done, 1 failed" and panel.ui.batchStartButton.text == "Start batch"
    assert panel.ui.applyButton.enabled and panel.ui.batchProgressBar.isHidden() and not panel._timer.isActive()
    assert [worker.job["options"]["planes"] for worker in workers] == ["isotropic"] * 3
    assert "bad.nrrd: Failed: It is bad." in panel.ui.logText.toPlainText()


def test_only_what_failed_is_tried_again(panel, files, workers):
    panel.ui.batchStartButton.click()
    for number, error in enumerate((None, InputError("It is bad."), None)):
        panel.onTimer()
        finish(workers[number], error)
        panel.onTimer()
    assert panel.ui.batchRetryButton.enabled
    panel.ui.batchRetryButton.click()
    panel.onTimer()
    assert len(workers) == 4 and workers[3].job["input"].endswith("bad.nrrd")
    finish(workers[3])
    panel.onTimer()
    assert panel.ui.batchLabel.text == "1 done" and not panel.ui.batchRetryButton.enabled
    assert all(state.startswith("Done") for _, state in rows(panel))


def test_cancel_ends_the_queue_and_what_is_done_stays(panel, files, workers):
    panel.ui.batchStartButton.click()
    panel.onTimer()
    finish(workers[0])
    panel.onTimer()
    panel.onTimer()
    panel.ui.batchStartButton.click()
    assert panel.ui.batchLabel.text == "Cancelling"
    panel.onTimer()
    assert [state.partition(",")[0] for _, state in rows(panel)] == ["Done", "Cancelled", "Cancelled"]
    assert panel.ui.batchLabel.text == "1 done, 2 cancelled" and len(workers) == 2
    panel.ui.batchStartButton.click()
    panel.onTimer()
    assert workers[2].job["input"].endswith("bad.nrrd")


def test_missing_packages_are_said_and_nothing_starts(panel, files, workers, monkeypatch):
    from CBCTSuperResLib.core.errors import DependencyError

    def refuse(*_, **__):
        raise DependencyError("torch is missing.", "Install it.")

    monkeypatch.setattr("CBCTSuperResLib.panels.dialogs.ensurePackages", refuse)
    panel.ui.batchStartButton.click()
    assert "torch is missing" in panel.ui.batchLabel.text and not panel.batch.isBusy


def test_a_batch_goes_on_while_another_module_is_shown(apply_widget, panel, files, workers):
    panel.ui.batchStartButton.click()
    apply_widget.exit()
    panel.onTimer()
    finish(workers[0])
    panel.onTimer()
    panel.onTimer()
    assert len(workers) == 2
    apply_widget.enter()
    assert rows(panel)[0][1].startswith("Done") and panel.ui.batchStartButton.text == "Cancel batch"


def test_closing_the_scene_ends_the_batch_and_empties_the_list(panel, files, workers, scene):
    panel.ui.batchVolumesButton.click()
    panel.ui.batchTable.selectRow(0)
    panel.ui.batchRemoveButton.click()
    panel.ui.batchStartButton.click()
    panel.onTimer()
    scene.Clear(0)
    assert workers[0].isFinished and not panel.batch.isBusy and rows(panel) == []
    assert not panel._timer.isActive()


def test_a_volume_that_is_removed_leaves_the_list(panel, scene):
    add_scan("Skull")
    panel.ui.batchVolumesButton.click()
    scene.RemoveNode(panel.ui.inputSelector.currentNode())
    panel.refresh()
    assert [name for name, _ in rows(panel)] == ["Skull"]


def test_the_queue_is_saved_with_the_scene_and_comes_back(panel, files, scene, tmp_path):
    import slicer

    panel.ui.batchVolumesButton.click()
    panel.ui.batchSkipCheckBox.checked = False
    scene.RemoveNode(panel.ui.inputSelector.currentNode())
    scene.SetRootDirectory(str(tmp_path))
    assert scene.Commit(str(tmp_path / "Szene 1.mrml"))
    scene.Clear(0)
    assert rows(panel) == [] and panel.ui.batchSkipCheckBox.checked
    scene.SetURL(str(tmp_path / "Szene 1.mrml"))
    scene.Connect()
    slicer.app.processEvents()
    assert [name for name, _ in rows(panel)] == ["a.nrrd", "bad.nrrd", "Zähne.nii.gz"]
    assert Path(panel.ui.batchFolderEdit.currentPath) == tmp_path / "Ergebnisse"
    assert not panel.ui.batchSkipCheckBox.checked


def test_volumes_and_files_really_computed(application, panel, dialogs, scan_file, tmp_path, scene):
    import slicer

    shutil.copy(scan_file, tmp_path / "scan.nrrd")
    (tmp_path / "broken.nrrd").write_text("no scan")
    dialogs["files"] = [str(tmp_path / name) for name in ("broken.nrrd", "scan.nrrd")]
    panel.ui.batchFilesButton.click()
    panel.ui.batchVolumesButton.click()
    panel.ui.batchFolderEdit.currentPath = str(tmp_path / "Ergebnisse ä")
    panel.ui.batchStartButton.click()
    end = time.monotonic() + 240
    while panel.batch.isBusy:
        assert time.monotonic() < end
        application.qapp.processEvents()
        time.sleep(0.02)
    assert panel.ui.batchLabel.text == "2 done, 1 failed", rows(panel)
    assert slicer.util.getNode("Jaw SR x2").GetImageData().GetDimensions() == (56, 48, 4)
    assert (tmp_path / "Ergebnisse ä" / "scan SR x2.nrrd").is_file()
    assert (tmp_path / "Ergebnisse ä" / "scan SR x2.nrrd.json").is_file()
    panel.ui.batchStartButton.click()
    assert panel.batch.queue.started == [panel.batch.queue.items[1]]
