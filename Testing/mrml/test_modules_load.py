"""Both modules load, and show their panels, in a Slicer that has nothing but numpy, vtk, SimpleITK and Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import sys
from pathlib import Path

ROOT = Path({root!r})
KNOWN = set(sys.stdlib_module_names) | {{
    "numpy", "vtk", "vtkmodules", "SimpleITK", "slicer", "slicer_core", "PySide6", "shiboken6", "shibokensupport",
    "qt", "ctk", "pythonqt", "scripted", "slicerapp", "slicerwidgets",
    "CBCTSuperRes", "CBCTSuperResTraining", "CBCTSuperResLib",
}}


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in KNOWN:
            raise ModuleNotFoundError(f"{{name}} is blocked: a bare Slicer lacks it")


sys.path[:0] = [str(ROOT / "Testing" / "standin"), str(ROOT / "CBCTSuperRes"), str(ROOT / "CBCTSuperResTraining")]
import slicerapp

slicerapp.start()
sys.meta_path.insert(0, Blocker())
for name in ("CBCTSuperRes", "CBCTSuperResTraining"):
    module = slicerapp.loadModule(str(ROOT / name / (name + ".py")))
    widget = slicerapp.showWidget(module)
    widget.cleanup()
from CBCTSuperRes import CBCTSuperResLogic
assert hasattr(CBCTSuperResLogic(), "process")
from CBCTSuperResTraining import CBCTSuperResTrainingLogic
training = CBCTSuperResTrainingLogic()
values = {{"datasets": {{"train": {{"mode": "HR", "dataroot_HR": "scans"}}}}, "path": {{"root": "nowhere"}}}}
options = training.readOptions(values, ["train.feature_weight=0"])
assert training.missing(options) and training.changes(options) == [] and training.runs("nowhere") == []
for name in ("torch", "cv2", "safetensors", "tqdm", "scipy", "matplotlib", "pydantic"):
    assert name not in sys.modules, name
try:
    import torch
except ModuleNotFoundError:
    print("loaded")
"""

WITHOUT_QT = """
import sys
sys.path.insert(0, {library!r})
for name in ("torch", "cv2", "safetensors", "tqdm", "scipy", "qt", "ctk", "slicer", "vtk"):
    sys.modules[name] = None
import CBCTSuperResLib.batch, CBCTSuperResLib.jobs.worker_process, CBCTSuperResLib.worker, CBCTSuperResLib.models
import CBCTSuperResLib.jobs.lasting, CBCTSuperResLib.jobs.elsewhere, CBCTSuperResLib.jobs.training
import CBCTSuperResLib.estimate, CBCTSuperResLib.card, CBCTSuperResLib.arguments, CBCTSuperResLib.install
print("loaded")
"""


def output_of(script: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_both_modules_load_and_show_their_panels_in_a_bare_slicer(tmp_path, qt_or_skip):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    assert output_of(SCRIPT.format(root=str(ROOT)), tmp_path) == "loaded"


def test_the_parts_outside_slicer_load_with_numpy_and_simpleitk_alone(tmp_path):
    assert output_of(WITHOUT_QT.format(library=str(ROOT / "CBCTSuperRes")), tmp_path) == "loaded"
