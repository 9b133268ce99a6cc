"""Jobs that outlive their parent, are found again by their folder, and stop in their own time."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from CBCTSuperResLib.core import atomic, processes
from CBCTSuperResLib.core.atomic import FileLock
from CBCTSuperResLib.core.errors import Cancelled, InputError, OutputError
from CBCTSuperResLib.jobs import job as job_file
from CBCTSuperResLib.jobs.job import Job
from CBCTSuperResLib.jobs.liveness import is_going_on
from waiting import run_to_end, wait_until

posix_only = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

# A worker with the real one's locks, life signs and stops, that counts instead of training.
WORKER = f"""
import json, sys, time
sys.path.insert(0, {str(processes.LIBRARY_FOLDER)!r})
from CBCTSuperResLib.jobs import worker
from CBCTSuperResLib.core.errors import Cancelled

def count(job, events, stop):
    for number in range(1, job["steps"] + 1):
        events.send("progress", fraction=number / job["steps"], message=f"Step {{number}}", remaining_s=None)
        if stop():
            time.sleep(job.get("last_step_s", 0))
            raise Cancelled(f"Stopped after {{number}}.")
        time.sleep(0.05)
    return {{"counted": job["steps"]}}

worker.WATCH_INTERVAL_S = 0.1
worker.KINDS["count"] = count
sys.exit(worker.main())
"""

NO_LOCKS = f"""
import sys
sys.path.insert(0, {str(processes.LIBRARY_FOLDER)!r})
from CBCTSuperResLib.core import atomic
atomic._lock = lambda descriptor: True
"""

PARENT = f"""
import json, sys, time
sys.path.insert(0, {str(processes.LIBRARY_FOLDER)!r})
from CBCTSuperResLib.jobs.job import Job
folder, script, detached = sys.argv[1:]
job = Job({{"kind": "count", "steps": 2000}}, folder, lasting=True, command=[sys.executable, script]).start()
if detached == "True":
    job.detach()
while not job._worker:
    job.poll()
print(job._worker["pid"], flush=True)
if detached != "exit":
    time.sleep(60)
