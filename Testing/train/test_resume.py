"""A run that was interrupted goes on as if nothing had happened."""

from __future__ import annotations

import csv
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from CBCTSuperResLib.core.errors import Cancelled, InputError, OptionError
from CBCTSuperResLib.train import run
from CBCTSuperResLib.train.checkpoints import read_checkpoint
from CBCTSuperResLib.train.curves import CurvesCsv
from CBCTSuperResLib.train.observer import Observer
from forked import exit_code, fork, only_where_forks_are
from tiny_runs import live, same_payload, tiny_json, tiny_options


class Notes(Observer):
    """Remembers what a user would be told."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.step_at_start = -1

    def started(self, facts) -> None:
        self.texts += facts.notes
        self.step_at_start = facts.step

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture(autouse=True)
def _only_the_table(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(run, "standard_observers", lambda options: [CurvesCsv()])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of four iterations that nothing disturbed, with checkpoints of 2 and 4."""
    root = tmp_path_factory.mktemp("undisturbed")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "standard_observers", lambda options: [CurvesCsv()])
        return run.train(tiny_options(root)).folder


@pytest.fixture
def copied(tmp_path, finished):
    """The folder of such a run for one test alone."""
    return Path(shutil.copytree(finished, tiny_options(tmp_path).run_folder))


def checkpoint(folder: Path, step: int) -> dict:
    payload = read_checkpoint(folder / "training_state" / f"{step}.state")
    payload["options"]["path"].pop("root")
    return payload


def stop_after(step: int):
    """A `cancelled` that asks for a stop once an iteration is done."""
    asked = iter(range(1000))
    return lambda: next(asked) >= step


def rows(folder: Path) -> list[dict]:
    with open(folder / "curves.csv", newline="", encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def test_a_run_that_was_stopped_after_each_step_ends_bit_for_bit_as_one_that_was_not(tmp_path, finished):
    for step in (1, 2, 3):
        with pytest.raises(Cancelled, match=f"after step {step} of 4.*--resume auto"):
            run.train(tiny_options(tmp_path), resume="auto", cancelled=stop_after(1))
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
    result = run.train(tiny_options(tmp_path), resume="auto")
    assert result.finished and result.step == 4
    assert same_payload(checkpoint(result.folder, 4), checkpoint(finished, 4))
    assert rows(result.folder) == rows(finished)


def test_the_first_run_of_a_name_may_also_be_resumed(tmp_path):
    assert run.train(tiny_options(tmp_path, niter=1), resume="auto").finished


def test_a_run_may_be_stopped_before_it_has_done_anything(tmp_path, finished):
    with pytest.raises(Cancelled, match="after step 0"):
        run.train(tiny_options(tmp_path), cancelled=lambda: True)
    result = run.train(tiny_options(tmp_path), resume="auto")
    assert same_payload(checkpoint(result.folder, 4), checkpoint(finished, 4))


def test_a_finished_run_is_left_as_it_is(tmp_path):
    folder = run.train(tiny_options(tmp_path, niter=1)).folder
    before = (folder / "training_state" / "1.state").read_bytes()
    assert run.train(tiny_options(tmp_path, niter=1), resume="auto").step == 1
    assert (folder / "training_state" / "1.state").read_bytes() == before


def test_an_earlier_checkpoint_can_be_chosen_and_later_ones_are_set_aside(tmp_path, finished, copied):
    states, notes = copied / "training_state", Notes()
    models, latest = copied / "models", []
    notes.started = lambda facts: latest.append((models / "latest_G.safetensors").read_bytes())
    two = (models / "2_G.safetensors").read_bytes()
    run.train(tiny_options(tmp_path), resume=states / "2.state", observers=[notes])
    assert latest == [two] and (models / "latest_G.safetensors").read_bytes() != two
    assert (states / "4.state.abandoned").exists()
    assert same_payload(checkpoint(copied, 4), checkpoint(finished, 4))


def test_the_checkpoint_of_another_run_begins_a_run_of_its_own(tmp_path, finished):
    notes = Notes()
    options = tiny_options(tmp_path, "name=other", niter=3)
    result = run.train(options, resume=finished / "training_state" / "2.state", accept_changes=True, observers=[notes])
    assert notes.step_at_start == 2 and result.folder.name == "other"
    assert any("train.niter: 4 -> 3" in text for text in notes.texts)
    assert (finished / "training_state" / "4.state").exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_taken(tmp_path, finished, copied, damage):
    path, notes = copied / "training_state" / "4.state", Notes()
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 0x40
    path.write_bytes({"cut": content[:middle], "flipped": content, "empty": b""}[damage])
    result = run.train(tiny_options(tmp_path), resume="auto", observers=[notes])
    assert notes.step_at_start == 2 and any("4.state is damaged" in text for text in notes.texts)
    assert path.with_name("4.state.damaged").exists()
    assert same_payload(checkpoint(result.folder, 4), checkpoint(finished, 4))


def test_if_all_checkpoints_are_damaged_the_run_says_so(tmp_path, copied):
    for path in (copied / "training_state").glob("*.state"):
        path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="No checkpoint .* can be read"):
        run.train(tiny_options(tmp_path), resume="auto")


