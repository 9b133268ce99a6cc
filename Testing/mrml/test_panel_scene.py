"""What the panel of CBCTSuperRes keeps with the scene, and how it is reloaded."""

from __future__ import annotations

import sys

import pytest

pytestmark = pytest.mark.usefixtures("qt_or_skip")


@pytest.fixture
def widget(apply_widget):
    return apply_widget


@pytest.fixture
def panel(apply_panel):
    return apply_panel


def test_choices_are_saved_with_the_scene_and_come_back(widget, panel, scene, tmp_path):
    import slicer

    panel.ui.planesSelector.currentIndex = 1
    jaw = panel.ui.inputSelector.currentNode()
    storage = jaw.CreateDefaultStorageNode()
    storage.SetScene(scene)
    storage.SetFileName(str(tmp_path / "Jaw.nrrd"))
    assert storage.WriteData(jaw)
    scene.AddNode(storage)
    jaw.SetAndObserveStorageNodeID(storage.GetID())
    file = tmp_path / "Szene 1.mrml"
    scene.SetRootDirectory(str(tmp_path))
    assert scene.Commit(str(file))
    scene.Clear(0)
    assert panel.ui.planesSelector.currentIndex == 0
    scene.SetURL(str(file))
    scene.Connect()
    slicer.app.processEvents()
    assert panel.ui.planesSelector.currentIndex == 1
    assert panel.ui.inputSelector.currentNode().GetName() == "Jaw"
    assert panel.parameters.model == "tiny"


def test_reloading_forgets_the_library(widget, monkeypatch):
    import slicer

    kept = dict(sys.modules)
    try:
        widget.onReload()
        assert slicer.reloaded[-1] == "CBCTSuperRes"
        assert not [name for name in sys.modules if name.startswith("CBCTSuperResLib")]
    finally:
        sys.modules.update(kept)
