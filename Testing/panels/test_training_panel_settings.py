"""Section Settings of the training panel, driven as a user would: presets, files, single keys, the table, the plan."""

from __future__ import annotations

import json

import pytest
from CBCTSuperResLib.train.options_file import read_options
from options_files import printed
from scans import make_scan
from training_helpers import choose_drawn_slices, tick_until

pytestmark = pytest.mark.usefixtures("qt_or_skip")
CUSTOM, QUICK_LOOK, LIGHT, FULL = range(4)
VALUE = 1


@pytest.fixture
def panel(training_panel):
    return training_panel


@pytest.fixture
def ui(panel):
    return panel.ui


@pytest.fixture
def answer(monkeypatch):
    """Answers the dialogs for files."""
    from CBCTSuperResLib.panels import dialogs

    def set_answer(path):
        monkeypatch.setattr(dialogs, "chooseFile", lambda *_: str(path))
        monkeypatch.setattr(dialogs, "chooseNewFile", lambda *_: str(path))

    return set_answer


def value(panel, name):
    from CBCTSuperResLib.train.options_file import value_at

    return value_at(panel.choices.values(), name)


def row_of(ui, name: str) -> int:
    keys = [ui.optionsTable.item(row, 0).text() for row in range(ui.optionsTable.rowCount)]
    return next(row for row, key in enumerate(keys) if name in key.split())


def type_into_table(ui, name: str, text: str) -> None:
    ui.optionsTable.item(row_of(ui, name), VALUE).setText(text)


def type_into(edit, text: str) -> None:
    edit.text = text
    edit.editingFinished.emit()


def test_it_begins_with_the_quick_look_which_is_ready_to_start(panel, ui):
    assert ui.presetSelector.currentIndex == QUICK_LOOK and "10 min" in ui.presetSelector.currentText
    assert panel.choices.problem() == "" and ui.settingsProblemLabel.isHidden()
    options = panel.choices.readyOptions()
    assert options.train.niter == ui.iterationsBox.value == 1350
    assert (ui.scaleSelector.currentText, ui.rateEdit.text, ui.featuresBox.value) == ("2", "0.002", 8)
    assert options.name == panel.parameters.runName and options.path.root == str(panel.choices.resultsFolder)


def test_a_preset_brings_all_its_settings_and_says_what_it_lacks(panel, ui):
    ui.presetSelector.currentIndex = FULL
    assert (ui.featuresBox.value, ui.blocksBox.value, ui.patchBox.value) == (64, 23, 128)
    assert ui.deviceSelector.currentText.startswith("Automatic")
    assert "trabecular" in panel.choices.problem()
    ui.presetSelector.currentIndex = LIGHT
    assert ui.deviceSelector.currentText == "CPU" and value(panel, "train.niter") == 15000


def test_a_changed_setting_makes_a_preset_a_custom_one(panel, ui):
    ui.iterationsBox.value = 2000
    assert ui.presetSelector.currentIndex == CUSTOM and value(panel, "train.niter") == 2000
    ui.iterationsBox.value = 1350
    assert ui.presetSelector.currentIndex == QUICK_LOOK


def test_scans_and_folders_outlive_a_preset(panel, ui, tmp_path):
    file = make_scan().write(tmp_path / "Zähne 1.nrrd")
    ui.sourceSelector.currentIndex = 1
    ui.finePathEdit.text = str(file)
    ui.addButton.click()
    ui.featureFileEdit.currentPath = str(tmp_path / "vgg.pth")
    ui.presetSelector.currentIndex = LIGHT
    options = panel.choices.options()
    assert options.datasets["train"].dataroot_HR == (str(file),) and options.datasets["train"].public == ()
    assert options.path.feature_weights == str(tmp_path / "vgg.pth") and ui.presetSelector.currentIndex == LIGHT


def test_what_is_being_typed_stays_as_it_is_and_so_does_the_cursor(panel, ui, tmp_path):
    ui.runNameEdit.setCursorPosition(2)
    ui.runNameEdit.insert("t")
    assert panel.parameters.runName == "Myt model" and ui.runNameEdit.cursorPosition == 3
    ui.rateEdit.text = "0.0"
    ui.iterationsBox.value = 77
    assert ui.rateEdit.text == "0.0"
    ui.featureFileEdit.currentPath = f"{tmp_path}/Program "
    assert ui.featureFileEdit.currentPath == f"{tmp_path}/Program "
    assert value(panel, "path.feature_weights") == f"{tmp_path}/Program"


def test_without_a_results_folder_nothing_starts(panel, ui):
    ui.resultsFolderEdit.currentPath = ""
    assert ui.resultsFolderEdit.currentPath == "" and not ui.startButton.enabled
    assert "Choose a results folder." in ui.startButton.toolTip


