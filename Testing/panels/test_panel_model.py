"""The model: choosing, details and import in the panel of CBCTSuperRes."""

from __future__ import annotations

import shutil

import pytest
from apply_helpers import choose_model
from CBCTSuperResLib.core.errors import DependencyError
from CBCTSuperResLib.models.folder import list_models
from waiting import wait_until

pytestmark = pytest.mark.usefixtures("qt_or_skip")


@pytest.fixture
def dialogs(monkeypatch):
    """Answers of the user; tests change them. What was shown and asked is kept."""
    from CBCTSuperResLib.panels import dialogs

    answers = {"file": "", "confirm": True, "shown": [], "asked": []}
    monkeypatch.setattr(dialogs, "chooseFile", lambda *_: str(answers["file"]))
    monkeypatch.setattr(dialogs, "showDetails", lambda *shown: answers["shown"].append(shown))
    monkeypatch.setattr(dialogs, "confirm", lambda *asked: answers["asked"].append(asked) or answers["confirm"])
    return answers


def variant(tiny_model, path, name, **changes):
    """The tiny model under another name, with other words in its card or other weights."""
    from dataclasses import replace

    import torch
    from CBCTSuperResLib.models.model import Model

    model = Model.load(tiny_model)
    if changes.pop("weights", False):
        with torch.no_grad():
            next(model.network.parameters()).add_(0.01)
    return Model(model.network, replace(model.card, name=name, **changes)).save(path)


def test_a_model_that_is_gone_is_said_by_name(panel):
    panel.parameters.model = "gone"
    assert not panel.ui.applyButton.enabled and "The model gone is not installed" in panel.ui.applyButton.toolTip
    assert "gone" in panel.ui.modelLabel.text and not panel.ui.modelDetailsButton.enabled
    choose_model(panel)
    assert panel.ui.applyButton.enabled and panel.parameters.model == "tiny"


def test_details_show_the_card_in_words(panel, dialogs):
    choose_model(panel, "Light (fast, x2)")
    panel.ui.modelDetailsButton.click()
    ((title, html),) = dialogs["shown"]
    card = panel.choices.card()
    assert title == card.title
    for words in ("Limits", "license: Apache-2.0", card.weights_sha256, "Results", "Training", "<table"):
        assert words in html


def test_a_card_cannot_smuggle_markup_into_the_details(panel, dialogs, tiny_model, tmp_path, user_models):
    variant(tiny_model, user_models / "odd.safetensors", "odd", summary="<script>x</script>")
    panel.model.listModels()
    panel.parameters.model = "odd"
    panel.ui.modelDetailsButton.click()
    assert "<script>" not in dialogs["shown"][0][1]


def test_a_model_file_is_copied_into_the_user_s_folder_and_chosen(panel, dialogs, tiny_model, tmp_path, user_models):
    dialogs["file"] = variant(tiny_model, tmp_path / "Mein Modell ä.safetensors", "mine", title="My own")
    panel.ui.importModelButton.click()
    assert panel.parameters.model == "mine" and panel.ui.modelSelector.currentText == "Mine (fast, x2)"
    assert (user_models / "Mein Modell ä.safetensors").read_bytes() == dialogs["file"].read_bytes()
    assert not dialogs["asked"] and "Imported" in panel.ui.logText.plainText
    assert sorted(path.suffix for path in user_models.iterdir()) == [".safetensors"] * 2


def test_another_model_of_a_name_takes_its_place_only_if_the_user_says_so(panel, dialogs, tiny_model, tmp_path):
    dialogs["file"] = variant(tiny_model, tmp_path / "other.safetensors", "tiny", title="Newer", weights=True)
    dialogs["confirm"] = False
    panel.ui.importModelButton.click()
    assert "tiny" in dialogs["asked"][0][1] and panel.choices.card().title == "A tiny model for tests"
    dialogs["confirm"] = True
    panel.ui.importModelButton.click()
    assert panel.choices.card().title == "Newer"
    assert [entry.name for entry in list_models()].count("tiny") == 1


def test_a_damaged_file_is_told_and_nothing_is_copied(panel, dialogs, tiny_model, tmp_path, user_models):
    damaged = bytearray(tiny_model.read_bytes())
    damaged[-3] ^= 1
    dialogs["file"] = tmp_path / "damaged.safetensors"
    dialogs["file"].write_bytes(damaged)
    panel.ui.importModelButton.click()
    assert "not those that were saved" in panel.ui.importLabel.text
    assert [path.name for path in user_models.iterdir()] == ["tiny.safetensors"]
    choose_model(panel, panel.choices.cards[0].label)
    assert panel.ui.importLabel.isHidden()


