"""What can be checked of the two .ui files by reading them, and that they agree with the panels' code."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree

import pytest
from slicer_code import (
    BRITISH,
    LIBRARY,
    MODULES,
    UI_FILES,
    names_of,
    panel_files,
    parse,
    text_of,
    widgets_of,
    widgets_used_by,
)

SCENE_CONNECTION = ("mrmlSceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)")
CONTAINERS = {"QFrame", "QGroupBox", "QStackedWidget", "QTabWidget", "QWidget", "ctkCollapsibleButton", "qMRMLWidget"}
CONTROLS = {
    "QCheckBox",
    "QComboBox",
    "QDoubleSpinBox",
    "QLineEdit",
    "QListWidget",
    "QPlainTextEdit",
    "QProgressBar",
    "QPushButton",
    "QRadioButton",
    "QSlider",
    "QSpinBox",
    "QTableWidget",
    "QTextBrowser",
    "QToolButton",
    "QTreeWidget",
    "ctkPathLineEdit",
    "ctkRangeWidget",
    "ctkSliderWidget",
    "qMRMLNodeComboBox",
}
PICTURES = {"curveLabel", "histogramLabel", "pictureLabel", "statusIcon"}
PARAMETERS = {"CBCTSuperRes": "ApplyParameters", "CBCTSuperResTraining": "TrainingParameters"}

both_modules = pytest.mark.parametrize("module", MODULES)


def fields_of(module: str) -> set[str]:
    """The fields of the module's parameter node."""
    tree = parse(LIBRARY / "panels" / MODULES[module] / "parameters.py")
    cls = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == PARAMETERS[module])
    return {statement.target.id for statement in cls.body if isinstance(statement, ast.AnnAssign)}


def bound_names(module: str) -> list[str]:
    return [name for w in widgets_of(UI_FILES[module]) if (name := text_of(w, "SlicerParameterName"))]


@both_modules
def test_every_widget_is_of_a_known_kind_and_has_a_tool_tip(module):
    for widget in widgets_of(UI_FILES[module]):
        assert widget.get("class") in CONTAINERS | CONTROLS | {"QLabel"}
        if widget.get("class") not in ("qMRMLWidget", "QWidget", "QFrame", "QStackedWidget"):
            assert text_of(widget, "toolTip"), f"{widget.get('name')} has no tool tip"


@both_modules
def test_every_name_is_given_once(module):
    names = [w.get("name") for w in widgets_of(UI_FILES[module])]
    assert len(names) == len(set(names))


@both_modules
def test_every_mrml_widget_follows_the_scene_of_the_panel(module):
    root = ElementTree.parse(UI_FILES[module]).getroot()
    followers = {
        c.findtext("receiver")
        for c in root.iter("connection")
        if (c.findtext("signal"), c.findtext("slot")) == SCENE_CONNECTION
    }
    panel, *others = widgets_of(UI_FILES[module])
    assert {w.get("name") for w in others if w.get("class").startswith("qMRML")} == followers
    assert panel.get("class") == "qMRMLWidget"


@both_modules
def test_every_custom_widget_is_declared(module):
    declared = {c.findtext("class") for c in ElementTree.parse(UI_FILES[module]).getroot().iter("customwidget")}
    used = {w.get("class") for w in widgets_of(UI_FILES[module])}
    assert declared == {name for name in used if not name.startswith("Q")}


@both_modules
def test_widgets_and_the_parameters_in_the_scene_agree(module):
    bound, fields = bound_names(module), fields_of(module)
    assert len(bound) == len(set(bound)) and set(bound) <= fields
    used = set().union(*(names_of(p, o) for p in panel_files(module) for o in ("parameters", "self.parameters")))
    used |= set().union(*(names_of(p, "self.choices.parameters") for p in panel_files(module)))
    assert fields <= used | set(bound), "fields that nothing shows or uses"


@both_modules
def test_every_widget_that_a_panel_uses_is_in_its_ui_file(module):
    there = {w.get("name") for w in widgets_of(UI_FILES[module])}
    for path in panel_files(module):
        assert widgets_used_by(path) <= there, path


@both_modules
def test_there_are_no_dead_controls(module):
    """Whatever can be clicked, or has no text of its own, is used by a section or bound to a parameter."""
    used = set().union(*map(widgets_used_by, panel_files(module)))
    for widget in widgets_of(UI_FILES[module]):
        is_live = widget.get("class") in CONTROLS or (widget.get("class") == "QLabel" and not text_of(widget, "text"))
        if is_live and not text_of(widget, "SlicerParameterName"):
            assert widget.get("name") in used, widget.get("name")


