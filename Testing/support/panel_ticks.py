"""A whole run through the panel of CBCTSuperRes, tick by tick, with a worker whose result is there at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.exchange import ExchangeOutput
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.models.folder import DEFAULT_MODEL


class ReadyResult:
    """A worker whose result, as large as that of twice as many voxels along each axis, is there when it is asked for.

    It can take the place of `scene.logic.Job`.
    """

    def __init__(self, job, folder, keep_files, worker=None):
        self.files, self.input, self.output = folder, Path(job["input"]), job["output"]
        self.fraction, self.message, self.remaining, self.warnings, self.error = 0.5, "Network", 3.0, [], None
        self.hasStarted = self.isFinished = False
        self.report = {"super_resolution": {"model": "m", "model_sha256": "0"}, "versions": {"CBCTSuperResLib": "1"}}

    def start(self):
        self.hasStarted = True
        return self

    def poll(self):
        """`finish` ends it."""

    def finish(self):
        shape = tuple(2 * n for n in np.load(self.input, mmap_mode="r").shape)
        with ExchangeOutput(self.output) as output:
            voxels = output.allocate(shape, np.uint16)
            for k, pixels in enumerate(voxels):
                pixels[...] = k
            output.publish(Volume(voxels, Grid(shape[::-1])))
        self.isFinished = True

    def cancel(self):
        """It does nothing anyway."""

    def close(self):
        shutil.rmtree(self.files, ignore_errors=True)


def add_large_scan(shape: tuple[int, int, int]):
    """A volume in the scene whose grey values are the numbers of its slices."""
    import slicer
    from CBCTSuperResLib.scene import nodes

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Jaw")
    voxels = np.arange(shape[0], dtype=np.uint16)[:, None, None]
    nodes.updateNode(node, Volume(np.broadcast_to(voxels, shape), Grid(shape[::-1])))
    node.CreateDefaultDisplayNodes()
    return node


def apply_in_ticks(panel, scan, tick: Callable[[Callable], None]):
    """Click on Apply, and let the panel's timer tick until the result is shown; returns the job.

    `tick` is given, and calls, what happens at once: the click, and each tick.
    """
    import slicer

    panel.parameters.model = DEFAULT_MODEL
    panel.ui.inputSelector.setCurrentNode(scan)
    panel.ui.planesSelector.currentIndex = 1
    slicer.util.setSliceViewerLayers(background=scan)
    tick(panel.ui.applyButton.click)
    job = panel.run.job
    assert job is not None, panel.ui.applyButton.toolTip
    while not job._worker.hasStarted:
        tick(panel.onTimer)
    job._worker.finish()
    while panel.run.job:
        tick(panel.onTimer)
    return job
