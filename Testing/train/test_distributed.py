"""Several processes are one training: the same losses as one process with the same batch, one voice, one end."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from CBCTSuperResLib.core.errors import (
    Cancelled,
    InputError,
    OptionError,
    SuperResError,
)
from CBCTSuperResLib.core.events import EventReader
from CBCTSuperResLib.train import launch, ranks, run
from CBCTSuperResLib.train.checkpoints import read_checkpoint
from CBCTSuperResLib.train.curves import CurvesCsv
from CBCTSuperResLib.train.observer import Observer, RunFacts, RunResult
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.run_events import RunEvents, tell
from forked import CAN_FORK, Ranks, instead_of_torchrun, only_where_forks_are
from tiny_runs import same_payload, tiny_json, tiny_options

ROOT = Path(__file__).resolve().parents[2]
DRIFTING = {"D_real", "D_fake", "D_real_grad", "D_fake_grad"}  # only their difference has a gradient


class Told(Observer):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def started(self, facts) -> None:
        self.calls.append(("started", facts))

    def progress(self, number, seconds_per_step, remaining_s) -> None:
        self.calls.append(("progress", number))

    def step(self, number, logs, seconds_per_step, remaining_s) -> None:
        self.calls.append(("step", number, logs))

    def note(self, text) -> None:
        self.calls.append(("note", text))

    def validated(self, number, results, pictures) -> None:
        self.calls.append(("validated", number, results, pictures))

    def saved(self, number, path) -> None:
        self.calls.append(("saved", number, path))

    def ended(self, result) -> None:
        self.calls.append(("ended", result))

    def of(self, kind: str) -> list[tuple]:
        return [call for call in self.calls if call[0] == kind]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def forked(monkeypatch):
    """Processes of a training are forked from this one, not started by torchrun, where that can be done."""
    if CAN_FORK:
        monkeypatch.setattr(launch.subprocess, "Popen", instead_of_torchrun)
        monkeypatch.setattr(run, "standard_observers", lambda options: [CurvesCsv(), RunEvents()])


def rows(options) -> list[dict[str, float]]:
    with open(options.run_folder / "curves.csv", newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def four(root: Path, name: str, niter: int = 3):
    overrides = ["datasets.train.batch_size=4", f"name={name}", "logger.save_checkpoint_freq=100"]
    return tiny_options(root, *overrides, niter=niter)


@pytest.mark.timeout(240)
def test_two_processes_equal_one_with_the_same_batch(tmp_path):
    """And torchrun starts them, as it does for a user."""
    told, alone, together = Told(), four(tmp_path, "alone"), four(tmp_path, "together")
    run.train(alone)
    result = run.train(together, processes=2, observers=[told])
    assert result == RunResult(together.run_folder, 3, True, {"best": {}, "latest": {}})
    one, two = rows(alone), rows(together)
    assert [row["step"] for row in two] == [1, 2, 3] == [row["step"] for row in one]
    losses = one[0].keys() - DRIFTING - {"seconds"}
    assert {"l_g_total", "l_g_gan", "l_g_gan_grad", "l_d_real", "l_d_fake", "l_d_real_grad", "D_gap"} <= losses
    for expected, found in zip(one, two, strict=True):
        assert max(abs(expected[name] - found[name]) for name in losses) <= 1e-5

    assert told.of("started")[0][1].processes == 2 and told.of("started")[0][1].folder == together.run_folder
    assert [call[1] for call in told.of("step")] == [1, 2, 3]
    assert told.of("saved") == [("saved", 3, together.run_folder / "training_state" / "3.state")]
    assert told.calls[-1] == ("ended", result)
    payload = read_checkpoint(together.run_folder / "training_state" / "3.state")
    assert len(payload["random"]) == 2
    norms = [name for name in payload["networks"]["D"] if name.endswith(("_u", "_v"))]
    lone = read_checkpoint(alone.run_folder / "training_state" / "3.state")
    for name in norms:
        torch.testing.assert_close(payload["networks"]["D"][name], lone["networks"]["D"][name], rtol=0, atol=1e-4)


def communicate(file: Path) -> None:
    """One process's part: what it finds out is gathered, and the first one writes it down."""
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(2, 3, 2).double().to(memory_format=torch.channels_last)
    images = torch.rand(4, 2, 3, 3, dtype=torch.float64)

    def loss_of(own, mean):
        said = layer(own)
        return (said - mean(said.mean())).pow(3).mean()

    loss_of(images, lambda mean: mean).backward()
    expected = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    with ranks.Processes.join(torch.device("cpu")) as together:
        loss_of(images[2 * together.rank :][:2], together.mean).backward()
        together.average_gradients([parameter.grad for parameter in layer.parameters()])
        error = max(float((p.grad - e).abs().max()) for p, e in zip(layer.parameters(), expected, strict=True))
        facts = {
            "error": error,
            "any": [together.any(together.rank == 1), together.any(False)],
            "share": together.share(f"of {together.rank}"),
            "gather": together.gather(together.rank),
        }
        with torch.no_grad():
            layer.weight.fill_(together.rank + 5)
        together.share_state({"G": layer})
        facts["weight"] = float(layer.weight.mean())
        found = together.gather(facts)
        if together.first:
            file.write_text(json.dumps(found))


@only_where_forks_are
def test_gradients_and_means_are_those_of_the_whole_batch(tmp_path, monkeypatch):
    """Through the mean over all processes too: relativistic losses need it."""
    monkeypatch.setattr(ranks, "BUCKET_BYTES", 40)
    assert Ranks(2, lambda: communicate(tmp_path / "found.json")).wait() == 0
    for facts in json.loads((tmp_path / "found.json").read_text()):
        assert facts.pop("error") < 1e-12
        assert facts == {"any": [True, False], "share": "of 0", "gather": [0, 1], "weight": 5.0}


