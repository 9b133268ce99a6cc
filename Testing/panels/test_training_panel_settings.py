"""Sections Training and Settings, driven as a user would; what the widgets decide is in test_training_choices.py."""

from __future__ import annotations

import pytest
from CBCTSuperResLib.train.options_file import read_options, value_at
from options_files import printed
from training_helpers import add_rows, add_volume, choose_drawn_slices, fine_scan

pytestmark = pytest.mark.usefixtures("qt_or_skip")
CUSTOM, QUICK_LOOK = range(2)
UNETSPSR, RESIDUAL = range(2)
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
    return value_at(panel.choices.values(), name)


def field(panel, name: str):
    """The widget of a setting that people change most."""
    return next(field.widget for field in panel.settings.fields if name in field.names)


def row_of(ui, name: str) -> int:
    keys = [ui.optionsTable.item(row, 0).text() for row in range(ui.optionsTable.rowCount)]
    return next(row for row, key in enumerate(keys) if name in key.split())


def type_into_table(ui, name: str, text: str) -> None:
    ui.optionsTable.item(row_of(ui, name), VALUE).setText(text)


def type_into(edit, text: str) -> None:
    edit.text = text
    edit.editingFinished.emit()


def test_it_begins_with_the_quick_look_which_is_ready_to_start(panel, ui):
    assert ui.kindSelector.currentText.startswith("UNetSPSR") and ui.presetSelector.currentIndex == QUICK_LOOK
    assert ui.startButton.enabled and ui.settingsProblemLabel.isHidden() and ui.problemLabel.isHidden()
    assert ui.learnsFromLabel.text.startswith("Training: 600 computer-drawn images")
    options = panel.choices.readyOptions()
    assert options.train.niter == ui.iterationsBox.value == 1350
    assert [field(panel, key).text for key in ("train.lr_G", "network_G.nf")] == ["0.002", "8"]
    assert field(panel, "scale").currentText == "2" and ui.deviceSelector.currentText.startswith("Automatic")
    assert options.name == panel.parameters.runName and options.path.root == str(panel.choices.resultsFolder)


def test_kind_preset_steps_and_device_change_the_settings_and_follow_them(panel, ui):
    ui.kindSelector.currentIndex = RESIDUAL
    assert panel.choices.presetName() == "light" and value(panel, "train.niter") == 15000
    assert [ui.presetSelector.itemText(row) for row in range(ui.presetSelector.count)] == ["Custom", "Light (hours)"]
    ui.iterationsBox.value = 2000
    assert ui.presetSelector.currentIndex == CUSTOM and value(panel, "train.niter") == 2000
    ui.iterationsBox.value = 15000
    assert ui.presetSelector.currentIndex == 1
    ui.deviceSelector.currentIndex = 1
    assert value(panel, "gpu_ids") == [] and ui.presetSelector.currentIndex == 1
    ui.kindSelector.currentIndex = UNETSPSR
    ui.presetSelector.currentIndex = 2
    assert field(panel, "network_G.nb").text == "23" and "trabecular" in ui.problemLabel.text
    assert "trabecular" in ui.startButton.toolTip and not ui.startButton.enabled


def test_what_a_step_takes_is_measured_once_when_the_module_is_entered(
    training_widget, panel, ui, packages, monkeypatch
):
    from CBCTSuperResLib.train.pace import Pace, record_pace

    started = []

    class Measuring:
        isFinished, error = False, None

        def poll(self):
            for options in started[0]:
                record_pace(options, Pace(0.2, 0.5))
            self.isFinished = True

        def close(self):
            """It is over."""

    monkeypatch.setattr(type(panel.choices), "unmeasured", packages.unmeasured)
    presets = panel.choices.unmeasured()
    monkeypatch.setattr(panel.logic, "measurePace", lambda trainings: started.append(trainings) or Measuring())
    training_widget.exit()
    training_widget.enter()
    assert started == [presets] and ui.timeLabel.text.startswith("Measuring")
    panel.onTimer()
    assert ui.timeLabel.text == "Takes about 3 min here."
    assert ui.presetSelector.currentText == "Quick look (about 3 min here)"
    training_widget.exit()
    training_widget.enter()
    assert len(started) == 1 and not panel.setup.isBusy
    ui.kindSelector.currentIndex = RESIDUAL
    type_into(field(panel, "datasets.train.batch_size"), "2")
    assert "not known yet" in ui.timeLabel.text


