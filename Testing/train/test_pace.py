"""What is remembered of how long a step took here, and of which trainings it is told."""

from __future__ import annotations

import json

import pytest
from CBCTSuperResLib.core import gpus
from CBCTSuperResLib.models.folder import user_models_folder
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.pace import PACES, Pace, computes_on, known_pace, record_pace
from options_files import tiny


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr("CBCTSuperResLib.train.pace.count_gpus", lambda: 0)


def options_of(**changes):
    return read_options(tiny(**changes))


def test_a_pace_is_told_of_every_training_whose_steps_cost_the_same():
    record_pace(options_of(), Pace(0.5, 0.25))
    for alike in ({}, {"train__niter": 77}, {"train__lr_G": 1e-5}, {"name": "Other"}, {"train__pixel_weight": 0.7}):
        assert known_pace(options_of(**alike)) == Pace(0.5, 0.25), alike
    for other in ({"network_G__nf": 8}, {"train__gan_weight": 0}, {"datasets__train__batch_size": 8}, {"scale": 1}):
        assert known_pace(options_of(**other)) is None, other


def test_steps_of_the_warm_up_count_less():
    train = options_of(train__niter=100, train__warmup_iters=40).train
    assert Pace(0.5, 0.25).seconds(train) == pytest.approx(0.5 * (40 * 0.25 + 60))


def test_the_device_decides_and_automatic_is_what_is_there(monkeypatch):
    options = options_of(gpu_ids="auto")
    assert computes_on(options) == "cpu" and computes_on(options_of(device="cuda")) == "cuda 1"
    record_pace(options, Pace(0.5))
    monkeypatch.setattr("CBCTSuperResLib.train.pace.count_gpus", lambda: 1)
    assert computes_on(options) == "cuda 1" and known_pace(options) is None
    assert known_pace(options_of(gpu_ids="auto", device="cpu")) == Pace(0.5)
    assert computes_on(options_of()) == "cpu"


def test_a_file_that_cannot_be_read_tells_nothing_and_is_written_anew():
    folder = user_models_folder()
    folder.mkdir(parents=True)
    for text in ("{broken", "[1]", json.dumps({"x": "y"})):
        PACES.path.write_text(text)
        assert known_pace(options_of()) is None
    record_pace(options_of(), Pace(2.0))
    assert known_pace(options_of()) == Pace(2.0)


def test_a_folder_that_cannot_be_made_is_no_failure(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CBCT_SUPERRES_MODELS", str(tmp_path / "file" / "models"))
    with pytest.warns(UserWarning, match="could not be recorded"):
        record_pace(options_of(), Pace(1.0))


def test_gpus_that_are_hidden_from_programs_do_not_count(monkeypatch):
    monkeypatch.setattr(gpus, "_driver_count", lambda: 4)
    for hidden, count in ((None, 4), ("", 0), ("-1", 0), ("0", 1), ("0,2", 2), ("0,1,2,3,4,5", 4)):
        if hidden is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert gpus.count_gpus() == count, hidden
