"""Both modules load, and are of use, in a Slicer that has nothing but numpy, vtk, SimpleITK and Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

WITHOUT_QT = """
import sys
sys.path.insert(0, {library!r})
for name in ("torch", "cv2", "safetensors", "tqdm", "pydicom", "tifffile", "scipy", "qt", "ctk", "slicer", "vtk"):
    sys.modules[name] = None
import CBCTSuperResLib.batch, CBCTSuperResLib.jobs.job, CBCTSuperResLib.jobs.worker
import CBCTSuperResLib.models.folder, CBCTSuperResLib.models.card, CBCTSuperResLib.cli.apply
import CBCTSuperResLib.jobs.job, CBCTSuperResLib.jobs.training, CBCTSuperResLib.jobs.training
import CBCTSuperResLib.apply.plan, CBCTSuperResLib.core.packages
print("loaded")
"""


def output_of(*arguments: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_both_panels_are_of_use_in_a_bare_slicer_until_something_is_computed(tmp_path, qt_or_skip):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    assert output_of(str(ROOT / "Testing" / "support" / "bare_slicer.py"), folder=tmp_path) == "used"


def test_the_parts_outside_slicer_load_with_numpy_and_simpleitk_alone(tmp_path):
    assert output_of("-c", WITHOUT_QT.format(library=str(ROOT / "CBCTSuperRes")), folder=tmp_path) == "loaded"