def test_whole_numbers_have_boxes(panel, ui):
    for box, number, name in (
        (ui.iterationsBox, 77, "train.niter"),
        (ui.validationBox, 7, "train.val_freq"),
        (ui.batchBox, 3, "datasets.train.batch_size"),
        (ui.patchBox, 64, "datasets.train.HR_size"),
        (ui.featuresBox, 16, "network_G.nf"),
        (ui.blocksBox, 5, "network_G.nb"),
    ):
        box.value = number
        assert value(panel, name) == number


def test_rates_and_weights_are_typed_and_refused_in_words(panel, ui):
    for edit, names in (
        (ui.rateEdit, ["train.lr_G", "train.lr_G_grad"]),
        (ui.pixelWeightEdit, ["train.pixel_weight"]),
        (ui.ganWeightEdit, ["train.gan_weight"]),
        (ui.featureWeightEdit, ["train.feature_weight"]),
    ):
        before = edit.text
        type_into(edit, "2e-5")
        assert [value(panel, name) for name in names] == [2e-05] * len(names) and edit.text == "2e-05"
        type_into(edit, "much")
        problem = ui.settingsProblemLabel.text
        assert f"{names[0]} must be a number" in problem and '"much"' in problem
        assert not ui.startButton.enabled and not ui.planButton.enabled and names[0] in ui.planButton.toolTip
        type_into(edit, "1e-3")
        assert ui.settingsProblemLabel.isHidden() and ui.planButton.enabled
        type_into(edit, before)


def test_the_device_is_said_in_both_keys(panel, ui):
    for index, device, numbers in ((0, "auto", "auto"), (2, "cuda", "auto"), (1, "auto", [])):
        ui.deviceSelector.currentIndex = index
        assert (value(panel, "device"), value(panel, "gpu_ids")) == (device, numbers)
        assert ui.deviceSelector.currentIndex == index


def test_a_feature_weight_asks_for_its_file(panel, ui, tmp_path):
    type_into(ui.featureWeightEdit, "1")
    assert "path.feature_weights names no file" in panel.choices.problem()
    (tmp_path / "vgg19.pth").touch()
    ui.featureFileEdit.currentPath = str(tmp_path / "vgg19.pth")
    assert panel.choices.problem() == ""


def test_the_table_holds_every_other_key_with_its_meaning(panel, ui):
    from CBCTSuperResLib.train.options_schema import catalogue

    keys = {ui.optionsTable.item(row, 0).text().split()[0] for row in range(ui.optionsTable.rowCount)}
    assert keys <= {entry.name for entry in catalogue()}
    assert {"train.lr_D", "logger.keep_last", "datasets.val.axis", "card.title", "network_D.nf"} <= keys
    assert not keys & {"train.niter", "scale", "path.root", "name", "datasets.train.dataroot_HR"}
    assert ui.optionsTable.item(row_of(ui, "train.ema_decay"), 0).text().endswith("\u2020")
    assert ui.optionsTable.item(row_of(ui, "train.gan_type"), 0).text() == "train.gan_type"
    ui.optionsTable.setCurrentCell(row_of(ui, "train.ema_decay"), 0)
    assert "running mean" in ui.meaningLabel.text and "Accepts: number > 0, < 1" in ui.meaningLabel.text


def test_a_value_is_typed_into_the_table(panel, ui):
    type_into_table(ui, "train.lr_steps", "[10, 20]")
    assert value(panel, "train.lr_steps") == [10, 20] and ui.settingsProblemLabel.isHidden()
    assert panel.choices.problem() == ""


def test_a_wrong_value_is_told_at_its_key_and_stays_until_it_is_corrected(panel, ui):
    name, text, problem = "train.lr_D", "fast", "train.lr_D must be a number > 0"
    type_into_table(ui, name, text)
    row = row_of(ui, name)
    assert problem in ui.settingsProblemLabel.text and problem in ui.optionsTable.item(row, VALUE).toolTip()
    assert ui.optionsTable.item(row, 0).text() != name and not ui.startButton.enabled
    ui.optionsTable.setCurrentCell(row, 0)
    assert problem in ui.meaningLabel.text
    ui.presetSelector.currentIndex = LIGHT
    ui.presetSelector.currentIndex = QUICK_LOOK
    assert ui.settingsProblemLabel.isHidden() and "\u26a0" not in ui.optionsTable.item(row, 0).text()


