"""Batches on a cluster: Dask's workers on this machine, killed, unfit, or not there at all."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from CBCTSuperResLib.apply.file import apply_to_file, output_lock
from CBCTSuperResLib.cli.batch import main
from CBCTSuperResLib.core.errors import (
    Cancelled,
    DependencyError,
    DeviceError,
    InputError,
    ModelError,
    OptionError,
    OutputError,
    SuperResError,
)
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.io.folders import report_path
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.jobs import cluster, cluster_queue, cluster_worker
from CBCTSuperResLib.jobs import queue as queue_file
from CBCTSuperResLib.jobs.cluster_queue import ClusterQueue
from CBCTSuperResLib.jobs.queue import FileTask, Item, State
from CBCTSuperResLib.jobs.shared_volume import ClusterSharing
from CBCTSuperResLib.models.card import read_card
from fake_jobs import FakeWorker
from scans import make_scan

pytest.importorskip("distributed", reason="Dask is not installed")


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """Seven scans that differ."""
    folder = tmp_path_factory.mktemp("Cluster") / "scans"
    folder.mkdir()
    scan = make_scan((6, 24, 28))
    for number in range(7):
        Volume(scan.voxels + np.uint16(number), scan.grid).write(folder / f"scan {number}.nrrd")
    return folder


def items_of(scans: Path, out: Path, model: Path) -> list[Item]:
    out.mkdir(exist_ok=True)
    options, card = Options(window=(0, 4000), device="cpu", precision="fp32"), read_card(model)
    tasks = [FileTask(path, out / f"{path.stem} SR x2.nrrd", card, options) for path in sorted(scans.glob("*.nrrd"))]
    return [Item(task.source, task) for task in tasks]


@pytest.fixture(scope="module")
def three_workers():
    """Three of Dask's workers, in processes of their own."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(cluster.__file__).parents[2])
    with cluster.Cluster("local:3") as found:
        yield found
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before


def poll_until(queue: ClusterQueue, when) -> None:
    end = time.monotonic() + 240
    while not when():
        queue.poll()
        time.sleep(0.05)
        assert time.monotonic() < end, [(item.name, item.state, item.message) for item in queue.items]


def test_two_of_three_workers_are_killed_and_every_scan_is_done_once_with_the_bits_of_one_machine(
    three_workers, scans, tiny_model, tmp_path, monkeypatch
):
    monkeypatch.setattr(cluster_queue, "let_go", lambda: None)  # the next test finds them ready
    said, items = [], items_of(scans, tmp_path / "out", tiny_model)
    queue = ClusterQueue(items, three_workers, said.append)
    pids = three_workers.client.run(os.getpid)
    assert len(pids) == 3 and os.getpid() not in pids.values()
    with queue.begun(skip=False):
        with ExitStack() as stack:  # while their outputs are locked, all three workers are in the middle of a scan
            for item in items:
                lock = output_lock(item.task.target)
                assert lock.acquire()
                stack.callback(lock.release)
            poll_until(queue, lambda: sum(item.message == "Another process is writing it" for item in items) == 3)
            assert sorted(item.state.value for item in items) == ["running"] * 3 + ["waiting"] * 4
            for pid in list(pids.values())[:2]:
                os.kill(pid, signal.SIGKILL)
        poll_until(queue, lambda: not queue.isBusy)
    assert [(item.state, item.error) for item in items] == [(State.DONE, None)] * 7
    assert sum("has gone" in text for text in said) == 2
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == sorted(name for item in items for name in (item.result.name, f"{item.result.name}.json"))
    here = tmp_path / "here.nrrd"
    apply_to_file(items[3].source, here, tiny_model, items[3].task.options)
    assert here.read_bytes() == items[3].result.read_bytes()


def test_who_is_there_is_what_the_scheduler_says_and_not_what_the_client_remembers(three_workers, monkeypatch):
    """A timer of Dask's client forgets the workers every few seconds; if it did just now, none of them has gone."""
    monkeypatch.setattr(three_workers.client, "scheduler_info", lambda *_, **__: {"workers": {}})
    assert len(three_workers.present()) == three_workers.count == 3


