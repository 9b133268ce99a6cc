"""The wheel holds all of the library; continuous integration has all that the tests need."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_every_package_of_the_library_is_in_the_wheel():
    library = ROOT / "CBCTSuperRes" / "CBCTSuperResLib"
    found = {".".join(path.parent.relative_to(library.parent).parts) for path in library.rglob("__init__.py")}
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    assert set(listed) == found | {"CBCTSuperResLib.Resources"}


def test_continuous_integration_and_skipped_tests_name_the_same_packages_of_debian():
    named = [re.search(r'"([^"]*libegl1[^"]*)"', (ROOT / f).read_text(encoding="utf-8"))[1].split() for f in NAMING]
    assert named[0] == ["cmake", *named[1]]


NAMING = (".ci/run", "Testing/conftest.py")


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_continuous_integration_fails_and_says_what_is_missing_where_qt_cannot_start(tmp_path):
    """On a machine that installs nothing and whose Python lacks Qt."""
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    programs = {"make": "exit 0", "id": "echo 1000", ".venv/bin/python": "exit 1"}
    for name, does in programs.items():
        program = tmp_path / (name if "/" in name else f"bin/{name}")
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\n{does}\n")
        program.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", str(tmp_path / ".ci" / "run")], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "libegl1" in done.stderr and "cmake" in done.stderr
