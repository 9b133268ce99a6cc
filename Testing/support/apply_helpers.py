"""What the tests of the panel of CBCTSuperRes share: a run that the test moves, and things that a user does."""

from __future__ import annotations

from CBCTSuperResLib.core.errors import Cancelled
from scans import make_scan


class FakeJob:
    """A run that goes as far as the test says."""

    def __init__(self, outputVolume=None):
        self.fraction, self.message, self.remaining = 0.0, "Starting", None
        self.isFinished, self.error, self.warnings, self.report = False, None, [], {}
        self.outputVolume = outputVolume
        self.wasCancelled = self.wasClosed = False

    def poll(self):
        """The test moves it."""

    def cancel(self):
        self.wasCancelled, self.message = True, "Cancelling"

    def close(self):
        if not self.isFinished:
            self.isFinished, self.error = True, Cancelled()
        self.wasClosed = True


def add_scan(name, shape=(4, 24, 28)):
    import slicer
    from CBCTSuperResLib.scene.nodes import updateNode

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    updateNode(node, make_scan(shape))
    node.CreateDefaultDisplayNodes()
    return node


def choose_model(panel, label="Tiny (fast, x2)"):
    panel.ui.modelSelector.currentIndex = panel.ui.modelSelector.findText(label)


def advance(panel, job, **values):
    """Let the run have come so far, and the panel's timer tick."""
    for name, value in values.items():
        setattr(job, name, value)
    panel.onTimer()
