"""The extension is configured, built and installed with a stub in the place of Slicer's CMake package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STUB = ROOT / "Testing" / "standin" / "cmakestub" / "lib" / "cmake" / "Slicer"
MODULES = Path("lib/Slicer-5.12/qt-scripted-modules")

pytestmark = pytest.mark.skipif(not shutil.which("cmake"), reason="cmake is not installed")


@pytest.fixture(scope="module")
def staged(tmp_path_factory) -> dict[str, Path]:
    """The folders with the scripted modules in the build tree and in the installed extension."""
    base = tmp_path_factory.mktemp("Build Ä")
    build, installed = base / "build", base / "installed"
    run("cmake", "-S", str(ROOT), "-B", str(build), f"-DSlicer_DIR={STUB}")
    run("cmake", "--build", str(build))
    run("cmake", "--install", str(build), "--prefix", str(installed))
    return {"build": build / MODULES, "installed": installed / MODULES}


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def files_below(folder: Path) -> set[str]:
    files = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return {p.as_posix() for p in files if not any(part.startswith((".", "__pycache__")) for part in p.parts)}


@pytest.mark.parametrize("kind", ["build", "installed"])
def test_every_file_of_the_modules_and_shared_resources_arrives(staged, kind):
    expected = set()
    for module in ("CBCTSuperRes", "CBCTSuperResTraining"):
        expected |= {f for f in files_below(ROOT / module) if not f.endswith("CMakeLists.txt")}
    for shared in ("Models", "Configurations"):
        expected |= {f"CBCTSuperResLib/Resources/{shared}/{f}" for f in files_below(ROOT / "Resources" / shared)}
    assert files_below(staged[kind]) == expected


@pytest.mark.parametrize("kind", ["build", "installed"])
def test_the_library_works_from_there_and_finds_its_models(staged, kind):
    script = (
        "import json, CBCTSuperResLib, CBCTSuperResLib.models.folder as m, CBCTSuperResLib.core.resources as r;"
        "print(json.dumps([CBCTSuperResLib.__file__, str(r.resource_folder()), len(m.list_models())]))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=staged[kind], env=environment, capture_output=True, text=True, check=True
    )
    library, resources, models = json.loads(done.stdout)
    assert Path(library).parent == staged[kind] / "CBCTSuperResLib"
    assert Path(resources) == staged[kind] / "CBCTSuperResLib" / "Resources"
    assert models == len(list((ROOT / "Resources" / "Models").glob("*.safetensors")))


@pytest.mark.parametrize("kind", ["build", "installed"])
def test_both_modules_load_from_there_and_find_their_own_resources(staged, kind, qt_or_skip):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    script = LOAD.format(standin=str(ROOT / "Testing" / "standin"), folder=str(staged[kind]))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=staged[kind], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["CBCTSuperRes", "CBCTSuperResTraining"]


LOAD = """
import sys
sys.path[:0] = [{standin!r}, {folder!r}]
import slicerapp, slicer
from pathlib import Path
slicerapp.start()
for name in ("CBCTSuperRes", "CBCTSuperResTraining"):
    module = slicerapp.loadModule(str(Path({folder!r}) / (name + ".py")))
    assert Path(module.__file__).parent == Path({folder!r}), module.__file__
    assert Path(getattr(slicer.modules, name.lower()).instance.resourcePath("Icons/" + name + ".png")).is_file()
    slicerapp.showWidget(module).cleanup()
    print(name)
import CBCTSuperResLib
assert Path(CBCTSuperResLib.__file__).is_relative_to({folder!r})
"""


def test_the_two_modules_share_no_file_names():
    names = [files_below(ROOT / module) - {"CMakeLists.txt"} for module in ("CBCTSuperRes", "CBCTSuperResTraining")]
    assert not names[0] & names[1]
