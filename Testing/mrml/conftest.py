"""What the tests around Slicer share: a real MRML scene from slicer-core, and a tiny model that runs in a moment."""

from __future__ import annotations

from pathlib import Path

import pytest
from scans import make_scan


@pytest.fixture(scope="session")
def mrml():
    """The module `slicer`, with a scene; skips where slicer-core is not installed."""
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    if not hasattr(slicer, "mrmlScene"):
        slicer.mrmlScene = slicer.vtkMRMLScene()
    if not slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLColorTableNode"):
        colors = slicer.vtkMRMLColorLogic()
        colors.SetMRMLScene(slicer.mrmlScene)
        colors.AddDefaultColorNodes()
    return slicer


@pytest.fixture
def scene(mrml):
    """The scene, empty at the beginning of each test."""
    mrml.mrmlScene.Clear(0)
    yield mrml.mrmlScene
    mrml.mrmlScene.Clear(0)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A file with an untrained UNetSPSR so small that a slice takes milliseconds."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from CBCTSuperResLib.card import ModelCard
    from CBCTSuperResLib.model import Model
    from CBCTSuperResLib.networks import build_network
    from CBCTSuperResLib.tissue import TissueLevels

    torch.manual_seed(0)
    network = build_network("unetspsr", nf=4, gc=4, nb=4)
    with torch.no_grad():  # the usual first weights are so small that the output would be constant
        for weight in network.parameters():
            weight.mul_(5)
    card = ModelCard(
        name="tiny",
        title="A tiny model for tests",
        spec=network.describe(),
        window=(0.0, 4000.0),
        levels=TissueLevels(0.05, 0.3, 0.7),
    )
    path = tmp_path_factory.mktemp("Modelle für Tests") / "tiny.safetensors"
    Model(network, card).save(path)
    return path


@pytest.fixture(scope="session")
def scan_file(tmp_path_factory) -> Path:
    """A small scan in a folder whose name has spaces and other letters."""
    return make_scan().write(tmp_path_factory.mktemp("Zähne vorn") / "scan 1.nrrd")


@pytest.fixture(scope="session")
def long_scan_file(tmp_path_factory) -> Path:
    """A scan that keeps the tiny model busy for longer than any test waits."""
    return make_scan((2000, 40, 40)).write(tmp_path_factory.mktemp("long") / "long.nrrd")


@pytest.fixture(autouse=True)
def _own_user_folder(tmp_path_factory, monkeypatch):
    """Tests see no models of the person who runs them, and leave none there."""
    monkeypatch.setenv("CBCT_SUPERRES_MODELS", str(tmp_path_factory.mktemp("user") / "Models"))


@pytest.fixture(scope="session")
def qt_or_skip() -> None:
    """Skips where Qt or the system's libraries for it are missing; their absence is no fault of ours."""
    try:
        import PySide6.QtUiTools  # noqa: F401
    except ImportError as error:
        packages = "libegl1 libgl1 libxkbcommon0 libdbus-1-3 libfontconfig1 libglib2.0-0 libx11-6 fonts-dejavu-core"
        pytest.skip(f"Qt is missing ({error}): pip install PySide6-Essentials; apt-get install {packages}")
