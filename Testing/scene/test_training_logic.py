"""The logic of training: what is started, watched, stopped and found again, mostly with a quick worker.

One real run, small, goes from nodes to a model that is applied.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import quick_trainings
from CBCTSuperResLib.core import processes
from CBCTSuperResLib.core.errors import (
    Cancelled,
    InputError,
    ModelError,
    OptionError,
)
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.jobs import job as job_file
from CBCTSuperResLib.models.folder import list_models, user_models_folder
from CBCTSuperResLib.train.curves import CurvesTable
from CBCTSuperResLib.train.observer import RunFacts
from CBCTSuperResLib.train.run_events import RunEvents

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
from CBCTSuperResLib.jobs import training as jobs_of_training  # noqa: E402
from CBCTSuperResLib.jobs.training import TrainingJob, worker_folder  # noqa: E402
from CBCTSuperResLib.scene import nodes  # noqa: E402
from CBCTSuperResLib.scene.logic import SuperResLogic  # noqa: E402
from CBCTSuperResLib.scene.training_logic import TrainingLogic  # noqa: E402

pytestmark = pytest.mark.usefixtures("mrml")


@pytest.fixture
def quick(monkeypatch, ready_workers) -> None:
    monkeypatch.setattr(job_file, "start_in_own_group", quick_trainings.start_in_own_group)


@pytest.fixture
def values(tmp_path) -> dict:
    data = tmp_path / "data"
    data.mkdir()
    return {
        "name": "Lauf 1",
        "scale": 2,
        "gpu_ids": [],
        "use_tb_logger": False,
        "path": {"root": str(tmp_path / "Läufe")},
        "datasets": {"train": {"mode": "HR", "dataroot_HR": str(data), "HR_size": 16, "batch_size": 2, "n_workers": 0}},
        "network_G": {"nf": 4, "nb": 4, "gc": 4},
        "network_D": {"nf": 4},
        "train": {"feature_weight": 0, "niter": 1000},
    }


@pytest.fixture
def logic():
    """A logic whose trainings are ended with the test."""
    logic = TrainingLogic()
    start, made = logic.start, []

    def remembered(*arguments, **options):
        made.append(start(*arguments, **options))
        return made[-1]

    logic.start = remembered
    yield logic
    for job in made:
        if not job.isFinished or job.isDetached:
            processes.kill_group(job._process.pid)
            job._process.wait(120)
        shutil.rmtree(job.files, ignore_errors=True)


def poll_until(job, condition, seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end and not (job.isFinished and job.error), job.error
        job.poll()
        time.sleep(0.02)


def run_to_end(job, seconds: float = 240.0):
    end = time.monotonic() + seconds
    while not job.isFinished:
        assert time.monotonic() < end, "it did not end in time"
        job.poll()
        time.sleep(0.02)
    return job


def test_a_training_tells_steps_curves_validations_and_its_end(quick, logic, values):
    job = logic.start(values, ["train.niter=12"])
    assert (job.step, job.niter, job.isFinished) == (0, 12, False)
    report = job.wait()
    assert report["step"] == job.step == 12 and job.fraction == 1.0 and job.error is None
    assert [row["step"] for row in job.history] == list(range(1, 13))
    assert job.history[3]["l_g_pix"] == 0.25
    assert job.validations == [{"step": step, "psnr": 30.0 + step, "psnr_cubic": 31.0} for step in (5, 10)]
    assert job.picture == job.folder / "val_images" / "a slice" / "a slice_10.png" and job.saved == 10
    assert job.warnings == ["A note."] and job.device == "CPU"
    assert not worker_folder(job.folder).exists()


def test_a_stopped_training_goes_on_where_it_was_with_its_curves(quick, logic, values):
    first = logic.start(values)
    poll_until(first, lambda: first.step >= 6)
    first.stop()
    assert "Stopping" in first.message
    run_to_end(first)
    assert isinstance(first.error, Cancelled)
    (run,) = logic.runs(values["path"]["root"])
    assert run.state == "stopped" and run.step == first.step == first.history[-1]["step"] >= 6

    again = logic.resume(run)
    poll_until(again, lambda: again.step > run.step + 2)
    assert [row["step"] for row in again.history] == list(range(1, again.history[-1]["step"] + 1))
    assert again.validations[0] == {"step": 5, "psnr": 35.0, "psnr_cubic": 31.0}


def test_a_run_is_trained_by_one_at_a_time(quick, logic, values):
    job = logic.start(values)
    with pytest.raises(InputError, match="is going on"):
        logic.start(values)
    poll_until(job, lambda: job.step > 0)
    job.kill()
    run_to_end(job)
    assert isinstance(job.error, Cancelled)
    (run,) = logic.runs(values["path"]["root"])
    assert run.state == "interrupted"
    assert logic.start(values).niter == 1000


def test_a_detached_training_survives_its_session_and_is_found_again(quick, logic, values):
    job = logic.start(values, detached=True)
    poll_until(job, lambda: job.step > 2)
    job.close()
    assert job.isFinished and isinstance(job.error, Cancelled)

    (run,) = TrainingLogic().runs(values["path"]["root"])
    assert run.state == "running"
    found = TrainingLogic().attach(run)
    assert found.niter == 1000 and found.history[0]["step"] == 1 and found.isDetached
    step = found.step
    poll_until(found, lambda: found.step > step)
    found.stop()
    run_to_end(found)
    assert "Stopped after" in found.error.what
    with pytest.raises(InputError, match="No training of Lauf 1"):
        TrainingLogic().attach(run)


def test_a_training_that_is_let_go_of_stops_by_itself(quick, logic, values):
    job = logic.start(values)
    poll_until(job, lambda: job.step > 2)
    job.close()
    job._process.wait(120)
    (run,) = logic.runs(values["path"]["root"])
    assert run.state == "stopped"


def test_a_training_that_was_started_elsewhere_is_watched_but_not_stopped(quick, logic, values, monkeypatch):
    job = logic.start(values)
    poll_until(job, lambda: job.step > 5)
    monkeypatch.setattr(jobs_of_training, "worker_folder", lambda run: run / "none")  # as if no Slicer had started it
    seen = TrainingLogic().attach(job.folder)
    assert seen.picture.parent == job.folder / "val_images" / "a slice" and seen.picture.is_file()
    assert seen.step >= 5 and seen.history[0] == {"step": 1, "l_g_pix": 1.0}
    step = seen.step
    poll_until(seen, lambda: seen.step > step and seen.history[-1]["step"] > step)
    assert [row["step"] for row in seen.history] == list(range(1, seen.history[-1]["step"] + 1))
    with pytest.raises(InputError, match="elsewhere"):
        seen.stop()
    job.stop()
    run_to_end(seen)
    assert isinstance(seen.error, Cancelled) and "stopped after" in seen.error.what


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The folder of a run that is being trained on another computer."""
    monkeypatch.setattr(jobs_of_training, "STATUS_INTERVAL_S", 0.0)
    folder = tmp_path / "run"
    folder.mkdir()
    facts = {"state": "running", "step": 4, "niter": 9, "updated": time.time(), "host": "elsewhere"}
    (folder / "status.json").write_text(json.dumps(facts))
    return folder


