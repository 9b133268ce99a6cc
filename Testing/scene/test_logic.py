"""The logic of panel and console: nodes in, nodes out, on real MRML with the real worker and the tiny model."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from CBCTSuperResLib.core.errors import (
    Cancelled,
    InputError,
    ModelError,
    OptionError,
    OutputError,
    ResourceError,
)
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from scans import make_scan

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
from CBCTSuperResLib.io.exchange import ExchangeOutput  # noqa: E402
from CBCTSuperResLib.scene import jobs as volume_job  # noqa: E402
from CBCTSuperResLib.scene import logic as logic_module  # noqa: E402
from CBCTSuperResLib.scene import nodes  # noqa: E402
from CBCTSuperResLib.scene.jobs import SuperResJob  # noqa: E402
from CBCTSuperResLib.scene.logic import SuperResLogic  # noqa: E402

pytestmark = pytest.mark.usefixtures("mrml")


@pytest.fixture
def scan(scene):
    return add_scan(scene, make_scan())


def add_scan(scene, volume: Volume, name: str = "Jaw"):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    nodes.updateNode(node, volume)
    node.CreateDefaultDisplayNodes()
    return node


def volume_nodes(scene) -> list[str]:
    return [n.GetName() for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene)]


def wait_for(job: SuperResJob, seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not job.isFinished:
        assert time.monotonic() < end, "it did not end in time"
        job.poll()
        time.sleep(0.02)


def test_process_returns_a_filled_node_beside_the_input(scan, tiny_model):
    before = slicer.util.arrayFromVolume(scan).copy()
    seen = []
    result = SuperResLogic().process(scan, model=tiny_model, progress=lambda f, message: seen.append((f, message)))
    assert result.GetName() == "Jaw SR x2"
    assert result.GetImageData().GetDimensions() == (56, 48, 4)
    expected = nodes.gridOfNode(scan).resampled((56, 48, 4))
    assert np.abs(nodes.gridOfNode(result).index_to_point - expected.index_to_point).max() <= 1e-6
    assert np.array_equal(slicer.util.arrayFromVolume(scan), before)
    fractions = [f for f, _ in seen]
    assert fractions == sorted(fractions) and seen[-1] == (1.0, "Done")
    assert result.GetNodeReference("CBCTSuperRes.input") is scan
    assert result.GetAttribute("CBCTSuperRes.model") == "tiny"
    report = json.loads(result.GetAttribute("CBCTSuperRes.report"))
    assert report["super_resolution"]["planes"] == "axial"
    facts = {"size": [28, 24, 4], "type": "uint16", "spacing_mm": report["input"]["spacing_mm"]}
    assert report["input"] == {"volume": "Jaw", "path": None, **facts}
    assert (report["output"]["volume"], report["output"]["size"]) == ("Jaw SR x2", [56, 48, 4])
    assert "/" not in str([report["input"], report["output"], report["super_resolution"]["warnings"]])


def test_worker_and_this_process_give_the_same_voxels(scan, tiny_model):
    logic = SuperResLogic()
    results = [logic.process(scan, model=tiny_model, inProcess=here, precision="fp32") for here in (True, False)]
    arrays = [slicer.util.arrayFromVolume(node) for node in results]
    assert len(np.unique(arrays[0])) > 10
    assert np.array_equal(*arrays)
    assert [node.GetName() for node in results] == ["Jaw SR x2", "Jaw SR x2_1"]


def test_a_chosen_output_node_is_replaced_and_keeps_its_name(scene, scan, tiny_model):
    output = add_scan(scene, Volume(np.ones((2, 3, 4), np.float64), Grid((4, 3, 2))), "Result")
    assert SuperResLogic().process(scan, output, model=tiny_model, inProcess=True) is output
    assert output.GetName() == "Result" and output.GetImageData().GetDimensions() == (56, 48, 4)
    assert slicer.util.arrayFromVolume(output).dtype == np.uint16


@pytest.mark.parametrize("left_handed", [False, True])
def test_results_under_rotated_parents_lie_where_the_input_lies(scene, tiny_model, left_handed):
    volume = make_scan()
    direction = volume.direction * np.array([-1 if (np.linalg.det(volume.direction) < 0) != left_handed else 1, 1, 1])
    scan = add_scan(scene, Volume(volume.voxels, Grid(volume.grid.size, volume.spacing, volume.origin, direction)))
    parent = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    turn = np.array([[0.8, -0.6, 0, 12.0], [0.6, 0.8, 0, -7.0], [0, 0, 1, 3.0], [0, 0, 0, 1]])
    parent.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turn))
    scan.SetAndObserveTransformNodeID(parent.GetID())
    result = SuperResLogic().process(scan, model=tiny_model, inProcess=True)
    boxes = []
    for node in (scan, result):
        bounds = np.zeros(6)
        node.GetRASBounds(bounds)
        boxes.append(bounds)
    assert result.GetParentTransformNode() is parent
    assert np.abs(boxes[0] - boxes[1]).max() <= 1e-6
    assert bool(np.linalg.det(nodes.gridOfNode(result).direction) < 0) == left_handed


def test_only_the_box_of_a_roi_is_computed_and_covered(scene, scan, tiny_model):
    grid = nodes.gridOfNode(scan)
    box = ((4, 20), (6, 18), (1, 3))
    whole = SuperResLogic().process(scan, model=tiny_model, inProcess=True, window=(0, 4000))
    part = SuperResLogic().process(scan, model=tiny_model, inProcess=True, window=(0, 4000), roi=box)
    assert part.GetImageData().GetDimensions() == (32, 24, 2)
    expected = grid.cropped((4, 6, 1), (20, 18, 3)).resampled((32, 24, 2))
    assert np.allclose(nodes.gridOfNode(part).index_to_point, expected.index_to_point, atol=1e-9)
    inner = slicer.util.arrayFromVolume(whole)[1:3, 12:36, 8:40].astype(float)
    assert np.abs(inner - slicer.util.arrayFromVolume(part)).max() <= 1

    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    corners = [grid.point(p) * [-1, -1, 1] for p in ((10, 10, 1), (14, 12, 2))]
    roi.SetCenter(*np.mean(corners, axis=0))
    roi.SetSize(0.1, 0.1, 0.1)
    small = nodes.roiBox(roi, scan)
    assert all(b - a <= 2 for a, b in small)


def test_a_float64_scan_and_a_chosen_type(scene, tiny_model):
    scan = add_scan(scene, make_scan(dtype="float64"))
    logic = SuperResLogic()
    same = logic.process(scan, model=tiny_model, inProcess=True)
    chosen = logic.process(scan, model=tiny_model, inProcess=True, dtype="int16")
    assert slicer.util.arrayFromVolume(same).dtype == np.float64
    assert slicer.util.arrayFromVolume(chosen).dtype == np.int16


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"model": "missing"}, ModelError),
        ({"planes": "diagonal"}, OptionError),
        ({"roi": ((0, 99), (0, 5), (0, 2))}, OptionError),
    ],
)
def test_bad_requests_are_refused_before_anything_starts(scene, scan, tiny_model, arguments, error):
    with pytest.raises(error):
        SuperResLogic().start(scan, **{"model": tiny_model, **arguments})
    assert volume_nodes(scene) == ["Jaw"]


def test_the_input_may_not_be_the_output(scan, tiny_model):
    with pytest.raises(OutputError):
        SuperResLogic().start(scan, scan, model=tiny_model)


def test_errors_of_the_worker_arrive_with_their_words_and_no_node_is_left(scene, tiny_model):
    voxels = make_scan(dtype="float32").voxels.copy()
    voxels[1, 2, 3] = np.nan
    scan = add_scan(scene, Volume(voxels, Grid((28, 24, 4))))
    with pytest.raises(Exception, match="(?i)nan|finite") as caught:
        SuperResLogic().process(scan, model=tiny_model)
    assert caught.value.exit_code == InputError.exit_code
    assert volume_nodes(scene) == ["Jaw"]


def test_a_full_temporary_disk_is_said_with_the_numbers(scan, tiny_model, monkeypatch):
    monkeypatch.setattr(logic_module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(ResourceError, match="kB"):
        SuperResLogic().start(scan, model=tiny_model)


class FakeWorker:
    """A worker that has finished with a large result as soon as it is asked."""

    shape, dtype = (40, 512, 512), np.uint16

    def __init__(self, job, folder):
        self.files, self.output = folder, job["output"]
        self.fraction, self.message, self.remaining, self.warnings, self.error = 0.5, "Network", 3.0, [], None
        self.isFinished, self.closed, self.wasCancelled = False, False, False
        self.report = {"super_resolution": {"model": "m", "model_sha256": "0"}, "versions": {"CBCTSuperResLib": "1"}}

    def start(self):
        return self

    def poll(self):
        if self.isFinished:
            return
        with ExchangeOutput(self.output) as output:
            voxels = output.allocate(self.shape, self.dtype)
            voxels[...] = 7
            output.publish(Volume(voxels, Grid(self.shape[::-1])))
        self.isFinished = True

    def cancel(self):
        self.wasCancelled = True

    def close(self):
        self.closed = True


def start_fake(scan, tiny_model, output=None) -> SuperResJob:
    return SuperResLogic._job(FakeWorker, scan, output, model=tiny_model)


def test_a_result_is_copied_slab_by_slab_over_several_polls(scan, tiny_model, monkeypatch):
    monkeypatch.setattr(volume_job, "TICK_BUDGET_S", 0.0005)
    job = start_fake(scan, tiny_model)
    job.poll()
    fractions = []
    while not job.isFinished:
        job.poll()
        fractions.append(job.fraction)
    assert len(fractions) >= 5 and fractions == sorted(fractions)
    assert np.all(slicer.util.arrayFromVolume(job.outputVolume) == 7)
    assert job._worker.closed and job.error is None


def test_a_result_that_cannot_be_taken_over_ends_the_job_with_words(scene, scan, tiny_model, monkeypatch):
    def refuse(*_):
        raise MemoryError("1 GB")

    monkeypatch.setattr(volume_job, "newImage", refuse)
    job = start_fake(scan, tiny_model)
    wait_for(job)
    assert "could not be handed over" in job.error.what and volume_nodes(scene) == ["Jaw"]


def test_an_input_that_cannot_be_written_is_refused_with_words(scan, tiny_model, monkeypatch):
    def refuse(*_):
        raise OSError("no space left")

    monkeypatch.setattr(volume_job, "write_slabs", refuse)
    with pytest.raises(ResourceError, match="no space left"):
        start_fake(scan, tiny_model)


def test_cancelling_while_the_result_is_copied_leaves_no_node(scene, scan, tiny_model, monkeypatch):
    monkeypatch.setattr(volume_job, "TICK_BUDGET_S", 0.0)
    job = start_fake(scan, tiny_model)
    job.poll()
    job.poll()
    assert not job.isFinished
    job.cancel()
    assert isinstance(job.error, Cancelled) and volume_nodes(scene) == ["Jaw"]


def test_a_scene_that_is_closed_during_a_run_ends_it(scene, scan, tiny_model):
    job = start_fake(scan, tiny_model)
    scene.Clear(0)
    job.poll()
    assert isinstance(job.error, Cancelled) and job._worker.closed
    assert volume_nodes(scene) == []


def test_a_job_can_be_cancelled_while_the_worker_computes(scene, tiny_model):
    scan = add_scan(scene, make_scan((2000, 40, 40)))
    job = SuperResLogic().start(scan, model=tiny_model)
    end = time.monotonic() + 240
    while job.fraction < 0.04:
        assert time.monotonic() < end and not job.isFinished, job.error
        job.poll()
        time.sleep(0.02)
    folder, job.remaining = job._worker.files, 120.0
    job.cancel()
    assert (job.message, job.remaining) == ("Cancelling", None)
    wait_for(job, 10)
    assert isinstance(job.error, Cancelled)
    assert volume_nodes(scene) == ["Jaw"] and not folder.exists()


def test_disagreement_becomes_a_second_node_beside_the_result(scene, scan, tiny_model):
    scan.AddDefaultStorageNode("/scans/Jaw.nrrd")
    job = SuperResLogic().start(scan, model=tiny_model, uncertainty=2, disagreement_above=12.5)
    wait_for(job)
    assert job.error is None
    result, second = job.outputVolume, job.disagreementVolume
    assert (result.GetName(), second.GetName()) == ("Jaw SR x2", "Jaw SR x2 model disagreement")
    assert result.GetNodeReference("CBCTSuperRes.disagreement") is second
    assert (
        second.GetNodeReference("CBCTSuperRes.result") is result
        and second.GetNodeReference("CBCTSuperRes.input") is scan
    )
    assert nodes.reportOf(result) and nodes.reportOf(second) is None
    report = nodes.reportOf(result)
    assert report["input"]["path"] == "/scans/Jaw.nrrd" and report["beside"] == {"model disagreement": second.GetName()}
    assert ".npy" not in json.dumps(report)
    voxels = slicer.util.arrayFromVolume(second)
    assert voxels.shape == slicer.util.arrayFromVolume(result).shape and voxels.dtype == np.float32 and voxels.any()
    assert np.allclose(nodes.gridOfNode(second).index_to_point, nodes.gridOfNode(result).index_to_point, atol=1e-9)
    display = second.GetScalarVolumeDisplayNode()
    assert display.GetApplyThreshold() and display.GetLowerThreshold() == 12.5
    again = SuperResLogic().start(scan, result, model=tiny_model, uncertainty=2)
    wait_for(again)
    assert again.disagreementVolume is second and len(volume_nodes(scene)) == 3
    wait_for(SuperResLogic().start(scan, result, model=tiny_model))
    assert len(volume_nodes(scene)) == 3


def test_a_job_that_fails_while_it_copies_leaves_no_second_node(scene, scan, tiny_model, monkeypatch):
    job, taken = SuperResLogic().start(scan, model=tiny_model, uncertainty=2), []

    def take(node, image, grid):
        taken.append(node)
        if len(taken) == 2:
            raise RuntimeError("full")
        nodes.takeImage(node, image, grid)

    monkeypatch.setattr(volume_job, "takeImage", take)
    wait_for(job)
    assert isinstance(job.error, ResourceError) and volume_nodes(scene) == ["Jaw"]
    assert job.disagreementVolume is None and job.outputVolume is None and len(taken) == 2


@pytest.mark.parametrize("raised", [StopIteration, KeyError("a"), ValueError("cut line"), TypeError, AssertionError])
def test_whatever_is_raised_while_polling_is_the_error_of_the_job_and_no_node_is_left(scene, scan, tiny_model, raised):
    job = start_fake(scan, tiny_model)

    def fail():
        raise raised

    job._worker.poll = fail
    wait_for(job)
    assert job.error is not None and job.outputVolume is None and job._worker.closed
    assert volume_nodes(scene) == ["Jaw"]


def test_a_report_that_lacks_something_is_an_error_and_changes_no_node(scene, scan, tiny_model):
    output = add_scan(scene, Volume(np.ones((2, 3, 4), np.float64), Grid((4, 3, 2))), "Result")
    before = state_of(output)
    job = start_fake(scan, tiny_model, output)
    del job._worker.report["versions"]
    wait_for(job)
    assert "KeyError" in job.error.what and job.error.detail and job.outputVolume is output
    assert state_of(output) == before


@pytest.mark.parametrize("damage", [b'{"event": "progr\n', b"\xff\n", b'{"event": "progress"}\n', b"null\n"])
def test_a_whole_run_with_a_damaged_event_file_has_a_result(scan, tiny_model, damage):
    job, end = SuperResLogic().start(scan, model=tiny_model), time.monotonic() + 240
    events = job._worker.files / "events.jsonl"
    while not job.isFinished:
        assert time.monotonic() < end
        if events.exists():
            with events.open("ab") as file:
                file.write(damage)
        job.poll()
        time.sleep(0.05)
    assert job.error is None and job.outputVolume.GetImageData().GetDimensions() == (56, 48, 4)


def state_of(node) -> tuple:
    """What a user would see of a node."""
    display = node.GetScalarVolumeDisplayNode()
    seen = (display.GetWindow(), display.GetLevel(), display.GetAutoWindowLevel(), display.GetColorNodeID())
    voxels = slicer.util.arrayFromVolume(node)
    return (
        node.GetTransformNodeID(),
        node.GetImageData().GetDimensions(),
        voxels.tobytes(),
        seen,
        node.GetAttribute("CBCTSuperRes.model"),
        node.GetNodeReferenceID("CBCTSuperRes.input"),
    )


@pytest.mark.parametrize("polls", range(1, 6))
def test_a_job_that_is_cancelled_leaves_a_chosen_output_as_it_was(scene, scan, tiny_model, monkeypatch, polls):
    monkeypatch.setattr(volume_job, "TICK_BUDGET_S", 0.0)
    parent = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    scan.SetAndObserveTransformNodeID(parent.GetID())
    scan.GetScalarVolumeDisplayNode().SetAutoWindowLevel(False)
    scan.GetScalarVolumeDisplayNode().SetWindowLevel(123.0, 45.0)
    output = add_scan(scene, Volume(np.ones((2, 3, 4), np.float64), Grid((4, 3, 2))), "Result")
    before = state_of(output)
    job = start_fake(scan, tiny_model, output)
    for _ in range(polls):
        job.poll()
    assert not job.isFinished
    job.cancel()
    wait_for(job)
    assert isinstance(job.error, Cancelled) and state_of(output) == before
    wait_for(again := start_fake(scan, tiny_model, output))
    assert again.error is None and output.GetParentTransformNode() is parent
    assert output.GetScalarVolumeDisplayNode().GetWindow() == 123.0