@both_modules
def test_labels_before_fields_end_with_a_colon_and_belong_to_the_field(module):
    root = ElementTree.parse(UI_FILES[module]).getroot()
    names = {w.get("name") for w in widgets_of(UI_FILES[module])}
    for form in (layout for layout in root.iter("layout") if layout.get("class") in ("QFormLayout", "QGridLayout")):
        if form.get("class") == "QFormLayout":
            policy = text_of(form, "rowWrapPolicy")
            assert policy in ("QFormLayout::WrapLongRows", "QFormLayout::DontWrapRows"), form.get("name")
        fields = {item.get("row"): item for item in form.findall("item") if item.get("column") == "1"}
        for item in form.findall("item"):
            widget = item.find("widget")
            is_first = item.get("column") == "0" and not item.get("colspan") and widget is not None
            if is_first and (form.get("class") == "QFormLayout" or widget.get("class") == "QLabel"):
                assert text_of(widget, "text").endswith(":"), widget.get("name")
                if any(w.get("class") in CONTROLS for w in fields[item.get("row")].iter("widget")):
                    assert text_of(widget, "buddy") in names, f"{widget.get('name')} has no buddy"


@both_modules
def test_no_text_that_wraps_lies_in_a_form(module):
    """The form layout of Qt takes heights of its rows from another width, so that texts below long ones are cut off."""
    root = ElementTree.parse(UI_FILES[module]).getroot()
    forms = [layout for layout in root.iter("layout") if layout.get("class") == "QFormLayout"]
    wrapping = [w.get("name") for form in forms for w in form.iter("widget") if text_of(w, "wordWrap") == "true"]
    assert forms and not [name for name in wrapping if "Table" not in name], wrapping


@both_modules
def test_texts_are_in_sentence_case_and_wrap(module):
    for widget in widgets_of(UI_FILES[module]):
        text = text_of(widget, "text")
        words = re.findall(r"[A-Za-z][A-Za-z-]*", text.partition(".")[0])
        capitals = [w for w in words[1:] if w[0].isupper() and not w.isupper() and w not in ("TensorBoard", "Slicer")]
        assert not capitals, text
        is_long = widget.get("class") == "QLabel" and (not text or len(text) > 40)
        if is_long and widget.get("name") not in PICTURES:
            assert text_of(widget, "wordWrap") == "true", widget.get("name")


@both_modules
def test_labels_show_names_and_messages_as_they_are(module):
    """Without a format, Qt takes what looks like HTML for HTML: a node called "<b>x</b>", a path, a message."""
    labels = [widget for widget in widgets_of(UI_FILES[module]) if widget.get("class") == "QLabel"]
    rich = {label.get("name") for label in labels if "<" in text_of(label, "text")}
    formats = {label.get("name"): text_of(label, "textFormat") for label in labels}
    wrong = {name: found for name, found in formats.items() if found != "Qt::PlainText" and name not in rich}
    assert labels and not wrong, wrong


@both_modules
def test_nothing_has_colors_of_its_own_or_a_least_width_but_the_panel(module):
    root = ElementTree.parse(UI_FILES[module]).getroot()
    names = {p.get("name") for p in root.iter("property")}
    assert not names & {"styleSheet", "palette", "minimumWidth"}
    panel, *others = [
        least.findtext("size/width")
        for widget in widgets_of(UI_FILES[module])
        for least in widget.findall("property")
        if least.get("name") == "minimumSize"
    ]
    assert panel == "230" and set(others) <= {"0"}


@both_modules
def test_panel_and_sections_do_not_ask_for_the_width_of_what_they_show(module):
    """Slicer lets no module, and a box layout no section, be narrower than its hint, which grows with the texts."""
    for widget in widgets_of(UI_FILES[module]):
        if widget.get("class") in ("qMRMLWidget", "ctkCollapsibleButton"):
            policy = next((p for p in widget.iter("sizepolicy")), None)
            assert policy is not None and policy.get("hsizetype") == "Ignored", widget.get("name")


@both_modules
def test_values_are_written_as_qt_5_reads_them(module):
    root = ElementTree.parse(UI_FILES[module]).getroot()
    for element in [*root.iter("enum"), *root.iter("set")]:
        for value in element.text.split("|"):
            assert value.count("::") == 1, element.text


@both_modules
def test_texts_are_in_american_english(module):
    root = ElementTree.parse(UI_FILES[module]).getroot()
    found = [element.text for element in root.iter("string") if BRITISH.search(element.text or "")]
    assert not found


@both_modules
def test_every_property_is_one_of_its_widget(module, application):
    """Qt keeps a misspelled one without a word."""
    import ctk
    import pythonqt
    import qt
    import slicer

    for widget in widgets_of(UI_FILES[module]):
        kind = widget.get("class")
        made = next(getattr(place, kind) for place in (qt, ctk, slicer) if hasattr(place, kind))()
        known = pythonqt.properties(made)
        for name in [p.get("name") for p in widget.findall("property") if p.get("stdset") != "0"]:
            assert name == "buddy" or name in known, f"{widget.get('name')}: {name}"
