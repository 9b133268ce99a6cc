"""The real worker process, with the tiny model: results, progress, cancelling, being killed, being orphaned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from CBCTSuperResLib.core import processes
from CBCTSuperResLib.core.errors import Cancelled, ResourceError
from CBCTSuperResLib.core.events import EventReader, EventWriter
from CBCTSuperResLib.io.exchange import read_exchange, write_exchange
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.jobs import worker as worker_file
from CBCTSuperResLib.jobs.job import Job
from scans import make_scan
from waiting import run_to_end as run
from waiting import wait_until

posix_only = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def run_to_end(worker: Job) -> list[dict]:
    try:
        return run(worker)
    finally:
        worker.close()


def apply_job(source: Path, target: Path, model: Path, **options) -> dict:
    return {"kind": "apply", "input": str(source), "output": str(target), "model": str(model), "options": options}


def start_long_run(source: Path, target: Path, model: Path) -> Job:
    """A run that computes already and has long to go."""
    worker = Job(apply_job(source, target, model)).start()
    wait_until(lambda: worker.poll() and worker.fraction > 0.04)
    return worker


def test_a_file_is_super_resolved_with_monotone_progress_and_a_report(scan_file, tiny_model, tmp_path):
    target = tmp_path / "Ergebnis größer.nrrd"
    worker = Job(apply_job(scan_file, target, tiny_model)).start()
    events = run_to_end(worker)
    assert worker.error is None, worker.error.detail
    fractions = [e["fraction"] for e in events if e["event"] == "progress"]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert events[0]["event"] == "started" and events[-1]["event"] == "done"

    scan, result = Volume.read(scan_file), Volume.read(target)
    assert result.grid.size == (56, 48, 4) and result.voxels.dtype == scan.voxels.dtype
    assert np.allclose(result.grid.index_to_point, scan.grid.resampled((56, 48, 4)).index_to_point, atol=1e-6)
    assert not worker.files.exists()

    report = json.loads(Path(f"{target}.json").read_text(encoding="utf-8"))
    assert report == json.loads(json.dumps(worker.report))
    assert report["input"]["size"] == [28, 24, 4] and report["output"]["size"] == [56, 48, 4]
    assert report["output"]["bytes"] == target.stat().st_size
    assert {"torch", "numpy", "SimpleITK", "CBCTSuperResLib"} <= set(report["versions"])
    assert len(report["super_resolution"]["model_sha256"]) == 64
    assert {"reading", "computing", "writing"} <= set(report["seconds"])
    assert sorted(p.name for p in tmp_path.iterdir()) == [target.name, target.name + ".json"]


@pytest.mark.usefixtures("ready_workers")
def test_an_exchange_file_gives_the_same_result_as_a_file(scan_file, tiny_model, tmp_path):
    write_exchange(Volume.read(scan_file), tmp_path / "in.npy")
    for source, target in ((scan_file, "out.nrrd"), (tmp_path / "in.npy", "out.npy")):
        worker = Job(apply_job(source, tmp_path / target, tiny_model)).start()
        run_to_end(worker)
        assert worker.error is None, worker.error.detail
    from_file, from_exchange = Volume.read(tmp_path / "out.nrrd"), read_exchange(tmp_path / "out.npy")
    assert np.array_equal(from_file.voxels, from_exchange.voxels)
    assert np.allclose(from_file.grid.index_to_point, from_exchange.grid.index_to_point, atol=1e-9)


@pytest.mark.usefixtures("ready_workers")
@pytest.mark.parametrize(
    ("change", "exit_code", "words"),
    [
        ({"input": "missing.nrrd"}, 3, "missing.nrrd"),
        ({"model": "missing.safetensors"}, 4, "missing.safetensors"),
        ({"options": {"window": [5, 1]}}, 2, "window"),
        ({"kind": "dance"}, 2, "dance"),
    ],
)
def test_bad_jobs_end_with_words_and_an_exit_code(scan_file, tiny_model, tmp_path, change, exit_code, words):
    worker = Job({**apply_job(scan_file, tmp_path / "out.nrrd", tiny_model), **change}).start()
    run_to_end(worker)
    assert worker.error.exit_code == exit_code and words in str(worker.error).lower()
    assert worker._process.returncode == exit_code
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("ready_workers")
def test_cancel_ends_a_run_at_once_and_leaves_nothing(long_scan_file, tiny_model, tmp_path):
    worker = start_long_run(long_scan_file, tmp_path / "out.nrrd", tiny_model)
    worker.cancel()
    run_to_end(worker)
    assert isinstance(worker.error, Cancelled)
    assert worker._process.returncode == Cancelled.exit_code  # it ended itself, it was not killed
    assert list(tmp_path.iterdir()) == []


@posix_only
def test_sigterm_is_a_cancel(long_scan_file, tiny_model, tmp_path):
    worker = start_long_run(long_scan_file, tmp_path / "out.nrrd", tiny_model)
    worker._process.terminate()
    run_to_end(worker)
    assert isinstance(worker.error, Cancelled)
    assert list(tmp_path.iterdir()) == []


@posix_only
def test_a_worker_killed_half_way_leaves_no_output_and_no_lock(long_scan_file, scan_file, tiny_model, tmp_path):
    target = tmp_path / "out.nrrd"
    worker = start_long_run(long_scan_file, target, tiny_model)
    os.killpg(worker._process.pid, signal.SIGKILL)
    run_to_end(worker)
    assert "killed" in worker.error.what
    assert not target.exists() and not Path(f"{target}.json").exists()

    again = Job(apply_job(scan_file, target, tiny_model)).start()  # the dead run does not block the next
    run_to_end(again)
    assert again.error is None and target.exists()


@posix_only
def test_a_worker_that_hangs_is_reported_and_ended(long_scan_file, tiny_model, tmp_path):
    worker = start_long_run(long_scan_file, tmp_path / "out.nrrd", tiny_model)
    worker._silence.limit_s = 2.5
    os.killpg(worker._process.pid, signal.SIGSTOP)
    run_to_end(worker)
    assert "stopped responding" in worker.error.what
    assert not (tmp_path / "out.nrrd").exists()


@pytest.mark.usefixtures("ready_workers")
def test_two_runs_cannot_write_the_same_output(long_scan_file, scan_file, tiny_model, tmp_path):
    target = tmp_path / "out.nrrd"
    first = start_long_run(long_scan_file, target, tiny_model)
    second = Job(apply_job(scan_file, target, tiny_model)).start()
    run_to_end(second)
    assert "Another run is writing" in second.error.what
    first.cancel()
    run_to_end(first)
    assert not target.exists()


@posix_only
def test_a_worker_whose_parent_is_killed_ends_and_cleans_up(long_scan_file, tiny_model, tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    job = apply_job(long_scan_file, tmp_path / "out.nrrd", tiny_model)
    script = f"""
