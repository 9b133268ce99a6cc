"""Where nothing can be downloaded there is a scan to try the module with: a button in the module Sample Data."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from slicer_code import ROOT

pytestmark = pytest.mark.usefixtures("application")


@pytest.fixture
def sample_data(monkeypatch):
    """A module Sample Data that remembers what is registered, with Slicer's own names of the arguments."""
    registered = []

    class SampleDataLogic:
        @staticmethod
        def registerCustomSampleDataSource(
            *, category, sampleName, uris, fileNames, nodeNames, customDownloader, thumbnailFileName
        ):
            registered.append(SimpleNamespace(name=sampleName, load=customDownloader, thumbnail=thumbnailFileName))

    monkeypatch.setitem(sys.modules, "SampleData", SimpleNamespace(SampleDataLogic=SampleDataLogic))
    return registered


def test_sample_data_offers_a_scan_that_is_made_here(scene, apply_module, sample_data):
    import slicer

    red = slicer.app.layoutManager().sliceWidget("Red")
    slicer.app.startupCompleted.emit()
    source = sample_data[-1]
    assert ROOT in Path(source.thumbnail).parents
    node = source.load(source)
    assert node.GetScene() is scene and node.GetImageData().GetDimensions() == (160, 160, 48)
    assert red.mrmlSliceCompositeNode().GetBackgroundVolumeID() == node.GetID()


def test_the_scan_suits_the_shipped_model_and_has_blank_corners(scene, apply_module):
    from CBCTSuperResLib.scene.example_scan import makeExampleScan
    from CBCTSuperResLib.scene.nodes import volumeFromNode

    first, second = makeExampleScan(), makeExampleScan()
    assert first.GetName() != second.GetName()
    voxels = volumeFromNode(first).voxels
    assert (voxels == volumeFromNode(second).voxels).all()
    assert (voxels[:, 0, 0] == 0).all() and 26000 < np.median(voxels[24, 60:100, 60:100]) < 46000


def test_an_application_without_sample_data_starts_all_the_same(monkeypatch, apply_module):
    import slicer

    monkeypatch.setitem(sys.modules, "SampleData", None)
    slicer.app.startupCompleted.emit()