def test_a_missing_checkpoint_is_replaced_by_the_one_before_or_named(tmp_path, copied):
    states, notes = copied / "training_state", Notes()
    run.train(tiny_options(tmp_path), resume=states / "3.state", observers=[notes])
    assert notes.step_at_start == 2 and any("no checkpoint" in text for text in notes.texts)
    with pytest.raises(InputError, match="no checkpoint"):
        run.train(tiny_options(tmp_path), resume=tmp_path / "elsewhere" / "3.state")


def test_changed_options_are_listed_and_only_accepted_ones_change_the_run(tmp_path):
    folder = run.train(tiny_options(tmp_path, niter=2)).folder
    changed = tiny_options(tmp_path, niter=3, lr_G=2e-4)
    with pytest.raises(OptionError, match=r"(?s)train\.lr_G: 0\.0001 -> 0\.0002.*train\.niter: 2 -> 3.*accept"):
        run.train(changed, resume="auto")
    asked: list[list[str]] = []
    with pytest.raises(OptionError):
        run.train(changed, resume="auto", accept_changes=lambda changes: bool(asked.append(changes)))
    assert len(asked) == 1 and len(asked[0]) == 2
    assert run.train(changed, resume="auto", accept_changes=lambda changes: True).step == 3
    rates = {row["step"]: float(row["lr"]) for row in rows(folder)}
    assert rates["2"] == 1e-4 and rates["3"] == 2e-4


def test_a_seed_that_was_drawn_is_kept_when_the_run_goes_on(tmp_path):
    options = tiny_options(tmp_path, manual_seed=None)
    with pytest.raises(Cancelled):
        run.train(options, cancelled=stop_after(1))
    drawn = json.loads((options.run_folder / "options.json").read_text())["train"]["manual_seed"]
    assert isinstance(drawn, int)
    assert run.train(options, resume="auto").finished
    whole = tiny_options(tmp_path, "name=whole", manual_seed=drawn)
    one, other = checkpoint(options.run_folder, 4), checkpoint(run.train(whole).folder, 4)
    one["options"].pop("name"), other["options"].pop("name")
    assert same_payload(one, other)


@only_where_forks_are
def test_a_run_that_is_killed_again_and_again_ends_bit_for_bit_as_one_that_was_not(tmp_path):
    """Between iterations, during one, and while the first and a later checkpoint of a life are written."""
    values = tiny_json(tmp_path / "killed", niter=6, val_freq=3)
    values["datasets"]["val"] = {"mode": "HR", "procedural": 1, "procedural_seed": 3}
    for life in ("-@after:3", "auto@in:1.4", "auto@write:1", "auto@replace:1", "auto@write:2"):
        assert exit_code(fork(lambda life=life: live(values, life))) == -9, life
    assert exit_code(fork(lambda: live(values, "auto"))) == 0

    whole_values = {**values, "path": {"root": str(tmp_path / "whole")}}
    assert exit_code(fork(lambda: live(whole_values, "-"))) == 0
    broken, whole = (tmp_path / name / "experiments" / "tiny" for name in ("killed", "whole"))
    assert same_payload(checkpoint(broken, 6), checkpoint(whole, 6))
    assert rows(broken) == rows(whole)
    assert not list((broken / "training_state").glob(".*"))
