"""The faults that take no time: what is half-written is found; a killed run and a full disk end well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

if sys.platform == "win32":
    pytest.skip("processes cannot be forked here", allow_module_level=True)
pytest.importorskip("torch")

from CBCTSuperResLib.io.write import write_volume  # noqa: E402
from helpers import make_volume  # noqa: E402

from . import faults  # noqa: E402
from .work import faults_of_model, faults_of_run, faults_of_volume, tiny_model  # noqa: E402

TESTING = Path(__file__).resolve().parents[1]


def test_what_is_half_written_is_found(tmp_path):
    path = write_volume(make_volume(), tmp_path / "a.nrrd")
    assert faults_of_volume(path) == ["a result without a report"]
    (tmp_path / "a.nrrd.json").write_text("{}")
    assert faults_of_volume(path) == []
    path.write_bytes(path.read_bytes()[:-50])
    assert "incomplete" in faults_of_volume(path)[0]
    model = tiny_model(tmp_path / "m.safetensors")
    assert faults_of_model(model) == []
    data = np.frombuffer(model.read_bytes(), np.uint8).copy()
    data[-4] ^= 64
    model.write_bytes(data.tobytes())
    assert faults_of_model(model)
    (tmp_path / "training_state").mkdir()
    (tmp_path / "training_state" / "4.state").write_bytes(b"PK")
    (tmp_path / "curves.csv").write_text("step,loss\n1,2\n2\n3,4\n")
    assert len(faults_of_run(tmp_path)) == 2


KILLED_THEN_A_FULL_DISK = """
import resource, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from faults.work import apply, killed_after, run_whole, tiny_model

folder = Path(sys.argv[1])
work = apply(folder, tiny_model(folder / "tiny.safetensors"))
assert killed_after(work.arguments, 0.05)
assert work.faults() == []
assert run_whole(work.arguments) == 0
assert work.is_done() and work.faults() == []
log = folder / "log"
code = run_whole(work.arguments, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)), log)
assert code == 7 and "Traceback" not in log.read_text(), (code, log.read_text())
assert work.is_done() and work.faults() == []
print("as it should be")
"""


def test_a_killed_run_leaves_nothing_half_and_a_full_disk_the_former_result(tmp_path):
    # In a process of its own: one that has threads, as the tests' has, must not be forked.
    places = [str(TESTING), str(TESTING / "support"), str(TESTING.parent / "CBCTSuperRes")]
    command = [sys.executable, "-c", KILLED_THEN_A_FULL_DISK, str(tmp_path), *places]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.stdout.endswith("as it should be\n"), done.stderr


def test_a_fault_is_told_and_makes_the_command_fail(monkeypatch, capsys):
    monkeypatch.setattr(faults, "clock_set_back", lambda folder: ("tried", ["something is wrong"]))
    assert faults.main(["--only", "clock"]) == 1
    assert "something is wrong" in capsys.readouterr().out
    monkeypatch.setattr(faults, "clock_set_back", lambda folder: ("tried", []))
    assert faults.main(["--only", "clock"]) == 0
