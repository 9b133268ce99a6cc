"""A file that crashes a reader ends the process that reads it, not the one that the user waits for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from CBCTSuperResLib.cli import child
from CBCTSuperResLib.core.crash_note import decoding, keep_note, reader_crash
from CBCTSuperResLib.jobs.job import Job

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

LIBRARY = Path(child.__file__).parents[2]
CRASHING_READER = """
import os, signal, sys
sys.path.insert(0, {library!r})
import SimpleITK as sitk
def crash(reader):
    os.kill(os.getpid(), signal.{signal})
sitk.ImageFileReader.Execute = crash
"""
AS_COMMAND = "from CBCTSuperResLib.cli import main\nsys.exit(main())"
AS_WORKER = "from CBCTSuperResLib.jobs.worker import main\nsys.exit(main())"
SPACING = ("--spacing", "0.1", "0.1", "0.1")


@pytest.fixture
def slices(tmp_path):
    folder = tmp_path / "slices"
    folder.mkdir()
    for k, pixels in enumerate(np.random.default_rng(0).integers(0, 60000, (4, 12, 12)).astype(np.uint16)):
        cv2.imwrite(str(folder / f"s{k}.png"), pixels)
    return folder


def command(tail: str, name: str = "SIGSEGV") -> list[str]:
    return [sys.executable, "-c", CRASHING_READER.format(library=str(LIBRARY), signal=name) + tail]


def test_the_command_tells_which_file_crashed_the_reader(slices, capfd):
    assert child.run_in_child(["info", str(slices), *SPACING], command(AS_COMMAND)) == 3
    told = capfd.readouterr().err
    assert f"The reader crashed on this file: {slices / 's0.png'}." in told and "Traceback" not in told


def test_a_worker_tells_it_too_and_not_that_the_memory_was_full(slices, tmp_path):
    job = Job(
        {"kind": "apply", "input": str(slices), "output": str(tmp_path / "o.nrrd"), "spacing": [0.1, 0.1, 0.1]},
        command=command(AS_WORKER),
    ).start()
    while not job.isFinished:
        job.poll()
        time.sleep(0.05)
    assert f"The reader crashed on this file: {slices / 's0.png'}" in job.error.what
    assert job.error.exit_code == 3
    assert not (tmp_path / "o.nrrd").exists()


def test_a_killed_command_is_no_crash_of_a_reader(slices, capfd):
    assert child.run_in_child(["info", str(slices), *SPACING], command(AS_COMMAND, "SIGKILL")) == 5
    assert "memory was full" in capfd.readouterr().err


def test_exit_codes_and_output_pass_through(capfd):
    assert child.run_in_child(["info", "no such scan.nrrd"]) == 3
    assert "does not exist" in capfd.readouterr().err
    assert child.run_in_child(["--version"]) == 0
    assert capfd.readouterr().out.startswith("cbct-superres")


def test_signals_do_afterwards_what_they_did_before():
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    assert child.run_in_child([], [sys.executable, "-c", "pass"]) == 0
    assert [signal.getsignal(number) for number in numbers] == before


def test_only_commands_that_read_scans_or_measure_take_a_child(monkeypatch):
    monkeypatch.delenv(child.LAUNCHED, raising=False)
    assert child.wants_child(["apply", "a", "b"]) and child.wants_child(["train", "-opt", "o.json"])
    assert child.wants_child(["engines"])
    for arguments in ([], ["models", "list"], ["apply", "--help"], ["phantom", "x"]):
        assert not child.wants_child(arguments), arguments
    monkeypatch.setenv(child.PARENT, "{}")
    assert not child.wants_child(["apply", "a", "b"])


def test_the_child_ends_when_its_parent_is_killed(long_scan_file, tiny_model, tmp_path):
    arguments = ["apply", str(long_scan_file), str(tmp_path / "out.nrrd"), "--model", str(tiny_model)]
    parent = subprocess.Popen(
        [sys.executable, "-m", "CBCTSuperResLib.cli", *arguments], cwd=LIBRARY, stderr=subprocess.PIPE, text=True
    )
    for line in iter(lambda: parent.stderr.read(1), ""):
        if line == "%":  # the progress bar: the child is at work
            break
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    pids = children.read_text().split() if children.exists() else []
    parent.kill()
    parent.wait()
    parent.stderr.close()
    deadline = time.monotonic() + 240
    while pids and Path(f"/proc/{pids[0]}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not pids or not Path(f"/proc/{pids[0]}").exists()
    assert not (tmp_path / "out.nrrd").exists()


def test_the_outer_file_is_noted_and_gone_after_its_decoding(tmp_path, monkeypatch):
    monkeypatch.setattr("CBCTSuperResLib.core.crash_note._note", None)
    keep_note(tmp_path / "note")
    with decoding("scan\n.dcm"), decoding("copy.dcm"):
        assert (tmp_path / "note").read_text() == "scan?.dcm"
        assert "scan?.dcm" in str(reader_crash(-signal.SIGSEGV, tmp_path / "note"))
        assert reader_crash(-signal.SIGKILL, tmp_path / "note") is None
    assert reader_crash(-signal.SIGSEGV, tmp_path / "note") is None
