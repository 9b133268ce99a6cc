"""Checkpoints are there whole or not at all, and hold nothing that could be executed."""

from __future__ import annotations

import errno
import os
import pickle
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from CBCTSuperResLib.core.atomic import fresh_file
from CBCTSuperResLib.core.errors import InputError, OutputError, ResourceError
from CBCTSuperResLib.train import checkpoints as module
from CBCTSuperResLib.train.checkpoints import Checkpoints, read_checkpoint
from CBCTSuperResLib.train.ranks import Processes
from CBCTSuperResLib.train.recipes.recipe import Recipe
from CBCTSuperResLib.train.state import (
    Average,
    TrainingState,
    random_state,
    restore_random,
)
from torch import nn

ROOT = Path(__file__).resolve().parents[2]


def make_state(seed: int = 0) -> TrainingState:
    """Two networks that have made a step, one of them with a running mean."""
    torch.manual_seed(seed)
    networks = {"G": nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)), "D": nn.Linear(2, 1)}
    convolution, norm = (list(layer.parameters()) for layer in networks["G"])
    adam = torch.optim.Adam([{"params": convolution, "lr": 0.1}, {"params": norm}], lr=0.2)
    optimizers = {"G": adam, "D": torch.optim.Adam(networks["D"].parameters())}
    average = Average(networks["G"], 0.9)
    networks["G"](torch.rand(2, 1, 5, 5)).square().mean().backward()
    networks["D"](torch.rand(2, 2)).mean().backward()
    for optimizer in optimizers.values():
        optimizer.step()
    average.follow(networks["G"], 1)
    state = TrainingState(Recipe(), networks, optimizers, {}, average, {"name": "x"}, batch_size=4, micro_batch=2)
    state.step, state.best = 7, {"step": 5, "psnr": 30.0}
    return state


def payload(step: int = 7) -> dict:
    state = make_state()
    state.step = step
    return state.payload(Processes())


def tell_nobody(text: str) -> None:
    raise AssertionError(f"Nothing should have been noted, but: {text}")


def test_a_state_comes_back_from_its_file_bit_for_bit(tmp_path):
    path = Checkpoints(tmp_path).write(7, make_state().payload(Processes()))
    other = make_state(seed=1)
    other.step, other.best = 0, {}
    other.restore(read_checkpoint(path))
    expected, found = make_state().payload(Processes()), other.payload(Processes())
    for part in ("networks", "average", "optimizers"):
        torch.testing.assert_close(found[part], expected[part], rtol=0, atol=0)
    assert (other.step, other.best) == (7, {"step": 5, "psnr": 30.0})
    assert found["samples"] == 28


def test_settings_of_the_optimisers_are_those_of_the_present_options(tmp_path):
    state = make_state()
    saved = state.payload(Processes())
    saved["optimizers"]["G"]["param_groups"][0]["lr"] = 5.0
    other = make_state(seed=1)
    other.restore(saved)
    assert [group["lr"] for group in other.optimizers["G"].param_groups] == [0.1, 0.2]


def test_a_mean_that_is_new_begins_with_the_network(tmp_path):
    saved = make_state().payload(Processes())
    other, saved["average"] = make_state(seed=1), None
    other.restore(saved)
    assert torch.equal(other.average.network[0].weight, saved["networks"]["G"]["0.weight"])


def test_a_checkpoint_of_other_networks_is_refused():
    saved, other = make_state().payload(Processes()), make_state()
    other.networks["D"] = nn.Linear(3, 1)
    with pytest.raises(InputError, match="does not fit"):
        other.restore(saved)


