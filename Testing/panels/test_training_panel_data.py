"""Section Data of the training panel, driven as a user would: the table of scans, the check, registration."""

from __future__ import annotations

import json

import numpy as np
import pytest
from CBCTSuperResLib.acquisition.phantom import jaw_phantom
from CBCTSuperResLib.acquisition.scanner import block_mean
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.jobs.job import WorkerError
from scans import make_scan
from training_helpers import FILES, TRAINING, VALIDATION, add_rows, add_volume, fine_scan, tick_until

pytestmark = pytest.mark.usefixtures("qt_or_skip")


@pytest.fixture
def panel(training_panel):
    return training_panel


@pytest.fixture
def ui(panel):
    return panel.ui


@pytest.fixture
def pair(panel):
    return add_volume("Jaw coarse", make_scan()), add_volume("Jaw fine", fine_scan())


def add_files(ui, fine, coarse="", use: int = TRAINING) -> None:
    ui.sourceSelector.currentIndex = FILES
    ui.useSelector.currentIndex = use
    ui.finePathEdit.text, ui.coarsePathEdit.text = str(fine), str(coarse)
    ui.addButton.click()


def rows(ui) -> list[tuple[str, ...]]:
    table = ui.dataTable
    return [tuple(table.item(row, column).text() for column in range(3)) for row in range(table.rowCount)]


def small_steps(panel) -> None:
    """Patches that fit into the scans of these tests."""
    panel.choices.change({"datasets.train.HR_size": 16, "datasets.train.batch_size": 2})


def finish(application, panel) -> None:
    tick_until(application, panel, lambda: not panel.data.isBusy, 60.0)


def test_a_pair_of_volumes_is_put_into_the_table_and_goes_to_the_training(panel, ui, pair):
    coarse, fine = pair
    add_rows(ui, fine, coarse)
    assert ui.addLabel.isHidden() and rows(ui) == [("Jaw fine", "Jaw coarse", "Training")]
    assert panel.choices.volumes() == [(coarse, fine)] and panel.choices.validation() == []
    learned = ui.learnsFromLabel.text
    assert "Training: 1 pair\n" in learned and "12 computer-drawn images" in learned and ui.dataLabel.isHidden()
    assert ui.fineSelector.currentNode() is None
    options = panel.choices.readyOptions()
    assert options.datasets["train"].mode == "LRHR" and options.datasets["train"].procedural == 0
    assert options.datasets["val"].procedural == 12


def test_a_fine_scan_alone_is_for_simulated_pairs(panel, ui, pair):
    add_rows(ui, pair[1])
    add_rows(ui, pair[0], use=VALIDATION)
    assert rows(ui) == [("Jaw fine", "simulated", "Training"), ("Jaw coarse", "simulated", "Validation")]
    assert panel.choices.volumes() == [pair[1]] and panel.choices.validation() == [pair[0]]
    assert panel.choices.options().datasets["val"].procedural == 0


