"""Worker processes seen from outside, with small scripts in the place of the worker; every process is real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from CBCTSuperResLib.core import processes
from CBCTSuperResLib.core.atomic import FileLock
from CBCTSuperResLib.core.errors import Cancelled, OutputError
from CBCTSuperResLib.jobs import job as job_file
from CBCTSuperResLib.jobs.job import LOG_LINES, Job, WorkerError
from waiting import run_to_end, wait_until

PREAMBLE = """
import json, os, sys, time
job = json.load(open(sys.argv[1], encoding="utf-8"))
def send(text):
    with open(job["events"], "a", encoding="utf-8") as file:
        file.write(text)
def event(**values):
    send(json.dumps(values) + "\\n")
"""

posix_only = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


@pytest.fixture
def make_job(tmp_path):
    """A job whose worker runs a few lines of Python; closed at the end of the test."""
    made = []

    def make(script: str, job: dict | None = None, **keywords) -> Job:
        file = tmp_path / f"worker {len(made)}.py"
        file.write_text(PREAMBLE + textwrap.dedent(script), encoding="utf-8")
        folder = tmp_path / f"Ordner mit Umläuten {len(made)}"
        folder.mkdir()
        worker = Job(job or {"kind": "test"}, folder, command=[sys.executable, str(file)], **keywords)
        made.append(worker)
        return worker.start()

    yield make
    for worker in made:
        worker.close()


def process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def test_events_arrive_in_order_and_the_report_is_the_result(make_job):
    worker = make_job("""
        event(event="progress", fraction=0.25, message="Reading", remaining_s=None)
        event(event="progress", fraction=0.5, message="Slice 3 of 6", remaining_s=4.0)
        event(event="warning", message="Ä warning")
        event(event="done", report={"answer": 42})
    """)
    events = run_to_end(worker)
    assert [e["event"] for e in events] == ["progress", "progress", "warning", "done"]
    assert (worker.fraction, worker.message, worker.warnings) == (1.0, "Slice 3 of 6", ["Ä warning"])
    assert worker.report == {"answer": 42} and worker.error is None


def test_a_line_that_is_half_written_is_kept_until_its_end_arrives(make_job, tmp_path):
    worker = make_job("time.sleep(60)")
    events = Path(worker.files / "events.jsonl")
    line = json.dumps({"event": "warning", "message": "übrig"}, ensure_ascii=False).encode() + b"\n"
    cut = line.index("ü".encode()) + 1  # within a character
    events.write_bytes(line[:cut])
    assert worker.poll() == []
    with events.open("ab") as file:
        file.write(line[cut:])
    assert [e["message"] for e in worker.poll()] == ["übrig"]
    assert worker.poll() == []


def test_paths_with_spaces_and_other_letters_reach_the_worker(make_job):
    worker = make_job('event(event="done", report=job)', {"kind": "test", "input": "/tmp/Zähne vorn/扫描 1.nrrd"})
    run_to_end(worker)
    assert worker.report["input"] == "/tmp/Zähne vorn/扫描 1.nrrd"


def test_an_error_told_by_the_worker_keeps_its_exit_code_and_the_end_of_the_log(make_job):
    worker = make_job("""
        for n in range(200):
            print("log line", n)
        event(event="error", what="It is full.", advice="Make room.", exit_code=5, detail="Traceback")
        sys.exit(5)
    """)
    run_to_end(worker)
    assert isinstance(worker.error, WorkerError)
    assert (worker.error.what, worker.error.advice, worker.error.exit_code) == ("It is full.", "Make room.", 5)
    lines = worker.error.detail.splitlines()
    assert lines[0] == "Traceback" and lines[-1] == "log line 199"
    assert len(lines) == 1 + LOG_LINES


def test_a_worker_that_ends_without_a_word_is_an_error(make_job):
    worker = make_job('print("last words"); os._exit(3)')
    run_to_end(worker)
    assert "code 3" in worker.error.what and "last words" in worker.error.detail


@posix_only
def test_a_worker_that_is_killed_from_outside_is_an_error(make_job):
    worker = make_job('event(event="started"); time.sleep(60)')
    wait_until(worker.poll)
    os.killpg(worker._process.pid, signal.SIGKILL)
    run_to_end(worker)
    assert "signal 9" in worker.error.what and worker.report is None


def test_cancel_is_asked_for_by_a_file(make_job):
    worker = make_job("""
        event(event="started")
        while not os.path.exists(job["cancel"]):
            time.sleep(0.02)
        event(event="error", what="Cancelled.", advice="", exit_code=130, detail="")
    """)
    wait_until(worker.poll)
    worker.cancel()
    run_to_end(worker)
    assert isinstance(worker.error, Cancelled)


def test_a_job_that_is_being_cancelled_tells_no_remaining_time(make_job):
    worker = make_job("""
        event(event="progress", fraction=0.5, message="Network", remaining_s=120)
        while not os.path.exists(job["cancel"]):
            time.sleep(0.02)
        event(event="progress", fraction=0.6, message="Network", remaining_s=100)
        time.sleep(60)
    """)
    wait_until(lambda: worker.poll() and worker.remaining == 120)
    worker.cancel()
    assert worker.remaining is None
    wait_until(lambda: worker.poll() and worker.fraction == 0.6)
    assert worker.remaining is None


def test_a_worker_that_another_program_stopped_says_so(make_job):
    worker = make_job('event(event="error", what="Cancelled.", advice="", exit_code=130, detail="")')
    run_to_end(worker)
    assert isinstance(worker.error, Cancelled)
    assert str(worker.error) == "Another program asked the worker process to stop. Try again."


@posix_only
def test_a_worker_that_ignores_cancel_is_killed_with_its_children(make_job, monkeypatch):
    monkeypatch.setattr(job_file, "PATIENCE_S", 0.3)
    worker = make_job("""
        import signal, subprocess
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        event(event="started", pid=child.pid)
        child.wait()
    """)
    started = []
    wait_until(lambda: started.extend(worker.poll()) or started)
    worker.cancel()
    run_to_end(worker)
    assert isinstance(worker.error, Cancelled)
    wait_until(lambda: not process_exists(started[0]["pid"]))


def test_a_worker_without_life_signs_is_reported_and_ended(make_job):
    worker = make_job("time.sleep(60)", silence_limit_s=0.4)
    run_to_end(worker)
    assert "stopped responding" in worker.error.what


def test_a_worker_with_life_signs_may_take_its_time(make_job):
    worker = make_job(
        """
        for n in range(50):
            open(job["heartbeat"], "w").write(str(n))
            time.sleep(0.1)
        event(event="done", report={})
        """,
        silence_limit_s=4.0,
    )
    run_to_end(worker)
    assert worker.error is None


def test_a_pause_of_the_polling_is_not_taken_for_silence_of_the_worker(make_job):
    worker = make_job("time.sleep(60)", silence_limit_s=1.5)
    worker.poll()
    worker._silence._looked -= 1000  # as after a sleep of the computer
    worker.poll()
    assert worker.error is None


def test_a_worker_that_does_not_go_after_its_last_word_is_ended(make_job, monkeypatch):
    monkeypatch.setattr(job_file, "GRACE_S", 0.3)
    worker = make_job('event(event="done", report={}); time.sleep(60)')
    run_to_end(worker)
    assert worker.report == {} and worker.error is None


def test_closing_ends_the_worker_and_removes_its_folder(make_job):
    worker = make_job('event(event="started", pid=os.getpid()); time.sleep(60)')
    started = []
    wait_until(lambda: started.extend(worker.poll()) or started)
    worker.close()
    worker.close()
    assert not worker.files.exists() and worker.isFinished
    assert not process_exists(started[0]["pid"])


def test_a_python_that_does_not_start_is_said_in_words(tmp_path):
    worker = Job({"kind": "test"}, tmp_path, command=[str(tmp_path / "no python")])
    with pytest.raises(WorkerError, match="did not start"):
        worker.start()
    assert not tmp_path.exists()
    worker.close()
    assert worker.isFinished


def test_an_unwritable_temporary_folder_is_said_in_words(tmp_path):
    with pytest.raises(OutputError, match="temporary folder"):
        job_file.make_job_folder(tmp_path / "missing")


def test_the_python_of_slicer_is_used_within_slicer(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/opt/Slicer/bin/PythonSlicer")
    assert processes.python_executable() == "/opt/Slicer/bin/PythonSlicer"
    monkeypatch.setattr(sys, "executable", "/opt/Slicer/bin/SlicerApp-real")
    monkeypatch.setattr(processes.shutil, "which", lambda name: f"/found/{name}")
    assert processes.python_executable() == "/found/PythonSlicer"


def test_a_lock_is_held_by_one_and_falls_when_its_holder_is_killed(tmp_path):
    path = tmp_path / "a lock"
    script = f"""