def test_one_volume_is_shared_by_a_cluster_with_the_bits_of_one_machine(three_workers, tiny_model, tmp_path):
    """That a part is given out again where its worker dies is the queue's, see above."""
    scan = make_scan((14, 24, 28)).write(tmp_path / "scan.nrrd")
    options, folder = Options(window=(0, 4000), device="cpu", precision="fp32"), tmp_path / "out"
    folder.mkdir()
    apply_to_file(scan, tmp_path / "here.nrrd", tiny_model, options)
    told, said = [], []
    sharing = ClusterSharing(three_workers, options, folder / "r.nrrd", said.append)
    report = apply_to_file(scan, folder / "r.nrrd", tiny_model, options, lambda *e: told.append(e), sharing=sharing)
    assert (folder / "r.nrrd").read_bytes() == (tmp_path / "here.nrrd").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["r.nrrd", "r.nrrd.json"]
    assert report["super_resolution"]["parts"] == {"count": 7, "workers": 3}
    assert sum("cores" in text for text in said) >= 3  # more where a busy machine lets Dask lose sight of one
    assert told == sorted(told, key=lambda event: event[0]) and any(text == "Parts: 7 of 7" for _, text in told)


def test_workers_without_the_package_with_another_version_or_another_model_are_refused_by_name(
    three_workers, scans, tiny_model, tmp_path, monkeypatch
):
    items, run = items_of(scans, tmp_path / "out", tiny_model), three_workers.client.run

    def refused(*items: Item) -> tuple[type, str]:
        said = []
        with pytest.raises(SuperResError) as told, ClusterQueue(items, three_workers, said.append).begun(skip=False):
            pass
        assert len(said) == 3 and said[0] == str(told.value)
        return told.value.exit_code, said[0]

    other = replace(items[0].task.card, weights_sha256="0" * 64)
    code, words = refused(Item(items[0].source, replace(items[0].task, card=other)))
    assert code == ModelError.exit_code
    assert re.search(r"worker tcp://\S+ on \S+ cannot take part. Its model .* is another one", words)
    with monkeypatch.context() as patch:
        patch.setattr(cluster_queue, "__version__", "9.9")
        code, words = refused(*items)
    assert code == DependencyError.exit_code
    assert re.search(r"worker tcp://\S+ has cbct-superres [\d.]+, and here is 9.9", words)
    run(_hiding(True))
    try:
        code, words = refused(*items)
    finally:
        run(_hiding(False))
    assert code == DependencyError.exit_code
    assert re.search(r"worker tcp://\S+ does not have cbct-superres", words)
    assert list((tmp_path / "out").iterdir()) == []


def _hiding(hidden: bool):
    """A function that hides the package from a worker, or shows it again; workers do not have this file."""

    def hide() -> None:
        import sys

        if hidden:
            sys.modules["CBCTSuperResLib"] = None
        else:
            del sys.modules["CBCTSuperResLib"]

    return hide


def needs_of(item: Item, **others) -> cluster_worker.Needs:
    task = item.task
    return replace(cluster_worker.Needs(task.card, (), "cpu", {}, (str(task.source),)), **others)


def test_a_worker_that_misses_something_says_what(scans, tiny_model, tmp_path, monkeypatch):
    item = items_of(scans, tmp_path / "out", tiny_model)[0]
    fit = cluster_worker.examine(needs_of(item))
    assert "error" not in fit and fit["cores"] >= 1 and fit["host"]
    (tmp_path / "probe").write_text("another token")
    monkeypatch.setattr(cluster_worker, "count_gpus", lambda: 0)
    for needs, code, words in [
        (needs_of(item, sources=("/nowhere/a.nrrd",)), InputError.exit_code, "does not see /nowhere/a.nrrd"),
        (needs_of(item, probes={str(tmp_path / "no" / "p"): "t"}), OutputError.exit_code, f"the folder {tmp_path}/no"),
        (needs_of(item, probes={str(tmp_path / "probe"): "t"}), OutputError.exit_code, f"folder {tmp_path} is another"),
        (needs_of(item, device="cuda"), DeviceError.exit_code, "no CUDA device"),
        (needs_of(item, model=None, models=("0" * 64,)), ModelError.exit_code, "models are others"),
        (needs_of(item, model=replace(item.task.card, path=Path("/no/x"), name="no")), ModelError.exit_code, "no"),
    ]:
        what, advice, told = cluster_worker.examine(needs)["error"]
        assert words in what and advice and told == code, (what, told)