def test_what_cannot_be_added_is_said(panel, ui, pair, scene):
    ui.addButton.click()
    assert "No fine scan is chosen" in ui.addLabel.text and not ui.addLabel.isHidden()
    add_rows(ui, pair[1], pair[1])
    assert "are the same" in ui.addLabel.text
    add_rows(ui, scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing"))
    assert "Nothing is empty" in ui.addLabel.text
    add_rows(ui, pair[1])
    add_rows(ui, pair[1])
    assert "in the table already" in ui.addLabel.text and len(rows(ui)) == 1


def test_files_that_are_not_there_and_empty_folders_are_not_added(ui, tmp_path):
    add_files(ui, tmp_path / "gone.nrrd")
    assert "There is no" in ui.addLabel.text and "gone.nrrd" in ui.addLabel.text
    (tmp_path / "leer").mkdir()
    add_files(ui, tmp_path / "leer")
    assert "is empty" in ui.addLabel.text and rows(ui) == []


def test_files_and_folders_are_chosen_in_dialogs(panel, ui, tmp_path, monkeypatch):
    from CBCTSuperResLib.panels import dialogs

    for side in ("grob", "fein"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "1.png").touch()
    file = make_scan().write(tmp_path / "Zähne 1.nrrd")
    answers = iter([str(tmp_path / "fein"), str(tmp_path / "grob"), str(file), ""])
    monkeypatch.setattr(dialogs, "chooseFolder", lambda *_: next(answers))
    monkeypatch.setattr(dialogs, "chooseFile", lambda *_: next(answers))
    ui.sourceSelector.currentIndex = FILES
    assert ui.fineSelector.isHidden() and not ui.finePathWidget.isHidden()
    ui.fineFolderButton.click()
    ui.coarseFolderButton.click()
    ui.addButton.click()
    ui.fineFileButton.click()
    ui.coarseFileButton.click()
    assert ui.finePathEdit.text == str(file) and ui.coarsePathEdit.text == ""
    ui.addButton.click()
    assert rows(ui) == [("fein", "grob", "Training"), ("Zähne 1.nrrd", "simulated", "Training")]
    assert "Some scans have a coarse partner" in panel.choices.problem()
    assert not ui.checkButton.enabled and "Some scans" in ui.checkButton.toolTip


def test_a_pair_that_does_not_fit_is_marked_with_the_reason(panel, ui, pair):
    add_rows(ui, pair[1], pair[0])
    panel.choices.change({"scale": 4})
    assert rows(ui)[0][0].endswith("Jaw fine") and rows(ui)[0][0] != "Jaw fine"
    for text in (ui.dataLabel.text, ui.dataTable.item(0, 1).toolTip(), panel.choices.problem()):
        assert "no pair for scale 4" in text and "Register and prepare" in text
    panel.choices.change({"scale": 2})
    assert rows(ui)[0][0] == "Jaw fine" and "no pair" not in panel.choices.problem()


def test_rows_change_their_use_and_are_removed(panel, ui, pair):
    add_rows(ui, pair[1])
    add_rows(ui, pair[0])
    ui.dataTable.setCurrentCell(0, 0)
    assert ui.useButton.text == "Use for validation"
    ui.useButton.click()
    assert [row[2] for row in rows(ui)] == ["Validation", "Training"] and ui.useButton.text == "Use for training"
    ui.removeButton.click()
    assert rows(ui) == [("Jaw coarse", "simulated", "Training")]
    ui.removeButton.click()
    assert rows(ui) == [] and not ui.removeButton.enabled
    assert "There is nothing to train on" in panel.choices.problem()


def test_a_volume_that_leaves_the_scene_is_missed_by_name(panel, ui, pair, scene):
    add_rows(ui, pair[1], pair[0])
    scene.RemoveNode(pair[1])
    assert "Jaw fine is no longer in the scene" in ui.dataLabel.text
    assert "Jaw fine is no longer" in ui.checkButton.toolTip and not ui.startButton.enabled
    ui.dataTable.setCurrentCell(0, 0)
    assert not ui.prepareButton.enabled
    ui.removeButton.click()
    assert rows(ui) == []


def test_the_table_is_saved_with_the_scene_and_comes_back(panel, ui, pair, scene, tmp_path):
    import slicer

    file = make_scan().write(tmp_path / "Zähne 1.nrrd")
    add_rows(ui, pair[1], pair[0])
    add_files(ui, file, use=VALIDATION)
    for node in pair:
        storage = node.CreateDefaultStorageNode()
        storage.SetScene(scene)
        storage.SetFileName(str(tmp_path / f"{node.GetName()}.nrrd"))
        assert storage.WriteData(node)
        scene.AddNode(storage)
        node.SetAndObserveStorageNodeID(storage.GetID())
    scene.SetRootDirectory(str(tmp_path))
    assert scene.Commit(str(tmp_path / "Szene.mrml"))
    before = rows(ui)
    scene.Clear(0)
    assert rows(ui) == []
    add_volume("Another, so that the numbers of nodes shift", make_scan())
    scene.SetURL(str(tmp_path / "Szene.mrml"))
    scene.Connect()
    slicer.app.processEvents()
    assert rows(ui) == before
    ((coarse, fine),) = panel.choices.volumes()
    assert (coarse.GetName(), fine.GetName()) == ("Jaw coarse", "Jaw fine")
    assert panel.choices.validation() == [str(file)]


def test_what_cannot_be_read_in_a_scene_is_an_empty_table(panel, ui):
    panel.parameters.data = "[{broken"
    assert rows(ui) == [] and panel.choices.volumes() == []


def test_a_check_tells_what_was_found_in_words(application, panel, ui, pair):
    small_steps(panel)
    add_rows(ui, pair[1], pair[0])
    add_rows(ui, pair[1], pair[0])
    ui.checkButton.click()
    assert ui.checkButton.text == "Cancel" and not ui.dataProgressBar.isHidden()
    finish(application, panel)
    text = ui.dataReport.plainText
    assert not ui.dataReport.isHidden() and ui.dataProgressBar.isHidden() and ui.checkButton.text == "Check data"
    assert "4 pairs of images" in text and "4 of 56 x 48 pixels" in text
    assert "Misalignment of pairs: 0." in text and "Window: " in text
    assert "Jaw fine" in text and "4 images" in text
    assert text.startswith(("No problems", "Look at this first"))


def test_data_are_checked_although_weights_of_a_loss_are_missing(panel, ui, pair):
    small_steps(panel)
    add_rows(ui, pair[1])
    panel.choices.change({"train.feature_weight": 1})
    assert "path.feature_weights" in panel.choices.problem()
    assert ui.checkButton.enabled and not ui.startButton.enabled


def test_a_check_that_fails_says_why(application, panel, ui, pair):
    panel.choices.change({"datasets.train.HR_size": 64})
    add_rows(ui, pair[1])
    ui.checkButton.click()
    finish(application, panel)
    assert "smaller than HR_size 64" in ui.dataStatusLabel.text and ui.dataReport.isHidden()


def test_a_check_is_cancelled_and_ends_with_the_scene(application, panel, ui, pair, scene):
    small_steps(panel)
    add_rows(ui, pair[1])
    ui.checkButton.click()
    ui.checkButton.click()
    assert ui.dataStatusLabel.text == "Cancelling"
    finish(application, panel)
    assert ui.dataStatusLabel.text == "Cancelled."
    ui.checkButton.click()
    tick_until(application, panel, lambda: panel.data._task.job)
    worker = panel.data._task.job
    scene.Clear(0)
    assert worker.isFinished or not worker._process or worker._process.poll() is not None
    assert not panel.data.isBusy and rows(ui) == []


def test_nothing_begins_where_packages_are_missing(panel, ui, pair, monkeypatch):
    from CBCTSuperResLib.core.errors import DependencyError

    def refuse(*_, **__):
        raise DependencyError("PyTorch is missing.", "Install the extension PyTorch.")

    monkeypatch.setattr("CBCTSuperResLib.panels.dialogs.ensurePackages", refuse)
    small_steps(panel)
    add_rows(ui, pair[1])
    ui.checkButton.click()
    assert not panel.data.isBusy and "PyTorch is missing." in ui.dataStatusLabel.text


@pytest.fixture(scope="module")
def jaw() -> tuple[Volume, Volume]:
    """Coarse and fine scan of one phantom, the coarse one half a millimetre beside where it belongs."""
    field = jaw_phantom((32, 96, 96), 0.2, 0)
    fine = np.clip(26000 + 20000 * field, 0, 65535).astype(np.uint16)
    grid = Grid((96, 96, 32), (0.2, 0.2, 0.2))
    coarse = np.rint(block_mean(fine.astype(np.float32), (1, 2))).astype(np.uint16)
    low = grid.resampled((48, 48, 32))
    return Volume(coarse, Grid(low.size, low.spacing, (low.origin[0] + 0.5, *low.origin[1:]))), Volume(fine, grid)


def test_a_pair_is_registered_prepared_and_shown_as_a_checkerboard(application, panel, ui, jaw, scene, tmp_path):
    from CBCTSuperResLib.panels import dialogs

    views = [scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode") for _ in range(3)]
    small_steps(panel)
    coarse, fine = (add_volume(name, volume) for name, volume in zip(("P1 coarse", "P1 fine"), jaw, strict=True))
    views[0].SetBackgroundVolumeID(fine.GetID())
    add_rows(ui, fine, coarse)
    assert "do not lie upon each other" in ui.dataLabel.text and ui.prepareButton.enabled
    dialogs_before, dialogs.chooseFolder = dialogs.chooseFolder, lambda *_: str(tmp_path)
    try:
        ui.prepareButton.click()
    finally:
        dialogs.chooseFolder = dialogs_before
    assert ui.prepareButton.text == "Cancel" and not ui.checkButton.enabled
    tick_until(application, panel, lambda: not panel.data.isBusy, 120.0)
    assert ui.dataStatusLabel.isHidden(), ui.dataStatusLabel.text
    assert "Registered: from " in ui.dataReport.plainText and "good" in ui.dataReport.plainText

    out = tmp_path / "P1 fine pair"
    told = json.loads((out / "datasets.json").read_text(encoding="utf-8"))["train"]
    ((coarse_path, fine_path),) = panel.choices.volumes()
    assert fine_path == told["dataroot_HR"] and coarse_path == told["dataroot_LR"]
    options = panel.choices.readyOptions()
    assert options.datasets["train"].normalization_range == (0, 65535)
    assert list(options.datasets["train"].scanner_window) == pytest.approx(told["scanner_window"])

    board = scene.GetNodeByID(views[0].GetBackgroundVolumeID())
    assert board is not fine and {view.GetBackgroundVolumeID() for view in views} == {board.GetID()}
    assert not board.GetSaveWithScene() and board.GetHideFromEditors()
    assert board.GetImageData().GetScalarRange()[1] > 20000
    assert ui.checkerboardButton.text == "Hide checkerboard"
    ui.checkerboardButton.click()
    assert views[0].GetBackgroundVolumeID() == fine.GetID() and scene.GetNodeByID(board.GetID()) is not board
    ui.checkerboardButton.click()
    tick_until(application, panel, lambda: not panel.data.isBusy)
    assert ui.checkerboardButton.text == "Hide checkerboard"
    scene.InvokeEvent(scene.StartSaveEvent)
    assert ui.checkerboardButton.text == "Show checkerboard" and views[0].GetBackgroundVolumeID() == fine.GetID()
    ui.checkerboardButton.click()
    tick_until(application, panel, lambda: not panel.data.isBusy)
    scene.RemoveNode(fine)
    ui.checkerboardButton.click()
    assert views[0].GetBackgroundVolumeID() is None
    ui.checkerboardButton.click()
    panel.close()
    assert not [n for n in scene.GetNodesByClass("vtkMRMLScalarVolumeNode") if "heckerboard" in n.GetName()]


def test_a_registration_that_is_refused_leaves_the_row_as_it_was(application, panel, ui, pair, tmp_path, monkeypatch):
    from CBCTSuperResLib.panels import dialogs

    monkeypatch.setattr(dialogs, "chooseFolder", lambda *_: str(tmp_path))
    add_rows(ui, pair[1], pair[0])
    ui.prepareButton.click()
    finish(application, panel)
    assert ui.dataStatusLabel.text and not ui.dataStatusLabel.isHidden()
    assert rows(ui) == [("Jaw fine", "Jaw coarse", "Training")] and list(tmp_path.glob("*pair*")) == []


def test_no_folder_no_registration(panel, ui, pair, monkeypatch):
    from CBCTSuperResLib.panels import dialogs

    monkeypatch.setattr(dialogs, "chooseFolder", lambda *_: "")
    add_rows(ui, pair[1])
    assert not ui.prepareButton.enabled and "fine and a coarse scan" in ui.prepareButton.toolTip
    ui.removeButton.click()
    add_rows(ui, pair[1], pair[0])
    ui.prepareButton.click()
    assert not panel.data.isBusy


def test_volumes_are_written_a_moment_at_a_time_and_not_at_all_if_the_user_cancels(panel, ui, pair, monkeypatch):
    from CBCTSuperResLib.io import exchange
    from CBCTSuperResLib.panels.training import tasks as written_task

    monkeypatch.setattr(exchange, "SLAB_BYTES", 1)
    monkeypatch.setattr(written_task, "TICK_S", 0)
    add_rows(ui, pair[1])
    ui.checkButton.click()
    assert ui.dataStatusLabel.text == "Writing the volumes" and ui.checkButton.text == "Cancel"
    ui.checkButton.click()
    panel.onTimer()
    assert not panel.data.isBusy and ui.checkButton.text == "Check data"
    assert not list(panel.choices.resultsFolder.rglob("*.nrrd"))


def test_a_worker_that_died_is_told_and_logged(application, panel, ui, pair, monkeypatch, caplog):
    class Dead:
        isFinished, fraction, message, remaining, warnings, report = True, 0.3, "Reading", None, [], None
        error = WorkerError("The worker process was killed (signal 9).", "Free memory.", detail="its last words")

        def poll(self):
            """It is over."""

        close = cancel = poll

    monkeypatch.setattr(panel.logic, "checkData", lambda options: Dead())
    small_steps(panel)
    add_rows(ui, pair[1])
    ui.checkButton.click()
    finish(application, panel)
    assert "was killed (signal 9). Free memory." in ui.dataStatusLabel.text and "its last words" in caplog.text


def test_what_was_prepared_while_the_module_was_left_is_there_on_return(
    application, training_widget, panel, ui, pair, tmp_path, monkeypatch
):
    from CBCTSuperResLib.panels import dialogs

    monkeypatch.setattr(dialogs, "chooseFolder", lambda *_: str(tmp_path))
    job = Prepared(tmp_path / "Jaw fine pair", pair)
    monkeypatch.setattr(panel.logic, "preparing", lambda *scans, **options: at_once(job))
    add_rows(ui, pair[1], pair[0])
    ui.prepareButton.click()
    training_widget.exit()
    job.finish()
    panel.onTimer()
    assert not panel.data._task.isBusy
    training_widget.enter()
    assert rows(ui) == [("Jaw.nrrd", "Jaw.nrrd", "Training")] and "Jaw is prepared" in ui.dataReport.plainText
    add_rows(ui, pair[1], pair[0])
    assert "prepare all scans, or none" in ui.dataLabel.text


def test_what_was_prepared_and_has_vanished_is_told_on_return(training_widget, panel, ui, pair, tmp_path, monkeypatch):
    from CBCTSuperResLib.panels import dialogs

    monkeypatch.setattr(dialogs, "chooseFolder", lambda *_: str(tmp_path))
    job = Prepared(tmp_path / "Jaw fine pair", pair)
    monkeypatch.setattr(panel.logic, "preparing", lambda *scans, **options: at_once(job))
    add_rows(ui, pair[1], pair[0])
    ui.prepareButton.click()
    training_widget.exit()
    job.finish()
    (tmp_path / "Jaw fine pair" / "datasets.json").unlink()
    panel.onTimer()
    panel.onTimer()
    training_widget.enter()
    assert "cannot be read" in ui.dataStatusLabel.text and panel.parameters is not None
    ui.runNameEdit.text = "Again"
    assert panel.parameters.runName == "Again"


def at_once(job):
    """Steps of which there are none."""
    return job
    yield


class Prepared:
    """A registration whose files are there as soon as the test says so."""

    isFinished, fraction, message, remaining, warnings, error, report = False, 0.5, "Registering", None, [], None, None

    def __init__(self, folder, pair) -> None:
        self._folder, self._pair = folder, pair

    def finish(self) -> None:
        from CBCTSuperResLib.scene.nodes import volumeFromNode

        for side, node in zip(("LR", "HR"), self._pair, strict=True):
            (self._folder / side).mkdir(parents=True)
            volumeFromNode(node).write(self._folder / side / "Jaw.nrrd")
        roots = {f"dataroot_{side}": str(self._folder / side / "Jaw.nrrd") for side in ("LR", "HR")}
        told = {"train": {"name": "TRAIN", "mode": "LRHR", "scanner_window": [0, 4000], **roots}}
        (self._folder / "datasets.json").write_text(json.dumps(told), encoding="utf-8")
        self.isFinished, self.report = (
            True,
            {
                "name": "Jaw",
                "registration": {
                    "done": True,
                    "begun_from": "the centers",
                    "shift_from_start_mm": 0.4,
                    "rotation_from_start_deg": 1.0,
                },
                "alignment": {"median_mm": 0.3, "p95_mm": 0.5, "lr_voxel_mm": 0.25},
                "region": {
                    "hr_size": [4, 4, 4],
                    "lr_size": [2, 2, 4],
                    "hr_spacing_mm": [0.1] * 3,
                    "lr_spacing_mm": [0.2, 0.2, 0.1],
                },
                "window_hr": [0, 4000],
                "window_lr": [0, 4000],
                "warnings": ["The patient may have moved."],
            },
        )

    def poll(self) -> None:
        """The test moves it."""

    close = cancel = poll


def test_folders_of_scans_are_prepared_and_split_by_patient(application, panel, ui, jaw, tmp_path, monkeypatch):
    from CBCTSuperResLib.panels import dialogs

    monkeypatch.setattr(dialogs, "chooseFolder", lambda *_: str(tmp_path))
    for side, volume in zip(("grob", "fein"), jaw, strict=True):
        (tmp_path / side).mkdir()
        for name in ("P1", "P2"):
            volume.write(tmp_path / side / f"{name}.nrrd")
    small_steps(panel)
    add_files(ui, tmp_path / "fein", tmp_path / "grob")
    ui.prepareButton.click()
    tick_until(application, panel, lambda: not panel.data.isBusy, 180.0)
    assert ui.dataStatusLabel.isHidden(), ui.dataStatusLabel.text
    assert "2 pairs are prepared, 0 failed." in ui.dataReport.plainText
    assert sorted(row[2] for row in rows(ui)) == ["Training", "Validation"]
    assert panel.choices.problem() == "" and panel.data._board.isShown
