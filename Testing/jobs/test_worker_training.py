"""What the worker does for training besides training: plans, checks of data."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from CBCTSuperResLib.core.errors import Cancelled
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.jobs.job import Job
from CBCTSuperResLib.jobs.training import TrainingJob
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.pace import Pace, known_pace

TRAIN_ON_DRAWN = {"mode": "HR", "procedural": 4, "batch_size": 1}


def run(job: dict) -> Job:
    worker = Job(job).start()
    end = time.monotonic() + 240
    while not worker.isFinished:
        assert time.monotonic() < end, "it did not end in time"
        worker.poll()
        time.sleep(0.05)
    worker.close()
    return worker


@pytest.fixture
def options(tmp_path) -> dict:
    voxels = np.random.default_rng(0).integers(0, 60000, (3, 24, 32)).astype(np.uint16)
    scan = Volume(voxels, Grid((32, 24, 3), (0.2, 0.2, 0.3))).write(tmp_path / "Zähne 1.nrrd")
    return {
        "name": "run",
        "gpu_ids": [],
        "path": {"root": str(tmp_path)},
        "datasets": {
            "train": {"mode": "HR", "dataroot_HR": str(scan), "HR_size": 16, "batch_size": 2},
            "val": {"mode": "HR", "dataroot_HR": str(scan)},
        },
        "network_G": {"nf": 4, "nb": 4, "gc": 4},
        "network_D": {"nf": 4},
        "train": {"feature_weight": 0, "niter": 8},
    }


def test_the_data_of_a_training_is_looked_at_as_its_first_step_would(options):
    pytest.importorskip("torch", reason="torch is not installed")
    worker = run({"kind": "check", "options": options})
    assert worker.error is None, worker.error.detail
    report = worker.report
    assert report["train"]["count"] == 3 and report["train"]["window"] == [0, 65535]
    assert (report["val"]["count"], report["val"]["size"]) == (3, [24, 32])
    assert report["train"]["files"][0]["voxel_size_mm"] == [0.2, 0.2]


def test_data_that_will_not_do_is_refused_in_words(options):
    pytest.importorskip("torch", reason="torch is not installed")
    options["datasets"]["train"]["HR_size"] = 64
    worker = run({"kind": "check", "options": options})
    assert worker.error.exit_code == 3 and "Zähne 1" in worker.error.what


def test_a_plan_tells_memory_and_time_in_figures_and_in_words(options):
    worker = run({"kind": "plan", "options": options})
    assert worker.error is None, worker.error.detail
    report = worker.report
    assert report["missing"] == report["problems"] == [] and report["micro_batch"] == 2
    assert report["memory_bytes"] > 0 and report["seconds"] > report["seconds_per_step"] > 0
    assert str(Path(options["path"]["root"]) / "experiments" / "run") in report["text"]
    assert not (Path(options["path"]["root"]) / "experiments").exists()


def test_what_a_step_takes_here_is_measured_and_remembered(options):
    pytest.importorskip("torch", reason="torch is not installed")
    long = {**options, "network_G": {"nf": 64, "nb": 4}, "datasets": {"train": {**TRAIN_ON_DRAWN, "HR_size": 512}}}
    worker = run({"kind": "pace", "options": [options, long]})
    assert worker.error is None, worker.error.detail
    assert worker.report == {"measured": 1}  # the other one would keep the computer busy
    short, reckoned = known_pace(read_options(options)), known_pace(read_options(long))
    assert short.is_measured and not reckoned.is_measured
    assert 0 < 100 * short.seconds_per_step < reckoned.seconds_per_step


@pytest.mark.parametrize(("last", "is_known"), [(40, False), (200, True)])
def test_a_training_that_has_settled_tells_how_fast_it_was(options, monkeypatch, last, is_known):
    pytest.importorskip("torch", reason="torch is not installed")
    from CBCTSuperResLib.jobs import job_kinds

    def train(options, observers, **_):
        for number in range(1, last + 1):
            observers[0].progress(number, 0.25, 9.0)
        raise Cancelled("Stopped.")

    monkeypatch.setattr("CBCTSuperResLib.train.run.train", train)
    events = SimpleNamespace(progress=lambda *_: None)
    with pytest.raises(Cancelled, match="Stopped"):
        job_kinds.train({"options": options}, events, lambda: False)
    assert known_pace(read_options(options)) == (Pace(0.25) if is_known else None)


def test_of_the_losses_that_are_told_while_a_training_runs_those_stay_that_its_curves_keep(tmp_path):
    job = TrainingJob({}, tmp_path / "run", niter=60)
    facts = {"name": "run", "folder": str(tmp_path / "run"), "step": 30, "niter": 60, "device": "CPU", "notes": []}
    job._take({"event": "run", **facts, "options": {"logger": {"print_freq": 10}}})
    for step in (31, 40, 43, 47):
        job._take({"event": "scalars", "step": step, "values": {"l_g_pix": 1 / step}})
    assert [row["step"] for row in job.history] == [40, 47]