import sys, time
sys.path.insert(0, {str(processes.LIBRARY_FOLDER)!r})
from CBCTSuperResLib.core.atomic import FileLock
lock = FileLock({str(path)!r})
print(lock.acquire(), flush=True)
time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline().strip() == "True"
        lock = FileLock(path)
        assert not lock.acquire()
    finally:
        holder.kill()
        holder.wait()
    assert path.exists() and lock.acquire()
    lock.release()
    assert not path.exists()


@pytest.mark.parametrize("damage", ["{cut", "[1, 2]", '{"event": "progress"}', '{"event": "warning"}', "\\x00"])
def test_damaged_lines_among_the_events_do_not_cost_the_result(make_job, damage):
    worker = make_job(f"""
        send('{damage}\\n')
        event(event="progress", fraction=0.5, message="Network", remaining_s=None)
        send('{damage}\\n')
        event(event="done", report={{"answer": 42}})
    """)
    run_to_end(worker)
    assert worker.report == {"answer": 42} and worker.error is None


@pytest.mark.parametrize(
    "last", ['{"event": "done", "rep', '{"event": "done"}', '{"event": "done", "report": null}', '{"event": "error"}']
)
def test_a_job_whose_end_was_told_in_a_damaged_line_is_an_error(make_job, last):
    worker = make_job(f"send('{last}\\n')")
    run_to_end(worker)
    assert worker.report is None and isinstance(worker.error, WorkerError)
    assert "code 0" in worker.error.what and "1 of the lines" in worker.error.what


@pytest.mark.parametrize("raised", [StopIteration, KeyError("report"), ValueError("cut"), RuntimeError, MemoryError])
def test_whatever_is_raised_while_polling_ends_the_job_with_an_error_and_its_process(make_job, monkeypatch, raised):
    worker = make_job("time.sleep(60)")

    def fail():
        raise raised

    monkeypatch.setattr(worker._readers[0], "read", fail)
    worker.poll()
    assert worker.isFinished and worker.report is None and "cannot be followed" in worker.error.what
    assert worker._process.poll() is not None and not worker.files.exists()
