"""The stand-in for PythonQt and Slicer's widgets is itself what the panel tests take it for."""

from __future__ import annotations

import enum
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("application")


@pytest.fixture(scope="module")
def application(mrml, qt_or_skip):
    sys.path.insert(0, str(ROOT / "Testing" / "standin"))
    import slicerapp

    slicerapp.start(mrml.mrmlScene)
    return slicerapp


@pytest.fixture
def selector(scene):
    import slicer

    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setMRMLScene(scene)
    yield selector
    selector.setMRMLScene(None)


def test_properties_are_attributes_both_ways():
    import qt

    button = qt.QPushButton()
    button.text = "Go"
    button.toolTip = "why"
    assert (button.text, button.toolTip) == ("Go", "why")
    button.setText("Stop")
    assert button.text == "Stop"


@pytest.mark.parametrize("access", [lambda w: w.txet, lambda w: setattr(w, "txet", "Go"), lambda w: w.text()])
def test_what_pythonqt_refuses_is_refused(access):
    import qt

    with pytest.raises((AttributeError, TypeError)):
        access(qt.QPushButton())


def test_signals_are_connected_by_their_signature_and_unknown_ones_refused():
    import qt

    button, seen = qt.QPushButton(), []

    def onClicked(checked):
        seen.append(checked)

    button.connect("clicked(bool)", onClicked)
    button.click()
    button.disconnect("clicked(bool)", onClicked)
    button.click()
    assert seen == [False]
    with pytest.raises(ValueError, match="no signal"):
        button.connect("pushed(bool)", onClicked)


def test_exceptions_in_slots_and_observers_reach_the_hook_that_the_panel_tests_watch(scene, monkeypatch):
    import qt

    seen = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, value, trace: seen.append(kind))
    button = qt.QPushButton()
    button.connect("clicked(bool)", lambda _: 1 / 0)
    button.click()
    tag = scene.AddObserver(scene.NodeAddedEvent, lambda *_: 1 / 0)
    scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    scene.RemoveObserver(tag)
    assert seen == [ZeroDivisionError, ZeroDivisionError]


def test_a_node_selector_follows_the_scene(scene, selector):
    seen = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    scene.AddNewNodeByClass("vtkMRMLModelNode", "Mesh")
    assert selector.currentNode() is None
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Scan")
    assert selector.currentNode() is node and seen == [node]
    scene.RemoveNode(node)
    assert selector.currentNode() is None and seen == [node, None]


def test_a_node_selector_leaves_out_derived_classes_when_told_so(scene, selector):
    selector.showChildNodeTypes = False
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Teeth")
    assert selector.currentNode() is None


def test_a_selector_that_may_be_empty_stays_so(scene, selector):
    selector.noneEnabled = True
    scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Scan")
    assert selector.currentNode() is None


def test_a_deleted_selector_no_longer_watches_the_scene(scene, monkeypatch):
    import slicer

    seen = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, value, trace: seen.append(value))
    selector = slicer.qMRMLNodeComboBox()
    selector.setMRMLScene(scene)
    selector.deleteLater()
    slicer.app.processEvents()
    del selector
    scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    assert seen == []


def test_a_collapsed_section_hides_what_is_in_it():
    import ctk
    import qt

    section = ctk.ctkCollapsibleButton("Advanced")
    qt.QVBoxLayout(section).addWidget(qt.QLabel("inside"))
    section.show()
    assert section.findChild(qt.QLabel).isVisible()
    section.collapsed = True
    assert not section.findChild(qt.QLabel).isVisible()
    section.hide()


class Planes(enum.Enum):
    axial = "axial"
    isotropic = "isotropic"


def wrapped(scene):
    import scripted
    import slicer

    class Parameters:
        volume: slicer.vtkMRMLScalarVolumeNode
        planes: Planes = Planes.axial
        model: str = "light"

    Parameters.__annotations__ = {"volume": slicer.vtkMRMLScalarVolumeNode, "planes": Planes, "model": str}
    cls = scripted.parameterNodeWrapper(Parameters)
    return cls(scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")), cls


def test_parameters_are_stored_in_the_node_and_enums_by_their_name(scene):
    parameters, cls = wrapped(scene)
    assert (parameters.volume, parameters.planes, parameters.model) == (None, Planes.axial, "light")
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    parameters.volume, parameters.planes, parameters.model = node, Planes.isotropic, "mine"
    again = cls(parameters.parameterNode)  # defaults do not overwrite what is there
    assert (again.volume, again.planes, again.model) == (node, Planes.isotropic, "mine")
    assert parameters.parameterNode.GetParameter("planes") == "isotropic"


def test_unknown_fields_and_wrong_nodes_are_refused(scene):
    parameters, _ = wrapped(scene)
    with pytest.raises(AttributeError, match="plane"):
        parameters.plane = Planes.axial
    with pytest.raises(TypeError):
        parameters.volume = scene.AddNewNodeByClass("vtkMRMLModelNode", "Mesh")
