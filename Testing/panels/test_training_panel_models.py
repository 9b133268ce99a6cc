"""Section Models of the training panel: cards, checks, removal, the folder of the user's models."""

from __future__ import annotations

import pytest
from training_helpers import tick_until

pytestmark = pytest.mark.usefixtures("qt_or_skip")


@pytest.fixture
def panel(training_panel, user_models):
    (user_models / "broken.safetensors").write_bytes(b"rubbish")
    training_panel.models.listModels()
    return training_panel


def names_of(panel):
    return [panel.ui.modelList.item(row).text() for row in range(panel.ui.modelList.count)]


def choose(panel, name):
    rows = [row for row, text in enumerate(names_of(panel)) if text.lower().startswith(name)]
    panel.ui.modelList.setCurrentRow(rows[0])


def test_models_are_listed_with_their_cards(panel):
    assert "Light (fast, x2)" in names_of(panel)  # as in the other module
    choose(panel, "tiny")
    assert "A tiny model for tests" in panel.ui.cardText.toPlainText()
    choose(panel, "broken (unusable)")
    assert "broken" in panel.ui.cardText.toPlainText() and not panel.ui.checkModelButton.enabled


def test_the_chosen_model_stays_chosen_when_the_panel_is_entered_again(training_widget, panel):
    choose(panel, "tiny")
    training_widget.exit()
    training_widget.enter()
    assert panel.ui.modelList.currentItem().text().startswith("Tiny (")


def test_a_model_is_checked_in_a_process_of_its_own(application, panel, user_models):
    choose(panel, "tiny")
    panel.ui.checkModelButton.click()
    assert panel.ui.checkModelButton.text == "Cancel" and panel.ui.modelsLabel.text
    tick_until(application, panel, lambda: not panel.models.isBusy, 60)
    assert panel.ui.modelsLabel.text.startswith("The file is as it was saved")

    file = user_models / "tiny.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\x01\x02\x03\x04")
    panel.ui.checkModelButton.click()
    tick_until(application, panel, lambda: not panel.models.isBusy, 60)
    assert "tiny" in panel.ui.modelsLabel.text and "The file is as it was saved" not in panel.ui.modelsLabel.text


def test_models_of_the_user_s_own_can_be_removed_and_shipped_ones_cannot(panel, user_models, monkeypatch):
    from CBCTSuperResLib.panels import dialogs

    answers = [False, True]
    monkeypatch.setattr(dialogs, "confirm", lambda *question: answers.pop(0))
    choose(panel, "light")
    assert not panel.ui.removeModelButton.enabled and "your own" in panel.ui.removeModelButton.toolTip
    choose(panel, "broken (unusable)")
    panel.ui.removeModelButton.click()
    assert "broken (unusable)" in names_of(panel)
    panel.ui.removeModelButton.click()
    assert "broken (unusable)" not in names_of(panel) and not (user_models / "broken.safetensors").exists()


def test_the_folder_of_user_models_is_opened(panel, user_models, monkeypatch):
    from CBCTSuperResLib.panels import dialogs

    opened = []
    monkeypatch.setattr(dialogs, "openFolder", opened.append)
    panel.ui.openFolderButton.click()
    assert opened == [str(user_models)]