def test_what_is_being_typed_stays_as_it_is_and_so_does_the_cursor(panel, ui, tmp_path):
    ui.runNameEdit.setCursorPosition(2)
    ui.runNameEdit.insert("t")
    assert panel.parameters.runName == "Myt model" and ui.runNameEdit.cursorPosition == 3
    rate, weights = field(panel, "train.lr_G"), field(panel, "path.feature_weights")
    rate.text = "0.0"
    ui.iterationsBox.value = 77
    assert rate.text == "0.0"
    weights.currentPath = f"{tmp_path}/Program "
    assert weights.currentPath == f"{tmp_path}/Program "
    assert value(panel, "path.feature_weights") == f"{tmp_path}/Program"


def test_common_settings_are_typed_or_chosen_and_refused_in_words(panel, ui):
    rate = field(panel, "train.lr_G")
    assert "Learning rate of the generator" in rate.toolTip and "Accepts: number" in rate.toolTip
    for name, text, shown, expected in (
        ("train.lr_G", "2e-5", "2e-05", 2e-05),
        ("train.gan_weight", "0", "0", 0),
        ("datasets.train.batch_size", "3", "3", 3),
    ):
        edit = field(panel, name)
        type_into(edit, text)
        assert (value(panel, name), edit.text) == (expected, shown)
    assert value(panel, "train.lr_G_grad") == 2e-05
    field(panel, "scale").currentIndex = field(panel, "scale").findText("4")
    assert value(panel, "scale") == 4
    type_into(rate, "much")
    assert 'train.lr_G must be a number > 0, not "much"' in ui.settingsProblemLabel.text
    assert not ui.startButton.enabled and not ui.planButton.enabled and "train.lr_G" in ui.planButton.toolTip
    type_into(rate, "1e-3")
    assert ui.settingsProblemLabel.isHidden() and ui.planButton.enabled


def test_the_table_holds_every_other_key_with_its_meaning_and_takes_values(panel, ui):
    from CBCTSuperResLib.train.options_schema import catalogue

    keys = {ui.optionsTable.item(row, 0).text() for row in range(ui.optionsTable.rowCount)}
    assert keys <= {entry.name for entry in catalogue()}
    assert {"train.lr_D", "logger.keep_last", "datasets.val.axis", "card.title", "network_G.which_model_G"} <= keys
    assert not keys & {"train.niter", "scale", "path.root", "name", "datasets.train.dataroot_HR", "device"}
    ui.optionsTable.setCurrentCell(row_of(ui, "train.ema_decay"), 0)
    assert "running mean" in ui.meaningLabel.text and "Accepts: number > 0, < 1" in ui.meaningLabel.text
    assert "Not among UNetSPSR's own options" in ui.meaningLabel.text
    type_into_table(ui, "train.lr_steps", "[10, 20]")
    assert value(panel, "train.lr_steps") == [10, 20] and ui.settingsProblemLabel.isHidden()
    ui.searchEdit.text = "Rate discriminators"
    shown = [row for row in range(ui.optionsTable.rowCount) if not ui.optionsTable.isRowHidden(row)]
    assert 0 < len(shown) < 8
    ui.searchEdit.text = ""
    assert not any(ui.optionsTable.isRowHidden(row) for row in range(ui.optionsTable.rowCount))


def test_a_wrong_value_is_told_at_its_key_and_stays_until_it_is_corrected(panel, ui):
    name, text, problem = "train.lr_D", "fast", "train.lr_D must be a number > 0"
    type_into_table(ui, name, text)
    row = row_of(ui, name)
    assert problem in ui.settingsProblemLabel.text and problem in ui.optionsTable.item(row, VALUE).toolTip()
    assert ui.optionsTable.item(row, 0).text() != name and not ui.startButton.enabled
    ui.optionsTable.setCurrentCell(row, 0)
    assert problem in ui.meaningLabel.text
    ui.presetSelector.currentIndex = QUICK_LOOK
    assert ui.settingsProblemLabel.isHidden() and "\u26a0" not in ui.optionsTable.item(row, 0).text()


def test_options_are_opened_and_saved_as_files(panel, ui, answer, tmp_path):
    file = tmp_path / "train 1.json"
    file.write_text("// as printed\n" + printed(0), encoding="utf-8")
    given = read_options(file)
    answer(file)
    ui.openOptionsButton.click()
    assert ui.fileLabel.text.startswith("Opened"), ui.fileLabel.text
    assert panel.parameters.runName == given.name and ui.iterationsBox.value == given.train.niter
    assert ui.dataTable.rowCount == sum(len(given.datasets[p].dataroot_HR) for p in ("train", "val"))
    ui.saveOptionsButton.click()
    assert "There is no" in ui.fileLabel.text or "scan" in ui.fileLabel.text  # the images are not here
    choose_drawn_slices(panel)
    ui.removeButton.click()
    while ui.dataTable.rowCount:
        ui.removeButton.click()
    choose_drawn_slices(panel)
    answer(tmp_path / "Meine Optionen.json")
    ui.saveOptionsButton.click()
    assert ui.fileLabel.text.startswith("Saved"), ui.fileLabel.text
    assert read_options(tmp_path / "Meine Optionen.json").train.niter == 1000
    answer(tmp_path / "gone" / "o.json")
    ui.saveOptionsButton.click()
    assert "cannot be written" in ui.fileLabel.text


