"""A whole training, and what may happen to it: its folder, its status, stops, failures, memory, disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from CBCTSuperResLib.core.atomic import FileLock
from CBCTSuperResLib.core.errors import (
    Cancelled,
    DeviceError,
    InputError,
    OptionError,
    OutputError,
    ResourceError,
    SuperResError,
)
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.train import checkpoints, run
from CBCTSuperResLib.train import run as process
from CBCTSuperResLib.train import run_folder as folder
from CBCTSuperResLib.train.checkpoints import read_checkpoint
from CBCTSuperResLib.train.observer import Observer
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.ranks import own_device, processes_wanted
from CBCTSuperResLib.train.recipes.unetspsr import UNetSPSRRecipe
from CBCTSuperResLib.train.run_folder import read_run
from tiny_runs import tiny_json, tiny_options

VAL = {"mode": "HR", "procedural": 2, "procedural_seed": 3}


@pytest.fixture(autouse=True)
def _no_observers(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(process, "standard_observers", lambda options: [])


class Witness(Observer):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple] = []
        self.facts = None
        self.logs: dict[str, float] = {}

    def started(self, facts) -> None:
        self.facts = facts
        self.told.append(("started", facts.step))

    def progress(self, number, seconds_per_step, remaining_s) -> None:
        assert seconds_per_step > 0 and remaining_s >= 0
        self.told.append(("progress", number))

    def step(self, number, logs, seconds_per_step, remaining_s) -> None:
        self.logs = logs
        self.told.append(("step", number))

    def note(self, text) -> None:
        self.told.append(("note", text))

    def validated(self, number, results, pictures) -> None:
        self.told.append(("validated", number))

    def saved(self, number, path) -> None:
        assert path.is_file()
        self.told.append(("saved", number))

    def ended(self, result) -> None:
        self.told.append(("ended", result.step))


def with_validation(root, *overrides: str, **train):
    values = tiny_json(root, **train)
    values["datasets"]["val"] = VAL
    return read_options(values, overrides)


def status(options) -> dict:
    return json.loads((options.run_folder / "status.json").read_text(encoding="utf-8"))


def names(path) -> list[str]:
    return sorted(item.name for item in path.iterdir())


def test_a_run_leaves_models_checkpoints_options_and_status(tmp_path):
    options, witness = with_validation(tmp_path / "Läufe 1", niter=5, val_freq=2), Witness()
    result = run.train(options, observers=[witness])
    assert result.finished and result.step == 5 and result.folder == options.run_folder
    assert names(result.folder) == ["models", "options.json", "status.json", "training_state", "val_images"]
    best = result.results["best"]["step"]
    expected = {f"{step}_G.safetensors" for step in {2, 4, 5, best}}
    assert set(names(result.folder / "models")) == {"best_G.safetensors", "latest_G.safetensors", *expected}
    found = status(options)
    assert (found["name"], found["state"], found["step"], found["niter"]) == ("tiny", "finished", 5, 5)
    assert found["pid"] == os.getpid() and found["host"] and found["best"]["step"] == best
    info = read_run(result.folder)
    assert info.state == "finished" and info.best["psnr"] == result.results["best"]["psnr"]


def test_observers_are_told_everything_in_order(tmp_path):
    witness = Witness()
    run.train(with_validation(tmp_path, "logger.print_freq=2", niter=3, val_freq=3), observers=[witness])
    assert witness.told[0] == ("started", 0)
    steps = [entry for entry in witness.told if entry[0] in ("progress", "step", "validated", "saved", "ended")]
    assert steps == [
        *(("progress", 1), ("step", 1), ("progress", 2), ("step", 2), ("saved", 2)),
        *(("progress", 3), ("step", 3), ("validated", 3), ("saved", 3), ("ended", 3)),
    ]
    assert {"epoch", "lr", "l_g_pix", "l_d_real_grad", "grad_norm_D"} <= set(witness.logs)
    assert witness.facts.options["train"]["manual_seed"] == 6 and witness.facts.data["images"]


def test_the_models_are_the_mean_of_the_weights_and_can_be_applied(tmp_path):
    options = tiny_options(tmp_path, niter=2)
    path = run.train(options).folder / "models" / "latest_G.safetensors"
    saved = read_checkpoint(options.run_folder / "training_state" / "2.state")["average"]
    model = Model.load(path)
    assert all(torch.equal(value, saved[name]) for name, value in model.network.state_dict().items())
    assert model.network(torch.rand(1, 1, 9, 9))["sr"].shape == (1, 1, 18, 18)


def test_without_a_mean_the_weights_themselves_are_exported(tmp_path):
    options = tiny_options(tmp_path, niter=1, ema_decay=None)
    path = run.train(options).folder / "models" / "latest_G.safetensors"
    payload = read_checkpoint(options.run_folder / "training_state" / "1.state")
    assert payload["average"] is None
    weights = Model.load(path).network.state_dict()
    assert all(torch.equal(value, payload["networks"]["G"][name]) for name, value in weights.items())


def test_an_older_run_of_the_name_is_archived(tmp_path):
    options = tiny_options(tmp_path, niter=1)
    for _ in range(3):
        run.train(options)
    archived = [name for name in names(tmp_path / "experiments") if name != "tiny"]
    assert len(archived) == 2 and all(name.startswith("tiny_archived_") for name in archived)
    assert (tmp_path / "experiments" / archived[0] / "models" / "latest_G.safetensors").is_file()


def test_a_run_that_cannot_begin_archives_nothing(tmp_path, monkeypatch):
    options = tiny_options(tmp_path, niter=1)
    run.train(options)

    def refuse(*_):
        raise InputError("The images are of different sizes.")

    monkeypatch.setattr(UNetSPSRRecipe, "open_source", refuse)
    for name in ("tiny", "new"):
        with pytest.raises(InputError, match="sizes"):
            run.train(tiny_options(tmp_path, f"name={name}", niter=1))
    assert names(tmp_path / "experiments") == ["tiny"] and status(options)["state"] == "finished"


def test_two_processes_cannot_train_in_one_folder(tmp_path, monkeypatch):
    options = tiny_options(tmp_path, niter=1)
    options.run_folder.mkdir(parents=True)
    monkeypatch.setattr(folder, "PAUSE_S", 0.0)
    lock = FileLock(options.run_folder / "lock")
    assert lock.acquire()
    with pytest.raises(OutputError, match="Another process trains"):
        run.train(options)
    lock.release()
    assert run.train(options).finished


def test_missing_files_are_all_named_before_anything_begins(tmp_path):
    options = tiny_options(tmp_path, "datasets.train.dataroot_HR=/not/there", feature_weight=1)
    with pytest.raises(InputError, match=r"(?s)cannot begin.*/not/there.*feature_weight"):
        run.train(options)
    assert not options.run_folder.exists()


def test_a_val_set_that_is_absent_is_said_and_no_model_is_the_best(tmp_path):
    witness = Witness()
    result = run.train(tiny_options(tmp_path, niter=1, val_freq=1), observers=[witness])
    assert any("no val set" in note for note in witness.facts.notes)
    assert result.results["best"] == {} and not (result.folder / "models" / "best_G.safetensors").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_iteration_end_saves_and_ends_as_cancelled(tmp_path, number):
    options, before = tiny_options(tmp_path, niter=50), signal.getsignal(number)

    class Sender(Observer):
        def progress(self, step, seconds_per_step, remaining_s) -> None:
            if step == 1:
                signal.raise_signal(number)

    with pytest.raises(Cancelled, match="after step 1 of 50") as caught:
        run.train(options, observers=[Sender()])
    assert caught.value.exit_code == 130
    assert read_checkpoint(options.run_folder / "training_state" / "1.state")["step"] == 1
    assert status(options)["state"] == "stopped" and signal.getsignal(number) is before


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    options = tiny_options(tmp_path, niter=50)

    class Sender(Observer):
        def step(self, number, logs, seconds_per_step, remaining_s) -> None:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run.train(options, observers=[Sender()])
    assert status(options)["state"] == "stopped"


def test_a_run_may_be_stopped_from_outside_the_main_thread(tmp_path):
    told = []

    def work() -> None:
        try:
            run.train(tiny_options(tmp_path, niter=50), cancelled=lambda: True)
        except SuperResError as error:
            told.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert isinstance(told[0], Cancelled)


def test_a_loss_that_is_not_finite_stops_with_a_report_and_the_last_good_checkpoint(tmp_path, monkeypatch):
    options, step = tiny_options(tmp_path, niter=4), UNetSPSRRecipe.step

    def spoilt(recipe, this):
        if this.number == 3:
            this.batches[0]["HR"][0, 0, 0, 0] = float("nan")
        return step(recipe, this)

    monkeypatch.setattr(UNetSPSRRecipe, "step", spoilt)
    with pytest.raises(SuperResError, match=r"not finite in step 3.*2\.state is intact.*--resume auto"):
        run.train(options)
    report = json.loads((options.run_folder / "failure.json").read_text())
    assert report["step"] == 3 and report["network"] == "G" and report["loss"] == "nan"
    assert len(report["images"]) == 2 and all("procedural" in name for name in report["images"])
    assert float(report["last_logged"]["l_g_pix"]) > 0
    payload = read_checkpoint(options.run_folder / "training_state" / "2.state")
    assert all(torch.isfinite(value).all() for value in payload["networks"]["G"].values())
    assert status(options)["state"] == "failed"
    monkeypatch.setattr(UNetSPSRRecipe, "step", step)
    assert run.train(options, resume="auto").finished


class SmallMemory:
    """A device on which only so many images fit."""

    def __init__(self, monkeypatch, most: int, role: str = "G") -> None:
        self.sizes: list[int] = []
        step = UNetSPSRRecipe.step

        def limited(recipe, this):
            size = len(this.batches[0]["LR"])
            self.sizes.append(size)
            if size > most and role == "G":
                raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
            logs = step(recipe, this)
            if size > most:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
            return logs

        monkeypatch.setattr(UNetSPSRRecipe, "step", limited)


def test_where_the_memory_is_too_small_parts_are_halved_and_the_result_is_the_same(tmp_path, monkeypatch):
    four = "datasets.train.batch_size=4"
    whole = tiny_options(tmp_path, four, "name=whole", niter=2)
    run.train(whole)
    witness, memory = Witness(), SmallMemory(monkeypatch, most=1)
    options = tiny_options(tmp_path, four, niter=2)
    run.train(options, observers=[witness])
    assert memory.sizes == [4, 2, 1, 1]
    notes = [entry[1] for entry in witness.told if entry[0] == "note"]
    assert len(notes) == 2 and "too small for 4 images" in notes[0] and "there are 1" in notes[1]
    one, other = (read_checkpoint(o.run_folder / "training_state" / "2.state") for o in (whole, options))
    assert other["micro_batch"] == 1
    for name, value in one["networks"]["G"].items():
        torch.testing.assert_close(other["networks"]["G"][name], value, rtol=1e-3, atol=2e-5)
    memory.sizes.clear()
    run.train(tiny_options(tmp_path, four, niter=3), resume="auto", accept_changes=True)
    assert memory.sizes == [1]


def test_a_micro_batch_that_was_chosen_is_not_changed_but_a_smaller_one_named(tmp_path, monkeypatch):
    options = tiny_options(tmp_path, "datasets.train.batch_size=4", "datasets.train.micro_batch=4", niter=1)
    SmallMemory(monkeypatch, most=2)
    with pytest.raises(ResourceError, match="micro_batch to 2"):
        run.train(options)


def test_a_memory_that_fills_after_the_first_update_is_an_error_with_advice(tmp_path, monkeypatch):
    SmallMemory(monkeypatch, most=1, role="D")
    with pytest.raises(ResourceError, match="micro_batch to 1"):
        run.train(tiny_options(tmp_path, niter=1))


def test_not_even_one_image_fits(tmp_path, monkeypatch):
    SmallMemory(monkeypatch, most=0)
    with pytest.raises(ResourceError, match="smaller datasets.train.HR_size"):
        run.train(tiny_options(tmp_path, niter=1))


def test_a_full_disk_ends_the_run_with_the_old_checkpoint_intact(tmp_path, monkeypatch):
    options, write = tiny_options(tmp_path, niter=4), checkpoints._write

    def full(payload, path):
        if payload["step"] > 2:
            raise OSError(28, "No space left on device")
        write(payload, path)

    monkeypatch.setattr(checkpoints, "_write", full)
    with pytest.raises(OutputError, match="2.state is intact"):
        run.train(options)
    assert status(options)["state"] == "failed" and "2.state is intact" in status(options)["message"]
    monkeypatch.setattr(checkpoints, "_write", write)
    assert run.train(options, resume="auto").finished


def test_an_observer_that_cannot_write_ends_the_run_in_words(tmp_path):
    class Full(Observer):
        def step(self, number, logs, seconds_per_step, remaining_s) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left on device"):
        run.train(tiny_options(tmp_path, niter=2), observers=[Full()])


def test_a_root_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "experiments").write_text("a file")
    with pytest.raises(OutputError, match="experiments"):
        run.train(tiny_options(tmp_path, niter=1))


def test_gpus_that_are_not_there_are_an_error_unless_the_cpu_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = tiny_options(tmp_path, "gpu_ids=[0,1]")
    with pytest.raises(DeviceError, match=r"gpu_ids \[0, 1\].*no CUDA device.*--device cpu"):
        run.train(options)
    assert own_device(options, "cpu") == torch.device("cpu") and processes_wanted(options, "cpu") == 1


def test_gpus_make_processes_and_each_process_takes_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    options = tiny_options(tmp_path, "gpu_ids=[1,3]")
    assert processes_wanted(options) == 2
    with pytest.raises(OptionError, match="3 processes"):
        processes_wanted(options, processes=3)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_device(options) == torch.device("cuda:3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(DeviceError, match="nproc-per-node"):
        own_device(options)


def test_importing_the_loop_needs_nothing_that_draws():
    code = "import CBCTSuperResLib.train.run, sys; print({'matplotlib', 'tensorboard'} & set(sys.modules))"
    path = str(Path(run.__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    assert done.stdout.strip() == b"set()", done
