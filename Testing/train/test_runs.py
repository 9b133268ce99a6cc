"""The runs of a folder, as their status files and locks tell."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

import pytest
from CBCTSuperResLib.core import atomic
from CBCTSuperResLib.core.atomic import FileLock
from CBCTSuperResLib.core.errors import OutputError
from CBCTSuperResLib.train.curves import CurvesTable
from CBCTSuperResLib.train.run_folder import RunFolder, RunRecord, list_runs, read_run


def make_run(root, name="run", **status):
    folder = root / "experiments" / name
    folder.mkdir(parents=True)
    facts = {"name": name, "host": socket.gethostname(), "pid": 1, "step": 4, "niter": 8, "updated": 100.0, "best": {}}
    (folder / "status.json").write_text(json.dumps({**facts, **status}), encoding="utf-8")
    return folder


@pytest.mark.parametrize("state", ["stopped", "finished", "failed"])
def test_a_run_that_ended_is_listed_with_what_it_came_to(tmp_path, state):
    make_run(tmp_path, "läuft nicht", state=state, best={"step": 3, "psnr": 31.5}, message="Why.")
    (run,) = list_runs(tmp_path)
    assert (run.name, run.state, run.step, run.niter, run.updated) == ("läuft nicht", state, 4, 8, 100.0)
    assert run.best == {"step": 3, "psnr": 31.5} and run.message == "Why."


def test_a_run_whose_lock_is_held_is_running_and_nobody_takes_it(tmp_path):
    folder = make_run(tmp_path, state="running")
    lock = FileLock(folder / "lock")
    assert lock.acquire()
    try:
        assert read_run(folder).state == "running"
        assert not FileLock(folder / "lock").acquire()
    finally:
        lock.release()
    assert read_run(folder).state == "interrupted"


def test_a_run_that_says_running_and_whose_lock_nobody_holds_was_interrupted(tmp_path):
    folder = make_run(tmp_path, state="running", updated=time.time())
    assert read_run(folder).state == "interrupted"
    (folder / "lock").touch()
    assert read_run(folder).state == "interrupted"
    assert FileLock(folder / "lock").acquire()


def test_a_run_of_another_computer_counts_as_running_while_its_status_is_fresh(tmp_path):
    make_run(tmp_path, "fresh", state="running", host="elsewhere", updated=time.time())
    make_run(tmp_path, "old", state="running", host="elsewhere", updated=time.time() - 3600)
    assert [(run.name, run.state) for run in list_runs(tmp_path)] == [("fresh", "running"), ("old", "interrupted")]


def test_runs_come_with_the_latest_first_and_other_folders_are_left_out(tmp_path):
    for name, updated in (("a", 1.0), ("b", 3.0), ("c", 2.0)):
        make_run(tmp_path, name, state="finished", updated=updated)
    (tmp_path / "experiments" / "no run").mkdir()
    (tmp_path / "experiments" / "file").touch()
    assert [run.name for run in list_runs(tmp_path)] == ["b", "c", "a"]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"state": "running", "step": "x", "best": 3}'])
def test_a_status_that_cannot_be_read_is_an_interrupted_run(tmp_path, text):
    folder = make_run(tmp_path)
    (folder / "status.json").write_text(text)
    run = read_run(folder)
    assert (run.state, run.step, run.best) == ("interrupted", 0, {})


def test_only_a_run_that_ended_early_and_has_a_checkpoint_can_be_resumed(tmp_path):
    folder = make_run(tmp_path, state="stopped")
    assert not read_run(folder).can_resume
    (folder / "training_state").mkdir()
    (folder / "training_state" / "4.state").touch()
    assert read_run(folder).can_resume
    finished = make_run(tmp_path, "done", state="finished")
    (finished / "training_state").mkdir()
    (finished / "training_state" / "8.state").touch()
    assert not read_run(finished).can_resume


def test_a_folder_without_runs_has_none(tmp_path):
    assert list_runs(tmp_path) == list_runs(tmp_path / "not there") == []
    assert read_run(tmp_path) is None


@pytest.mark.parametrize("readers", [2, 9])
def test_a_file_that_somebody_reads_is_replaced_as_soon_as_windows_allows_it(tmp_path, monkeypatch, readers):
    path, left, replace = tmp_path / "status.json", [readers], os.replace
    path.write_text("old")

    def refuse(source, target):
        left[0] -= 1
        if left[0] >= 0:
            raise PermissionError(13, "in use")
        replace(source, target)

    monkeypatch.setattr(atomic, "PAUSES_S", (0.001,) * 5)
    monkeypatch.setattr(os, "replace", refuse)
    if readers > 5:
        with pytest.raises(OutputError, match="in use"), atomic.replacing(path) as scratch:
            scratch.write_text("new")
    else:
        with atomic.replacing(path) as scratch:
            scratch.write_text("new")
    assert path.read_text() == ("old" if readers > 5 else "new")
    assert list(tmp_path.iterdir()) == [path]


def test_curves_that_cannot_be_read_at_the_moment_are_none(tmp_path):
    (tmp_path / "curves.csv").mkdir()
    assert RunRecord.of(tmp_path) == RunRecord()


def test_the_newest_losses_are_there_though_the_curves_keep_every_tenth_step_only(tmp_path):
    table = CurvesTable(tmp_path / "curves.csv")
    table.put(10, {"l_g_pix": 0.5})
    events = [{"event": "scalars", "step": step, "values": {"l_g_pix": 1 / step}} for step in (10, 13)]
    lines = [json.dumps(event) for event in [*events, {"event": "warning", "message": "A note."}]]
    (tmp_path / "events.jsonl").write_text("\n".join([*lines, '{"event": "sca']))
    assert RunRecord.of(tmp_path).history == [{"step": 10, "l_g_pix": 0.5}, {"step": 13, "l_g_pix": 1 / 13}]
    assert [row["step"] for row in RunRecord.of(tmp_path, until=12).history] == [10]
    table.put(20, {"l_g_pix": 0.1})
    assert [row["step"] for row in RunRecord.of(tmp_path).history] == [10, 20]


@pytest.fixture
def no_locks(monkeypatch):
    """A file system on which every lock is given."""
    monkeypatch.setattr(atomic, "_lock", lambda descriptor: True)


def test_without_locks_a_run_is_going_on_while_its_process_lives_and_nobody_else_begins(tmp_path, no_locks):
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        folder = make_run(tmp_path, state="running", pid=other.pid)
        assert read_run(folder).state == "running"
        with pytest.raises(OutputError, match="Another process trains"), RunFolder(folder):
            pass
    finally:
        other.kill()
        other.wait()
    assert read_run(folder).state == "interrupted"
    with RunFolder(folder) as ours:
        assert not ours.has_locks
    assert [path.name for path in folder.iterdir()] == ["status.json"]


def test_with_locks_a_run_folder_says_so(tmp_path):
    with RunFolder(make_run(tmp_path)) as ours:
        assert ours.has_locks
