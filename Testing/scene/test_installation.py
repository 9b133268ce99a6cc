"""Which packages are missing, and how Slicer gets them; nothing is installed and nothing imported to find out."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest
from CBCTSuperResLib.core import packages as install
from CBCTSuperResLib.core.errors import DependencyError
from CBCTSuperResLib.scene import installation

COMPLETE = {"torch": "2.6.0+cpu", "opencv-contrib-python": "4.8.1.78", "safetensors": "0.5", "tqdm": "4.66"}
COMPLETE["pydicom"] = "2.4.4"
COMPLETE["tifffile"] = "2024.1.30"


@pytest.fixture
def installed(monkeypatch) -> dict[str, str]:
    """What is installed; tests change it."""
    packages = dict(COMPLETE)
    monkeypatch.setattr(install, "installed_version", packages.get)
    monkeypatch.setattr(install, "find_spec", lambda name: None)
    return packages


@pytest.fixture
def modules(monkeypatch):
    """Modules of Slicer that exist; by default none."""
    known: dict[str, types.SimpleNamespace] = {}

    def import_module(name):
        if name not in known:
            raise ModuleNotFoundError(name)
        return known[name]

    monkeypatch.setattr(installation, "import_module", import_module)
    return known


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({}, []),
        ({"torch": None}, ["torch>=2.3"]),
        ({"torch": "2.1.2"}, ["torch>=2.3"]),
        ({"torch": "2.10.0"}, []),
        ({"opencv-contrib-python": None}, ["opencv-python-headless>=4.8"]),
        ({"opencv-contrib-python": "4.7.0"}, ["opencv-python-headless>=4.8"]),
        ({"opencv-contrib-python": None, "opencv-python": "5.0.0.93"}, []),
        ({"safetensors": None, "tqdm": None}, ["safetensors", "tqdm"]),
    ],
)
def test_what_is_missing_is_told_as_pip_wants_it(installed, change, missing):
    installed.update(change)
    for name in [name for name, version in change.items() if version is None]:
        del installed[name]
    assert install.missing_packages() == missing


def test_a_cv2_without_metadata_is_accepted(installed, monkeypatch):
    del installed["opencv-contrib-python"]
    monkeypatch.setattr(install, "find_spec", lambda name: object() if name == "cv2" else None)
    assert install.missing_packages() == []


def test_nothing_is_imported_to_find_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # an import would fail now
    assert "torch>=2.3" not in install.missing_packages()


def test_a_complete_installation_is_left_alone(installed, modules):
    installation.ensurePackages()


def test_torch_comes_from_the_pytorch_extension(installed, modules):
    del installed["torch"]
    calls = []

    class Logic:
        def installTorch(self, **options):
            calls.append(options)
            installed["torch"] = "2.6"

    modules["PyTorchUtils"] = types.SimpleNamespace(PyTorchUtilsLogic=Logic)
    installation.ensurePackages()
    assert calls == [{"askConfirmation": True, "torchVersionRequirement": ">=2.3"}]


def test_without_the_pytorch_extension_the_user_is_told_to_install_it(installed, modules):
    del installed["torch"]
    with pytest.raises(DependencyError, match="Extensions Manager"):
        installation.ensurePackages()


@pytest.mark.parametrize("error", [TypeError("'NoneType'"), RuntimeError("pip failed")])
def test_a_broken_torch_installation_is_explained(installed, modules, error):
    del installed["torch"]

    class Logic:
        def installTorch(self, **options):
            raise error

    modules["PyTorchUtils"] = types.SimpleNamespace(PyTorchUtilsLogic=Logic)
    with pytest.raises(DependencyError, match="PyTorch Utils"):
        installation.ensurePackages()


def test_other_packages_come_through_slicer_packaging(installed, modules):
    del installed["tqdm"]
    asked = []

    def pip_ensure(requirements, requester, prompt_install):
        asked.extend(requirements)
        installed["tqdm"] = "4.66"

    modules["slicer.packaging"] = types.SimpleNamespace(pip_ensure=pip_ensure)
    modules["packaging.requirements"] = types.SimpleNamespace(Requirement=lambda text: f"<{text}>")
    installation.ensurePackages()
    assert asked == ["<tqdm>"]


def test_a_user_who_declines_is_told_what_is_missing(installed, modules):
    del installed["tqdm"]

    def pip_ensure(requirements, requester, prompt_install):
        raise RuntimeError("User declined package installation")

    modules["slicer.packaging"] = types.SimpleNamespace(pip_ensure=pip_ensure)
    modules["packaging.requirements"] = types.SimpleNamespace(Requirement=str)
    with pytest.raises(DependencyError, match="tqdm"):
        installation.ensurePackages()


@pytest.mark.parametrize("confirms", [True, False])
def test_an_old_slicer_asks_and_uses_pip(installed, modules, monkeypatch, confirms):
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    del installed["tqdm"]
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: confirms)
    monkeypatch.setattr(slicer.util, "pip_install", lambda packages: installed.update(tqdm="4.66"))
    if confirms:
        installation.ensurePackages()
    else:
        with pytest.raises(DependencyError, match="tqdm"):
            installation.ensurePackages()


@pytest.mark.parametrize("accepts", [True, False])
def test_what_shows_curves_is_offered_and_may_be_declined(installed, modules, accepts):
    asked = []

    def pip_ensure(requirements, requester, prompt_install):
        asked.extend(requirements)
        if not accepts:
            raise RuntimeError("User declined package installation")
        installed.update(tensorboard="2.16", matplotlib="3.9")

    modules["slicer.packaging"] = types.SimpleNamespace(pip_ensure=pip_ensure)
    modules["packaging.requirements"] = types.SimpleNamespace(Requirement=str)
    wanted = ["tensorboard>=2.15", "matplotlib>=3.7"]
    assert installation.offerTrainingExtras() == ([] if accepts else wanted)
    assert asked == wanted and install.missing_packages() == []


def test_a_panel_asks_once_for_everything_and_then_nobody_asks_again(installed, modules):
    del installed["torch"], installed["tqdm"]
    asked, calls = [], []

    class Logic:
        def installTorch(self, **options):
            calls.append(options)
            installed["torch"] = "2.6"

    def pip_ensure(requirements, requester, prompt_install):
        calls.append(prompt_install)
        installed["tqdm"] = "4.66"

    modules["PyTorchUtils"] = types.SimpleNamespace(PyTorchUtilsLogic=Logic)
    modules["slicer.packaging"] = types.SimpleNamespace(pip_ensure=pip_ensure)
    modules["packaging.requirements"] = types.SimpleNamespace(Requirement=str)
    installation.ensurePackages(ask=lambda packages: asked.append(packages) or True)
    assert asked == [["torch>=2.3", "tqdm"]]
    assert calls == [{"askConfirmation": False, "torchVersionRequirement": ">=2.3"}, False]


def test_a_panel_that_is_told_no_installs_nothing(installed, modules):
    del installed["torch"]
    with pytest.raises(DependencyError, match="torch"):
        installation.ensurePackages(ask=lambda packages: False)


def test_a_failed_pip_is_explained(installed, modules):
    del installed["tqdm"]

    def pip_ensure(requirements, requester, prompt_install):
        raise subprocess.CalledProcessError(1, "pip")

    modules["slicer.packaging"] = types.SimpleNamespace(pip_ensure=pip_ensure)
    modules["packaging.requirements"] = types.SimpleNamespace(Requirement=str)
    with pytest.raises(DependencyError, match="pip"):
        installation.ensurePackages()


@pytest.mark.parametrize(
    ("gpus", "needs_torch", "there", "offered"),
    [
        (0, False, {}, ["onnxruntime>=1.17"]),
        (0, False, {"safetensors": None}, ["onnxruntime>=1.17"]),
        (0, True, {"safetensors": None}, ["torch>=2.3", "safetensors"]),
        (1, False, {}, ["torch>=2.3"]),
        (0, True, {}, ["torch>=2.3"]),
        (0, True, {"onnxruntime": "1.20"}, ["torch>=2.3"]),
        (0, False, {"onnxruntime": "1.20"}, []),
        (0, False, {"onnxruntime-gpu": "1.20"}, []),
        (0, False, {"onnxruntime": "1.10"}, ["onnxruntime>=1.17"]),
        (0, False, {"torch": "2.6"}, []),
    ],
)
def test_the_small_package_is_offered_where_there_is_no_gpu_and_it_will_do(
    installed, monkeypatch, gpus, needs_torch, there, offered
):
    del installed["torch"]
    installed.update(there)
    monkeypatch.setattr(install, "count_gpus", lambda: gpus)
    assert install.missing_packages(install.packages_to_offer(needs_torch)) == offered


def test_whoever_asks_for_onnx_runtime_is_offered_it_beside_a_gpu_too(installed, monkeypatch):
    del installed["torch"]
    monkeypatch.setattr(install, "count_gpus", lambda: 1)
    assert install.missing_packages(install.packages_to_offer(False, "onnxruntime")) == ["onnxruntime>=1.17"]
    assert install.missing_packages(install.packages_to_offer(False, "auto")) == ["torch>=2.3"]


def test_the_small_package_is_installed_by_pip_and_pytorch_is_left_alone(installed, modules, monkeypatch):
    del installed["torch"]
    monkeypatch.setattr(install, "count_gpus", lambda: 0)
    asked = []

    def pip_ensure(requirements, requester, prompt_install):
        asked.extend(requirements)
        installed["onnxruntime"] = "1.20"

    modules["slicer.packaging"] = types.SimpleNamespace(pip_ensure=pip_ensure)
    modules["packaging.requirements"] = types.SimpleNamespace(Requirement=str)
    installation.ensurePackages(ask=lambda packages: asked.append(packages) or True, needsTorch=False)
    assert asked == [["onnxruntime>=1.17"], "onnxruntime>=1.17"]
    installation.ensurePackages(needsTorch=False)  # nothing is asked again


def test_whoever_declines_pytorch_beside_a_gpu_goes_on_with_the_small_package(installed, modules, monkeypatch):
    del installed["torch"]
    installed["onnxruntime"] = "1.20"
    monkeypatch.setattr(install, "count_gpus", lambda: 1)
    installation.ensurePackages(ask=lambda packages: False, needsTorch=False)
    with pytest.raises(DependencyError, match="torch"):
        installation.ensurePackages(ask=lambda packages: False)


def test_a_worker_without_both_says_that_the_small_one_would_do(installed):
    del installed["torch"]
    with pytest.raises(DependencyError, match="onnxruntime applies most models"):
        install.require_packages(needs_torch=False)
    installed["onnxruntime"] = "1.20"
    install.require_packages(needs_torch=False)
    with pytest.raises(DependencyError, match="torch>=2.3"):
        install.require_packages()