def test_a_model_that_lies_elsewhere_on_a_worker_is_found_by_its_name(tiny_model, user_models):
    card = replace(read_card(tiny_model), path=Path("/on/the/other/machine/tiny.safetensors"))
    assert cluster_worker.own_card(card).path == user_models / tiny_model.name


class FakeClient:
    """A scheduler whose workers do what a test says."""

    status = "running"

    def __init__(self, *names: str) -> None:
        self.names, self.futures, self.stopped = list(names), [], []

    def nthreads(self) -> dict:
        return dict.fromkeys(self.names, 1)

    def subscribe_topic(self, topic: str, hear) -> None:
        self.hear = hear

    def run(self, function, *arguments, workers=None, on_error=""):
        if function is cluster_worker.stop:
            self.stopped += arguments
            return None
        return {name: function(*arguments) for name in workers or ()}

    def submit(self, function, task, *arguments, **options):
        future = SimpleNamespace(status="pending", task=task, arguments=arguments, workers=options["workers"])
        future.cancel = lambda: setattr(future, "status", "cancelled")
        self.futures.append(future)
        return future


def ended(future, *error) -> None:
    future.status, future.result = "finished", lambda: {"warnings": [], "error": error or None}


@pytest.fixture
def fake(scans, tiny_model, tmp_path):
    """A queue of three scans on two workers that do nothing by themselves."""
    client, said = FakeClient("tcp://a", "tcp://b"), []
    items = items_of(scans, tmp_path / "out", tiny_model)[:3]
    found = cluster.Cluster("tcp://scheduler:1")
    found.client = client
    queue = ClusterQueue(items, found, said.append)
    with queue.begun(skip=False):
        queue.poll()
        yield SimpleNamespace(client=client, queue=queue, items=items, said=said)


