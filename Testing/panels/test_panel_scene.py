"""The module CBCTSuperRes: what Slicer is told of it, what its panel keeps with the scene, and how it is reloaded."""

from __future__ import annotations

import sys

import pytest
from apply_helpers import add_scan

pytestmark = pytest.mark.usefixtures("qt_or_skip")


@pytest.fixture
def widget(apply_widget):
    return apply_widget


def save(node, scene, path):
    """Give a node a file, as saving a scene does."""
    storage = node.CreateDefaultStorageNode()
    storage.SetScene(scene)
    storage.SetFileName(str(path))
    assert storage.WriteData(node)
    scene.AddNode(storage)
    node.SetAndObserveStorageNodeID(storage.GetID())


def test_the_module_tells_what_it_is_and_has_the_library_s_logic(application, apply_module):
    import slicer
    from CBCTSuperResLib.scene.logic import SuperResLogic

    parent = slicer.modules.cbctsuperres
    assert parent.title == "CBCT Super-Resolution" and parent.categories == ["Filtering"]
    assert parent.helpText and parent.acknowledgementText and parent.contributors
    assert issubclass(apply_module.CBCTSuperResLogic, SuperResLogic)


def test_all_choices_are_saved_with_the_scene_and_come_back(panel, scene, tmp_path):
    import slicer
    from CBCTSuperResLib.panels.apply.parameters import (
        Blank,
        Device,
        OutputType,
        Planes,
        Precision,
        Quality,
        WindowPreset,
    )

    usual = panel.choices.options()
    panel.ui.fitRoiButton.click()
    panel.ui.windowRange.setValues(300, 1000)
    chosen = {
        "planesSelector": (Planes, Planes.isotropic),
        "qualitySelector": (Quality, Quality.best),
        "deviceSelector": (Device, Device.cpu),
        "precisionSelector": (Precision, Precision.fp32),
        "blankSelector": (Blank, Blank.value),
        "outputTypeSelector": (OutputType, OutputType.float32),
    }
    for name, (kind, value) in chosen.items():
        getattr(panel.ui, name).currentIndex = list(kind).index(value)
    panel.ui.tileSpinBox.value = 64
    panel.ui.smoothingCheckBox.checked = False
    panel.ui.smoothingSpinBox.value = 0.75
    panel.ui.blankValueSpinBox.value = 7
    before = panel.choices.options()
    save(panel.ui.inputSelector.currentNode(), scene, tmp_path / "Jaw.nrrd")
    scene.RegisterNodeClass(slicer.vtkMRMLMarkupsROIJsonStorageNode())  # as the module Markups does
    save(panel.ui.roiSelector.currentNode(), scene, tmp_path / "Jaw ROI.mrk.json")
    file = tmp_path / "Szene 1.mrml"
    scene.SetRootDirectory(str(tmp_path))
    assert scene.Commit(str(file))

    scene.Clear(0)
    assert panel.ui.planesSelector.currentIndex == 0 and panel.ui.smoothingCheckBox.checked
    panel.ui.inputSelector.setCurrentNode(add_scan("Another"))
    assert panel.choices.options() == usual

    scene.Clear(0)
    scene.SetURL(str(file))
    scene.Connect()
    slicer.app.processEvents()
    assert panel.ui.inputSelector.currentNode().GetName() == "Jaw"
    assert panel.ui.roiSelector.currentNode().GetName() == "Jaw ROI"
    assert panel.parameters.model == "tiny" and panel.parameters.windowPreset is WindowPreset.custom
    assert panel.choices.options() == before
    for name, (kind, value) in chosen.items():
        assert getattr(panel.ui, name).currentIndex == list(kind).index(value), name
    assert (panel.ui.windowRange.minimumValue, panel.ui.windowRange.maximumValue) == (300, 1000)
    assert panel.ui.tileSpinBox.value == 64 and panel.ui.smoothingSpinBox.value == 0.75


@pytest.mark.parametrize("isShown", [True, False])
def test_the_input_and_the_model_of_a_scene_that_is_loaded_are_chosen_though_another_volume_comes_first(
    widget, panel, scene, tmp_path, isShown
):
    from CBCTSuperResLib.panels.apply.parameters import AUTOMATIC

    second, model = add_scan("Second"), AUTOMATIC if isShown else "light"
    panel.ui.inputSelector.setCurrentNode(second)
    panel.parameters.model = model
    for node in (scene.GetFirstNodeByName("Jaw"), second):
        save(node, scene, tmp_path / f"{node.GetName()}.nrrd")
    scene.SetRootDirectory(str(tmp_path))
    assert scene.Commit(str(tmp_path / "scene.mrml"))

    scene.Clear(0)
    panel.parameters.model = "tiny"
    if not isShown:
        widget.parent.isEntered = False
        widget.exit()
    scene.SetURL(str(tmp_path / "scene.mrml"))
    scene.Import()
    if not isShown:
        widget.parent.isEntered = True
        widget.enter()
    assert panel.parameters.inputVolume.GetName() == "Second"
    assert panel.ui.inputSelector.currentNode().GetName() == "Second"
    assert panel.parameters.model == model and panel.choices.card().name == "light"


def test_binding_twice_and_leaving_twice_do_no_harm(widget, panel):
    for step in (panel.bind, panel.bind, panel.unbind, panel.unbind, panel.close, panel.close, panel.bind):
        step()
    assert panel.parameters is not None and panel.ui.applyButton.enabled
    widget.exit()
    assert panel.parameters is None and not panel.ui.applyButton.enabled
    widget.enter()
    panel.ui.planesSelector.currentIndex = 1
    assert panel.choices.options().planes == "isotropic"


def test_the_panel_leaves_no_observers_on_the_parameters_however_often_it_is_entered(widget, panel):
    node = panel.parameters.parameterNode
    calls = []
    node.AddObserver("ModifiedEvent", lambda *_: None)
    refresh = panel.refresh
    for _ in range(5):
        widget.exit()
        widget.enter()
    panel.refresh = lambda *_: calls.append(1) or refresh()
    widget.exit()
    widget.enter()
    calls.clear()
    panel.parameters.tile = 32
    assert len(calls) == 1


def test_a_module_that_is_reloaded_while_it_is_shown_is_of_use_at_once(widget, monkeypatch):
    import slicer

    kept = dict(sys.modules)
    monkeypatch.setattr(slicer.modules.cbctsuperres, "widgetRepresentation", lambda: widget.parent)
    try:
        widget.onReload()
        reloaded = slicer.modules.CBCTSuperResWidget
        assert reloaded is not widget and widget.panel.parameters is None
        assert sys.modules["CBCTSuperResLib"] is not kept["CBCTSuperResLib"]
        assert reloaded.panel.ui.inputSelector.currentNode().GetName() == "Jaw"
        assert reloaded.panel.ui.applyButton.enabled, reloaded.panel.ui.applyButton.toolTip
        reloaded.cleanup()
    finally:
        sys.modules.update(kept)