"""


@pytest.fixture
def script(tmp_path) -> Path:
    file = tmp_path / "worker.py"
    file.write_text(WORKER, encoding="utf-8")
    return file


@pytest.fixture
def make_job(tmp_path, script):
    made = []

    def make(steps: int = 2000, **job) -> Job:
        folder = tmp_path / "Läufe" / ".worker" / "run 1"
        task = {"kind": "count", "steps": steps, **job}
        made.append(Job(task, folder, lasting=True, keep_files=True, command=[sys.executable, str(script)]))
        return made[-1]

    yield make
    for job in made:
        job.kill()
        job.close()


def started(job: Job) -> Job:
    job.start()
    wait_until(lambda: job.poll() and job.fraction > 0)
    return job


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_job_that_is_done_clears_its_folder_away_when_it_is_closed(make_job):
    job = make_job(3).start()
    run_to_end(job)
    assert job.report == {"counted": 3} and job.error is None
    assert not is_going_on(job.files)
    job.close()
    assert not job.files.exists()


def test_a_worker_that_takes_long_to_stop_is_waited_for(make_job, monkeypatch):
    monkeypatch.setattr(job_file, "GRACE_S", 0.1)
    job = started(make_job(last_step_s=1.0))
    job.cancel()
    run_to_end(job)
    assert isinstance(job.error, Cancelled) and "Stopped after" in job.error.what


def test_a_folder_has_one_job_at_a_time(make_job):
    first = started(make_job())
    with pytest.raises(InputError, match="still going on"):
        make_job().start()
    first.kill()
    run_to_end(first)
    second = make_job(2).start()
    run_to_end(second)
    assert second.report == {"counted": 2}


def test_whoever_attaches_sees_all_events_and_can_stop_the_job(make_job):
    job = started(make_job())
    seen = Job.attach(job.files)
    events = seen.poll()
    assert events[0]["event"] == "started" and seen.fraction > 0 and not seen.isFinished
    seen.cancel()
    run_to_end(job)
    run_to_end(seen)
    assert "Stopped after" in job.error.what and "Stopped after" in seen.error.what


def test_whoever_attaches_to_a_finished_job_sees_its_result(make_job):
    job = make_job(2).start()
    run_to_end(job)
    seen = Job.attach(job.files)
    seen.poll()
    seen.poll()
    assert seen.isFinished and seen.report == {"counted": 2}


@posix_only
def test_whoever_attaches_to_a_killed_job_is_told(make_job, monkeypatch):
    monkeypatch.setattr(job_file, "SILENCE_OF_A_LOST_WORKER_S", 0.3)
    job = started(make_job())
    os.killpg(job._process.pid, signal.SIGKILL)
    run_to_end(job)
    seen = Job.attach(job.files)
    run_to_end(seen)
    assert "has gone" in seen.error.what and "signal 9" in job.error.what


def test_whoever_attaches_can_kill_the_job_but_not_on_another_computer(make_job):
    job = started(make_job())
    seen = Job.attach(job.files)
    seen.poll()
    seen._worker["host"] = "elsewhere"
    with pytest.raises(OutputError, match="elsewhere"):
        seen.kill()
    seen = Job.attach(job.files)
    seen.poll()
    seen.kill()
    run_to_end(job)
    assert "killed" in job.error.what or "code" in job.error.what


def test_attaching_where_no_job_is_says_so(tmp_path):
    with pytest.raises(InputError, match="no job"):
        Job.attach(tmp_path)


def test_closing_lets_a_worker_that_is_not_detached_stop_by_itself(make_job):
    job = started(make_job())
    pid = job._worker["pid"]
    job.close()
    assert job.isFinished and isinstance(job.error, Cancelled)
    job._process.wait(120)
    assert not exists(pid)


def test_closing_lets_a_detached_worker_go_on(make_job):
    job = started(make_job())
    job.detach()
    assert job.isDetached
    job.close()
    seen = Job.attach(job.files)
    seen.poll()
    before = seen.fraction
    wait_until(lambda: seen.poll() and seen.fraction > before)
    seen.cancel()
    job._process.wait(120)
    run_to_end(seen)
    assert "Stopped after" in seen.error.what


@posix_only
@pytest.mark.parametrize("detached", [True, False])
def test_only_a_detached_worker_goes_on_when_its_parent_is_killed(tmp_path, script, detached):
    folder = tmp_path / "job"
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), str(folder), str(script), str(detached)],
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    if detached:
        seen = Job.attach(folder)
        seen.poll()
        before = seen.fraction
        wait_until(lambda: seen.poll() and seen.fraction > before)
        wait_until(lambda: not (folder / "parent").exists())
        seen.cancel()
        run_to_end(seen)
        seen.close()
    wait_until(lambda: not exists(pid))
    assert not folder.exists()


def test_a_parent_that_ends_lets_its_worker_stop_gently(tmp_path, script):
    folder = tmp_path / "job"
    command = [sys.executable, "-c", textwrap.dedent(PARENT), str(folder), str(script), "exit"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    wait_until(lambda: not exists(int(done.stdout)))
    if folder.exists():  # it stopped because it was asked to, before it noticed that its parent had gone
        events = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
        assert "Stopped after" in events[-1]["what"]


def test_a_job_whose_folder_has_gone_cannot_be_told_and_ends(monkeypatch, tmp_path):
    monkeypatch.setattr(job_file, "SILENCE_OF_A_LOST_WORKER_S", 0.3)
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "job.json").touch()
    seen = Job.attach(folder)
    shutil.rmtree(folder)
    for tell in (seen.cancel, seen.detach):
        with pytest.raises(OutputError, match="cannot be told"):
            tell()
    run_to_end(seen)
    assert "has gone" in seen.error.what
    seen.close()


def test_looking_at_the_lock_of_a_job_does_not_take_it(tmp_path):
    lock = FileLock(tmp_path / "alive")
    assert not is_going_on(tmp_path)
    assert lock.acquire()
    assert is_going_on(tmp_path) and is_going_on(tmp_path)
    lock.release()
    assert not is_going_on(tmp_path)


@pytest.fixture
def no_locks(monkeypatch, script):
    """A file system on which every lock is given, here and in the workers."""
    monkeypatch.setattr(atomic, "_lock", lambda descriptor: True)
    script.write_text(f"{NO_LOCKS}{WORKER}", encoding="utf-8")


def test_without_locks_a_worker_goes_on_while_its_parent_lives_and_its_folder_is_safe(no_locks, make_job):
    job = started(make_job())
    assert is_going_on(job.files)
    with pytest.raises(InputError, match="still going on"):
        make_job().start()
    assert (job.files / "job.json").is_file()
    seen, fraction = Job.attach(job.files), job.fraction
    steps = 20  # of 50 ms; the worker looks for its parent every tenth of a second
    while steps or job.fraction <= fraction:
        job.poll()
        seen.poll()
        assert not job.isFinished and not seen.isFinished
        steps = max(0, steps - 1)
        time.sleep(0.05)
    assert any("no locks" in warning for warning in job.warnings)
    seen.cancel()
    run_to_end(job)
    run_to_end(seen)
    assert "Stopped after" in job.error.what and "Stopped after" in seen.error.what and not is_going_on(job.files)


def test_without_locks_a_worker_of_another_computer_is_told_by_its_heartbeat(no_locks, tmp_path, monkeypatch):
    for name in ("job.json", "heartbeat", "events.jsonl"):
        (tmp_path / name).write_text("{}")
    assert is_going_on(tmp_path)
    for name in ("job.json", "heartbeat"):
        os.utime(tmp_path / name, (1.0, 1.0))
    assert not is_going_on(tmp_path)


@posix_only
def test_without_locks_a_worker_ends_when_its_parent_is_killed(no_locks, tmp_path, script):
    folder = tmp_path / "job"
    parent = subprocess.Popen(
        [sys.executable, "-c", NO_LOCKS + PARENT, str(folder), str(script), "False"], stdout=subprocess.PIPE, text=True
    )
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    wait_until(lambda: not exists(pid))
    assert not folder.exists()


def test_a_parent_of_several_processes_is_noticed_to_live_and_to_die_without_locks(no_locks, tmp_path):
    lock = processes.ParentLock(tmp_path / "parent")
    assert lock.facts["lock"] is None and not processes.ParentWatch(lock.facts).has_died()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert processes.ParentWatch({**lock.facts, "pid": ended.pid}).has_died()


def test_with_locks_the_death_of_a_parent_is_noticed_by_its_lock(tmp_path):
    lock = processes.ParentLock(tmp_path / "parent")
    watch = processes.ParentWatch(lock.facts)
    assert lock.facts["lock"] and not watch.has_died()
    lock.release()
    assert watch.has_died()
