"""The process that computes previews, real, seen from Slicer: handed a scan, asked, idle, killed, hung, orphaned."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from CBCTSuperResLib.apply.preview_request import PreviewRequest
from CBCTSuperResLib.core import processes
from CBCTSuperResLib.core.errors import OutputError
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.jobs import preview as session_file
from CBCTSuperResLib.jobs.job import Job
from CBCTSuperResLib.jobs.preview import PreviewSession
from scans import make_scan
from waiting import wait_until

pytestmark = pytest.mark.usefixtures("ready_workers")
posix_only = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
SHAPE = (6, 40, 44)


@pytest.fixture
def volume():
    return make_scan(SHAPE)


@pytest.fixture
def session(tmp_path):
    session = PreviewSession(tmp_path)
    yield session
    session.close()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def request_of(tiny_model):
    """A request for a slice with the tiny model."""

    def make(index: int = 2, normal: int = 2, window=(0.0, 4000.0)) -> PreviewRequest:
        visible = [(0, n) for n in SHAPE[::-1]]
        visible[normal] = (index, index + 1)
        focus = (20, 20, 2) if normal == 2 else (20, index, 2)
        options = Options(window=window, device="cpu", precision="fp32")
        return PreviewRequest(str(tiny_model), options, normal, tuple(visible), focus)

    return make


def wait_for_all(session: PreviewSession) -> list[dict]:
    events = []

    def is_done() -> bool:
        events.extend(session.poll())
        return not session.is_busy

    wait_until(is_done)
    return events


def kinds(events: list[dict]) -> list[str]:
    return [event["event"] for event in events]


def start_and_stop_computing(session, volume, request_of) -> None:
    """A session whose process is warm."""
    session.ask(volume, 1, request_of())
    wait_for_all(session)
    assert session.error is None, session.error.detail


def test_a_preview_comes_from_a_process_and_the_next_one_from_the_same(session, volume, request_of):
    session.ask(volume, 1, request_of())
    assert session.is_busy and session.is_starting
    first = wait_for_all(session)
    assert kinds(first) == ["canvas", "block", "complete"] and not session.is_starting
    canvas = first[0]["canvas"]
    assert canvas.grid.size == (88, 80, 1) and np.ptp(canvas.voxels.astype(float)) > 0
    worker = session._worker
    session.ask(volume, 1, request_of(index=3))
    second = wait_for_all(session)
    assert session._worker is worker and kinds(second) == ["canvas", "block", "complete"]
    assert not np.array_equal(second[0]["canvas"].voxels, canvas.voxels)


def test_a_preview_is_what_apply_puts_there(session, volume, request_of, tiny_model):
    from CBCTSuperResLib import Model, super_resolve

    session.ask(volume, 1, request_of())
    canvas = wait_for_all(session)[0]["canvas"]
    whole = super_resolve(volume, Model.load(tiny_model), request_of().options)
    np.testing.assert_array_equal(canvas.voxels[0], whole.voxels[2])


def test_only_the_newest_request_is_answered(session, volume, request_of):
    for index in range(5):
        session.ask(volume, 1, request_of(index=index))
    events = wait_for_all(session)
    assert kinds(events) == ["canvas", "block", "complete"] and len({event["number"] for event in events}) == 1
    assert session._volumes == 1, "the same volume is handed over once"


def test_a_volume_that_changed_is_handed_over_again(session, volume, request_of):
    session.ask(volume, 1, request_of())
    before = wait_for_all(session)[0]["canvas"].voxels.copy()
    changed = make_scan(SHAPE)
    changed.voxels[...] = changed.voxels[:, ::-1]
    session.ask(changed, 2, request_of())
    after = wait_for_all(session)[0]["canvas"].voxels
    assert session._volumes == 2 and not np.array_equal(before, after)


def test_a_large_volume_is_handed_over_a_moment_at_a_time(session, volume, request_of, monkeypatch):
    monkeypatch.setattr(session_file, "HAND_OVER_BUDGET_S", 0.0)
    monkeypatch.setattr("CBCTSuperResLib.io.exchange.SLAB_BYTES", volume.voxels[0].nbytes)
    session.ask(volume, 1, request_of())
    for _ in range(SHAPE[0]):
        assert session._requests == 0
        session.poll()
    session.poll()
    assert session._requests == 1
    wait_for_all(session)
    assert session.error is None


def test_a_session_at_rest_hears_nothing_and_stays_warm(session, volume, request_of):
    start_and_stop_computing(session, volume, request_of)
    worker = session._worker
    session.ask(volume, 1, request_of(index=1))
    session.rest()
    assert not session.is_busy and session.poll() == []
    session.ask(volume, 1, request_of(index=3))
    wait_for_all(session)
    assert session._worker is worker and session.error is None


def test_giving_up_while_the_volume_is_handed_over_leaves_no_half_of_it(session, volume, request_of, monkeypatch):
    monkeypatch.setattr(session_file, "HAND_OVER_BUDGET_S", -1.0)
    monkeypatch.setattr("CBCTSuperResLib.io.exchange.SLAB_BYTES", 1)
    session.ask(volume, 1, request_of())
    session.poll()
    assert list(session._worker.files.glob("volume*"))
    session.rest()
    assert not list(session._worker.files.glob("volume*"))


def test_what_cannot_be_previewed_is_told_and_the_process_stays(session, volume, request_of):
    session.ask(volume, 1, request_of(window="nonsense"))
    wait_for_all(session)
    assert "nonsense" in str(session.error) and session.error.detail
    worker = session._worker
    start_and_stop_computing(session, volume, request_of)
    assert session._worker is worker


@pytest.fixture
def impatient(tmp_path):
    """A session whose process leaves after a moment without work."""
    made = []

    def make(job: dict, folder: Path) -> Job:
        made.append(Job({**job, "idle_s": 0.3}, folder))
        return made[-1]

    session = PreviewSession(tmp_path, make)
    session.made = made
    yield session
    session.close()


def test_an_idle_process_leaves_by_itself_and_is_replaced_when_asked(impatient, volume, request_of):
    start_and_stop_computing(impatient, volume, request_of)
    first = impatient.made[0]
    wait_until(lambda: first._process.poll() is not None)
    assert first._process.returncode == 0
    assert not list(first.files.glob("*.npy")), "it leaves no large files"
    start_and_stop_computing(impatient, volume, request_of)
    assert len(impatient.made) == 2 and not first.files.exists()


def test_a_request_that_meets_a_leaving_process_is_answered_by_the_next(impatient, volume, request_of, monkeypatch):
    start_and_stop_computing(impatient, volume, request_of)
    wait_until(lambda: impatient.made[0]._process.poll() is not None)
    monkeypatch.setattr(impatient, "_forget_a_worker_that_ended", lambda: None)  # it left a moment later
    impatient.ask(volume, 1, request_of(index=4))
    monkeypatch.undo()
    events = wait_for_all(impatient)
    assert len(impatient.made) == 2 and kinds(events)[-1] == "complete" and impatient.error is None


@posix_only
def test_a_process_that_is_killed_is_told_in_words_and_replaced_when_asked(session, volume, request_of):
    start_and_stop_computing(session, volume, request_of)
    os.killpg(session._worker._process.pid, signal.SIGKILL)
    session._worker._process.wait()
    session.ask(volume, 1, request_of(index=1))  # it was noticed before it was asked
    wait_for_all(session)
    assert session.error is None
    os.killpg(session._worker._process.pid, signal.SIGSTOP)
    session.ask(volume, 1, request_of(index=2))
    os.killpg(session._worker._process.pid, signal.SIGKILL)
    wait_for_all(session)
    assert "was killed" in session.error.what and "lighter model" in session.error.advice
    start_and_stop_computing(session, volume, request_of)


@posix_only
def test_a_process_that_hangs_is_told_in_words_and_ended(session, volume, request_of):
    start_and_stop_computing(session, volume, request_of)
    worker = session._worker
    worker._silence.limit_s = 1.5
    os.killpg(worker._process.pid, signal.SIGSTOP)
    session.ask(volume, 1, request_of(index=1))
    wait_for_all(session)
    assert "stopped responding" in session.error.what and worker._process.poll() is not None


@posix_only
def test_a_process_whose_parent_is_killed_ends_and_cleans_up(tmp_path, tiny_model):
    script = f"""
