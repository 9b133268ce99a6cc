"""A process of previews that the test moves, and what a user does and sees of previews."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from CBCTSuperResLib.io.volume import Volume
from scans import make_scan
from waiting import wait_until


class FakeSession:
    """A process that the test moves."""

    def __init__(self, folder):
        self.error, self.is_busy, self.is_starting = None, False, True
        self.asked, self.events, self.isClosed = [], [], False
        self._folder = folder

    def ask(self, volume, version, request):
        self.asked.append((version, request))
        self.is_busy, self._volume = True, volume

    def rest(self):
        self.is_busy, self.events = False, []

    def poll(self):
        events, self.events = self.events, []
        if any(event["event"] == "complete" for event in events):
            self.is_busy = False
        return events

    def tidy_up(self):
        return not self.isClosed

    def close(self):
        self.rest()
        self.isClosed = True

    def give(self, *, value=1000, box=None, share=1.0, complete=True):
        """Let a picture of one grey value come, or a part of it."""
        from CBCTSuperResLib.apply.plan import make_plan
        from CBCTSuperResLib.models.card import read_card

        request = self.asked[-1][1]
        options = replace(request.options, roi=request.slice_of(self._volume.grid.size))
        grid = make_plan(self._volume.grid, self._volume.voxels.dtype, read_card(request.model), options).grid
        canvas = Volume(np.full(grid.shape, value, self._volume.voxels.dtype), grid)
        self.is_starting = False
        self.events = [{"event": "canvas", "canvas": canvas, "model": "tiny"}]
        box = box or [(0, n) for n in grid.shape]
        self.events.append({"event": "block", "box": box, "share": share})
        if complete:
            self.events.append({"event": "complete"})


def make_straight(node, shape):
    """Voxels whose axes are those of the room, so that every view shows slices of another axis."""
    from CBCTSuperResLib.core.volume import Grid
    from CBCTSuperResLib.scene.nodes import updateNode

    scan = make_scan(shape)
    updateNode(node, Volume(scan.voxels, Grid(shape[::-1], scan.spacing)))
    return node


def look_at(views, volumeNode, names=("Red", "Yellow", "Green")):
    for name in names:
        widget = views.sliceWidget(name)
        widget.mrmlSliceCompositeNode().SetBackgroundVolumeID(volumeNode.GetID())
        widget.mrmlSliceNode().RotateToVolumePlane(volumeNode)
        widget.fitSliceToBackground()


def switch(panel):
    panel.ui.previewButton.click()
    panel.onTimer()


def tick(panel):
    panel.onTimer()


def composite(views, name="Red"):
    return views.sliceWidget(name).mrmlSliceCompositeNode()


def sliceNode(views, name="Red"):
    return views.sliceWidget(name).mrmlSliceNode()


def previews(scene) -> list:
    nodes = (scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes()))
    return [node for node in nodes if node.GetAttribute("CBCTSuperRes.preview")]


def text(panel) -> str:
    return panel.ui.previewLabel.text


def wait_for_picture(panel) -> None:
    def is_done():
        panel.onTimer()
        return not panel.preview.isBusy

    wait_until(is_done)
    assert panel.preview.preview.problem is None, panel.preview.preview.problem