@pytest.mark.timeout(240)
def test_a_stop_is_passed_on_and_the_run_goes_on_bit_for_bit(tmp_path, forked, monkeypatch):
    told, stopped, whole = Told(), four(tmp_path, "stopped", niter=4), four(tmp_path, "whole", niter=4)
    with monkeypatch.context() as patch, pytest.raises(Cancelled, match="of 4.*--resume auto"):
        patch.setattr(RunEvents, "progress", lambda *facts: time.sleep(0.5))  # no iteration is over too soon for a stop
        run.train(stopped, processes=2, observers=[told], cancelled=lambda: bool(told.of("started")))
    last = told.of("saved")[-1][1]
    assert 1 <= last < 4 and json.loads((stopped.run_folder / "status.json").read_text())["state"] == "stopped"
    asked = []
    changed = tiny_options(tmp_path, "datasets.train.batch_size=4", "name=stopped", niter=4, lr_D=2e-4)
    with pytest.raises(OptionError, match="lr_D"):
        run.train(changed, processes=2, resume="auto", accept_changes=lambda changes: asked.append(changes) or False)
    assert asked == [["train.lr_D: 0.0001 -> 0.0002"]]
    run.train(stopped, processes=2, resume="auto")
    run.train(whole, processes=2)
    one, other = (read_checkpoint(options.run_folder / "training_state" / "4.state") for options in (stopped, whole))
    one["options"], other["options"] = {}, {}
    assert same_payload(one, other)


@pytest.mark.timeout(120)
def test_torchrun_can_be_used_directly_and_ends_on_sigterm_with_everything_saved(tmp_path):
    """As on a cluster, which ends jobs by SIGTERM."""
    script, file = tmp_path / "script.py", tmp_path / "options.json"
    file.write_text(json.dumps(tiny_json(tmp_path, niter=500)))
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(ROOT / "CBCTSuperRes")!r})
        from CBCTSuperResLib.core.errors import Cancelled
        from CBCTSuperResLib.train.options_file import read_options
        from CBCTSuperResLib.train.run import train
        try:
            train(read_options({str(file)!r}))
        except Cancelled as error:
            print("told", error, flush=True)
        """)
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    states = tmp_path / "experiments" / "tiny" / "training_state"
    try:
        while not list(states.glob("*.state")) and process.poll() is None:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=240)[0].decode()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert output.count("told The training was stopped") == 1, output
    status = json.loads((states.parent / "status.json").read_text())
    assert status["state"] == "stopped"
    assert read_checkpoint(states / f"{status['step']}.state")["step"] == status["step"]


@pytest.mark.timeout(120)
def test_what_one_process_meets_ends_all_with_one_message(tmp_path, forked):
    bad = tmp_path / "images"
    bad.mkdir()
    (bad / "a.png").write_bytes(b"no picture")
    values = tiny_json(tmp_path)
    values["datasets"]["train"] |= {"dataroot_HR": [str(bad)], "procedural": 0}
    with pytest.raises(SuperResError, match="a.png") as caught:
        run.train(read_options(values), processes=2)
    assert isinstance(caught.value, InputError) and "Traceback" not in str(caught.value)


def test_batch_norm_in_several_processes_on_the_cpu_is_refused_by_name(tmp_path, forked):
    options = tiny_options(
        tmp_path,
        "network_D.which_model_D=discriminator_vgg_128",
        "network_D.nf=4",
        "datasets.train.HR_size=128",
    )
    with pytest.raises(OptionError, match="discriminator_vgg_128.*several processes on the CPU"):
        run.train(options, processes=2)


@pytest.mark.parametrize("count, message", [(3, "3 processes cannot share evenly"), (0, "make no sense")])
def test_numbers_of_processes_that_do_not_do_are_refused(tmp_path, count, message):
    with pytest.raises(OptionError, match=message):
        run.train(tiny_options(tmp_path), processes=count)


def test_what_is_told_in_one_process_arrives_in_another(tmp_path):
    calls, events, reader = Told(), RunEvents(), EventReader(tmp_path / "events.jsonl")

    def replay():
        for event in reader.read():
            tell(calls, event)

    replay()
    facts = RunFacts("a", tmp_path, 3, 9, notes=("one", "two"), options={"x": 1})
    result = RunResult(tmp_path, 9, True, {"best": {"psnr": 30.5}})
    events.started(facts)
    events.progress(4, 0.5, 2.5)
    events.step(4, {"l": 0.25}, 0.5, 2.5)
    replay()
    events.note("Ä")
    events.validated(4, {"psnr": 30.5}, None)
    events.validated(5, {}, tmp_path / "val_images")
    events.saved(4, tmp_path / "4.state")
    events.ended(result)
    replay()
    assert calls.calls == [
        ("started", facts),
        ("progress", 4),
        ("step", 4, {"l": 0.25}),
        ("note", "Ä"),
        ("validated", 4, {"psnr": 30.5}, None),
        ("validated", 5, {}, tmp_path / "val_images"),
        ("saved", 4, tmp_path / "4.state"),
        ("ended", result),
    ]


def test_processes_that_end_without_a_word_are_reported_with_what_they_printed(tmp_path):
    (tmp_path / "log.txt").write_text("Segmentation fault\n")
    with pytest.raises(SuperResError, match="(?s)code -11.*Segmentation fault.*--resume auto"):
        launch._outcome(tmp_path, -11)
