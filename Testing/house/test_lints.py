"""What can be checked of the Slicer-facing code by reading it: names, imports, texts, the traps of PythonQt."""

from __future__ import annotations

import ast
import sys

import pytest
from slicer_code import (
    BRITISH,
    LIBRARY,
    MODULE_FILES,
    PANELS,
    calls_in,
    dotted,
    label,
    library_files_reached_from,
    names_of,
    packages_imported_by,
    parse,
)

LOGICS = [
    LIBRARY / "demo.py",
    *sorted(path for path in (LIBRARY / "scene").glob("*.py") if path.stem != "__init__"),
]
SLICER_FILES = [*MODULE_FILES, *PANELS, *(path for path in LOGICS if path.stem != "demo")]  # that is for slicer-core
BARE_SLICER = {"numpy", "vtk", "SimpleITK", "slicer", "qt", "ctk", "CBCTSuperResLib"} | set(sys.stdlib_module_names)

APPLICATION_ONLY = {"app", "modules", "mrmlScene", "packaging", "i18n", "qMRMLNodeComboBox"}
OF_THE_APPLICATION = {
    "slicer.app": {
        "applicationVersion",
        "clipboard",
        "commandOptions",
        "connect",
        "disconnect",
        "layoutManager",
        "majorVersion",
        "minorVersion",
        "processEvents",
        "restoreOverrideCursor",
        "setOverrideCursor",
        "settings",
        "temporaryPath",
        "testingEnabled",
        "userSettings",
    },
    "slicer.modules": {"cbctsuperres", "cbctsuperrestraining", "plots", "sampledata"},
}
NOT_IN_QT_6 = {"QTextCodec", "QRegExp", "QDesktopWidget"}
NOT_IN_QT_5 = {"checkStateChanged", "colorScheme", "exec", "globalPosition"}
SHOWN = {"placeholderText", "text", "title", "toolTip", "windowTitle"}
SHOWS = {"addAction", "addButton", "addItem", "addTab", "setItemText", "setPlainText", "setTabText", "setText"}
SHOWS |= {"setHorizontalHeaderLabels", "setTitle", "setToolTip", "setWindowTitle", "showStatusMessage"}
PROPERTIES = {  # of widgets: in PythonQt these are values, which cannot be called
    *("checked", "collapsed", "columnCount", "count", "currentIndex", "currentPath", "currentRow", "currentText"),
    *("directory", "enabled", "html", "maximum", "maximumValue", "minimum", "minimumValue", "plainText", "rowCount"),
    *("text", "title", "toolTip", "value", "visible", "windowTitle"),
}


@pytest.mark.parametrize("path", SLICER_FILES, ids=label)
def test_names_used_on_slicer_exist(path):
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    assert names_of(path, "slicer") - APPLICATION_ONLY <= set(dir(slicer))
    assert names_of(path, "slicer.util") <= set(dir(slicer.util))
    assert names_of(path, "slicer.mrmlScene") <= set(dir(slicer.vtkMRMLScene))
    for owner, known in OF_THE_APPLICATION.items():
        assert names_of(path, owner) <= known
    for name in names_of(path, "slicer"):
        if name.startswith("vtk"):
            assert names_of(path, f"slicer.{name}") <= set(dir(getattr(slicer, name))), name


@pytest.mark.parametrize("path", PANELS, ids=label)
def test_names_used_on_qt_and_ctk_exist(path, application):
    import ctk
    import qt

    for owner, module in (("qt", qt), ("ctk", ctk)):
        for name in names_of(path, owner):
            assert hasattr(module, name), f"{owner}.{name}"
            unknown = {n for n in names_of(path, f"{owner}.{name}") if not hasattr(getattr(module, name), n)}
            assert not unknown, f"{owner}.{name}: {unknown}"


@pytest.mark.parametrize("path", SLICER_FILES, ids=label)
def test_nothing_but_what_a_bare_slicer_has_is_imported_when_a_panel_or_logic_is(path):
    heavy = {label(file): packages_imported_by(file) - BARE_SLICER for file in library_files_reached_from(path)}
    assert not {file: names for file, names in heavy.items() if names}


def test_a_heavy_import_would_be_noticed_however_deep_it_is():
    assert "torch" in packages_imported_by(LIBRARY / "models" / "model.py")
    reached = library_files_reached_from(LIBRARY / "jobs" / "worker.py")
    assert {LIBRARY / "__init__.py", LIBRARY / "jobs" / "__init__.py"} & reached


