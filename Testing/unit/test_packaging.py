"""The wheel holds all of the library."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_package_of_the_library_is_in_the_wheel():
    library = ROOT / "CBCTSuperRes" / "CBCTSuperResLib"
    found = {".".join(path.parent.relative_to(library.parent).parts) for path in library.rglob("__init__.py")}
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    assert set(listed) == found | {"CBCTSuperResLib.Resources"}