def test_keys_are_found_by_words_of_their_meaning(ui):
    ui.searchEdit.text = "Rate discriminators"
    shown = [row for row in range(ui.optionsTable.rowCount) if not ui.optionsTable.isRowHidden(row)]
    assert 0 < len(shown) < 8
    ui.searchEdit.text = ""
    assert not any(ui.optionsTable.isRowHidden(row) for row in range(ui.optionsTable.rowCount))


def test_the_printed_options_of_unetspsr_are_opened_with_their_comments_and_images(panel, ui, answer, tmp_path):
    file = tmp_path / "train 1.json"
    file.write_text("// as printed\n" + printed(0), encoding="utf-8")
    given = read_options(file)
    answer(file)
    ui.openOptionsButton.click()
    assert ui.fileLabel.text.startswith("Opened"), ui.fileLabel.text
    assert panel.parameters.runName == given.name and ui.iterationsBox.value == given.train.niter
    options = panel.choices.options()
    assert options.datasets["train"].mode == given.datasets["train"].mode
    assert [p.rpartition("/")[2] for p in options.datasets["train"].dataroot_HR] == [
        p.rpartition("/")[2] for p in given.datasets["train"].dataroot_HR
    ]
    assert options.datasets["train"].normalization_range == given.datasets["train"].normalization_range
    assert panel.ui.dataTable.rowCount == sum(len(given.datasets[p].dataroot_HR) for p in ("train", "val"))
    assert "There is no" in panel.choices.problem()


def test_relative_paths_of_a_file_begin_at_its_folder(panel, ui, answer, tmp_path):
    (tmp_path / "Daten").mkdir()
    (tmp_path / "Daten" / "1.png").touch()
    file = tmp_path / "o.json"
    values = {"name": "rel", "datasets": {"train": {"mode": "HR", "dataroot_HR": "Daten"}}, "path": {"root": "runs"}}
    file.write_text(json.dumps({**values, "train": {"feature_weight": 0}}), encoding="utf-8")
    answer(file)
    ui.openOptionsButton.click()
    assert panel.choices.options().datasets["train"].dataroot_HR == (str(tmp_path / "Daten"),)
    assert panel.choices.resultsFolder == tmp_path / "runs" and panel.choices.options().datasets.keys() == {"train"}


def test_a_file_with_mistakes_changes_nothing_and_is_told(panel, ui, answer, tmp_path):
    file = tmp_path / "o.json"
    file.write_text("{broken", encoding="utf-8")
    before = panel.choices.values()
    answer(file)
    ui.openOptionsButton.click()
    assert "is not valid JSON" in ui.fileLabel.text and not ui.fileLabel.isHidden()
    assert panel.choices.values() == before


def test_no_file_no_change(panel, ui, answer):
    answer("")
    ui.openOptionsButton.click()
    ui.saveOptionsButton.click()
    assert ui.fileLabel.isHidden()


def test_a_saved_file_is_complete_and_comes_back_as_it_was(panel, ui, answer, tmp_path, scene):
    from test_training_panel_data import add_rows, add_volume, fine_scan

    add_rows(ui, add_volume("Jaw fine", fine_scan()), add_volume("Jaw coarse", make_scan()))
    ui.iterationsBox.value = 1500
    type_into_table(ui, "train.lr_steps", "[10, 20]")
    ui.patchBox.value = 16
    answer(tmp_path / "Meine Optionen.json")
    ui.saveOptionsButton.click()
    assert ui.fileLabel.text.startswith("Saved"), ui.fileLabel.text
    saved = read_options(tmp_path / "Meine Optionen.json")
    train = saved.datasets["train"]
    assert (saved.train.niter, saved.train.lr_steps, saved.name) == (1500, (10, 20), panel.parameters.runName)
    assert train.mode == "LRHR" and train.dataroot_HR[0].endswith(".nrrd") and train.normalization_range is not None
    assert panel.logic.missing(saved) == []
    scene.Clear(0)
    ui.openOptionsButton.click()
    assert panel.choices.readyOptions() == saved


def test_settings_that_are_wrong_are_not_saved(panel, ui, answer, tmp_path):
    type_into(ui.rateEdit, "fast")
    answer(tmp_path / "o.json")
    ui.saveOptionsButton.click()
    assert "train.lr_G must be" in ui.fileLabel.text and not (tmp_path / "o.json").exists()


def test_a_folder_that_cannot_be_written_to_is_told(ui, answer, tmp_path):
    answer(tmp_path / "gone" / "o.json")
    ui.saveOptionsButton.click()
    assert "cannot be written" in ui.fileLabel.text


