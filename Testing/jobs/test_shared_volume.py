"""One volume on several devices: processes that are killed, cancelled, or not able to compute it."""

from __future__ import annotations

import json
import os
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
from CBCTSuperResLib.apply.file import apply_to_file
from CBCTSuperResLib.apply.plan import make_plan
from CBCTSuperResLib.cli import main, terminal
from CBCTSuperResLib.core.errors import Cancelled, ResourceError, SuperResError
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.jobs import job_kinds, shared_volume
from CBCTSuperResLib.jobs.queue import State
from CBCTSuperResLib.jobs.shared_volume import DeviceSharing, PartTask
from scans import make_scan
from stub_networks import BlockNet, register, stub_model

OPTIONS = {"window": (0.0, 4000.0), "precision": "fp32"}


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return make_scan((11, 24, 28)).write(tmp_path_factory.mktemp("Geräte") / "scan.nrrd")


@pytest.fixture(scope="module")
def alone(scan, tiny_model, tmp_path_factory):
    """What one process makes of it."""
    path = tmp_path_factory.mktemp("alone") / "result.nrrd"
    apply_to_file(scan, path, tiny_model, Options(**OPTIONS, device="cpu"))
    return path.read_bytes()


@pytest.fixture
def killed(monkeypatch):
    """The workers of the first parts die as they begin, as many as the test asks for; returns all that were started."""
    start, workers = PartTask.start, []

    def start_and_kill(task, worker):
        job = start(task, worker)
        workers.append(worker)
        if len(workers) <= killed.number:
            os.kill(worker.process.pid, signal.SIGKILL)
        return job

    killed = type("Killed", (), {"number": 0, "workers": workers})
    monkeypatch.setattr(PartTask, "start", start_and_kill)
    return killed


def folder_of(output: Path):
    """Where the parts of an output lie while it is computed."""
    return DeviceSharing(Options(device="cpu,cpu"), output)._folder()


def test_a_run_leaves_the_parts_of_runs_for_other_outputs_alone(tmp_path):
    """Even where a name ends as another one does, or names differ only in what is far from their ends."""
    long = "x" * 110 + ".nrrd"
    for name, other in [("sr.nrrd", "case1.sr.nrrd"), (f"b{long}", f"a{long}"), ("sr.nrrd", "*.nrrd")]:
        with folder_of(tmp_path / other) as theirs:
            (theirs / "part 1").write_bytes(b"half")
            with folder_of(tmp_path / name) as mine:
                assert mine != theirs and (theirs / "part 1").is_file()
    killed = tmp_path / f".{'0' * 16}{mine.name[17:]}"
    killed.mkdir()
    with folder_of(tmp_path / "sr.nrrd"):
        assert not killed.exists()


