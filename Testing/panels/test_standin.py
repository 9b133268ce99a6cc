"""The stand-in for PythonQt and Slicer's widgets is itself what the panel tests take it for."""

from __future__ import annotations

import sys

import pytest

pytestmark = pytest.mark.usefixtures("application")


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
    for unknown in ("pushed(bool)", "clicked", "clicked(int)"):
        with pytest.raises(ValueError, match="no signal"):
            button.connect(unknown, onClicked)


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


def test_a_collapsed_section_in_a_hidden_one_shows_nothing_when_opened():
    import ctk
    import qt

    section = ctk.ctkCollapsibleButton("Advanced")
    qt.QVBoxLayout(section).addWidget(qt.QCheckBox("inside"))
    section.collapsed = True
    section.collapsed = False
    assert not section.findChild(qt.QCheckBox).isVisible()


def test_a_range_clamps_in_the_order_things_are_set():
    import ctk

    window = ctk.ctkRangeWidget()
    window.maximum = 65535
    window.minimumValue = 26000  # not beyond the other value, which is 99 until it is set
    assert (window.minimumValue, window.maximumValue) == (99, 99)
    window.setValues(26000, 40000)
    assert (window.minimumValue, window.maximumValue) == (26000, 40000)
    window.maximumValue = 100
    assert window.maximumValue == 26000
    window.setRange(30000, 35000)
    assert (window.minimumValue, window.maximumValue) == (30000, 30000)


def test_a_range_tells_of_its_values_once_for_each_change():
    import ctk

    window, seen = ctk.ctkRangeWidget(), []
    window.connect("valuesChanged(double,double)", lambda low, high: seen.append((low, high)))
    window.setValues(10, 20)
    window.setValues(20, 10)
    window.minimumValue = 12
    assert seen == [(10, 20), (12, 20)]


def test_a_slider_keeps_to_its_range_and_decimals():
    import ctk

    slider, seen = ctk.ctkSliderWidget(), []
    slider.connect("valueChanged(double)", seen.append)
    slider.value = 500
    assert slider.value == 99
    slider.setRange(0, 1)
    slider.decimals, slider.singleStep = 1, 0.1
    slider.value = 0.4321
    assert slider.value == 0.4 and seen == [99, 1, 0.4]


def test_paths_are_texts():
    import ctk

    edit, seen = ctk.ctkPathLineEdit(), []
    edit.connect("currentPathChanged(QString)", seen.append)
    edit.currentPath = "a/b c"
    edit.currentPath = "a/b c"
    assert seen == ["a/b c"]
    with pytest.raises(TypeError):
        edit.setCurrentPath(5)


def test_tables_are_filled_by_setters_and_counted_by_properties():
    import qt

    table = qt.QTableWidget()
    table.setColumnCount(2)
    table.setRowCount(1)
    table.setItem(0, 1, qt.QTableWidgetItem("0.5"))
    assert (table.rowCount, table.columnCount, table.item(0, 1).text()) == (1, 2, "0.5")
    with pytest.raises(TypeError):
        table.rowCount()


def test_flags_of_ctk_widgets_are_read_from_ui_files(tmp_path):
    import ctk
    import slicer

    path = tmp_path / "flags.ui"
    path.write_text(UI_WITH_FLAGS.format(flags="ctkPathLineEdit::Dirs|ctkPathLineEdit::Writable"))
    filters = slicer.util.childWidgetVariables(slicer.util.loadUI(str(path))).folderEdit.filters
    assert filters == ctk.ctkPathLineEdit.Dirs | ctk.ctkPathLineEdit.Writable
    path.write_text(UI_WITH_FLAGS.format(flags="ctkPathLineEdit::Folders"))
    with pytest.raises(AttributeError):
        slicer.util.loadUI(str(path))


UI_WITH_FLAGS = """
<ui version="4.0"><widget class="qMRMLWidget" name="panel"><layout class="QVBoxLayout" name="rows"><item>
<widget class="ctkPathLineEdit" name="folderEdit">
<property name="filters"><set>{flags}</set></property></widget></item></layout></widget></ui>""".strip()


def test_what_was_hidden_in_a_collapsible_button_stays_hidden_when_it_is_opened(application):
    import ctk
    import qt

    section = ctk.ctkCollapsibleButton("Section")
    first, second = qt.QLabel("first", section), qt.QLabel("second", section)
    first.visible = False
    section.show()
    assert first.isHidden() and not second.isHidden()
    section.collapsed = True
    assert first.isHidden() and second.isHidden()
    first.visible, second.visible = True, False
    assert first.isHidden() and second.isHidden()
    section.collapsed = False
    assert not first.isHidden() and second.isHidden()
    section.hide()