def test_the_window_is_estimated_suggested_or_typed(panel, ui, scene):
    from CBCTSuperResLib.scene.training_volumes import suggestWindow
    from test_training_panel_data import add_rows, add_volume, fine_scan

    fine = add_volume("Jaw fine", fine_scan())
    assert not ui.suggestButton.enabled and ui.windowLowEdit.enabled and ui.windowLowEdit.text == "26000"
    add_rows(ui, fine)
    ui.patchBox.value = 16
    assert not ui.windowLowEdit.enabled and value(panel, "datasets.train.normalization_range") is None
    expected = suggestWindow(fine)
    assert list(panel.choices.readyOptions().datasets["train"].normalization_range) == expected
    ui.suggestButton.click()
    assert ui.windowSelector.currentText == "As given" and ui.windowLowEdit.enabled
    assert [float(ui.windowLowEdit.text), float(ui.windowHighEdit.text)] == expected
    type_into(ui.windowLowEdit, "100")
    assert value(panel, "datasets.train.normalization_range") == [100, expected[1]]
    type_into(ui.windowHighEdit, "50")
    assert "must ascend" in ui.settingsProblemLabel.text
    type_into(ui.windowHighEdit, "")
    assert "normalization_range" in ui.settingsProblemLabel.text
    type_into(ui.windowLowEdit, "")
    assert ui.settingsProblemLabel.isHidden() and value(panel, "datasets.train.normalization_range") is None


def test_the_plan_tells_memory_time_and_folder(application, panel, ui):
    choose_drawn_slices(panel)
    ui.planButton.click()
    assert ui.planButton.text == "Cancel" and not ui.planProgressBar.isHidden()
    tick_until(application, panel, lambda: not panel.settings.isBusy, 60.0)
    assert (
        "Time: about" in ui.planLabel.text and "(guessed)" in ui.planLabel.text and "Memory: about" in ui.planLabel.text
    )
    assert str(panel.choices.resultsFolder) in ui.planLabel.text and ui.planButton.text == "Plan"
    ui.batchBox.value = 3
    assert ui.planLabel.isHidden() and ui.planLabel.text == ""


def test_the_plan_measures_if_it_is_asked_to_and_can_be_cancelled(application, panel, ui):
    choose_drawn_slices(panel)
    ui.measureBox.checked = True
    assert panel.parameters.measurePace
    ui.planButton.click()
    tick_until(application, panel, lambda: not panel.settings.isBusy, 90.0)
    assert "(measured)" in ui.planLabel.text
    ui.planButton.click()
    ui.planButton.click()
    tick_until(application, panel, lambda: not panel.settings.isBusy, 60.0)
    assert ui.planLabel.text in ("Cancelled.", "") or "Time: about" in ui.planLabel.text


def test_volumes_are_not_written_only_to_plan(panel, ui, monkeypatch):
    from test_training_panel_data import add_rows, add_volume, fine_scan

    add_rows(ui, add_volume("Jaw fine", fine_scan()))
    planned = []
    monkeypatch.setattr(panel.logic, "plan", lambda options, measure: planned.append(options) or pytest.skip)
    panel.settings._plan()
    assert panel.logic.missing(planned[0]) == [] and not panel.choices.resultsFolder.exists()


def test_settings_are_saved_with_the_scene_and_come_back(panel, ui, scene, tmp_path):
    import slicer

    ui.iterationsBox.value = 321
    ui.measureBox.checked = True
    type_into(ui.rateEdit, "7e-4")
    scene.SetRootDirectory(str(tmp_path))
    assert scene.Commit(str(tmp_path / "Szene.mrml"))
    scene.Clear(0)
    assert ui.iterationsBox.value == 1350 and not ui.measureBox.checked
    scene.SetURL(str(tmp_path / "Szene.mrml"))
    scene.Connect()
    slicer.app.processEvents()
    assert (ui.iterationsBox.value, ui.rateEdit.text, ui.measureBox.checked) == (321, "0.0007", True)


def test_settings_of_a_scene_that_cannot_be_read_are_told_and_replaced_by_a_preset(panel, ui):
    panel.parameters.settings = "{broken"
    assert "cannot be read" in ui.settingsProblemLabel.text and not ui.startButton.enabled
    ui.iterationsBox.value = 5
    type_into_table(ui, "train.lr_D", "1")
    ui.presetSelector.currentIndex = LIGHT
    ui.presetSelector.currentIndex = QUICK_LOOK
    assert panel.choices.problem() == ""


def test_unknown_keys_of_a_scene_are_told(panel, ui):
    values = panel.choices.settings()
    panel.parameters.settings = json.dumps({**values, "colour": "red", "network_G": 3})
    assert "colour is not known" in ui.settingsProblemLabel.text
    assert "network_G must be a block" in ui.settingsProblemLabel.text
