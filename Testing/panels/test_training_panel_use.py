"""From a click on Start to a model in CBCTSuperRes: one small real training, and what a user can do wrong with it."""

from __future__ import annotations

import pytest
from CBCTSuperResLib.core.errors import Cancelled
from CBCTSuperResLib.models.card import read_card
from training_helpers import choose_drawn_slices, tick_until

pytestmark = pytest.mark.usefixtures("qt_or_skip")


class FakeTask:
    """A piece of work that goes on until it is cancelled."""

    def __init__(self):
        self.message, self.isFinished, self.error, self.report = "Measuring the halo", False, None, None
        self.fraction, self.remaining = 0.5, None
        self.isCancelled = False

    def poll(self):
        if self.isCancelled:
            self.isFinished, self.error = True, Cancelled()

    def cancel(self):
        self.isCancelled = True

    def close(self):
        self.isFinished = True


@pytest.fixture
def panel(training_panel, tmp_path):
    """A panel that shows a run with a model."""
    choose_drawn_slices(training_panel)
    folder = training_panel.choices.resultsFolder / "experiments" / "Lauf 1"
    (folder / "models").mkdir(parents=True)
    for which in ("best", "latest"):
        (folder / "models" / f"{which}_G.safetensors").touch()
    (folder / "status.json").write_text('{"state": "stopped", "step": 5, "niter": 9, "updated": 1.7e9}')
    training_panel.runs.listRuns()
    training_panel.refresh()
    return training_panel


@pytest.fixture
def used(panel, monkeypatch):
    """Nothing is exported; returns what the logic's `useModel` was called with."""
    calls = []

    def use(run, name, which, replace):
        calls.append({"run": run.name, "name": name, "which": which, "replace": replace})
        return FakeTask()

    monkeypatch.setattr(panel.logic, "useModel", use)
    return calls


def test_a_run_without_a_model_cannot_be_used_yet(training_panel):
    button = training_panel.ui.useModelButton
    assert not button.enabled and "first checkpoint" in button.toolTip


def test_name_and_weights_are_the_user_s_choice(panel, used, user_models):
    assert panel.ui.useModelButton.enabled and panel.ui.modelNameEdit.placeholderText == "Lauf 1"
    panel.ui.useModelButton.click()
    assert used == [{"run": "Lauf 1", "name": "Lauf 1", "which": "best", "replace": False}]
    assert panel.ui.useModelButton.text == "Cancel"
    panel.onTimer()
    assert panel.ui.useModelLabel.text == "Measuring the halo"
    panel.ui.useModelButton.click()
    panel.onTimer()
    assert panel.ui.useModelLabel.text == "Cancelled." and panel.ui.useModelButton.text == "Use this model"
    panel.ui.modelNameEdit.text = " My scanner: fine "
    panel.ui.whichSelector.currentIndex = 1
    panel.ui.useModelButton.click()
    assert used[1] == {"run": "Lauf 1", "name": "My scanner_ fine", "which": "latest", "replace": False}


def test_a_model_of_the_user_s_is_replaced_only_if_the_user_agrees(panel, used, user_models, monkeypatch):
    from CBCTSuperResLib.panels import dialogs

    answers = [False, True]
    monkeypatch.setattr(dialogs, "confirm", lambda *question: answers.pop(0))
    panel.ui.modelNameEdit.text = "tiny"
    panel.ui.useModelButton.click()
    assert used == []
    panel.ui.useModelButton.click()
    assert used[0]["replace"] is True and answers == []


def test_a_name_of_a_shipped_model_is_refused_in_words(panel):
    panel.ui.modelNameEdit.text = "light"
    panel.ui.useModelButton.click()
    assert "There is a model called light:" in panel.ui.useModelLabel.text and not panel.use.isBusy


def test_a_real_training_becomes_the_model_that_is_chosen_in_the_other_module(
    application, training_panel, apply_module, user_models, scene, monkeypatch
):
    pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    panel = training_panel
    choose_drawn_slices(panel, "Our scanner", niter=4, val_freq=2)
    panel.ui.startButton.click()
    tick_until(application, panel, lambda: panel.run.job is not None, 60)
    tick_until(application, panel, lambda: panel.run.job is None, 120)
    assert panel.ui.trainingLabel.text.startswith("Our scanner is finished."), panel.ui.trainingLabel.text
    assert "cubic interpolation" in panel.ui.trainingLabel.text and not panel.ui.pictureLabel.isHidden()

    panel.ui.useModelButton.click()
    tick_until(application, panel, lambda: not panel.use.isBusy, 120)
    told = panel.ui.useModelLabel.text
    assert "has chosen it: the best in validation, from step " in told, told
    assert read_card(user_models / "Our scanner.safetensors").name == "Our scanner"
    assert panel.ui.modelList.currentItem().text().startswith("Our scanner")
    widget = application.showWidget(apply_module)
    assert widget.panel.parameters.model == "Our scanner"
    assert "Our scanner" in widget.panel.ui.modelSelector.currentText
    widget.cleanup()