def test_a_killed_part_is_done_again_and_the_command_writes_the_bits_of_one_process(
    scan, alone, tiny_model, tmp_path, killed, ready_workers, capsys, monkeypatch
):
    killed.number, told = 1, []
    monkeypatch.setattr(terminal.Progress, "__call__", lambda progress, *event: told.append(event))
    output = tmp_path / "result.nrrd"
    with folder_of(output) as folder:
        left = folder.with_name(f".0123456789abcdef{folder.name[17:]}")  # by a run whose process was killed
    left.mkdir()
    (left / "part 1").write_bytes(b"half")
    words = ["--model", str(tiny_model), "--window", "0", "4000", "--precision", "fp32", "--device", "cpu,cpu"]
    assert main(["apply", str(scan), str(output), *words]) == 0
    assert output.read_bytes() == alone
    report = json.loads((tmp_path / "result.nrrd.json").read_text(encoding="utf-8"))["super_resolution"]
    assert report["parts"] == {"count": 6, "workers": 2} and report["device"].startswith("2 x cpu")
    assert [note for note in report["notes"] if "computed again" in note]
    assert len(killed.workers) == 7 and {worker.device for worker in killed.workers} == {"cpu"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result.nrrd", "result.nrrd.json"]
    assert not any(worker.is_alive for worker in killed.workers)
    assert "on 2 x cpu" in capsys.readouterr().out
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    assert any(message == "Parts: 6 of 6" for _, message in told)


class Stumbling:
    """A queue whose second part loses its worker when it is half done, and is then computed after all."""

    def __init__(self, items) -> None:
        self._items, self._steps = items, iter([(0.5, 0.5), (1.0, 0.5), (1.0, 0.0), (1.0, 0.25), (1.0, 1.0)])
        self.isBusy = True

    def poll(self) -> None:
        for item, fraction in zip(self._items, next(self._steps), strict=True):
            item.fraction = fraction
            if fraction == 1.0 and item.state is not State.DONE:
                item.state, item.result = State.DONE, item.task.target
        self.isBusy = any(item.state is not State.DONE for item in self._items)


def test_progress_does_not_go_back_where_a_worker_dies(tmp_path, monkeypatch):
    register(monkeypatch)

    class Sharing(DeviceSharing):
        @contextmanager
        def _begun(self, items):
            yield Stumbling(items)

    scan, told, options = make_scan((32, 8, 8)), [], Options(device="cpu,cpu")
    model = stub_model(BlockNet())
    plan = make_plan(scan.grid, scan.voxels.dtype, model.card, options).with_scan(scan)
    assert len(plan.parts) == 2
    monkeypatch.setattr(shared_volume, "PACE_S", 0)
    monkeypatch.setattr(shared_volume, "take_in", lambda *_: {"notes": []})
    Sharing(options, tmp_path / "r.nrrd").compute(
        plan, scan, model, {}, lambda fraction, text: told.append(fraction), lambda: False
    )
    assert told == sorted(told) and told[1:] == [0.5, 0.75, 0.75, 0.75, 1.0]


def test_a_part_whose_workers_die_twice_ends_the_run_and_leaves_nothing(
    scan, tiny_model, tmp_path, killed, ready_workers
):
    killed.number = 100
    options, output = Options(**OPTIONS, device="cpu,cpu"), tmp_path / "r.nrrd"
    with pytest.raises(SuperResError, match="killed") as told:
        apply_to_file(scan, output, tiny_model, options, sharing=DeviceSharing(options, output))
    assert told.value.exit_code in (1, ResourceError.exit_code)
    assert list(tmp_path.iterdir()) == [] and 2 <= len(killed.workers) <= 5


def test_a_cancel_ends_all_processes_and_leaves_nothing(scan, tiny_model, tmp_path, killed, ready_workers):
    options, output = Options(**OPTIONS, device="cpu,cpu"), tmp_path / "r.nrrd"
    with pytest.raises(Cancelled):
        apply_to_file(
            *(scan, output, tiny_model, options),
            cancelled=lambda: len(killed.workers) == 2,
            sharing=DeviceSharing(options, output),
        )
    assert list(tmp_path.iterdir()) == [] and len(killed.workers) == 2
    assert not any(worker.is_alive for worker in killed.workers)


def test_the_worker_process_of_slicer_shares_a_volume_when_its_options_name_several_devices(
    scan, alone, tiny_model, tmp_path, monkeypatch
):
    seen = []

    class Recorded(DeviceSharing):
        def compute(self, plan, *rest):
            seen.append(self.workers.count)
            raise Cancelled

    monkeypatch.setattr(shared_volume, "DeviceSharing", Recorded)
    job = {"input": str(scan), "output": str(tmp_path / "r.nrrd"), "model": str(tiny_model)}
    events = type("Events", (), {"progress": staticmethod(lambda *event: None)})
    three, one = ({**job, "options": Options(**OPTIONS, device=device).to_json()} for device in ("cpu,cpu,cpu", "cpu"))
    with pytest.raises(Cancelled):
        job_kinds.apply(three, events, lambda: False)
    assert seen == [3]
    job_kinds.apply(one, events, lambda: False)
    assert seen == [3] and (tmp_path / "r.nrrd").read_bytes() == alone