def test_a_validation_that_ends_after_its_step_was_seen_is_told(elsewhere):
    events, run = RunEvents(), TrainingJob.attach(elsewhere)

    def told():
        return [(event["event"], event.get("step"), event.get("values")) for event in run.poll()]

    events.started(RunFacts("run", elsewhere, 4, 9))
    assert told() == [("run", 4, None)]
    events.validated(4, {"psnr": 30.0}, None)
    assert told() == [("validated", 4, {"psnr": 30.0})]
    events.step(5, {"l_g_pix": 0.4}, 0.5, 2.0)
    assert told() == [("scalars", 5, {"l_g_pix": 0.4})]
    events.validated(5, {"psnr": 31.0}, None)
    events.step(6, {"l_g_pix": 0.3}, 0.5, 1.5)
    assert told() == [("validated", 5, {"psnr": 31.0}), ("scalars", 6, {"l_g_pix": 0.3})]
    assert told() == []
    assert run.history == [{"step": 5, "l_g_pix": 0.4}, {"step": 6, "l_g_pix": 0.3}]
    assert run.validations == [{"step": 4, "psnr": 30.0}, {"step": 5, "psnr": 31.0}]


def test_a_run_elsewhere_whose_folder_vanishes_has_ended_at_the_second_look(elsewhere):
    run = TrainingJob.attach(elsewhere)
    run.poll()
    shutil.rmtree(elsewhere)
    for isFinished in (False, True):
        assert run.poll() == [] and run.isFinished is isFinished
    assert "is no run" in run.error.what


