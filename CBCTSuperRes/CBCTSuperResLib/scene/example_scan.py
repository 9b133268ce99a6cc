"""A procedural scan to try the module with where nothing can be downloaded; it is made here, in a few seconds."""

from __future__ import annotations

from pathlib import Path

import slicer
from slicer.i18n import tr as _

from ..acquisition.phantom import jaw_scans
from .nodes import updateNode

FINE_SHAPE = (48, 320, 320)
FINE_SPACING_MM = (0.125, 0.125, 0.25)
SEED = 20261
WINDOW, LEVEL = 24000.0, 36000.0


def makeExampleScan() -> slicer.vtkMRMLScalarVolumeNode:
    """A piece of a drawn jaw as a coarse, noisy scan of 160 x 160 x 48 voxels, blank outside of its field of view.

    >>> node = makeExampleScan()
    """
    _fine, coarse = jaw_scans(FINE_SHAPE, FINE_SPACING_MM, SEED)
    name = slicer.mrmlScene.GenerateUniqueName(_("Procedural jaw"))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    updateNode(node, coarse)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevel(WINDOW, LEVEL)
    return node


def showExampleScan(source=None) -> slicer.vtkMRMLScalarVolumeNode:
    """What the button in the module Sample Data does."""
    with slicer.util.WaitCursor():
        node = makeExampleScan()
    slicer.util.setSliceViewerLayers(background=node, fit=True)
    return node


def registerExampleScan(thumbnail: Path | str) -> None:
    """Offer the scan in the module Sample Data, beside Slicer's own scans, which have to be downloaded."""
    try:
        from SampleData import SampleDataLogic
    except ImportError:  # an application without that module
        return
    SampleDataLogic.registerCustomSampleDataSource(
        category=_("Dental"),
        sampleName=_("Procedural jaw"),
        uris="",
        fileNames="",
        nodeNames="",
        thumbnailFileName=str(thumbnail),
        customDownloader=showExampleScan,
    )
