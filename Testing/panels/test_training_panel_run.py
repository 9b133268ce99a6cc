"""Section Run of the training panel: started, watched, stopped, resumed and found again, with a quick worker."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import quick_trainings
from CBCTSuperResLib.core import processes
from CBCTSuperResLib.core.errors import DependencyError
from CBCTSuperResLib.jobs import job as worker_process
from CBCTSuperResLib.jobs.training import worker_folder
from CBCTSuperResLib.train.run_folder import read_run
from training_helpers import choose_drawn_slices, tick_until

pytestmark = pytest.mark.usefixtures("qt_or_skip")


@pytest.fixture(autouse=True)
def quick(monkeypatch, ready_workers, mrml):
    monkeypatch.setattr(worker_process, "start_in_own_group", quick_trainings.start_in_own_group)


@pytest.fixture(autouse=True)
def answers(application, monkeypatch):
    """What the user says to questions, by the beginning of the question; others must not be asked."""
    from CBCTSuperResLib.panels import dialogs

    said, asked = {}, []

    def answer(title, question, *_):
        asked.append(question)
        return next(value for beginning, value in said.items() if question.startswith(beginning))

    monkeypatch.setattr(dialogs, "confirm", answer)
    monkeypatch.setattr(dialogs, "choose", answer)
    said["asked"] = asked
    return said


@pytest.fixture
def panel(training_panel):
    choose_drawn_slices(training_panel)
    yield training_panel
    job = training_panel.run.job
    if job is not None:
        job.kill()


@pytest.fixture
def open_again(application, training_module):
    """Makes a panel as a new session would, and closes it at the end."""
    made = []

    def opened():
        made.append(application.showWidget(training_module))
        return made[-1]

    yield opened
    for widget in made:
        widget.cleanup()


@pytest.fixture
def wait(application, panel):
    return lambda condition: tick_until(application, panel, condition)


def start(panel, wait, step=2):
    panel.ui.startButton.click()
    wait(lambda: panel.run.job is not None and panel.run.job.step >= step)


def rows_of(panel):
    return [panel.ui.runList.item(row).text() for row in range(panel.ui.runList.count)]


def folder_of(panel, name="Lauf 1") -> Path:
    return panel.choices.resultsFolder / "experiments" / name


def test_a_click_starts_a_training_that_tells_how_it_goes(panel, wait):
    assert panel.ui.startButton.text == "Start" and panel.ui.startButton.enabled, panel.ui.startButton.toolTip
    assert panel.ui.runLabel.text == "There are no runs in this folder yet."
    panel.ui.startButton.click()
    assert panel.ui.startButton.text == "Cancel" and not panel.ui.trainingLabel.isHidden()
    wait(lambda: panel.run.job is not None and panel.run.job.step >= 6)
    assert panel.ui.startButton.text == "Stop" and not panel.ui.resumeButton.enabled
    assert "9 s left" in panel.ui.trainingLabel.text and "A note." in panel.ui.trainingLabel.text
    assert not panel.ui.trainingProgressBar.isHidden()
    wait(lambda: "Losses: pixels" in panel.ui.runLabel.text)
    wait(lambda: "dB better than cubic interpolation (31.00 dB), at step" in panel.ui.runLabel.text)
    assert rows_of(panel)[0].startswith("Lauf 1: running\nstep ")


def test_a_new_run_is_shown_though_others_are_there(panel, wait):
    other = folder_of(panel, "Andere")
    other.mkdir(parents=True)
    (other / "status.json").write_text('{"state": "finished", "step": 9, "niter": 9, "updated": 1.0}')
    panel.runs.listRuns()
    assert panel.ui.runList.currentRow == 0 and "Andere: finished" in panel.ui.runLabel.text
    panel.ui.startButton.click()
    wait(lambda: panel.run.job is not None)
    assert panel.parameters.shownRun == "Lauf 1" and panel.ui.runLabel.text == "The run begins."
    wait(lambda: panel.ui.runLabel.text.startswith("Lauf 1: running"))
    assert rows_of(panel)[panel.ui.runList.currentRow].startswith("Lauf 1: running")


def test_a_finished_training_says_so_and_lists_its_run_until_the_scene_closes(panel, wait, scene):
    choose_drawn_slices(panel, niter=5)
    panel.ui.startButton.click()
    wait(lambda: panel.ui.trainingLabel.text.startswith("Lauf 1 is finished."))
    assert "PSNR 35.00 dB" in panel.ui.trainingLabel.text
    assert rows_of(panel)[0].startswith("Lauf 1: finished\nstep 5 of 5")
    assert not panel._timer.isActive() and panel.ui.startButton.text == "Start"
    assert not panel.ui.resumeButton.enabled and "finished" in panel.ui.resumeButton.toolTip
    scene.Clear(0)
    assert panel.ui.trainingLabel.isHidden() and panel.ui.trainingLabel.text == ""


def test_a_training_is_stopped_and_resumed_where_it_was(panel, wait):
    start(panel, wait, step=3)
    panel.ui.startButton.click()
    assert "Stopping" in panel.ui.trainingLabel.text and panel.ui.startButton.text == "End now"
    wait(lambda: panel.run.job is None)
    assert "Stopped after" in panel.ui.trainingLabel.text
    stopped = read_run(folder_of(panel)).step
    assert panel.ui.resumeButton.enabled and rows_of(panel)[0].startswith("Lauf 1: stopped")
    panel.ui.resumeButton.click()
    wait(lambda: panel.run.job is not None and panel.run.job.step > stopped)
    assert [row["step"] for row in panel.run.job.history][: stopped + 1] == list(range(1, stopped + 2))


def test_changed_settings_are_shown_before_a_run_is_resumed(panel, wait, answers):
    start(panel, wait)
    panel.ui.startButton.click()
    wait(lambda: panel.run.job is None)
    choose_drawn_slices(panel, niter=2000, lr_G=0.5)
    answers["The settings have changed"] = -1
    panel.ui.resumeButton.click()
    assert panel.ui.trainingLabel.text == "Not resumed." and not panel.run.isBusy
    assert "lr_G" in answers["asked"][-1] and "niter" in answers["asked"][-1]
    answers["The settings have changed"] = 0
    panel.ui.resumeButton.click()
    wait(lambda: panel.run.job is not None)
    assert panel.run.job.niter == 1000
    panel.ui.startButton.click()
    wait(lambda: panel.run.job is None)
    answers["The settings have changed"] = 1
    panel.ui.resumeButton.click()
    wait(lambda: panel.run.job is not None)
    assert panel.run.job.niter == 2000


def test_a_finished_run_is_trained_longer_with_more_steps(panel, wait, answers):
    choose_drawn_slices(panel, niter=3)
    panel.ui.startButton.click()
    wait(lambda: panel.ui.trainingLabel.text.startswith("Lauf 1 is finished."))
    choose_drawn_slices(panel, niter=6)
    assert panel.ui.resumeButton.enabled
    answers["The settings have changed"] = 1
    panel.ui.resumeButton.click()
    wait(lambda: read_run(folder_of(panel)).step == 6)


def test_a_run_of_the_same_name_is_begun_anew_only_if_the_user_wants_it(panel, wait, answers):
    choose_drawn_slices(panel, niter=3)
    panel.ui.startButton.click()
    wait(lambda: panel.ui.trainingLabel.text.startswith("Lauf 1 is finished."))
    answers["There is a run Lauf 1 already, at step 3 of 3."] = -1
    panel.ui.startButton.click()
    assert not panel.run.isBusy
    answers["There is a run Lauf 1 already, at step 3 of 3."] = 0
    panel.ui.startButton.click()
    wait(lambda: panel.ui.runList.count == 2)


def test_a_run_of_the_same_name_goes_on_if_the_user_wants_it_whichever_run_is_shown(panel, wait, answers):
    start(panel, wait)
    panel.ui.startButton.click()
    wait(lambda: panel.run.job is None)
    step = read_run(folder_of(panel)).step
    other = folder_of(panel, "Andere")
    other.mkdir(parents=True)
    (other / "status.json").write_text('{"state": "stopped", "step": 9, "niter": 9, "updated": 1.0}')
    panel.runs.listRuns()
    panel.parameters.shownRun = "Andere"
    answers["There is a run Lauf 1 already"] = 1
    panel.ui.startButton.click()
    assert panel.parameters.shownRun == "Lauf 1"
    wait(lambda: panel.run.job is not None and panel.run.job.step > step)
    assert panel.ui.runList.count == 2 and panel.run.job.history[0]["step"] == 1


def test_hours_on_the_cpu_are_asked_about(panel, wait, answers):
    choose_drawn_slices(panel, niter=360_000)
    answers["This training would run on the CPU, take about 4 days"] = False
    panel.ui.startButton.click()
    wait(lambda: not panel.run.isBusy)
    assert panel.ui.trainingLabel.text == "Not started." and not folder_of(panel).exists()
    answers["This training would run on the CPU, take about 4 days"] = True
    panel.ui.startButton.click()
    wait(lambda: panel.run.job is not None and panel.run.job.step > 0)


def test_a_start_can_be_cancelled_before_anything_runs(panel, wait):
    panel.ui.startButton.click()
    panel.ui.startButton.click()
    assert panel.ui.startButton.text == "Start" and panel.ui.trainingLabel.text == "Not started."
    assert not panel._timer.isActive()


def test_start_says_why_it_is_disabled(panel):
    panel.parameters.runName = " "
    assert not panel.ui.startButton.enabled and "name" in panel.ui.startButton.toolTip
    panel.parameters.runName = "Lauf 2"
    assert panel.ui.startButton.enabled


def test_missing_packages_are_told_and_nothing_starts(panel, monkeypatch):
    def refuse(*_, **__):
        raise DependencyError("PyTorch is missing.", "Install the extension PyTorch.")

    monkeypatch.setattr("CBCTSuperResLib.panels.dialogs.ensurePackages", refuse)
    panel.ui.startButton.click()
    assert not panel.run.isBusy and "PyTorch is missing." in panel.ui.trainingLabel.text


def test_what_shows_curves_is_offered_once_and_a_training_goes_on_without_it(panel, answers, packages, monkeypatch):
    from CBCTSuperResLib.core import packages as install

    wanted = [install.Requirement("a-board", ("a-board",))]
    monkeypatch.setattr(install, "TRAINING_EXTRAS", wanted)
    monkeypatch.setattr("CBCTSuperResLib.panels.dialogs.offerTrainingExtras", packages.offer)
    panel.choices.setSettings({**panel.choices.settings(), "use_tb_logger": True})
    answers["These Python packages show the curves"] = False
    for _attempt in range(2):
        panel.ui.startButton.click()
        assert panel.run.isBusy
        panel.ui.startButton.click()
    assert len(answers["asked"]) == 1 and "a-board" in answers["asked"][0]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_worker_is_told_with_advice_and_its_run_can_be_resumed(panel, wait, caplog):
    start(panel, wait, step=6)
    os.killpg(panel.run.job._process.pid, signal.SIGKILL)
    wait(lambda: panel.run.job is None)
    assert "The worker process was killed (signal 9)." in panel.ui.trainingLabel.text
    assert "batch_size" in panel.ui.trainingLabel.text and "killed" in caplog.text
    assert rows_of(panel)[0].startswith("Lauf 1: ended unexpectedly")
    assert panel.ui.resumeButton.enabled


def test_a_training_that_does_not_stop_is_ended_when_the_user_insists(panel, wait, answers):
    start(panel, wait)
    answers["End the training now?"] = True
    panel.ui.startButton.click()
    panel.ui.startButton.click()
    wait(lambda: panel.run.job is None)
    assert answers["asked"][-1].startswith("End the training now?")


def test_a_training_goes_on_while_another_module_is_shown_and_while_the_scene_closes(
    training_widget, panel, wait, scene
):
    folder = panel.choices.resultsFolder
    start(panel, wait)
    training_widget.exit()
    step = panel.run.job.step
    wait(lambda: panel.run.job.step > step + 2)
    training_widget.enter()
    assert panel.ui.startButton.text == "Stop" and "Lauf 1" in panel.ui.runLabel.text
    scene.Clear(0)
    assert panel.run.job is not None and panel.ui.startButton.text == "Stop"
    step = panel.run.job.step
    wait(lambda: panel.run.job.step > step)
    panel.parameters.resultsFolder = folder
    assert rows_of(panel)[0].startswith("Lauf 1: running")


def test_a_training_that_starts_after_the_module_was_left_is_shown_on_return(training_widget, panel, wait):
    panel.ui.startButton.click()
    training_widget.exit()
    wait(lambda: panel.run.job is not None and panel.run.job.step > 0)
    training_widget.enter()
    assert panel.parameters.shownRun == "Lauf 1" and panel.ui.startButton.text == "Stop"


def test_a_box_that_is_ticked_while_a_training_starts_counts(panel, wait):
    panel.ui.startButton.click()
    panel.ui.keepTrainingBox.click()
    wait(lambda: panel.run.job is not None)
    assert panel.run.job.isDetached and panel.ui.keepTrainingBox.checked


def test_a_kept_training_is_found_when_slicer_opens_again(application, training_widget, open_again, panel, wait):
    start(panel, wait)
    panel.ui.keepTrainingBox.click()
    assert panel.run.job.isDetached
    process, folder = panel.run.job._process, folder_of(panel)
    training_widget.cleanup()
    assert process.poll() is None

    again = open_again()
    found = again.panel
    assert found.ui.startButton.text == "Stop" and found.ui.keepTrainingBox.checked
    step = found.run.job.step
    tick_until(application, found, lambda: found.run.job.step > step)
    assert found.run.job.history[0]["step"] == 1
    found.ui.keepTrainingBox.click()
    assert not found.run.job.isDetached
    again.cleanup()
    process.wait(120)
    assert read_run(folder).state == "stopped"


def test_a_training_that_is_not_kept_stops_cleanly_with_slicer(training_widget, panel, wait):
    folder = folder_of(panel)
    start(panel, wait)
    process = panel.run.job._process
    training_widget.cleanup()
    process.wait(120)
    assert read_run(folder).state == "stopped"


def test_what_became_of_a_kept_training_is_told(application, training_widget, open_again, panel, wait):
    choose_drawn_slices(panel, niter=30)
    start(panel, wait)
    panel.ui.keepTrainingBox.click()
    process, folder = panel.run.job._process, folder_of(panel)
    training_widget.cleanup()
    process.wait(120)
    again = open_again()
    tick_until(application, again.panel, lambda: again.panel.run.job is None)
    assert again.panel.ui.trainingLabel.text.startswith("Lauf 1 is finished.")
    assert not worker_folder(folder).exists()


def test_a_training_from_a_terminal_is_watched_but_not_stopped(application, training_widget, panel, wait, monkeypatch):
    from CBCTSuperResLib.jobs import training

    start(panel, wait)
    process = panel.run.job._process
    panel.ui.keepTrainingBox.click()
    training_widget.exit()
    panel.run.close()
    monkeypatch.setattr(training, "worker_folder", lambda run: run / "none")  # as if no Slicer had started it
    training_widget.enter()
    assert panel.run.job.isElsewhere and not panel.ui.startButton.enabled
    assert "outside of Slicer" in panel.ui.startButton.toolTip and not panel.ui.keepTrainingBox.enabled
    processes.kill_group(process.pid)
    process.wait(120)
    wait(lambda: panel.run.job is None)
    assert panel.ui.startButton.enabled and "Resume the run" in panel.ui.trainingLabel.text


def test_choices_are_saved_with_the_scene_and_come_back(training_widget, panel, scene, tmp_path, application):
    panel.ui.runNameEdit.text = "Lauf 7"
    panel.ui.keepTrainingBox.click()
    panel.ui.whichSelector.currentIndex = 1
    folder = panel.choices.resultsFolder
    file = tmp_path / "Szene 1.mrml"
    scene.SetRootDirectory(str(tmp_path))
    assert scene.Commit(str(file))
    scene.Clear(0)
    assert panel.ui.runNameEdit.text == "My model" and not panel.ui.keepTrainingBox.checked
    scene.SetURL(str(file))
    scene.Connect()
    application.qapp.processEvents()
    assert panel.ui.runNameEdit.text == "Lauf 7" and panel.ui.keepTrainingBox.checked
    assert panel.ui.whichSelector.currentIndex == 1 and panel.choices.resultsFolder == folder