def test_each_worker_gets_one_scan_and_its_share_of_the_cores(fake, monkeypatch):
    assert [future.workers for future in fake.client.futures] == [["tcp://a"], ["tcp://b"]]
    threads = max(1, cluster_worker.usable_cores() // 2)
    assert [future.arguments[3:] for future in fake.client.futures] == [(threads, 0), (threads, 1)]
    told = {"number": 1, "fraction": 0.5, "message": "Network", "remaining": 9.0}
    fake.client.hear((0, told))
    ended(fake.client.futures[0])
    fake.queue.poll()
    assert (fake.items[0].state, fake.items[1].fraction) == (State.DONE, 0.5)
    assert fake.client.futures[2].workers == ["tcp://a"]


def test_a_scan_that_fails_everywhere_is_tried_twice_and_then_told_and_bad_input_once(fake):
    first, second = fake.client.futures
    ended(first, "It broke.", "", 1, "")
    ended(second, "No scan.", "", InputError.exit_code, "")
    fake.queue.poll()
    assert fake.items[1].state is State.FAILED and fake.items[1].error.exit_code == InputError.exit_code
    for _ in range(3):
        for future in fake.client.futures:
            if future.status == "pending":
                ended(future, *(("It broke.", "", 1, "") if future.task is first.task else ()))
        fake.queue.poll()
    assert [future.task for future in fake.client.futures].count(first.task) == 2 and not fake.queue.isBusy
    assert fake.items[0].state is State.FAILED and fake.items[2].state is State.DONE
    assert any("given out again: It broke." in text for text in fake.said)


def test_a_scan_that_dies_with_two_workers_is_told_and_a_lost_scheduler_costs_nothing(fake):
    first, second = fake.client.futures
    second.status = "cancelled"  # as Dask says when the connection breaks
    fake.queue.poll()
    fake.client.names = ["tcp://b", "tcp://c"]
    fake.queue._looked_at = float("-inf")
    fake.queue.poll()
    again = [future for future in fake.client.futures if future.task is first.task][1]
    assert first.status == "cancelled" and "tcp://a" not in again.workers
    again.status, again.exception = "error", lambda: type("KilledWorker", (Exception,), {})()
    while fake.queue.isBusy:
        for future in fake.client.futures:
            if future.status == "pending":
                ended(future)
        fake.queue.poll()
    assert fake.items[0].error.exit_code == 5 and "died" in str(fake.items[0].error)
    assert [item.state for item in fake.items[1:]] == [State.DONE] * 2


def test_workers_that_went_with_their_scheduler_get_nothing_and_cost_no_try(fake):
    lost = list(fake.client.futures)
    for future in lost:
        future.status = "cancelled"
    fake.client.names = []
    fake.queue.poll()
    fake.queue.poll()
    assert fake.said[-1] == "No worker is there; waiting for the first."
    fake.client.names = ["tcp://c"]
    fake.queue._looked_at = float("-inf")
    while fake.queue.isBusy:
        fake.queue.poll()
        for future in fake.client.futures[len(lost) :]:
            assert future.workers == ["tcp://c"]
            if future.status == "pending":
                ended(future)
    assert [(item.state, item.tries) for item in fake.items] == [(State.DONE, 1)] * 3
    assert not any("died" in text for text in fake.said)


def test_the_first_ctrl_c_drains_and_the_second_cancels(fake):
    fake.queue.cancel()
    assert [item.state.value for item in fake.items] == ["running", "running", "cancelled"]
    ended(fake.client.futures[0])
    fake.queue.poll()
    assert fake.items[0].state is State.DONE and len(fake.client.futures) == 2 and not fake.client.stopped
    fake.queue.close()
    assert len(fake.client.stopped) == 1
    ended(fake.client.futures[1], "Cancelled.", "", Cancelled.exit_code, "")
    fake.queue.poll()
    assert fake.items[1].state is State.CANCELLED and not fake.queue.isBusy


def test_workers_that_are_not_fit_are_named_and_get_nothing(fake):
    fake.client.names.append("tcp://c")
    fake.queue._needs = replace(fake.queue._needs, sources=("/nowhere",))
    fake.queue._looked_at = float("-inf")
    ended(fake.client.futures[0])
    fake.queue.poll()
    assert "worker tcp://c on" in fake.said[-1] and "does not see /nowhere" in fake.said[-1]
    assert [future.workers[0] for future in fake.client.futures] == ["tcp://a", "tcp://b", "tcp://a"]


@pytest.fixture
def computed_here(monkeypatch):
    """`compute` in this process, as a worker; returns what it tells."""
    import distributed

    told = []
    worker = SimpleNamespace(log_event=lambda topic, event: told.append(event), address="here")
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    monkeypatch.setattr(cluster_worker, "_bench", cluster_worker._Bench())
    monkeypatch.setattr(queue_file, "Job", FakeWorker)
    monkeypatch.setattr(FakeWorker, "jobs", [])
    return told


def test_a_scan_that_a_lost_worker_had_done_is_not_done_again(scans, tiny_model, tmp_path, computed_here):
    task = items_of(scans, tmp_path / "out", tiny_model)[0].task
    nothing = {"warnings": [], "error": None}
    assert cluster_worker.compute(task, 0, "b", 0.0, 1, 0) == nothing and len(FakeWorker.jobs) == 1
    assert cluster_worker.compute(task, 0, "b", 0.0, 1, 0) == nothing and len(FakeWorker.jobs) == 1
    begun_later = report_path(task.target).stat().st_mtime + 1
    assert cluster_worker.compute(task, 0, "b", begun_later, 1, 0) == nothing and len(FakeWorker.jobs) == 2


def test_whoever_still_writes_a_result_is_waited_for_until_the_batch_is_stopped(
    scans, tiny_model, tmp_path, computed_here
):
    task, replies = items_of(scans, tmp_path / "out", tiny_model)[0].task, []
    lock = output_lock(task.target)
    assert lock.acquire()
    thread = threading.Thread(target=lambda: replies.append(cluster_worker.compute(task, 0, "b", 0.0, 1, 0)))
    thread.start()
    while not any("Another process" in event["message"] for event in computed_here):
        time.sleep(0.01)
    cluster_worker.stop("b")
    thread.join()
    lock.release()
    assert replies[0]["error"][2] == Cancelled.exit_code and not FakeWorker.jobs


def test_each_worker_of_a_machine_has_a_gpu_of_its_own(monkeypatch):
    roster, bench = cluster_queue._Roster(), cluster_worker._Bench()
    for address in "abc":
        roster.add(address, "one" if address != "c" else "two", 8)
    assert [roster.fit[address].gpu for address in "abc"] == [0, 1, 0]
    assert [roster.threads(address) for address in "abc"] == [4, 4, 8]
    roster.keep(["b", "c"])
    roster.add("d", "one", 8)
    assert roster.fit["d"].gpu == 0
    monkeypatch.setattr(cluster_worker, "count_gpus", lambda: 2)
    monkeypatch.setenv(cluster_worker.HIDING, "4,7")
    bench.pin(1)
    assert os.environ[cluster_worker.HIDING] == "7"
    bench.pin(0)
    assert os.environ[cluster_worker.HIDING] == "7"


def test_clusters_that_cannot_be_are_refused_in_words(scans, tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cluster, "CONNECT_S", 1)
    yaml = tmp_path / "two.yaml"
    yaml.write_text("jobqueue: {slurm: {}, pbs: {}}")
    scan = sorted(scans.glob("*.nrrd"))[0]
    given = ["--input", str(scan), "--output-folder", str(tmp_path / "out"), "--model", str(tiny_model)]
    for place, code, words, *more in [
        ("tcp://127.0.0.1:9", DeviceError.exit_code, "No Dask scheduler answers at tcp://127.0.0.1:9"),
        ("local:0", OptionError.exit_code, "local:N"),
        ("kubernetes", OptionError.exit_code, "tcp://HOST:PORT"),
        (str(yaml), OptionError.exit_code, "does not name one batch system"),
        (str(tmp_path / "no.yaml"), OptionError.exit_code, "cannot be read"),
        ("tcp://h:1", OptionError.exit_code, "--workers does not change", "--workers", "2"),
        ("slurm", OptionError.exit_code, "Say one of them", "--array", "1/1"),
        ("slurm", OptionError.exit_code, "Say --device cuda", "--device", "cuda:1"),
        ("slurm", OptionError.exit_code, "workers see one GPU each", "--device", "cpu,cpu"),
    ]:
        assert main([*given, "--cluster", place, *more]) == code, place
        assert words in capsys.readouterr().err
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    assert main([*given, "--cluster", "local:2"]) == DependencyError.exit_code
    assert 'pip install "cbct-superres[cluster]"' in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == []


def test_a_scheduler_that_is_started_again_costs_what_was_being_computed(scans, tiny_model, tmp_path, monkeypatch):
    """Scheduler and worker are threads of this process; the scans are done by a job that waits for the restart."""
    from distributed import LocalCluster

    restarted = threading.Event()

    class WaitingJob(FakeWorker):
        def poll(self):
            if restarted.is_set() or len(FakeWorker.jobs) == 1:
                super().poll()

        def cancel(self):
            self.isFinished, self.error = True, Cancelled()

    monkeypatch.setattr(queue_file, "Job", WaitingJob)
    monkeypatch.setattr(FakeWorker, "jobs", [])
    monkeypatch.setattr(cluster_worker, "_bench", cluster_worker._Bench())
    local = {"n_workers": 1, "processes": False, "threads_per_worker": 1, "dashboard_address": None}
    local |= {"protocol": "tcp://", "host": "127.0.0.1"}
    items = items_of(scans, tmp_path / "out", tiny_model)[:3]
    first = LocalCluster(**local, silence_logs=50)
    address, second = first.scheduler_address, None
    try:
        with cluster.Cluster(address) as found:
            queue = ClusterQueue(items, found, list)
            with queue.begun(skip=False):
                poll_until(queue, lambda: len(FakeWorker.jobs) == 2)
                threading.Timer(0.5, restarted.set).start()  # Dask waits for what its worker is doing
                first.close()
                second = LocalCluster(**local, scheduler_port=int(address.rpartition(":")[2]), silence_logs=50)
                poll_until(queue, lambda: not queue.isBusy)
                assert set(queue._roster.fit) == set(second.scheduler.workers)
    finally:
        for one in (first, second):
            if one is not None:
                one.close()
    assert [(item.state, item.error) for item in items] == [(State.DONE, None)] * 3
