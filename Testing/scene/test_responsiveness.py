"""The application stays responsive while a large volume is handed over, taken back and shown, by the whole panel.

What is measured is the processor time of one tick of the panel's timer, which other programs on the computer do not
lengthen.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from CBCTSuperResLib.core.memory import available_memory
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.exchange import (
    PIECE_BYTES,
    ExchangeOutput,
    remove_pieces,
    write_slabs,
)
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.models.folder import DEFAULT_MODEL

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
from CBCTSuperResLib.scene import logic, nodes  # noqa: E402

pytestmark = pytest.mark.usefixtures("qt_or_skip")
LONGEST_TICK_S = 0.2
HAND_OVER_S = 2.0
INPUT, RESULT = (400, 400, 400), (800, 800, 800)
NEEDED_BYTES = 5e9


class ReadyWorker:
    """A worker whose large result is there when the test has made it."""

    def __init__(self, job, folder, keep_files):
        self.files, self.input, self.output = folder, Path(job["input"]), job["output"]
        self.fraction, self.message, self.remaining, self.warnings, self.error = 0.5, "Network", 3.0, [], None
        self.hasStarted = self.isFinished = False
        self.report = {"super_resolution": {"model": "m", "model_sha256": "0"}, "versions": {"CBCTSuperResLib": "1"}}

    def start(self):
        self.hasStarted = True
        return self

    def poll(self):
        """The test ends it."""

    def finish(self):
        with ExchangeOutput(self.output) as output:
            voxels = output.allocate(RESULT, np.uint16)
            for k, pixels in enumerate(voxels):
                pixels[...] = k
            output.publish(Volume(voxels, Grid(RESULT[::-1])))
        self.isFinished = True

    def cancel(self):
        """It does nothing anyway."""

    def close(self):
        shutil.rmtree(self.files, ignore_errors=True)


@pytest.fixture
def largeScan(scene, tmp_path):
    """A volume in the scene, where there is room for its result, too."""
    if available_memory() < NEEDED_BYTES or shutil.disk_usage(tmp_path).free < NEEDED_BYTES:
        pytest.skip("takes 5 GB of memory and disk")
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Jaw")
    voxels = np.arange(INPUT[0], dtype=np.uint16)[:, None, None]
    nodes.updateNode(node, Volume(np.broadcast_to(voxels, INPUT), Grid(INPUT[::-1])))
    node.CreateDefaultDisplayNodes()
    return node


class Ticks:
    """Processor times, in seconds, of what the panel's timer does; and how long they really took."""

    def __init__(self) -> None:
        self.busy, self.real = [], []

    def __call__(self, action) -> None:
        real, busy = time.perf_counter(), time.thread_time()
        action()
        self.busy.append(time.thread_time() - busy)
        self.real.append(time.perf_counter() - real)


def test_no_tick_of_the_panel_takes_long_with_an_input_of_400_and_a_result_of_800_voxels_an_edge(
    largeScan, apply_panel, tmp_path, monkeypatch
):
    monkeypatch.setattr(type(slicer.app), "temporaryPath", str(tmp_path / "temporary"))
    monkeypatch.setattr(logic, "Job", ReadyWorker)
    (tmp_path / "temporary").mkdir()
    panel, ticks = apply_panel, Ticks()
    panel.parameters.model = DEFAULT_MODEL
    panel.ui.inputSelector.setCurrentNode(largeScan)
    panel.ui.planesSelector.currentIndex = 1
    slicer.util.setSliceViewerLayers(background=largeScan)
    ticks(panel.ui.applyButton.click)
    job = panel.run.job
    assert job is not None, panel.ui.applyButton.toolTip
    while not job._worker.hasStarted:
        ticks(panel.onTimer)
    assert sum(ticks.busy) < HAND_OVER_S
    job._worker.finish()
    while panel.run.job:
        ticks(panel.onTimer)
    assert job.error is None and list((tmp_path / "temporary").iterdir()) == []
    assert np.array_equal(slicer.util.arrayFromVolume(job.outputVolume)[:, 400, 400], np.arange(800))
    assert panel.ui.resultLabel.text.startswith("Jaw SR x2")
    red = slicer.app.layoutManager().sliceWidget("Red").sliceLogic().GetSliceCompositeNode()
    assert red.GetBackgroundVolumeID() == job.outputVolume.GetID()
    print(f"{len(ticks.busy)} ticks, longest {max(ticks.busy):.3f} s of processor time, {max(ticks.real):.3f} s in all")
    assert max(ticks.busy) < LONGEST_TICK_S
    assert len(ticks.busy) > 20


def test_a_volume_is_written_and_removed_in_pieces(tmp_path):
    volume = Volume(np.broadcast_to(np.uint16(7), (160, 800, 800)), Grid((800, 800, 160)))
    path = tmp_path / "a.npy"
    sizes = [path.stat().st_size for _ in write_slabs(volume, path)]
    assert max(np.diff(sizes)) <= 2e6 and len(sizes) == 160
    left = [sizes[-1], *(path.stat().st_size for _ in remove_pieces(path)), 0]
    assert max(-np.diff(left)) <= PIECE_BYTES and len(left) == 5
    assert list(tmp_path.iterdir()) == []