def test_a_file_with_mistakes_changes_nothing_and_is_told(panel, ui, answer, tmp_path):
    answer("")
    ui.openOptionsButton.click()
    ui.saveOptionsButton.click()
    assert ui.fileLabel.isHidden()
    (tmp_path / "o.json").write_text("{broken", encoding="utf-8")
    before = panel.choices.values()
    answer(tmp_path / "o.json")
    ui.openOptionsButton.click()
    assert "is not valid JSON" in ui.fileLabel.text and not ui.fileLabel.isHidden()
    assert panel.choices.values() == before


def test_the_window_is_estimated_suggested_or_typed(panel, ui):
    from CBCTSuperResLib.scene.training_volumes import suggestWindow

    fine = add_volume("Jaw fine", fine_scan())
    assert not ui.suggestButton.enabled and ui.windowLowEdit.enabled and ui.windowLowEdit.text == "26000"
    add_rows(ui, fine)
    assert not ui.windowLowEdit.enabled and value(panel, "datasets.train.normalization_range") is None
    expected = suggestWindow(fine)
    ui.suggestButton.click()
    assert ui.windowSelector.currentText == "As given" and ui.windowLowEdit.enabled
    assert [float(ui.windowLowEdit.text), float(ui.windowHighEdit.text)] == expected
    type_into(ui.windowLowEdit, "100")
    assert value(panel, "datasets.train.normalization_range") == [100, expected[1]]
    type_into(ui.windowHighEdit, "50")
    assert "must ascend" in ui.settingsProblemLabel.text
    type_into(ui.windowHighEdit, "")
    type_into(ui.windowLowEdit, "")
    assert ui.settingsProblemLabel.isHidden() and value(panel, "datasets.train.normalization_range") is None


class Planning:
    """A plan that goes on until it is said to have ended."""

    isFinished, error, report, fraction, message, remaining = False, None, None, 0.5, "Planning", 120.0

    def poll(self):
        """It goes on."""

    cancel = close = poll


def test_a_plan_is_shown_until_the_settings_that_it_was_made_for_change(panel, ui, monkeypatch):
    planned = []
    monkeypatch.setattr(panel.logic, "plan", lambda *given, **more: planned.append((given, more)) or Planning())
    choose_drawn_slices(panel)
    ui.measureBox.checked = True
    ui.planButton.click()
    assert ui.planButton.text == "Cancel" and ui.planLabel.text == "Planning, 2 min left"
    assert planned[0][1] == {"measure": True} and not ui.planProgressBar.isHidden()
    ui.planButton.click()
    panel.onTimer()
    assert ui.planLabel.text == "Cancelling"
    task = panel.settings._task.job
    task.isFinished, task.report = True, {"text": "Time: about an hour."}
    panel.onTimer()
    assert ui.planLabel.text == "Time: about an hour." and ui.planButton.text == "Plan"
    type_into(field(panel, "datasets.train.batch_size"), "3")
    assert ui.planLabel.isHidden() and ui.planLabel.text == ""


def test_settings_are_saved_with_the_scene_and_come_back(panel, ui, scene, tmp_path):
    import slicer

    ui.iterationsBox.value = 321
    ui.measureBox.checked = True
    type_into(field(panel, "train.lr_G"), "7e-4")
    scene.SetRootDirectory(str(tmp_path))
    assert scene.Commit(str(tmp_path / "Szene.mrml"))
    scene.Clear(0)
    assert ui.iterationsBox.value == 1350 and not ui.measureBox.checked
    scene.SetURL(str(tmp_path / "Szene.mrml"))
    scene.Connect()
    slicer.app.processEvents()
    assert (ui.iterationsBox.value, field(panel, "train.lr_G").text, ui.measureBox.checked) == (321, "0.0007", True)


def test_settings_of_a_scene_that_cannot_be_read_are_told_and_replaced_by_a_preset(panel, ui):
    panel.parameters.settings = "{broken"
    assert "cannot be read" in ui.settingsProblemLabel.text and not ui.startButton.enabled
    ui.iterationsBox.value = 5
    type_into_table(ui, "train.lr_D", "1")
    ui.kindSelector.currentIndex = RESIDUAL
    assert panel.choices.presetName() == "light" and panel.choices.optionProblems() == []