def test_choosing_no_file_changes_nothing(panel, dialogs):
    panel.ui.importModelButton.click()
    assert panel.parameters.model == "tiny" and not panel.model.isBusy


def test_weights_of_another_program_become_a_model_in_a_worker(application, panel, dialogs, tiny_model, tmp_path):
    from CBCTSuperResLib.importers.spsr import export_checkpoint
    from CBCTSuperResLib.models.model import Model

    dialogs["file"] = tmp_path / "480000 G.pth"
    export_checkpoint(Model.load(tiny_model), dialogs["file"])
    panel.ui.importModelButton.click()
    assert panel.model.isBusy and panel.ui.importModelButton.text == "Cancel import", panel.ui.importLabel.text
    wait_until(lambda: application.qapp.processEvents() or not panel.model.isBusy, 100)
    assert panel.parameters.model == "480000 G", panel.ui.importLabel.text
    assert panel.choices.card().spec.can_be_cut and not panel._timer.isActive()
    assert panel.ui.importModelButton.text == "Import model…"


def test_an_import_can_be_cancelled_and_bad_weights_are_told(application, panel, dialogs, tmp_path, user_models):
    dialogs["file"] = tmp_path / "rubbish.pth"
    dialogs["file"].write_bytes(b"rubbish")
    panel.ui.importModelButton.click()
    panel.ui.importModelButton.click()
    wait_until(lambda: application.qapp.processEvents() or not panel.model.isBusy, 60)
    told = panel.ui.importLabel.text
    assert told == "Cancelled." or "rubbish.pth" in told  # the worker may have been quicker
    panel.ui.importModelButton.click()
    wait_until(lambda: application.qapp.processEvents() or not panel.model.isBusy, 60)
    assert "rubbish.pth" in panel.ui.importLabel.text and "rubbish.pth" in panel.ui.logText.plainText
    assert [path.name for path in user_models.iterdir()] == ["tiny.safetensors"]


def test_weights_need_packages_and_a_closing_scene_ends_the_import(panel, dialogs, tmp_path, scene, monkeypatch):
    def refuse(*_, **__):
        raise DependencyError("PyTorch is missing.", "Install the extension PyTorch.")

    dialogs["file"] = tmp_path / "some.pth"
    dialogs["file"].write_bytes(b"rubbish")
    monkeypatch.setattr("CBCTSuperResLib.panels.dialogs.ensurePackages", refuse)
    panel.ui.importModelButton.click()
    assert "PyTorch is missing" in panel.ui.importLabel.text and not panel.model.isBusy
    monkeypatch.setattr("CBCTSuperResLib.panels.dialogs.ensurePackages", lambda *_: None)
    panel.ui.importModelButton.click()
    assert panel.model.isBusy
    scene.Clear(0)
    assert not panel.model.isBusy and not panel._timer.isActive()


def test_of_two_models_of_one_name_the_user_s_own_is_listed(panel, tiny_model, user_models):
    variant(tiny_model, user_models / "mine.safetensors", "light", title="My light")
    panel.model.listModels()
    titles = [card.title for card in panel.choices.cards if card.name == "light"]
    assert titles == ["My light"]


def test_another_folder_of_models_is_remembered_for_the_person(panel, monkeypatch, tiny_model, tmp_path):
    from CBCTSuperResLib.panels import dialogs
    from CBCTSuperResLib.panels.apply import choices as settings

    folder = tmp_path / "Andere Modelle"
    folder.mkdir()
    shutil.copy(tiny_model, folder / "copy.safetensors")
    variant(tiny_model, folder / "far.safetensors", "far")
    opened = []
    monkeypatch.setattr(dialogs, "chooseFolder", lambda *_: str(folder))
    monkeypatch.setattr(dialogs, "openFolder", opened.append)
    try:
        panel.ui.changeModelsFolderButton.click()
        assert panel.ui.modelsFolderEdit.text == str(folder) == str(settings.modelsFolder())
        assert "far" in [card.name for card in panel.choices.cards]
        assert panel.parameters.model == "tiny" and panel.ui.modelSelector.currentIndex >= 0
        panel.ui.openModelsFolderButton.click()
        assert opened == [str(folder)]
    finally:
        settings.setModelsFolder("")
