"""What can be checked of the Slicer-facing code by reading it: names, imports, texts, the traps of PythonQt."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from pathlib import Path

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


def none(findings: Iterable[str]) -> None:
    """Fail with all that was found, a line each."""
    findings = list(findings)
    assert not findings, "\n" + "\n".join(findings)


def test_names_used_on_slicer_exist():
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    known = {"slicer": set(dir(slicer)) | APPLICATION_ONLY, "slicer.util": set(dir(slicer.util))}
    known |= {"slicer.mrmlScene": set(dir(slicer.vtkMRMLScene)), **OF_THE_APPLICATION}
    known |= {f"slicer.{name}": set(dir(getattr(slicer, name))) for name in dir(slicer) if name.startswith("vtk")}
    none(
        f"{label(path)}: {owner}.{name}"
        for path in SLICER_FILES
        for owner in ("slicer", *(f"slicer.{name}" for name in names_of(path, "slicer")))
        for name in names_of(path, owner) - known.get(owner, names_of(path, owner))
    )


def test_names_used_on_qt_and_ctk_exist(application):
    import ctk
    import qt

    found = []
    for path in PANELS:
        for owner, module in (("qt", qt), ("ctk", ctk)):
            for name in names_of(path, owner):
                found += [] if hasattr(module, name) else [f"{label(path)}: {owner}.{name}"]
                of_class = names_of(path, f"{owner}.{name}")
                found += [
                    f"{label(path)}: {owner}.{name}.{n}" for n in of_class if not hasattr(getattr(module, name), n)
                ]
    none(found)


def test_nothing_but_what_a_bare_slicer_has_is_imported_when_a_panel_or_logic_is():
    files = set().union(*map(library_files_reached_from, SLICER_FILES))
    none(f"{label(file)}: {name}" for file in files for name in packages_imported_by(file) - BARE_SLICER)


def test_a_heavy_import_would_be_noticed_however_deep_it_is():
    assert "torch" in packages_imported_by(LIBRARY / "models" / "weights.py")
    reached = library_files_reached_from(LIBRARY / "jobs" / "worker.py")
    assert {LIBRARY / "__init__.py", LIBRARY / "jobs" / "__init__.py"} & reached


def test_applying_a_model_imports_pytorch_only_in_the_file_of_its_engine():
    reached = set().union(*(library_files_reached_from(LIBRARY / "apply" / name) for name in ("run.py", "file.py")))
    none(label(file) for file in reached if {"torch", "safetensors"} & packages_imported_by(file))
    assert "torch" in packages_imported_by(LIBRARY / "apply" / "engines" / "pytorch.py")


def test_only_the_files_made_for_it_import_slicer_or_qt():
    for path in LIBRARY.rglob("*.py"):
        imported = packages_imported_by(path)
        assert "slicer" not in imported or path in [*PANELS, *LOGICS], path
        assert not {"qt", "ctk"} & imported or path in PANELS, path


def test_what_is_chosen_and_said_is_decided_without_qt():
    stems = ("choices", "texts", "data_checks", "data_rows", "option_values", "prepare")
    free = [path for path in PANELS if path.stem in stems]
    assert len(free) > 5
    none(f"{label(path)}: {name}" for path in free for name in packages_imported_by(path) & {"qt", "ctk"})


def test_no_names_that_older_or_newer_slicers_lack():
    none(
        f"{label(path)}: {node.attr}"
        for path in SLICER_FILES
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Attribute) and node.attr in NOT_IN_QT_6 | NOT_IN_QT_5
    )
    none(label(path) for path in SLICER_FILES if "imp" in packages_imported_by(path))


def test_module_files_are_short_and_define_things_only():
    for path in MODULE_FILES:
        assert len(path.read_text(encoding="utf-8").splitlines()) < 100
        for statement in parse(path).body:
            is_docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            is_definition = isinstance(statement, ast.Import | ast.ImportFrom | ast.ClassDef)
            assert is_docstring or is_definition, ast.unparse(statement)


def test_texts_for_users_can_be_translated():
    found = []
    for path in [*MODULE_FILES, *PANELS]:
        shown = [
            *(value for call in calls_in(path) if called(call) in SHOWS for value in call.args),
            *(node.value for node in ast.walk(parse(path)) if isinstance(node, ast.Assign) and sets_text(node)),
        ]
        found += [f"{label(path)}: {ast.unparse(value)}" for value in shown if has_words(value)]
    none(found)


def test_texts_of_panels_are_in_american_english():
    none(
        f"{label(path)}: {call.args[0].value}"
        for path in [*MODULE_FILES, *PANELS]
        for call in translations_in(path)
        if BRITISH.search(call.args[0].value)
    )


def test_what_is_translated_is_a_whole_text_and_filled_afterwards():
    none(
        f"{label(path)}: {ast.unparse(call)}"
        for path in [*MODULE_FILES, *PANELS, *LOGICS]
        for call in translations_in(path)
        if len(call.args) != 1 or not isinstance(call.args[0], ast.Constant)
    )


def test_tool_tips_show_names_and_messages_as_they_are():
    """Qt takes what looks like HTML for HTML, as in a node called "<b>x</b>"."""
    found = []
    for path in PANELS:
        for node in ast.walk(parse(path)):
            value = None
            if isinstance(node, ast.Assign) and any(getattr(t, "attr", "") == "toolTip" for t in node.targets):
                value = node.value
            elif isinstance(node, ast.Call) and called(node) == "setToolTip":
                value = node.args[0]
            made_by = dotted(value.func) if isinstance(value, ast.Call) else ""
            is_checked = made_by in ("plainToolTip", "_") or (isinstance(value, ast.Name) and value.id == "hint")
            if value is not None and not is_checked:
                found.append(f"{label(path)}: {ast.unparse(node)}")
    none(found)


def test_labels_made_in_code_say_what_format_their_text_has():
    none(
        label(path)
        for path in PANELS
        for call in calls_in(path)
        if dotted(call.func) in ("qt.QLabel", "qt.QMessageBox") and "qt.Qt.PlainText" not in ast.unparse(parse(path))
    )


def test_properties_of_widgets_are_not_called():
    found = []
    for path in PANELS:
        for call in calls_in(path):
            is_getter = called(call) in PROPERTIES and not call.args and not call.keywords
            of_an_item = is_getter and "item" in ast.unparse(call.func).lower()  # items of tables are no QObjects
            found += [f"{label(path)}: {ast.unparse(call)}"] if is_getter and not of_an_item else []
    none(found)


def test_enumerations_are_named_as_qt_5_names_them():
    """qt.Class.Value"""
    none(
        f"{label(path)}: {dotted(node)}"
        for path in PANELS
        for node in ast.walk(parse(path))
        if dotted(node).startswith("qt.") and dotted(node).count(".") > 2
    )


def test_signals_are_connected_by_their_whole_signature():
    found = []
    for path in PANELS:
        for call in calls_in(path):
            if called(call) == "connect" and len(call.args) == 2:
                signature = call.args[0]
                is_whole = isinstance(signature, ast.Constant) and signature.value.endswith(")")
                found += [] if is_whole else [f"{label(path)}: {ast.unparse(call)}"]
    none(found)


def translations_in(path: Path) -> list[ast.Call]:
    return [call for call in calls_in(path) if isinstance(call.func, ast.Name) and call.func.id == "_"]


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