import sys, time
for folder in {[str(processes.LIBRARY_FOLDER), str(Path(__file__).parents[1] / "support")]!r}:
    sys.path.insert(0, folder)
from CBCTSuperResLib.apply.preview_request import PreviewRequest
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.jobs.preview import PreviewSession
from scans import make_scan
session = PreviewSession({str(tmp_path)!r})
request = PreviewRequest({str(tiny_model)!r}, Options(device="cpu"), 2, ((0, 44), (0, 40), (2, 3)), (20, 20, 2))
session.ask(make_scan({SHAPE!r}), 1, request)
while session.is_busy:
    session.poll()
    time.sleep(0.05)
print(session._worker._process.pid, session.error, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pid, error = parent.stdout.readline().split()
    assert error == "None"
    parent.kill()
    parent.wait()
    wait_until(lambda: not list(tmp_path.iterdir()), seconds=20)

    def is_gone() -> bool:
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"

    wait_until(is_gone, seconds=20)


def test_closing_ends_the_process_and_removes_its_files(session, volume, request_of, tmp_path):
    session.ask(volume, 1, request_of())
    process = session._worker._process
    session.close()
    session.close()
    assert process.poll() is not None and list(tmp_path.iterdir()) == [] and not session.is_busy


def test_no_place_for_temporary_files_is_told_in_words(tmp_path, volume, request_of):
    session = PreviewSession(tmp_path / "missing")
    with pytest.raises(OutputError, match="temporary folder"):
        session.ask(volume, 1, request_of())
    session.close()


def test_files_that_vanish_are_told_in_words(session, volume, request_of):
    import shutil

    start_and_stop_computing(session, volume, request_of)
    session.ask(make_scan(SHAPE), 2, request_of())
    shutil.rmtree(session._worker.files, ignore_errors=True)  # the process may be removing a file, too
    wait_for_all(session)
    assert isinstance(session.error, OutputError)


def test_the_session_needs_no_torch():
    script = f"""
import sys
sys.path.insert(0, {str(processes.LIBRARY_FOLDER)!r})
import CBCTSuperResLib.jobs.preview
print({{"torch", "cv2", "scipy"}} & set(sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "set()"