def test_only_the_files_made_for_it_import_slicer_or_qt():
    for path in LIBRARY.rglob("*.py"):
        imported = packages_imported_by(path)
        assert "slicer" not in imported or path in [*PANELS, *LOGICS], path
        assert not {"qt", "ctk"} & imported or path in PANELS, path


@pytest.mark.parametrize("path", SLICER_FILES, ids=label)
def test_no_names_that_older_or_newer_slicers_lack(path):
    used = {node.attr for node in ast.walk(parse(path)) if isinstance(node, ast.Attribute)}
    assert not used & (NOT_IN_QT_6 | NOT_IN_QT_5)
    assert "imp" not in packages_imported_by(path)


@pytest.mark.parametrize("path", MODULE_FILES, ids=label)
def test_module_files_are_short_and_define_things_only(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 100
    for statement in parse(path).body:
        is_docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        assert is_docstring or isinstance(statement, ast.Import | ast.ImportFrom | ast.ClassDef), ast.unparse(statement)


@pytest.mark.parametrize("path", [*MODULE_FILES, *PANELS], ids=label)
def test_texts_for_users_can_be_translated(path):
    shown = [
        *(value for call in calls_in(path) if called(call) in SHOWS for value in call.args),
        *(node.value for node in ast.walk(parse(path)) if isinstance(node, ast.Assign) and sets_text(node)),
    ]
    bare = [ast.unparse(value) for value in shown if has_words(value)]
    assert not bare


@pytest.mark.parametrize("path", [*MODULE_FILES, *PANELS], ids=label)
def test_texts_of_panels_are_in_american_english(path):
    texts = [call.args[0].value for call in calls_in(path) if isinstance(call.func, ast.Name) and call.func.id == "_"]
    assert not [text for text in texts if BRITISH.search(text)]


@pytest.mark.parametrize("path", [*MODULE_FILES, *PANELS, *LOGICS], ids=label)
def test_what_is_translated_is_a_whole_text_and_filled_afterwards(path):
    for call in calls_in(path):
        if isinstance(call.func, ast.Name) and call.func.id == "_":
            assert len(call.args) == 1 and isinstance(call.args[0], ast.Constant), ast.unparse(call)


@pytest.mark.parametrize("path", PANELS, ids=label)
def test_properties_of_widgets_are_not_called(path):
    for call in calls_in(path):
        is_getter = called(call) in PROPERTIES and not call.args and not call.keywords
        of_an_item = is_getter and "item" in ast.unparse(call.func).lower()  # items of tables and lists are no QObjects
        assert not is_getter or of_an_item, ast.unparse(call)


@pytest.mark.parametrize("path", PANELS, ids=label)
def test_enumerations_are_named_as_qt_5_names_them(path):
    for node in ast.walk(parse(path)):
        name = dotted(node)
        assert not (name.startswith("qt.") and name.count(".") > 2), f"{name}: qt.Class.Value"


@pytest.mark.parametrize("path", PANELS, ids=label)
def test_signals_are_connected_by_their_whole_signature(path):
    for call in calls_in(path):
        if called(call) == "connect" and len(call.args) == 2:
            signature = call.args[0]
            assert isinstance(signature, ast.Constant) and signature.value.endswith(")"), ast.unparse(call)


def called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def sets_text(statement: ast.Assign) -> bool:
    return any(isinstance(target, ast.Attribute) and target.attr in SHOWN for target in statement.targets)


def has_words(value: ast.expr) -> bool:
    """True if an expression is, or is made of, words that are written in the code and not translated."""
    if isinstance(value, ast.Constant):
        return isinstance(value.value, str) and any(character.isalpha() for character in value.value)
    if isinstance(value, ast.JoinedStr | ast.List | ast.Tuple | ast.BinOp | ast.IfExp | ast.BoolOp):
        parts = getattr(value, "values", None) or getattr(value, "elts", None) or branches(value)
        return any(has_words(part) for part in parts)
    return False


def branches(value: ast.BinOp | ast.IfExp) -> list[ast.expr]:
    return [value.left, value.right] if isinstance(value, ast.BinOp) else [value.body, value.orelse]
