"""What the worker does for training besides training: what it tells and how often, plans, checks of data."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.jobs.job import WorkerProcess
from CBCTSuperResLib.jobs.worker import Told
from CBCTSuperResLib.train.run_folder import newest_picture

DAYS = 86400.0


class Recorder:
    """Keeps what would be sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict]] = []

    def send(self, event: str, **values) -> None:
        self.sent.append((event, values))

    def named(self, event: str) -> list[dict]:
        return [values for name, values in self.sent if name == event]


def run(job: dict) -> WorkerProcess:
    worker = WorkerProcess(job).start()
    end = time.monotonic() + 60
    while not worker.finished:
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


def test_progress_is_told_twice_a_second_at_first_and_more_rarely_later():
    events, now = Recorder(), [0.0]
    told = Told(events, clock=lambda: now[0])
    for _ in range(100):
        now[0] += 0.125
        told("progress", fraction=0.1, message="", remaining_s=1.0)
    assert len(events.sent) == 25
    while now[0] < 3 * DAYS:
        now[0] += 0.5
        told("progress", fraction=0.5, message="", remaining_s=1.0)
    assert 20000 < len(events.sent) < 40000
    told("progress", fraction=1.0, message="", remaining_s=0.0)
    assert events.sent[-1][1]["fraction"] == 1.0


def test_scalars_of_quick_steps_are_told_now_and_then():
    events, now = Recorder(), [0.0]
    told = Told(events, clock=lambda: now[0])
    for step in range(1, 1001):
        now[0] += 1 / 64
        told("progress", fraction=step / 1000, message="", remaining_s=1.0)
        told("scalars", step=step, niter=1000, values={"l_g_pix": 1.0})
    assert len(events.named("scalars")) == 32 and len(events.named("progress")) == 33


def test_of_a_validation_the_newest_picture_is_told(tmp_path):
    events = Recorder()
    told = Told(events)
    told("validated", step=5, values={"psnr": 1.0}, pictures=str(tmp_path))
    told("ended", step=5, finished=True)
    for step in (5, 10):
        (tmp_path / "slice").mkdir(exist_ok=True)
        (tmp_path / "slice" / f"slice_{step}.png").touch()
        time.sleep(0.02)
    told("validated", step=10, values={"psnr": 1.0}, pictures=str(tmp_path))
    assert [values["picture"] for values in events.named("validated")] == [None, str(newest_picture(tmp_path))]
    assert newest_picture(tmp_path).name == "slice_10.png" and newest_picture(None) is None
    assert len(events.sent) == 2


def test_the_data_of_a_training_is_looked_at_as_its_first_step_would(options):
    pytest.importorskip("torch", reason="torch is not installed")
    worker = run({"kind": "check", "options": options})
    assert worker.error is None, worker.error.detail
    report = worker.result
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
    report = worker.result
    assert report["missing"] == report["problems"] == [] and report["micro_batch"] == 2
    assert report["memory_bytes"] > 0 and report["seconds"] > report["seconds_per_step"] > 0
    assert str(Path(options["path"]["root"]) / "experiments" / "run") in report["text"]
    assert not (Path(options["path"]["root"]) / "experiments").exists()