import sys, time
sys.path.insert(0, {str(processes.LIBRARY_FOLDER)!r})
from CBCTSuperResLib.jobs.job import Job
worker = Job({job!r}, {str(folder)!r}).start()
print(worker._process.pid, flush=True)
while True:
    time.sleep(1)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    events = folder / "events.jsonl"
    wait_until(lambda: events.exists() and "Network" in events.read_text(encoding="utf-8"))
    parent.kill()
    parent.wait()
    wait_until(lambda: not folder.exists(), seconds=20)

    def is_gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        stat = Path(f"/proc/{pid}/stat")
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"

    wait_until(is_gone, seconds=20)
    assert not (tmp_path / "out.nrrd").exists()


def test_the_output_may_not_be_the_input_nor_lie_among_the_slices(tiny_model, tmp_path):
    from CBCTSuperResLib.apply.file import apply_to_file
    from CBCTSuperResLib.core.errors import OutputError

    source = make_scan().write(tmp_path / "scan.nrrd")
    before = source.read_bytes()
    with pytest.raises(OutputError, match="input"):
        apply_to_file(source, source, tiny_model)
    with pytest.raises(OutputError, match="among the input slices"):
        apply_to_file(tmp_path, tmp_path / "out.nrrd", tiny_model)
    with pytest.raises(OutputError, match="does not exist"):
        apply_to_file(source, tmp_path / "missing" / "out.nrrd", tiny_model)
    assert source.read_bytes() == before and list(tmp_path.iterdir()) == [source]


def test_what_the_reader_had_to_assume_is_among_the_warnings(tiny_model, tmp_path):
    from CBCTSuperResLib.apply.file import apply_to_file

    source = make_scan().write(tmp_path / "scan.nrrd")
    text = source.read_bytes()
    start = text.index(b"space directions")
    source.write_bytes(text[:start] + text[text.index(b"\n", start) + 1 :])
    report = apply_to_file(source, tmp_path / "out.nrrd", tiny_model)
    assert any("spacing" in warning for warning in report["warnings"])
    assert len(report["warnings"]) == len(set(report["warnings"])), "each is said once"


def test_a_cancelled_run_in_this_process_leaves_nothing(scan_file, tiny_model, tmp_path):
    from CBCTSuperResLib.apply.file import apply_to_file

    asked = []
    with pytest.raises(Cancelled):
        apply_to_file(scan_file, tmp_path / "out.nrrd", tiny_model, cancelled=lambda: len(asked) > 3 or asked.append(1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "word"), [("apply", "ROI"), ("train", "batch_size"), ("prepare", "one pair"), ("preview", "lighter model")]
)
def test_advice_for_a_full_memory_fits_what_was_done_and_says_what_was_asked_for(tmp_path, monkeypatch, kind, word):
    def fill(job, events, stop):
        raise MemoryError("Unable to allocate 12.0 GiB for an array")

    monkeypatch.setitem(worker_file.KINDS, kind, fill)
    code = worker_file.run_job({"kind": kind}, EventWriter(tmp_path / "events.jsonl"), lambda: False)
    told = EventReader(tmp_path / "events.jsonl").read()[-1]
    assert code == told["exit_code"] == ResourceError.exit_code
    assert "12.0 GiB" in told["what"] and word in told["advice"] and told["advice"][0].isupper()
    assert kind == "apply" or "ROI" not in told["advice"]


def test_engines_are_measured_for_the_panel_and_remembered(tiny_model, tmp_path, monkeypatch):
    from CBCTSuperResLib.apply.engines import speed_test
    from CBCTSuperResLib.apply.engines.speed_records import known_engines
    from CBCTSuperResLib.models.card import read_card

    monkeypatch.setattr(speed_test, "installed_engines", lambda: {"torch": "2.0"})
    monkeypatch.setattr(speed_test, "REPEATS", 1)
    events = tmp_path / "events.jsonl"
    job = {"kind": "engines", "model": str(tiny_model), "events": str(events)}
    assert worker_file.run_job(job, EventWriter(events), lambda: False) == 0
    (found,) = EventReader(events).read()[-1]["report"]["engines"]
    assert found["engine"] == "torch" and found["voxels_per_second"] > 0
    monkeypatch.setattr("CBCTSuperResLib.apply.engines.speed_records.installed_engines", lambda: {"torch": "2.0"})
    assert known_engines(read_card(tiny_model))[0].voxels_per_second == found["voxels_per_second"]