def test_all_generators_go_on_where_they_were():
    saved = random_state()
    first = random.random(), np.random.rand(), torch.rand(1)
    restore_random({"random": [saved]}, rank=0)
    assert (random.random(), np.random.rand(), torch.rand(1)) == first
    restore_random({"random": [saved]}, rank=1)
    assert random.random() != first[0]


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    for step in range(1, 7):
        checkpoints.write(step, payload(step), best=2 if step >= 2 else None)
    assert checkpoints.steps() == [2, 5, 6]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.state", "5.state", "6.state"]


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    (tmp_path / ".9.state.4711.tmp").write_bytes(b"half, by version 0.1.0")
    fresh_file(tmp_path / "9.state").write_bytes(b"half")
    (tmp_path / "notes.tmp").write_bytes(b"kept")
    Checkpoints(tmp_path).clean()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.tmp"]


def test_the_newest_that_can_be_read_is_found_and_damaged_ones_are_set_aside(tmp_path):
    checkpoints, notes = Checkpoints(tmp_path), []
    for step in (1, 2, 3):
        checkpoints.write(step, payload(step))
    for step in (2, 3):
        content = checkpoints.path(step).read_bytes()
        checkpoints.path(step).write_bytes(content[: len(content) - 50 * step])
    path, found = checkpoints.newest(notes.append)
    assert path.name == "1.state" and found["step"] == 1
    assert len(notes) == 2 and "3.state is damaged" in notes[0]
    assert (tmp_path / "3.state.damaged").exists()
    assert Checkpoints(tmp_path / "empty").newest(tell_nobody) is None


def test_a_flipped_bit_in_any_part_of_the_file_is_noticed(tmp_path):
    path = Checkpoints(tmp_path).write(1, payload())
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        places = [info.header_offset + 200 for info in archive.infolist() if info.file_size > 200]
    assert places
    for place in places:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(InputError, match="damaged"):
            read_checkpoint(path)


class Harmful:
    def __reduce__(self):
        return os.system, ("echo executed",)


def test_nothing_in_a_checkpoint_is_executed(tmp_path, capfd):
    torch.save({"version": 1, "networks": Harmful()}, tmp_path / "1.state")
    (tmp_path / "2.state").write_bytes(pickle.dumps(Harmful()))
    for name in ("1.state", "2.state"):
        with pytest.raises(InputError, match="damaged"):
            read_checkpoint(tmp_path / name)
    assert "executed" not in capfd.readouterr().out


def test_a_missing_file_and_another_version_are_named(tmp_path):
    with pytest.raises(InputError, match="no checkpoint"):
        read_checkpoint(tmp_path / "5.state")
    torch.save({**payload(), "version": 99}, tmp_path / "1.state")
    with pytest.raises(InputError, match="version 99"):
        read_checkpoint(tmp_path / "1.state")


@pytest.mark.parametrize("free, kind", [(1000, ResourceError), (10**12, OutputError)])
def test_a_disk_that_fills_while_saving_leaves_the_old_checkpoint_intact(tmp_path, monkeypatch, free, kind):
    checkpoints = Checkpoints(tmp_path)
    before = checkpoints.write(1, payload(1)).read_bytes()

    def write_half(values: dict, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_write", write_half)
    monkeypatch.setattr(module, "free_disk_bytes", lambda folder: free)
    with pytest.raises(kind, match="1.state is intact.*--resume auto"):
        checkpoints.write(2, payload(2))
    assert [path.name for path in tmp_path.iterdir()] == ["1.state"]
    assert (tmp_path / "1.state").read_bytes() == before


SMALL_DISK = """
import resource, signal, sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
from test_checkpoints import Checkpoints, OutputError, ResourceError, payload
import torch
checkpoints = Checkpoints(Path(sys.argv[3]))
checkpoints.write(1, payload(1))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    checkpoints.write(2, {**payload(2), "large": torch.zeros(10**6)})
except (OutputError, ResourceError) as error:
    print("told:", error)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limits on the size of files")
def test_when_the_system_refuses_to_write_more_the_old_checkpoint_is_intact(tmp_path):
    command = [sys.executable, "-c", SMALL_DISK, str(ROOT / "CBCTSuperRes"), str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.stdout.startswith("told:") and "1.state is intact" in done.stdout, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["1.state"]
    assert read_checkpoint(tmp_path / "1.state")["step"] == 1
