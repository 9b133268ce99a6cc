"""What can be checked of the Slicer-facing code by reading it: names, imports, .ui files."""

from __future__ import annotations

import ast
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "CBCTSuperRes" / "CBCTSuperResLib"
MODULE_FILES = [ROOT / name / f"{name}.py" for name in ("CBCTSuperRes", "CBCTSuperResTraining")]
PANELS = sorted((LIBRARY / "panels").rglob("*.py"))
LOGICS = ("nodes.py", "logic.py", "install.py", "training_logic.py", "training_volumes.py")
SLICER_FILES = [*MODULE_FILES, *PANELS, *(LIBRARY / name for name in LOGICS)]
UI_FILES = {name: ROOT / name / "Resources" / "UI" / f"{name}.ui" for name in ("CBCTSuperRes", "CBCTSuperResTraining")}

APPLICATION_ONLY = {"app", "modules", "mrmlScene", "packaging", "i18n"}
BARE_SLICER = {"numpy", "vtk", "SimpleITK", "slicer", "qt", "ctk", "CBCTSuperResLib"}
GONE = {"QTextCodec", "QRegExp", "QDesktopWidget"}  # not in Qt 6
SCENE_CONNECTION = ("mrmlSceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)")
ALLOWED_WIDGETS = {
    "QComboBox",
    "QLabel",
    "QListWidget",
    "QPlainTextEdit",
    "QProgressBar",
    "QPushButton",
    "ctkCollapsibleButton",
    "qMRMLNodeComboBox",
    "qMRMLWidget",
}


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports_at_file_scope(path: Path) -> set[str]:
    """Top-level names of packages that a file imports when it is imported, `if TYPE_CHECKING` apart."""
    found = set()
    for statement in parse(path).body:
        if isinstance(statement, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom) and statement.level == 0:
            found.add(statement.module.partition(".")[0])
    return found


@pytest.mark.parametrize("path", SLICER_FILES, ids=lambda p: p.name)
def test_names_used_on_slicer_exist(path):
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    unknown = set()
    for node in ast.walk(parse(path)):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        if isinstance(owner, ast.Name) and owner.id == "slicer":
            unknown |= {node.attr} - APPLICATION_ONLY - set(dir(slicer))
        elif ast.unparse(owner) == "slicer.util" and not hasattr(slicer.util, node.attr):
            unknown.add(f"util.{node.attr}")
    assert not unknown


@pytest.mark.parametrize("path", SLICER_FILES, ids=lambda p: p.name)
def test_nothing_but_what_a_bare_slicer_has_is_imported_at_file_scope(path):
    assert imports_at_file_scope(path) <= BARE_SLICER | set(sys.stdlib_module_names)


def test_only_the_files_made_for_it_import_slicer_or_qt():
    for path in LIBRARY.rglob("*.py"):
        imported = imports_at_file_scope(path)
        if "slicer" in imported:
            assert path in [*SLICER_FILES, LIBRARY / "demo.py"], path  # the demo is a script for slicer-core
        if {"qt", "ctk"} & imported:
            assert path in PANELS, path


@pytest.mark.parametrize("path", SLICER_FILES, ids=lambda p: p.name)
def test_no_names_that_newer_slicers_lack(path):
    used = {node.attr for node in ast.walk(parse(path)) if isinstance(node, ast.Attribute)}
    assert not used & GONE
    assert "imp" not in imports_at_file_scope(path)


@pytest.mark.parametrize("path", MODULE_FILES, ids=lambda p: p.name)
def test_module_files_are_short_and_define_things_only(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 100
    for statement in parse(path).body:
        is_docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        assert is_docstring or isinstance(statement, ast.Import | ast.ImportFrom | ast.ClassDef), ast.unparse(statement)


def widgets_of(ui: Path) -> list[ElementTree.Element]:
    return list(ElementTree.parse(ui).getroot().find("widget").iter("widget"))


def text_of(widget: ElementTree.Element, name: str) -> str:
    found = next((p for p in widget.findall("property") if p.get("name") == name), None)
    return "".join(found.itertext()).strip() if found is not None else ""


@pytest.mark.parametrize("ui", UI_FILES.values(), ids=UI_FILES.keys())
def test_every_widget_is_of_a_known_kind_and_has_a_tool_tip(ui):
    for widget in widgets_of(ui):
        assert widget.get("class") in ALLOWED_WIDGETS
        if widget.get("class") != "qMRMLWidget":
            assert text_of(widget, "toolTip"), f"{widget.get('name')} has no tool tip"


@pytest.mark.parametrize("ui", UI_FILES.values(), ids=UI_FILES.keys())
def test_every_mrml_widget_follows_the_scene_of_the_panel(ui):
    root = ElementTree.parse(ui).getroot()
    followers = {
        c.findtext("receiver")
        for c in root.iter("connection")
        if (c.findtext("signal"), c.findtext("slot")) == SCENE_CONNECTION
    }
    panel, *others = widgets_of(ui)
    assert {w.get("name") for w in others if w.get("class").startswith("qMRML")} == followers
    assert panel.get("class") == "qMRMLWidget"


def test_the_panel_and_the_parameters_in_the_scene_agree():
    names = {text_of(w, "SlicerParameterName") for w in widgets_of(UI_FILES["CBCTSuperRes"])} - {""}
    tree = parse(LIBRARY / "panels" / "apply" / "parameters.py")
    cls = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "ApplyParameters")
    fields = {statement.target.id for statement in cls.body if isinstance(statement, ast.AnnAssign)}
    assert names == fields - {"model"}  # whose choices are not known when the file is written


def widgets_used_by(path: Path) -> set[str]:
    return {n.attr for n in ast.walk(parse(path)) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "self.ui"}


@pytest.mark.parametrize("path", [p for p in PANELS if widgets_used_by(p)], ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_widget_that_a_panel_uses_is_in_its_ui_file(path):
    ui = UI_FILES["CBCTSuperRes" if path.parent.name == "apply" else "CBCTSuperResTraining"]
    assert widgets_used_by(path) <= {w.get("name") for w in widgets_of(ui)}
