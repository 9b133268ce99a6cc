"""The stand-in for the application: views, plots, settings, modules, with and without a main window."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("application")


@pytest.fixture
def layouts(application, scene):
    import slicer

    return slicer.app.layoutManager()


@pytest.fixture
def volume(scene):
    import slicer

    return slicer.util.addVolumeFromArray(np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6), name="Scan")


def test_three_slice_views_show_what_they_are_told_to(layouts, volume):
    import slicer

    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    assert set(layouts.sliceViewNames()) == {"Red", "Yellow", "Green"}
    for name, orientation in (("Red", "Axial"), ("Yellow", "Sagittal"), ("Green", "Coronal")):
        view = layouts.sliceWidget(name)
        assert view.mrmlSliceNode().GetOrientation() == orientation
        assert view.sliceLogic().GetSliceCompositeNode().GetBackgroundVolumeID() == volume.GetID()
        assert view.mrmlSliceCompositeNode() is view.sliceLogic().GetSliceCompositeNode()
        producer = view.sliceLogic().GetImageDataConnection().GetProducer()
        producer.Update()
        assert producer.GetOutputDataObject(0).GetScalarRange()[1] > 0


def test_the_views_outlive_the_scene(layouts, scene):
    scene.Clear(0)
    for name in layouts.sliceViewNames():
        assert scene.GetNodeByID(layouts.sliceWidget(name).mrmlSliceNode().GetID())
    assert layouts.sliceWidget("Blue") is None


def test_the_layout_is_changed_and_told_and_unknown_ones_refused(layouts):
    import slicer

    seen, before = [], layouts.layout
    layouts.connect("layoutChanged(int)", seen.append)
    layouts.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
    assert layouts.layout == 29 and seen == [29]
    layouts.layout = before
    assert layouts.layout == before
    layouts.disconnect("layoutChanged(int)", seen.append)
    with pytest.raises(ValueError):
        layouts.setLayout(4711)


def test_there_is_a_crosshair(layouts, scene):
    crosshair = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    crosshair.SetCrosshairRAS(1, 2, 3)
    assert crosshair.GetCrosshairRAS() == (1, 2, 3)
    assert scene.GetSingletonNode("default", "vtkMRMLCrosshairNode") is crosshair


def test_a_chart_is_shown_in_a_layout_with_a_plot(layouts, scene):
    import slicer

    layouts.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode")
    slicer.modules.plots.logic().ShowChartInLayout(chart)
    assert layouts.layout != slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    layouts.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)


def test_settings_are_kept_in_a_folder_of_the_tests_own(application):
    import slicer

    slicer.app.settings().setValue("CBCTSuperRes/last", "x")
    assert slicer.util.settingsValue("CBCTSuperRes/last", "") == "x"
    assert "slicer-settings-" in slicer.app.settings().fileName()
    slicer.app.settings().clear()


def test_without_a_main_window_there_is_no_layout_manager_either(application, volume, monkeypatch):
    import slicer

    assert slicer.util.mainWindow() is not None
    monkeypatch.setattr(slicer.app, "hasMainWindow", False)
    assert slicer.app.layoutManager() is None and slicer.util.mainWindow() is None
    slicer.util.setSliceViewerLayers(background=volume)
    with pytest.raises(RuntimeError):
        slicer.util.selectModule("CBCTSuperRes")


def test_names_that_the_application_lacks_are_errors(application, layouts):
    import slicer

    for owner, name in ((slicer.app, "layoutManger"), (layouts, "setLayuot"), (slicer.modules, "nosuchmodule")):
        with pytest.raises(AttributeError):
            getattr(owner, name)


def test_choosing_a_module_leaves_the_other_and_enters_it(application, scene, tmp_path):
    import slicer

    for name in ("StandinFirst", "StandinSecond"):
        (tmp_path / f"{name}.py").write_text(MODULE.format(name=name))
        application.loadModule(str(tmp_path / f"{name}.py"))
    slicer.util.selectModule("StandinFirst")
    slicer.util.selectModule("StandinSecond")
    first, second = (slicer.util.getModuleWidget(name) for name in ("StandinFirst", "StandinSecond"))
    assert (first.seen, second.seen) == (["enter", "exit"], ["enter"])
    assert second.parent.isEntered and not first.parent.isEntered
    with pytest.raises(RuntimeError, match="StandinThird"):
        slicer.util.selectModule("StandinThird")
    slicer.util.mainWindow().moduleSelector().selectedModule = ""


MODULE = """
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget


class {name}(ScriptedLoadableModule):
    pass


class {name}Widget(ScriptedLoadableModuleWidget):
    def setup(self):
        self.seen = []

    def enter(self):
        self.seen.append("enter")

    def exit(self):
        self.seen.append("exit")
"""


def test_views_are_for_the_next_test_as_they_were_at_first(layouts):
    import slicer

    node = layouts.sliceWidget("Red").mrmlSliceNode()
    node.GetSliceToRAS().SetElement(0, 1, 0.5)
    node.UpdateMatrices()
    layouts.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
    slicer.app.resetViews()
    assert node.GetOrientation() == "Axial" and layouts.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
