"""Reading the Slicer-facing code and the .ui files without running them, for the lints."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "CBCTSuperRes" / "CBCTSuperResLib"
MODULES = {"CBCTSuperRes": "apply", "CBCTSuperResTraining": "training"}  # and the folder of its panel
MODULE_FILES = [ROOT / name / f"{name}.py" for name in MODULES]
UI_FILES = {name: ROOT / name / "Resources" / "UI" / f"{name}.ui" for name in MODULES}
BRITISH = re.compile(r"grey|colour|licence|normalis|centre|behaviour|neighbour|\bmodell|labell|analys", re.IGNORECASE)
PANELS = sorted((LIBRARY / "panels").rglob("*.py"))


def label(path: Path) -> str:
    """A file as tests name it."""
    return path.relative_to(ROOT).as_posix().removeprefix("CBCTSuperRes/CBCTSuperResLib/")


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def dotted(node: ast.AST) -> str:
    """ "slicer.app.settings" for such an expression; "" for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and dotted(node.value):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def imports_at_file_scope(path: Path) -> Iterator[ast.Import | ast.ImportFrom]:
    """What a file imports when it is imported; `if TYPE_CHECKING` apart."""
    waiting = list(parse(path).body)
    while waiting:
        statement = waiting.pop()
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield statement
        elif isinstance(statement, ast.If) and dotted(statement.test).endswith("TYPE_CHECKING"):
            waiting += statement.orelse
        elif isinstance(statement, ast.If | ast.Try | ast.With | ast.ClassDef):
            waiting += [s for s in ast.iter_child_nodes(statement) if isinstance(s, ast.stmt)]
            waiting += [s for handler in getattr(statement, "handlers", []) for s in handler.body]


def packages_imported_by(path: Path) -> set[str]:
    """The top-level names of what a file itself imports at file scope."""
    found = set()
    for statement in imports_at_file_scope(path):
        if isinstance(statement, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in statement.names}
        elif statement.level == 0:
            found.add(statement.module.partition(".")[0])
    return found


def library_files_imported_by(path: Path) -> set[Path]:
    """The files of the library that are run when a file is imported, packages' own files included."""
    found = set()
    for statement in imports_at_file_scope(path):
        if not isinstance(statement, ast.ImportFrom):
            continue
        if statement.level:
            folder = path.parents[statement.level - 1]
        elif statement.module.partition(".")[0] == LIBRARY.name:
            folder = LIBRARY.parent
        else:
            continue
        target = folder.joinpath(*(statement.module or "").split("."))
        candidates = [target, *(target / alias.name for alias in statement.names)]
        for candidate in candidates:
            found |= {f for f in (candidate.with_suffix(".py"), candidate / "__init__.py") if f.is_file()}
    parents = {p / "__init__.py" for f in found for p in f.parents if p.is_relative_to(LIBRARY)}
    return found | parents


def library_files_reached_from(path: Path) -> set[Path]:
    """All files of the library that are run when a file is imported."""
    reached, waiting = set(), {path}
    while waiting:
        file = waiting.pop()
        reached.add(file)
        waiting |= library_files_imported_by(file) - reached
    return reached


def names_of(path: Path, owner: str) -> set[str]:
    """The names used on something, for instance on `slicer.util`."""
    return {n.attr for n in ast.walk(parse(path)) if isinstance(n, ast.Attribute) and dotted(n.value) == owner}


def calls_in(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(parse(path)) if isinstance(node, ast.Call))


def widgets_of(ui: Path) -> list[ElementTree.Element]:
    return list(ElementTree.parse(ui).getroot().find("widget").iter("widget"))


def text_of(element: ElementTree.Element, name: str) -> str:
    """The value of a property of a widget or layout in a .ui file."""
    found = next((p for p in element.findall("property") if p.get("name") == name), None)
    return "".join(found.itertext()).strip() if found is not None else ""


def panel_files(module: str) -> list[Path]:
    return [path for path in PANELS if path.parent.name == MODULES[module]]


def widgets_used_by(path: Path) -> set[str]:
    return names_of(path, "self.ui") | names_of(path, "ui")
