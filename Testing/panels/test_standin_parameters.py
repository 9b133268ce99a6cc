"""The stand-in for `slicer.parameterNodeWrapper` stores and shows what Slicer's does, and refuses the rest."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Optional

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("application")


class Planes(enum.Enum):
    axial = "axial"
    isotropic = "isotropic"

    @staticmethod
    def label(planes):
        return planes.value.title()


@pytest.fixture
def make(scene):
    """Makes parameters with the given fields and defaults in a new node."""
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    def make(fields, node=None, **defaults):
        cls = parameterNodeWrapper(type("Parameters", (), {"__annotations__": fields, **defaults}))
        return cls(node or scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))

    return make


@pytest.fixture
def wrapper(application):
    import slicer

    return slicer.parameterNodeWrapper


def test_values_of_all_kinds_survive_in_the_node(make):
    fields = {
        "count": int,
        "share": float,
        "on": bool,
        "name": str,
        "folder": Path,
        "planes": Planes,
        "names": list[str],
    }
    parameters = make(fields)
    values = [3, 0.1, True, "Zähne 1", Path("a b/ä"), Planes.isotropic, ["x", "y z"]]
    for name, value in zip(fields, values, strict=True):
        setattr(parameters, name, value)
    again = make(fields, parameters.parameterNode)
    assert [getattr(again, name) for name in fields] == values


def test_parameters_are_stored_in_the_node_and_enums_by_their_name(make, scene):
    import slicer

    fields = {"volume": slicer.vtkMRMLScalarVolumeNode, "planes": Planes, "model": str}
    parameters = make(fields, planes=Planes.axial, model="light")
    assert (parameters.volume, parameters.planes, parameters.model) == (None, Planes.axial, "light")
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    parameters.volume, parameters.planes, parameters.model = node, Planes.isotropic, "mine"
    again = make(fields, parameters.parameterNode, model="light")  # defaults do not overwrite what is there
    assert (again.volume, again.planes, again.model) == (node, Planes.isotropic, "mine")
    assert parameters.parameterNode.GetParameter("planes") == "isotropic"


def test_a_node_may_be_optional_and_goes_with_the_scene(make, scene):
    import slicer

    parameters = make({"region": Optional[slicer.vtkMRMLMarkupsROINode]})  # noqa: UP045
    assert parameters.region is None
    parameters.region = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    scene.RemoveNode(parameters.region)
    assert parameters.region is None


def test_a_list_of_nodes_changes_in_the_node_as_it_changes(make, scene):
    import slicer

    parameters = make({"volumes": list[slicer.vtkMRMLScalarVolumeNode]})
    nodes = [scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode") for _ in range(3)]
    parameters.volumes = nodes[:2]
    parameters.volumes.append(nodes[2])
    del parameters.volumes[0]
    assert list(parameters.volumes) == nodes[1:]


def test_unknown_fields_and_wrong_values_are_refused(make, scene):
    import slicer

    parameters = make({"volume": slicer.vtkMRMLScalarVolumeNode, "count": int, "folder": Path, "name": str})
    with pytest.raises(AttributeError, match="plane"):
        parameters.plane = Planes.axial
    wrong = {"volume": scene.AddNewNodeByClass("vtkMRMLModelNode"), "count": np.int64(3), "folder": "x", "name": None}
    for name, value in wrong.items():
        with pytest.raises(TypeError):
            setattr(parameters, name, value)


def test_bounds_and_choices_are_kept_to(make, wrapper):
    parameters = make(
        {
            "tile": Annotated[int, wrapper.WithinRange(0, 512)],
            "passes": Annotated[int, wrapper.Choice([1, 2, 8]), wrapper.Default(1)],
        }
    )
    assert parameters.passes == 1
    wrong = {"tile": 1024, "passes": 3}
    for name, value in wrong.items():
        with pytest.raises(ValueError):
            setattr(parameters, name, value)


@pytest.mark.parametrize("kind", [dict[str, str], "int | None", tuple[int, int], Optional[int]])  # noqa: UP045
def test_kinds_of_fields_that_we_do_not_use_are_refused(make, kind):
    with pytest.raises(TypeError):
        make({"value": kind})


def test_names_that_the_wrapper_needs_for_itself_are_refused(make):
    with pytest.raises(ValueError, match="default"):
        make({"default": int})


def widgets_and_values():
    import ctk
    import qt
    import slicer
    from slicer.parameterNodeWrapper import Choice, Default, WithinRange

    return {
        "checkBox": (qt.QCheckBox(), bool, True, lambda w: w.click(), False),
        "lineEdit": (qt.QLineEdit(), str, "a", lambda w: setattr(w, "text", "b"), "b"),
        "spinBox": (qt.QSpinBox(), Annotated[int, WithinRange(0, 500)], 400, lambda w: setattr(w, "value", 7), 7),
        "slider": (qt.QSlider(), Annotated[int, WithinRange(0, 9)], 3, lambda w: setattr(w, "value", 99), 9),
        "double": (
            qt.QDoubleSpinBox(),
            Annotated[float, WithinRange(0, 1)],
            0.5,
            lambda w: setattr(w, "value", 0.25),
            0.25,
        ),
        "fade": (
            ctk.ctkSliderWidget(),
            Annotated[float, WithinRange(0, 100)],
            50.0,
            lambda w: setattr(w, "value", 99),
            99,
        ),
        "path": (ctk.ctkPathLineEdit(), Path, Path("x"), lambda w: setattr(w, "currentPath", "y"), Path("y")),
        "enum": (qt.QComboBox(), Planes, Planes.isotropic, lambda w: setattr(w, "currentIndex", 0), Planes.axial),
        "choice": (
            qt.QComboBox(),
            Annotated[str, Choice(["a", "b"]), Default("a")],
            "b",
            lambda w: setattr(w, "currentIndex", 0),
            "a",
        ),
        "node": (slicer.qMRMLNodeComboBox(), slicer.vtkMRMLScalarVolumeNode, None, lambda w: None, None),
    }


def test_a_bound_widget_shows_its_field_and_changes_it_until_released(make):
    for name, (widget, kind, value, change, expected) in widgets_and_values().items():
        parameters = make({"field": kind})
        parameters.field = value
        tag = parameters.connectParametersToGui({"field": widget})
        assert parameters.field == value, name  # showing changes nothing
        change(widget)
        assert parameters.field == expected, name
        parameters.disconnectGui(tag)
        parameters.field = value
        change(widget)
        assert parameters.field == value, name


def test_a_widget_of_another_class_is_refused_even_a_derived_one(make):
    import qt

    class MyCheckBox(qt.QCheckBox):
        pass

    for widget, kind in ((MyCheckBox(), bool), (qt.QLabel(), str), (qt.QComboBox(), Path)):
        with pytest.raises(TypeError, match="cannot be shown"):
            make({"field": kind}).connectParametersToGui({"field": widget})


def test_widgets_that_need_bounds_or_choices_say_so(make):
    import ctk
    import qt

    for widget, kind in ((ctk.ctkSliderWidget(), float), (qt.QComboBox(), str)):
        with pytest.raises(RuntimeError, match="Annotated"):
            make({"field": kind}).connectParametersToGui({"field": widget})


def test_nothing_undoes_connect_gui(make):
    import qt

    panel = qt.QWidget()
    box = qt.QCheckBox(panel)
    box.setProperty("SlicerParameterName", "on")
    parameters = make({"on": bool})
    tag = parameters.connectGui(panel)
    box.click()
    assert parameters.on and tag is None
    with pytest.raises(KeyError):
        parameters.disconnectGui(tag)
