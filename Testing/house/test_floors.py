"""The house stands on its floors: a file imports only from floors below its room's, and never in a circle."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "CBCTSuperRes" / "CBCTSuperResLib"
FLOORS = [
    {"core", "networks", ""},
    {"io"},
    {"acquisition", "scan"},
    {"measure", "models", "prepare"},
    {"importers", "apply"},
    {"train", "evaluate"},
    {"jobs"},
    {"scene", "cli"},
    {"panels", "batch", "demo"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
SLICER, QT = {"scene", "panels", "demo"}, {"panels"}


def modules() -> dict[str, Path]:
    """The library's files by their dotted names below the library."""
    found = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        name = ".".join(path.relative_to(LIBRARY).with_suffix("").parts)
        found[name.removesuffix("__init__").rstrip(".")] = path
    return found


MODULES = modules()


def room_of(module: str) -> str:
    return module.partition(".")[0]


def imports_of(module: str) -> set[str]:
    """Modules of the library, and packages outside, that a file names in any import; `TYPE_CHECKING` counts, too."""
    path, found = MODULES[module], set()
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {"/" + alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = [part for part in package if part][: len([p for p in package if p]) - (node.level - 1)]
            elif node.module.partition(".")[0] == "CBCTSuperResLib":
                base, node.module = [], node.module.partition(".")[2]
            else:
                found.add("/" + node.module.partition(".")[0])
                continue
            home = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{home}.{alias.name}".strip(".")
                found.add(inner if inner in MODULES else home)
    return found


IMPORTS = {module: imports_of(module) for module in MODULES}


def test_every_room_has_a_floor():
    assert {room_of(module) for module in MODULES} == set(FLOOR)


def test_arrows_point_down():
    up = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in sorted(others)
        if not other.startswith("/") and room_of(other) != room_of(module)
        if FLOOR[room_of(other)] >= FLOOR[room_of(module)] and other != ""
    ]
    assert not up, "\n".join(up)


def test_no_files_import_each_other_in_a_circle():
    below = {module: {o for o in others if o in MODULES and o != module} for module, others in IMPORTS.items()}
    while free := [module for module, others in below.items() if not others & below.keys()]:
        for module in free:
            del below[module]
    assert not below, "these import each other: " + ", ".join(sorted(below))


def test_networks_know_nothing_but_themselves():
    allowed = {"networks", "torch"}
    for module, others in IMPORTS.items():
        if room_of(module) == "networks":
            ours = {room_of(other) for other in others if not other.startswith("/")}
            assert ours <= allowed, f"{module} imports {ours - allowed}"


def test_slicer_and_qt_are_imported_only_where_they_are_at_home():
    for module, others in IMPORTS.items():
        assert "/slicer" not in others or room_of(module) in SLICER, module
        assert not {"/qt", "/ctk"} & others or room_of(module) in QT, module