def test_a_run_of_the_version_before_without_events_is_watched_by_its_status(elsewhere):
    CurvesTable(elsewhere / "curves.csv").put(4, {"l_g_pix": 0.5})
    run = TrainingJob.attach(elsewhere, 9)
    run.poll()
    assert (run.step, run.history) == (4, [{"step": 4, "l_g_pix": 0.5}])
    facts = {"state": "finished", "step": 9, "niter": 9, "best": {"psnr": 31.0}}
    (elsewhere / "status.json").write_text(json.dumps(facts))
    run.poll()
    assert run.report == {"folder": str(elsewhere), "step": 9, "results": {"best": {"psnr": 31.0}}} and run.step == 9


def test_paths_that_are_relative_mean_this_process_s_folder(quick, logic, values, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values["path"]["root"], values["datasets"]["train"]["dataroot_HR"] = "Läufe 2", "data"
    job = logic.start(values, ["train.niter=1"])
    job.wait()
    assert job.folder == tmp_path / "Läufe 2" / "experiments" / "Lauf 1"
    assert logic.optionsOf(job.folder).datasets["train"].dataroot_HR == (str(tmp_path / "data"),)


def test_changed_options_are_listed_before_a_run_is_resumed(quick, logic, values):
    logic.start(values, ["train.niter=2"]).wait()
    changed = logic.readOptions(values, ["train.niter=2", "train.lr_G=0.5"])
    assert logic.changes(logic.readOptions(values, ["train.niter=2"])) == []
    assert len(logic.changes(changed)) == 1 and "lr_G" in logic.changes(changed)[0]


def test_a_run_that_was_moved_is_resumed_where_it_is(quick, logic, values, tmp_path):
    run = logic.start(values, ["train.niter=2"]).wait()["folder"]
    moved = tmp_path / "elsewhere" / "experiments" / "other name"
    shutil.copytree(run, moved)
    options = logic.optionsOf(moved)
    assert options.run_folder == moved and options.name == "other name"


def test_what_is_wrong_is_said_before_anything_starts(quick, logic, values, tmp_path):
    with pytest.raises(OptionError, match="lr_g"):
        logic.start(values, ["train.lr_g=1"])
    with pytest.raises(InputError, match="no run"):
        logic.resume(tmp_path)
    with pytest.raises(InputError, match="nothing"):
        logic.start(values, volumes=[slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")])
    assert not (tmp_path / "Läufe").exists()


def test_jobs_of_other_kinds_get_what_they_need(quick, logic, values, tmp_path):
    options = logic.readOptions(values)
    assert logic.missing(options) and "data" in logic.missing(options)[0]
    job = logic.checkData(options).wait()["job"]
    assert job["kind"] == "check" and job["options"]["name"] == "Lauf 1"
    assert logic.plan(options, measure=True).wait()["job"]["measure"] is True
    job = logic.useModel(tmp_path / "experiments" / "Mein Lauf").wait()["job"]
    assert job["texts"] == {"name": "Mein Lauf"} and job["which"] == "best"
    assert Path(job["out"]) == user_models_folder() / "Mein Lauf.safetensors" and user_models_folder().is_dir()
    with pytest.raises(ModelError, match="called light"):
        logic.useModel(tmp_path, "light")


def test_nodes_are_prepared_where_the_scene_shows_them(quick, logic, scene, tmp_path):
    low, high = (add_node(scene, f"{name}: scan", (4, 8, 8), 0.3) for name in ("low", "high"))
    parent = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = 1, 2, 3
    parent.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    low.SetAndObserveTransformNodeID(parent.GetID())
    seen = {}
    task = logic.prepare(low, high, tmp_path / "pairs", scale=2, format="nrrd")
    for role in ("lr", "hr"):
        (file,) = (task.files / role).iterdir()
        seen[role] = Volume.read(file)
    job = task.wait()["job"]
    assert job["options"]["format"] == "nrrd" and job["out"] == str(tmp_path / "pairs")
    assert np.allclose(np.subtract(seen["lr"].origin, seen["hr"].origin), [-1, -2, 3])
    assert np.array_equal(seen["hr"].voxels, slicer.util.arrayFromVolume(high))
    assert not task.files.exists()
    with pytest.raises(OptionError):
        logic.prepare(low, high, tmp_path / "pairs", scale=1)


def add_node(scene, name: str, shape, spacing: float):
    """Cells of different grey values on a fine grid."""
    k, j, i = np.meshgrid(*(np.arange(n) * spacing for n in shape), indexing="ij")
    voxels = 1500 + 800 * np.sin(i) * np.cos(1.3 * j) + 300 * np.sin(2.1 * k)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    nodes.updateNode(node, Volume(voxels.astype(np.int16), Grid(shape[::-1], (spacing, spacing, 0.3))))
    return node


def test_a_real_run_is_stopped_resumed_exported_and_applied(logic, scene, values, monkeypatch):
    pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    fine = add_node(scene, "fine", (4, 32, 32), 0.15)
    coarse = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "coarse")
    volume = nodes.volumeFromNode(fine)
    nodes.updateNode(coarse, Volume(volume.voxels[:, ::2, ::2].copy(), volume.grid.resampled((16, 16, 4))))
    values["logger"] = {"print_freq": 1, "save_checkpoint_freq": 1000}
    values["train"] |= {"niter": 4000, "val_freq": 4000}
    data = {"volumes": [(coarse, fine)], "validation": [(coarse, fine)]}

    job = logic.start(values, **data)
    poll_until(job, lambda: job.step >= 2, 90)
    job.stop()
    run_to_end(job)
    assert isinstance(job.error, Cancelled), job.error.detail
    (run,) = logic.runs(values["path"]["root"])
    assert run.state == "stopped" and 2 <= run.step < 4000 and run.can_resume

    last = run.step + 2
    changes = [f"train.niter={last}", "train.val_freq=2"]
    again = logic.start(values, changes, **data, resume="auto", acceptChanges=True, detached=True)
    poll_until(again, lambda: again.step > run.step, 90)
    assert [row["step"] for row in again.history][:2] == [1, 2]
    again.close()

    found = TrainingLogic().attach(run.folder)
    report = run_to_end(found, 90).report
    assert found.error is None and report["step"] == last, found.error
    assert found.validations[-1]["step"] == last and {"psnr", "psnr_cubic"} <= set(found.validations[-1])
    assert found.picture.is_file()

    logic.useModel(run.folder, "Our scanner").wait()
    assert "Our scanner" in [entry.name for entry in list_models() if entry.card]
    result = SuperResLogic().process(coarse, model="Our scanner")
    assert result.GetImageData().GetDimensions() == (32, 32, 4)
    assert np.array_equal(slicer.util.arrayFromVolume(fine), volume.voxels)
    with pytest.raises(ModelError, match="called our scanner"):
        logic.useModel(run.folder, "our scanner")
    assert json.loads((run.folder / "options.json").read_text(encoding="utf-8"))["train"]["niter"] == last
    assert os.listdir(run.folder.parent / ".worker") == []
