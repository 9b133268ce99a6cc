"""The queue of a batch: volumes and files, one after the other, with workers that do as the test says."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from CBCTSuperResLib.core.errors import Cancelled, InputError, OutputError
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.jobs import queue as queue_file
from CBCTSuperResLib.jobs.queue import FileTask, State
from CBCTSuperResLib.models.card import read_card
from CBCTSuperResLib.scene.queue import BatchQueue, Recipe
from scans import make_scan

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
from CBCTSuperResLib.scene import nodes  # noqa: E402
from CBCTSuperResLib.scene.logic import SuperResLogic  # noqa: E402

pytestmark = pytest.mark.usefixtures("mrml")


class FakeWorker:
    """Half done at the first look, done at the second; fails for scans whose name says so."""

    def __init__(self, job):
        self.job, self.isFinished, self.fraction, self.message = job, False, 0.0, ""
        self.warnings, self.error, self.remaining, self.closed, self.looks = [], None, None, False, 0

    def start(self):
        return self

    def poll(self):
        self.looks += 1
        self.fraction, self.message = 0.5, "Network"
        if self.looks == 2:
            self.isFinished, self.warnings = True, ["The pixels are not square."]
            if "bad" in self.job["input"]:
                self.error = InputError("It is bad.", "Choose another.")

    def cancel(self):
        self.isFinished, self.error = True, Cancelled()

    def close(self):
        self.closed = True


@pytest.fixture
def workers():
    return []


@pytest.fixture
def queue(workers, monkeypatch):
    def make(job, worker=None):
        workers.append(FakeWorker(job))
        return workers[-1]

    monkeypatch.setattr(queue_file, "Job", make)
    return BatchQueue(SuperResLogic())


@pytest.fixture
def recipe(tiny_model, tmp_path):
    return Recipe(read_card(tiny_model), Options(roi=((0, 1), (0, 1), (0, 1))), tmp_path / "Ergebnisse")


def run(queue, seconds=60.0):
    end = time.monotonic() + seconds
    while queue.isBusy:
        assert time.monotonic() < end
        queue.poll()


def states(queue):
    return [item.state for item in queue.items]


def test_files_are_computed_one_after_the_other_and_a_failure_does_not_stop_the_rest(queue, workers, recipe):
    queue.setSources([Path("a.nrrd"), Path("bad.nrrd"), Path("c.nii.gz")])
    queue.start(recipe, queue.unfinished)
    queue.poll()
    assert states(queue) == [State.RUNNING, State.WAITING, State.WAITING] and len(workers) == 1
    queue.poll()
    assert queue.items[0].fraction == 0.5 and queue.fraction == pytest.approx(0.5 / 3)
    run(queue)
    assert states(queue) == [State.DONE, State.FAILED, State.DONE] and queue.fraction == 1
    assert str(queue.items[1].error) == "It is bad. Choose another."
    assert queue.items[0].warnings == ["The pixels are not square."]
    assert queue.items[2].result == recipe.folder / "c SR x2.nrrd"
    assert all(worker.closed for worker in workers)
    assert all(worker.job["options"]["roi"] is None for worker in workers)  # a place in another volume


def test_only_what_failed_is_tried_again(queue, workers, recipe):
    queue.setSources([Path("a.nrrd"), Path("bad.nrrd")])
    queue.start(recipe, queue.unfinished)
    run(queue)
    workers.clear()
    queue.start(recipe, queue.failed)
    assert states(queue) == [State.DONE, State.WAITING]
    run(queue)
    assert [Path(worker.job["input"]).name for worker in workers] == ["bad.nrrd"]


def test_cancelling_stops_the_current_item_and_begins_no_other(queue, workers, recipe):
    queue.setSources([Path("a.nrrd"), Path("b.nrrd"), Path("c.nrrd")])
    queue.start(recipe, queue.unfinished)
    for _ in range(4):
        queue.poll()
    queue.cancel()
    run(queue)
    assert states(queue) == [State.DONE, State.CANCELLED, State.CANCELLED] and len(workers) == 2
    assert queue.unfinished == queue.failed == queue.items[1:]


def test_whatever_kept_an_item_from_a_result_it_is_tried_again(queue, workers, recipe, monkeypatch):
    def stopped_from_outside(worker):
        worker.isFinished, worker.error = True, Cancelled("Another program asked the worker process to stop.")

    def breaks(worker):
        raise ValueError("no such thing")

    queue.setSources([Path(f"{name}.nrrd") for name in ("good", "bad", "stopped", "breaks", "cancelled")])
    queue.start(recipe, queue.unfinished)
    real = FakeWorker.poll
    ends = {"stopped": stopped_from_outside, "breaks": breaks, "cancelled": lambda worker: queue.cancel()}
    monkeypatch.setattr(FakeWorker, "poll", lambda worker: ends.get(Path(worker.job["input"]).stem, real)(worker))
    run(queue)
    assert states(queue) == [State.DONE, State.FAILED, State.FAILED, State.FAILED, State.CANCELLED]
    assert "ValueError: no such thing" in queue.items[3].error.what
    monkeypatch.setattr(FakeWorker, "poll", real)
    queue.start(recipe, queue.failed)
    run(queue)
    assert states(queue) == [State.DONE, State.FAILED, State.DONE, State.DONE, State.DONE]


def test_closing_ends_everything_at_once(queue, workers, recipe):
    queue.setSources([Path("a.nrrd"), Path("b.nrrd")])
    queue.start(recipe, queue.unfinished)
    queue.poll()
    queue.close()
    assert not queue.isBusy and workers[0].closed and states(queue) == [State.CANCELLED] * 2


def test_files_whose_result_is_up_to_date_are_skipped_if_wanted(queue, workers, recipe, monkeypatch):
    monkeypatch.setattr(FileTask, "is_up_to_date", lambda task: task.source.name == "a.nrrd")
    queue.setSources([Path("a.nrrd"), Path("b.nrrd")])
    queue.start(recipe, queue.unfinished)
    run(queue)
    assert states(queue) == [State.SKIPPED, State.DONE] and len(workers) == 1


def test_two_scans_of_one_name_are_not_written_over_each_other(queue, recipe):
    queue.setSources([Path("x/a.nrrd"), Path("y/a.mha")])
    queue.start(recipe, queue.unfinished)
    run(queue)
    assert states(queue) == [State.DONE, State.FAILED] and "a SR x2.nrrd" in str(queue.items[1].error)


def test_files_need_a_folder_that_can_be_made(queue, recipe, tmp_path):
    queue.setSources([Path("a.nrrd")])
    with pytest.raises(OutputError, match="No folder"):
        queue.start(Recipe(recipe.card, recipe.options), queue.unfinished)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be made"):
        queue.start(Recipe(recipe.card, recipe.options, tmp_path / "file" / "sub"), queue.unfinished)
    assert not queue.isBusy


def test_what_was_in_the_queue_keeps_what_became_of_it(queue, recipe):
    queue.setSources([Path("a.nrrd"), Path("b.nrrd"), Path("a.nrrd")])
    queue.start(recipe, queue.unfinished)
    run(queue)
    queue.setSources([Path("b.nrrd"), Path("c.nrrd")])
    assert [item.name for item in queue.items] == ["b.nrrd", "c.nrrd"] and states(queue) == [State.DONE, State.WAITING]


def test_volumes_that_were_removed_from_the_scene_are_not_kept_in_memory(scene, queue):
    scan, result = (scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in ("Scan", "Result"))
    queue.setSources([scan])
    queue.started = list(queue.items)
    queue.items[0].result = result
    queue.setSources([scan])
    assert queue.items[0].result is result
    scene.RemoveNode(result)
    queue.setSources([scan])
    assert queue.items[0].result is None
    queue.setSources([])
    assert queue.started == []


def test_volumes_and_files_with_real_workers(scene, scan_file, tiny_model, tmp_path):
    scan, flat = (scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in ("Jaw", "Empty"))
    nodes.updateNode(scan, make_scan())
    queue = BatchQueue(SuperResLogic())
    queue.setSources([scan, flat, scan_file])
    queue.start(Recipe(read_card(tiny_model), Options(window=(0, 4000)), tmp_path), queue.unfinished)
    run(queue)
    volume, empty, file = queue.items
    assert states(queue) == [State.DONE, State.FAILED, State.DONE], [str(item.error) for item in queue.items]
    assert volume.result.GetName() == "Jaw SR x2" and volume.result.GetImageData().GetDimensions() == (56, 48, 4)
    assert "Empty is empty" in str(empty.error) and file.seconds > 0
    assert file.result.is_file() and Path(f"{file.result}.json").is_file()
    queue.start(Recipe(read_card(tiny_model), Options(window=(0, 4000)), tmp_path), [file])
    run(queue, 5)
    assert file.state is State.SKIPPED
